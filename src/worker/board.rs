//! The board: shared memory through which the processes and the sessions know of each other. Who sits where, which database is
//! barred, what the launcher is to look at again. Touches nothing else.
//!
//! Without `shared_preload_libraries` there is none: then nobody sits anywhere, and whatever is written on it is lost.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pgrx::pg_sys::Oid;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};

use crate::backend::process::{self, Latch};

/// Databases that have processes at once: as many as anybody has allowed a server to start.
const MOST_SEATS: usize = 1024;
/// Commands that bar a database at once.
const MOST_BARS: usize = 128;
/// Databases that the launcher has not yet looked at again; where there are more, it looks at all.
const MOST_NEWS: usize = 64;

// SAFETY: no other shared memory or lock bears this name.
static BOARD: PgLwLock<Board> = unsafe { PgLwLock::new(c"pg_tombstone board") };
static IS_UP: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Where this process sits.
    static SEATED: Cell<Option<(Kind, Oid)>> = const { Cell::new(None) };
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Launcher,
    Worker,
    Relay,
}

/// How a worker left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// By an error, or because somebody ended it.
    WithoutAWord,
    /// The database does not have the extension.
    NoExtension,
    /// Its database was barred.
    Asked,
}

/// A process at its place.
struct Sitter {
    pid: i32,
    latch: Latch,
    /// Somebody wants it to look, and it has not looked since.
    called: AtomicBool,
}

/// What is known of a database's processes.
struct Seat {
    database: Oid,
    worker: Option<Sitter>,
    relay: Option<Sitter>,
    /// Whether the relay announces what is marked as its own.
    relay_is_ready: bool,
    /// Whether the worker has found the extension.
    at_work: bool,
    /// Whether the worker has got through a pass.
    has_worked: bool,
    /// What the worker says of why it leaves, before it has left.
    word: Departure,
    /// How the last worker left, until the launcher has read it.
    left: Option<(Departure, bool)>,
}

/// A command that wants a database to itself.
#[derive(Clone, Copy)]
struct Bar {
    database: Oid,
    pid: i32,
    latch: Latch,
}

struct Board {
    launcher: Option<Sitter>,
    seats: Slots<Seat, MOST_SEATS>,
    bars: Slots<Bar, MOST_BARS>,
    news: Slots<Oid, MOST_NEWS>,
    /// More news than there was room for.
    news_of_all: bool,
}

/// A list of at most `N`, in shared memory.
struct Slots<T, const N: usize> {
    slots: [Option<T>; N],
    /// All that are taken come before.
    end: usize,
}

// SAFETY: it owns all it consists of, but the latches, which are good in all processes.
unsafe impl PGRXSharedMemory for Board {}

impl<T, const N: usize> Slots<T, N> {
    const EMPTY: Self = Slots { slots: [const { None }; N], end: 0 };

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots[..self.end].iter().flatten()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots[..self.end].iter_mut().flatten()
    }

    /// The new entry; `None` where there is no room.
    fn push(&mut self, entry: T) -> Option<&mut T> {
        let slot = self.slots.get_mut(self.end)?;
        self.end += 1;
        Some(slot.insert(entry))
    }

    /// The order changes.
    fn remove_where(&mut self, unwanted: impl Fn(&T) -> bool) {
        let mut i = 0;
        while i < self.end {
            if self.slots[i].as_ref().is_none_or(&unwanted) {
                self.end -= 1;
                self.slots.swap(i, self.end);
                self.slots[self.end] = None;
            } else {
                i += 1;
            }
        }
    }
}

impl Sitter {
    fn me() -> Self {
        Sitter { pid: process::pid(), latch: Latch::mine(), called: AtomicBool::new(false) }
    }

    /// Who is called already will look, and needs no second call.
    fn call(&self) {
        if !self.called.swap(true, Relaxed) {
            self.latch.set();
        }
    }
}

impl Seat {
    const fn of(database: Oid) -> Self {
        Seat {
            database,
            worker: None,
            relay: None,
            relay_is_ready: false,
            at_work: false,
            has_worked: false,
            word: Departure::WithoutAWord,
            left: None,
        }
    }

    fn sitters(&self) -> impl Iterator<Item = &Sitter> {
        self.worker.iter().chain(&self.relay)
    }
}

impl Board {
    const EMPTY: Self =
        Board { launcher: None, seats: Slots::EMPTY, bars: Slots::EMPTY, news: Slots::EMPTY, news_of_all: false };

    fn seat(&self, database: Oid) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.database == database)
    }

    fn seat_mut(&mut self, database: Oid) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.database == database)
    }

    fn seat_or_new(&mut self, database: Oid) -> Option<&mut Seat> {
        if self.seat(database).is_none() {
            self.seats.push(Seat::of(database))?;
        }
        self.seat_mut(database)
    }

    /// Where nobody sits and nothing is left to be read.
    fn clear_unused(&mut self) {
        self.seats.remove_where(|seat| seat.worker.is_none() && seat.relay.is_none() && seat.left.is_none());
    }

    fn is_barred(&self, database: Oid) -> bool {
        self.bars.iter().any(|bar| bar.database == database)
    }

    fn sitter(&self, kind: Kind, database: Oid) -> Option<&Sitter> {
        match kind {
            Kind::Launcher => self.launcher.as_ref(),
            Kind::Worker => self.seat(database)?.worker.as_ref(),
            Kind::Relay => self.seat(database)?.relay.as_ref(),
        }
    }

    fn call_launcher(&self) {
        if let Some(launcher) = &self.launcher {
            launcher.call();
        }
    }
}

/// Asks for the shared memory; called at preload.
#[allow(unexpected_cfgs, reason = "the macro asks for versions of Postgres that we do not know")]
pub fn init() {
    pg_shmem_init!(BOARD = Board::EMPTY);
    IS_UP.store(true, Relaxed);
}

/// Whether there is a board: the library was preloaded.
pub fn is_up() -> bool {
    IS_UP.load(Relaxed)
}

fn read<T>(look: impl FnOnce(&Board) -> T) -> Option<T> {
    is_up().then(|| look(&BOARD.share()))
}

fn write<T>(act: impl FnOnce(&mut Board) -> T) -> Option<T> {
    is_up().then(|| act(&mut BOARD.exclusive()))
}

/// Takes this process's place, before it connects; refused where the database is barred, or somebody sits there already.
pub fn sit(kind: Kind, database: Oid) -> bool {
    let seated = write(|board| {
        let barred = board.is_barred(database);
        let place = match kind {
            Kind::Launcher => &mut board.launcher,
            Kind::Worker | Kind::Relay => {
                let Some(seat) = board.seat_or_new(database) else { return false };
                if barred {
                    if kind == Kind::Worker && seat.worker.is_none() {
                        seat.left = Some((Departure::Asked, false));
                    }
                    board.call_launcher();
                    return false;
                }
                match kind {
                    Kind::Worker if seat.worker.is_none() => {
                        (seat.at_work, seat.has_worked, seat.word, seat.left) = (false, false, Departure::WithoutAWord, None);
                        &mut seat.worker
                    }
                    Kind::Worker => &mut seat.worker,
                    _ => &mut seat.relay,
                }
            }
        };
        if place.is_some() {
            return false;
        }
        *place = Some(Sitter::me());
        true
    });
    if seated == Some(true) {
        SEATED.set(Some((kind, database)));
        return true;
    }
    false
}

/// Leaves it; called when the process ends.
pub fn leave() {
    let Some((kind, database)) = SEATED.take() else { return };
    write(|board| {
        let barred = board.is_barred(database);
        match (kind, board.seat_mut(database)) {
            (Kind::Launcher, _) => board.launcher = None,
            (Kind::Worker, Some(seat)) => {
                seat.worker = None;
                let departure = if barred { Departure::Asked } else { seat.word };
                seat.left = Some((departure, seat.has_worked));
            }
            (Kind::Relay, Some(seat)) => (seat.relay, seat.relay_is_ready) = (None, false),
            (_, None) => (),
        }
        board.bars.iter().filter(|bar| bar.database == database).for_each(|bar| bar.latch.set());
        board.call_launcher();
        board.clear_unused();
    });
}

/// Takes note that somebody has called this process; whether that was so.
pub fn take_call() -> bool {
    let Some((kind, database)) = SEATED.get() else { return false };
    read(|board| board.sitter(kind, database).is_some_and(|me| me.called.swap(false, Relaxed))).unwrap_or(false)
}

/// With which code this process ends when it is asked to. Postgres starts the launcher again after any but 0, and starts the
/// others never.
pub fn exit_code() -> i32 {
    i32::from(SEATED.get().is_some_and(|(kind, _)| kind == Kind::Launcher))
}

fn on_my_seat(act: impl FnOnce(&mut Seat)) {
    let Some((_, database)) = SEATED.get() else { return };
    write(|board| {
        if let Some(seat) = board.seat_mut(database) {
            act(seat);
        }
    });
}

/// Of a worker: it has found the extension.
pub fn found_extension() {
    on_my_seat(|seat| seat.at_work = true);
    write(|board| board.call_launcher());
}

/// Of a worker: it leaves because there is no extension.
pub fn found_no_extension() {
    on_my_seat(|seat| seat.word = Departure::NoExtension);
}

/// Of a worker: it has got through a pass.
pub fn got_through() {
    on_my_seat(|seat| seat.has_worked = true);
}

/// Of a relay: from now on it announces the entries that are marked as the relay's.
pub fn relay_is_ready() {
    on_my_seat(|seat| seat.relay_is_ready = true);
}

/// Of a relay: what is written from now on is for others to announce.
pub fn relay_is_gone() {
    on_my_seat(|seat| seat.relay_is_ready = false);
}

/// Whether a relay announces what is written in this database.
pub fn relay_lives() -> bool {
    read(|board| board.seat(process::database()).is_some_and(|seat| seat.relay_is_ready)).unwrap_or(false)
}

/// Whether a process sits there as this database's relay, ready or not.
pub fn has_relay() -> bool {
    read(|board| board.seat(process::database()).is_some_and(|seat| seat.relay.is_some())).unwrap_or(false)
}

/// Wakes this database's relay, or its worker where there is none.
pub fn wake_relay() {
    read(|board| {
        if let Some(sitter) = board.seat(process::database()).and_then(|seat| seat.relay.as_ref().or(seat.worker.as_ref())) {
            sitter.call();
        }
    });
}

/// Wakes this database's worker: there may be something to do.
pub fn wake_worker() {
    read(|board| {
        if let Some(worker) = board.sitter(Kind::Worker, process::database()) {
            worker.call();
        }
    });
}

/// Has the launcher look again whether `database` has the extension.
pub fn news(database: Oid) {
    write(|board| {
        if !board.news.iter().any(|known| *known == database) && board.news.push(database).is_none() {
            board.news_of_all = true;
        }
        board.call_launcher();
    });
}

/// Has the launcher look again which databases there are.
pub fn look_around() {
    read(Board::call_launcher);
}

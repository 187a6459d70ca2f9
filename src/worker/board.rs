//! The board: shared memory through which the processes and the sessions know of each other. Who sits where, which database is
//! barred, what the launcher is to look at again. Touches nothing else.
//!
//! Without `shared_preload_libraries` there is none: then nobody sits anywhere, and whatever is written on it is lost.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pgrx::pg_sys::Oid;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};

use super::roster::{Departed, Departure};
use crate::backend::process::{self, Latch, terminate};

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
    static SEATED: Cell<Option<(ProcessKind, Oid)>> = const { Cell::new(None) };
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessKind {
    Launcher,
    Worker,
    Relay,
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
    left: Option<Departed>,
}

/// A command that wants a database to itself.
#[derive(Clone, Copy)]
struct Bar {
    database: Oid,
    /// The session that gave it.
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

    /// Lets this process take its place, if it may.
    fn admit(&mut self, kind: ProcessKind, barred: bool) -> bool {
        match kind {
            ProcessKind::Relay => !barred && take(&mut self.relay),
            _ if self.worker.is_some() => false,
            _ if barred => {
                self.left = Some(Departed { how: Departure::Asked, had_worked: false });
                false
            }
            _ => {
                (self.at_work, self.has_worked, self.word, self.left) = (false, false, Departure::WithoutAWord, None);
                take(&mut self.worker)
            }
        }
    }

    fn call_worker(&self) {
        if let Some(worker) = &self.worker {
            worker.call();
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

    fn sitter(&self, kind: ProcessKind, database: Oid) -> Option<&Sitter> {
        match kind {
            ProcessKind::Launcher => self.launcher.as_ref(),
            ProcessKind::Worker => self.seat(database)?.worker.as_ref(),
            ProcessKind::Relay => self.seat(database)?.relay.as_ref(),
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
pub fn sit(kind: ProcessKind, database: Oid) -> bool {
    let seated = write(|board| match kind {
        ProcessKind::Launcher => take(&mut board.launcher),
        ProcessKind::Worker | ProcessKind::Relay => {
            let barred = board.is_barred(database);
            board.seat_or_new(database).is_some_and(|seat| seat.admit(kind, barred))
        }
    });
    let seated = seated.unwrap_or(false);
    if seated {
        SEATED.set(Some((kind, database)));
    }
    seated
}

/// Whether the place was free.
fn take(place: &mut Option<Sitter>) -> bool {
    let free = place.is_none();
    if free {
        *place = Some(Sitter::me());
    }
    free
}

/// Leaves it; called when the process ends.
pub fn leave() {
    let Some((kind, database)) = SEATED.take() else { return };
    write(|board| {
        let barred = board.is_barred(database);
        match (kind, board.seat_mut(database)) {
            (ProcessKind::Launcher, _) => board.launcher = None,
            (ProcessKind::Worker, Some(seat)) => {
                seat.worker = None;
                let how = if barred { Departure::Asked } else { seat.word };
                seat.left = Some(Departed { how, had_worked: seat.has_worked });
            }
            (ProcessKind::Relay, Some(seat)) => {
                (seat.relay, seat.relay_is_ready) = (None, false);
                seat.call_worker();
            }
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
    i32::from(SEATED.get().is_some_and(|(kind, _)| kind == ProcessKind::Launcher))
}

fn on_my_seat(act: impl FnOnce(&mut Seat)) {
    let Some((_, database)) = SEATED.get() else { return };
    write(|board| {
        if let Some(seat) = board.seat_mut(database) {
            act(seat);
        }
    });
}

/// Of a worker: it has found the extension, and does not count any more as one that only looks.
pub fn found_extension() {
    let mut was_known = true;
    on_my_seat(|seat| was_known = core::mem::replace(&mut seat.at_work, true));
    if !was_known {
        look_around();
    }
}

/// Of a worker: it leaves because there is no extension.
pub fn found_no_extension() {
    on_my_seat(|seat| seat.word = Departure::NoExtension);
}

/// Of a worker: it has got through a pass.
pub fn got_through() {
    on_my_seat(|seat| seat.has_worked = true);
}

/// Of a relay: from now on it announces what is left to the relay.
pub fn relay_is_ready() {
    on_my_seat(|seat| {
        seat.relay_is_ready = true;
        seat.call_worker();
    });
}

/// Of a relay: what is written from now on is for others to announce.
pub fn relay_is_gone() {
    on_my_seat(|seat| seat.relay_is_ready = false);
}

/// Whether a relay announces what is written in this database.
pub fn relay_lives() -> bool {
    read(|board| board.seat(process::database()).is_some_and(|seat| seat.relay_is_ready)).unwrap_or(false)
}

/// Whether this database has a worker.
pub fn has_worker() -> bool {
    read(|board| board.sitter(ProcessKind::Worker, process::database()).is_some()).unwrap_or(false)
}

/// Whether a process sits there as this database's relay, ready or not.
pub fn has_relay() -> bool {
    read(|board| board.seat(process::database()).is_some_and(|seat| seat.relay.is_some())).unwrap_or(false)
}

/// Wakes this database's relay, or its worker where none is ready.
pub fn wake_relay() {
    read(|board| {
        let seat = board.seat(process::database());
        if let Some(sitter) = seat.and_then(|seat| seat.relay.as_ref().filter(|_| seat.relay_is_ready).or(seat.worker.as_ref()))
        {
            sitter.call();
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

/// Keeps our processes out of `database` until `lift_bars`. Where more are barred than there is room for, they may come back
/// too early, and are then in the command's way.
pub fn bar(database: Oid) {
    write(|board| {
        board.bars.remove_where(|bar| (bar.pid, bar.database) == (process::pid(), database));
        board.bars.push(Bar { database, pid: process::pid(), latch: Latch::mine() }).is_some()
    });
}

/// Lifts the bars of this session; called when its transaction ends, as it does when the session does.
pub fn lift_bars() {
    write(|board| {
        board.bars.remove_where(|bar| bar.pid == process::pid());
        board.call_launcher();
    });
}

/// Whether somebody keeps our processes out of `database`.
pub fn is_barred(database: Oid) -> bool {
    read(|board| board.is_barred(database)).unwrap_or(false)
}

/// Asks the processes of `database` to leave; whether there are any. They sit there while they are asked, so that nobody else
/// can have got their number.
pub fn send_away(database: Oid) -> bool {
    let asked = read(|board| {
        let sitters = board.seat(database).into_iter().flat_map(Seat::sitters);
        sitters.map(|sitter| terminate(sitter.pid)).count()
    });
    asked.is_some_and(|asked| asked > 0)
}

/// A database's seat, as the launcher sees it.
pub struct SeatView {
    pub database: Oid,
    pub has_worker: bool,
}

/// For the launcher: all there are.
pub fn seats() -> Vec<SeatView> {
    let view = |seat: &Seat| SeatView { database: seat.database, has_worker: seat.worker.is_some() };
    read(|board| board.seats.iter().map(view).collect()).unwrap_or_default()
}

/// For the launcher: how many workers have found the extension.
pub fn at_work() -> usize {
    read(|board| board.seats.iter().filter(|seat| seat.worker.is_some() && seat.at_work).count()).unwrap_or(0)
}

/// For the launcher, once: how the last worker of `database` left.
pub fn take_departure(database: Oid) -> Option<Departed> {
    write(|board| {
        let left = board.seat_mut(database)?.left.take();
        board.clear_unused();
        left
    })?
}

/// For the launcher, once: the databases it is to look at again; `None`: all.
pub fn take_news() -> Option<Vec<Oid>> {
    write(|board| {
        let news = core::mem::replace(&mut board.news, Slots::EMPTY);
        (!core::mem::take(&mut board.news_of_all)).then(|| news.iter().copied().collect())
    })?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Slots;

    proptest! {
        #[test]
        fn slots_hold_what_was_pushed_and_not_removed(steps in proptest::collection::vec((any::<bool>(), 0..6u8), 0..40)) {
            let (mut slots, mut model) = (Slots::<u8, 4>::EMPTY, Vec::new());
            for (push, number) in steps {
                if push {
                    let there_is_room = model.len() < 4;
                    prop_assert_eq!(slots.push(number).is_some(), there_is_room);
                    model.extend(there_is_room.then_some(number));
                } else {
                    slots.remove_where(|other| *other == number);
                    model.retain(|other| *other != number);
                }
                let mut found: Vec<u8> = slots.iter().copied().collect();
                found.sort_unstable();
                model.sort_unstable();
                prop_assert_eq!(&found, &model);
            }
        }
    }
}

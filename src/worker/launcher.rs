//! The launcher: sees to it that each database that has the extension has a worker. How a database stands is for `roster` to
//! say; this reads pg_database and the board, and starts and ends workers. Writes nothing but the server's log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::pg_sys::Oid;
use pgrx::{log, pg_guard, pg_sys};

use super::backoff::Backoff;
use super::board::{self, ProcessKind};
use super::process;
use super::roster::{Database, Departed, Departure, Roster};
use crate::backend::database;
use crate::backend::process::{show_activity, transaction};
use crate::error::Result;
use crate::settings;

/// Workers that have not yet found the extension, at once: a server with many databases would run out of slots for others.
const MOST_LOOKING: usize = 3;

/// Its main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_tombstone_launcher(_argument: pg_sys::Datum) {
    if process::start(ProcessKind::Launcher, None) {
        let mut launcher = Launcher::default();
        loop {
            let rest = launcher.turn();
            process::sleep(rest);
        }
    }
}

#[derive(Default)]
struct Launcher {
    roster: Roster,
    names: BTreeMap<Database, String>,
    /// The workers it has started and not seen the end of. One that sits at the board and is not among them was started by the
    /// launcher before this one.
    started: BTreeMap<Database, DynamicBackgroundWorker>,
    no_slot: NoSlot,
}

/// That the server has no slot for workers that are wanted.
#[derive(Default)]
struct NoSlot {
    is_said: bool,
    backoff: Backoff,
    pause_until: Option<Instant>,
}

impl Launcher {
    /// Looks once at everything, and does what follows; returns how long to sleep.
    fn turn(&mut self) -> Duration {
        show_activity("looking after workers");
        match read_databases() {
            Ok(names) => self.names = names,
            Err(error) => log!("pg_tombstone could not read pg_database: {}", error.summary()),
        }
        self.roster.there_are(&self.names.keys().copied().collect::<Vec<_>>());
        match board::take_news() {
            Some(databases) => databases.into_iter().for_each(|database| self.roster.news(database.to_u32())),
            None => self.roster.news_of_all(),
        }
        self.take_stock();
        self.start_workers();
        self.rest()
    }

    /// Who is there, and who is gone since the last look.
    fn take_stock(&mut self) {
        let now = Instant::now();
        let started = self.started.len();
        self.started.retain(|_, worker| !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)));
        if self.started.len() < started {
            self.no_slot.pause_until = None; // one has become free
        }
        let seats = board::seats();
        for database in self.roster.staffed().collect::<Vec<_>>() {
            let is_seated = || seats.iter().any(|seat| seat.has_worker && seat.database.to_u32() == database);
            if !self.started.contains_key(&database) && !is_seated() {
                self.lose(database, now);
            }
        }
        for seat in seats {
            if !self.names.contains_key(&seat.database.to_u32()) {
                board::send_away(seat.database);
                board::take_departure(seat.database);
            } else if seat.has_worker {
                self.roster.staff(seat.database.to_u32());
            }
        }
    }

    fn lose(&mut self, database: Database, now: Instant) {
        let unsaid = Departed { how: Departure::WithoutAWord, had_worked: false };
        let left = board::take_departure(Oid::from(database)).unwrap_or(unsaid);
        if let Some(pause) = self.roster.lose(database, left, now) {
            let (name, seconds) = (self.name(database), pause.as_secs());
            log!("the pg_tombstone worker of database \"{name}\" is gone, another one comes in {seconds} s");
        }
    }

    /// Starts as many of those that are wanted as may be.
    fn start_workers(&mut self) {
        let now = Instant::now();
        let mut wanting: Vec<Database> = self.roster.wanting(now).collect();
        wanting.retain(|database| !board::is_barred(Oid::from(*database)));
        if wanting.is_empty() {
            self.no_slot = NoSlot::default();
        }
        if self.no_slot.pause_until.is_some_and(|until| until > now) {
            return;
        }
        for database in wanting {
            let looking = self.roster.staffed().count().saturating_sub(board::at_work());
            if looking >= MOST_LOOKING {
                return;
            }
            match process::launch(ProcessKind::Worker, Oid::from(database)) {
                Some(worker) => {
                    self.started.insert(database, worker);
                    self.roster.staff(database);
                    self.no_slot.backoff.reset();
                }
                // Those who look may be gone at once.
                None if looking > 0 => return,
                None => return self.miss_slot(database, now),
            }
        }
    }

    /// Says so once, until all have got a worker.
    fn miss_slot(&mut self, database: Database, now: Instant) {
        if !self.no_slot.is_said {
            process::say_no_slot(ProcessKind::Worker, self.name(database));
        }
        self.no_slot.is_said = true;
        self.no_slot.pause_until = Some(now + self.no_slot.backoff.fail());
    }

    /// How long there is nothing to do, if nobody calls.
    fn rest(&self) -> Duration {
        let now = Instant::now();
        let slot = self.no_slot.pause_until.map(|until| until.saturating_duration_since(now));
        [Some(settings::naptime()), self.roster.rest(now), slot].into_iter().flatten().min().unwrap_or_default()
    }

    fn name(&self, database: Database) -> &str {
        self.names.get(&database).map_or("", String::as_str)
    }
}

/// Those that can be connected to.
fn read_databases() -> Result<BTreeMap<Database, String>> {
    transaction(|| Ok(database::all_open().into_iter().map(|database| (database.oid.to_u32(), database.name)).collect()))
}

//! The relay: announces what writers have left to it, in their place. It sleeps until one of them has committed.

use std::thread;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::{FromDatum, log, pg_guard, pg_sys};

use super::backoff::Backoff;
use super::board::{self, ProcessKind};
use super::{EXTENSION, process};
use crate::backend::process::{self as this_process, pin, show_activity, transaction};
use crate::backend::{database, extension};
use crate::error::{Error, Result};
use crate::log::notify;
use crate::log::relay::{self, Announced, Relay};
use crate::{settings, table};

/// What has been announced was not the last, where many write: the others are given so long to be announced along with the next.
const PAUSE: Duration = Duration::from_millis(1);

/// Nobody sleeps longer than this without looking around.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Lets writers leave to the relay what it can announce; called at load, where there is a board.
pub fn init() {
    notify::leave_to(&notify::Relay { lives: board::relay_lives, wake: board::wake_relay });
}

/// Its main function; the argument is the database's OID.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_tombstone_relay(database: pg_sys::Datum) {
    // SAFETY: whoever launches a relay passes an OID.
    let database = unsafe { pg_sys::Oid::from_datum(database, false) };
    if process::start(ProcessKind::Relay, database) && is_wanted() {
        // Listeners are gone after a crash: to them it is no matter whether the place was lost. Readers are not: what a cursor
        // vouches for is made to survive before it is sent.
        pin(c"synchronous_commit", c"off");
        work();
    }
}

/// Until it is wanted no more.
fn work() {
    let mut relay = Relay::default();
    let mut backoff = Backoff::default();
    board::relay_is_ready();
    while settings::relay() {
        match announce(&mut relay) {
            Ok(found) => {
                if found != Announced::More {
                    backoff.reset();
                }
                match found {
                    Announced::More => process::sleep(Duration::ZERO),
                    Announced::Some => {
                        thread::sleep(PAUSE);
                        process::sleep(LONGEST_SLEEP);
                    }
                    Announced::Nothing if is_wanted() => process::sleep(LONGEST_SLEEP),
                    Announced::Nothing => break,
                }
            }
            Err(error) if is_wanted() => {
                // What it remembers of its place may have been rolled back.
                relay = Relay::default();
                say_failure(&error);
                rest(backoff.fail());
            }
            Err(_) => break,
        }
    }
    // What is left by now is announced before writers announce by themselves, so that one record's events stay in their order.
    while let Ok(Announced::More) = announce(&mut relay) {}
    // Writers who commit from here on wake the worker. Whoever has committed before is heard now.
    board::relay_is_gone();
    while let Ok(Announced::More) = announce(&mut relay) {}
}

fn announce(relay: &mut Relay) -> Result<Announced> {
    show_activity("announcing events");
    transaction(|| relay.announce())
}

/// Notifications that nobody has read yet may fill all the room there is; then there may be more by the next time.
fn say_failure(error: &Error) {
    log!("pg_tombstone could not announce events, and will try again: {}", error.summary());
    let _ = transaction(relay::make_room);
}

/// Whether there is anything for a relay to do in this database: the extension, and a table that announces its events.
fn is_wanted() -> bool {
    settings::relay()
        && transaction(|| Ok(extension::find(EXTENSION).is_some() && table::any_announces()?)).unwrap_or_else(|error| {
            log!("pg_tombstone could not see whether events are to be announced: {}", error.summary());
            false
        })
}

/// Sleeps so long, whoever calls.
fn rest(long: Duration) {
    let until = Instant::now() + long;
    while Instant::now() < until {
        process::sleep(until.saturating_duration_since(Instant::now()));
    }
}

/// Of a worker: what it knows of the relay it keeps.
#[derive(Default)]
pub struct Keeper {
    launched: Option<DynamicBackgroundWorker>,
    backoff: Backoff,
    /// Not to launch another one before.
    pause_until: Option<Instant>,
    no_slot_is_said: bool,
}

impl Keeper {
    /// Starts this database's relay where one is wanted and none is there, tells one to leave that is not, and announces what one
    /// that is gone has left behind. Returns how long it need not be called again.
    pub fn keep(&mut self) -> Duration {
        announce_leftovers();
        let is_there = board::has_relay() || self.is_on_its_way();
        match (is_wanted(), is_there) {
            (true, false) => return self.launch(),
            // It looks, finds nothing, and then whether it is wanted.
            (false, true) if board::relay_lives() => board::wake_relay(),
            (true, true) if board::relay_lives() => {
                (self.pause_until, self.no_slot_is_said) = (None, false);
                self.backoff.reset();
            }
            _ => (),
        }
        LONGEST_SLEEP
    }

    fn is_on_its_way(&self) -> bool {
        self.launched.as_ref().is_some_and(|relay| !matches!(relay.pid(), Err(BackgroundWorkerStatus::Stopped)))
    }

    fn launch(&mut self) -> Duration {
        let now = Instant::now();
        if let Some(until) = self.pause_until.filter(|until| *until > now) {
            return until - now;
        }
        let pause = self.backoff.fail();
        self.pause_until = Some(now + pause);
        self.launched = process::launch(ProcessKind::Relay, this_process::database());
        if self.launched.is_none() && !self.no_slot_is_said {
            process::say_no_slot(ProcessKind::Relay, &database_name());
            self.no_slot_is_said = true;
        }
        pause
    }
}

/// In the place of a relay that is gone.
fn announce_leftovers() {
    show_activity("announcing events that a relay has left behind");
    loop {
        match transaction(relay::announce_leftovers) {
            Ok(true) => (),
            Ok(false) => return,
            Err(error) => return say_failure(&error),
        }
    }
}

fn database_name() -> String {
    let all = transaction(|| Ok(database::all_open())).unwrap_or_default();
    all.into_iter().find(|database| database.oid == this_process::database()).map(|database| database.name).unwrap_or_default()
}

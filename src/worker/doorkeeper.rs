//! Makes way for commands that want a database, or the extension, to themselves: its processes leave, and none comes back before
//! the transaction has ended. And tells the launcher what has changed, once that is committed.
//!
//! Only for those who may give the command: others would only have to try it, to keep a database's processes from their work.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::pg_sys::Oid;

use super::{EXTENSION, board};
use crate::backend::command::Command;
use crate::backend::{database, executor, extension, process, transaction};

/// How long a command waits for processes to leave. They do within a second; else Postgres says who is in the way.
const PATIENCE: Duration = Duration::from_secs(5);

thread_local! {
    static DONE: Cell<Done> = const { Cell::new(Done { bars: false, databases: false, extension: false }) };
}

/// What this transaction has done that others must hear of.
#[derive(Clone, Copy, Default)]
struct Done {
    /// It has barred a database.
    bars: bool,
    /// It has changed which databases there are.
    databases: bool,
    /// It has changed whether this one has the extension.
    extension: bool,
}

/// Called at load, where there is a board.
pub fn init() {
    executor::around_commands(before, after);
    transaction::watch(&transaction::Watch {
        before_end: || (),
        before_commit: || (),
        before_prepare: || (),
        committed: tell,
        ended: || {
            if DONE.take().bars {
                board::lift_bars();
            }
        },
        rolled_back: |_| (),
    });
}

fn before(command: &Command) {
    let database = match command {
        Command::TakeDatabase(name) => database::find(name).filter(|database| database::caller_owns(*database)),
        // Refused in a transaction block, where a bar would outlive it.
        Command::CopyDatabase(_) if transaction::is_block() => None,
        Command::CopyDatabase(template) => database::find(template).filter(|database| database::caller_may_copy(*database)),
        Command::DropExtensions(names) if names.iter().any(|name| name.as_c_str() == EXTENSION) => {
            extension::find(EXTENSION).filter(|extension| extension::caller_owns(*extension)).map(|_| process::database())
        }
        _ => None,
    };
    if let Some(database) = database {
        clear(database);
    }
}

/// Sees to it that no process of ours is in `database` until the transaction ends.
fn clear(database: Oid) {
    board::bar(database);
    note(|done| done.bars = true);
    let until = Instant::now() + PATIENCE;
    while board::send_away(database) && Instant::now() < until {
        // Whoever leaves a barred database says so.
        process::wait(Duration::from_millis(100));
        process::reset_latch();
        pgrx::check_for_interrupts!();
    }
}

fn after(command: &Command) {
    match command {
        Command::TakeDatabase(_) | Command::CopyDatabase(_) | Command::AlterDatabase => note(|done| done.databases = true),
        Command::CreateExtension | Command::DropExtensions(_) => note(|done| done.extension = true),
        // Nobody remembers what it did when it was prepared. It may have left something to the relay; what it may have done to
        // the extension shows.
        Command::CommitPrepared => {
            board::wake_relay();
            if !board::has_worker() && extension::find(EXTENSION).is_some() {
                note(|done| done.extension = true);
            }
        }
    }
}

fn note(change: impl FnOnce(&mut Done)) {
    let mut done = DONE.get();
    change(&mut done);
    DONE.set(done);
}

/// The transaction has committed.
fn tell() {
    let done = DONE.get();
    if done.databases {
        board::look_around();
    }
    if done.extension {
        board::news(process::database());
    }
}

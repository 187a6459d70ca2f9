//! In what process maintenance runs: whose transactions, who is told.

use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use crate::backend::subtransaction::attempt_for_now;
use crate::backend::transaction::commit_and_begin;
use crate::backend::{procedure, process, timeout};
use crate::error::Result;

/// No table keeps a worker from the others for longer: an expression without end least of all.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// A background worker.
    Worker,
    /// A session, in CALL: there is always a transaction, and SPI ends one and begins the next.
    Session,
}

impl Host {
    /// Runs `act` in a transaction of its own, and commits what it did unless it fails, with whatever error. In a worker it fails
    /// if it takes too long.
    pub fn transaction<T>(self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        match self {
            Host::Worker => timeout::at_most(LONGEST_TRANSACTION, || self.transaction_of_any_length(act)),
            Host::Session => self.transaction_of_any_length(act),
        }
    }

    /// The same of what nobody else's code has a part in, and what could not be had in pieces.
    pub fn transaction_of_any_length<T>(self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        match self {
            Host::Worker => process::transaction(act),
            Host::Session => procedure::transaction(act),
        }
    }

    /// Of a session: sleeps for so long, unless it is cancelled. What comes next gets a transaction that begins after it.
    pub fn sleep(long: Duration) -> Result<()> {
        // Without a snapshot: nobody's rows are kept for somebody who sleeps.
        let outcome = attempt_for_now(|| {
            process::rest(long);
            Ok(())
        });
        commit_and_begin();
        outcome
    }

    /// Shows what is being done: to pg_stat_activity, where the process does nothing else.
    pub fn show(self, activity: &str) {
        if self == Host::Worker {
            process::show_activity(activity);
        }
    }

    /// Tells a session how far it has come.
    pub fn progress(self, message: &str) {
        if self == Host::Session {
            Report { message, hint: None }.send(PgLogLevel::NOTICE);
        }
    }

    /// Tells the server's log, and whoever called.
    pub fn tell(self, message: &str, hint: Option<&str>) {
        self.report(PgLogLevel::NOTICE, message, hint);
    }

    /// The same of what somebody should look after.
    pub fn warn(self, message: &str, hint: Option<&str>) {
        self.report(PgLogLevel::WARNING, message, hint);
    }

    fn report(self, to_caller: PgLogLevel, message: &str, hint: Option<&str>) {
        Report { message: &format!("pg_tombstone: {message}"), hint }.send(PgLogLevel::LOG);
        if self == Host::Session {
            Report { message, hint }.send(to_caller);
        }
    }
}

struct Report<'a> {
    message: &'a str,
    hint: Option<&'a str>,
}

impl Report<'_> {
    fn send(&self, level: PgLogLevel) {
        let mut report =
            ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, self.message.to_string(), "pg_tombstone");
        if let Some(hint) = self.hint {
            report = report.set_hint(hint.to_string());
        }
        report.report(level);
    }
}

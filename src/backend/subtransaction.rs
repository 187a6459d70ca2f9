//! Trying something that may fail, without losing the transaction.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportWithLevel};
use pgrx::{PgLogLevel, PgTryBuilder, pg_sys};

use crate::error::{Error, Result};

/// Runs `act` in a subtransaction: committed on `Ok`, rolled back on `Err` and on any error Postgres raises.
///
/// What is no failure of `act` (a cancellation, a shutdown, a deadlock, a serialization failure) is raised on, after the
/// subtransaction is rolled back like any other.
pub fn attempt<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    attempt_but_for(passes_through, act)
}

/// The same where another try may come later, or there is something to tidy up: nothing is raised on. (What ends the session does
/// not pass here.)
pub fn attempt_for_now<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    attempt_but_for(|_| false, act)
}

fn attempt_but_for<T>(passes: fn(&ErrorReportWithLevel) -> bool, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = Outer::begin();
    match caught(act, passes) {
        Ok(Ok(value)) => {
            outer.commit();
            Ok(value)
        }
        outcome => outer.roll_back_with(outcome),
    }
}

/// Runs `act` in a subtransaction that is rolled back whatever comes of it.
pub fn rehearse<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = Outer::begin();
    let outcome = caught(act, passes_through);
    outer.roll_back_with(outcome)
}

/// Turns an error Postgres raises inside `act` into ours, with `reword`. The transaction stays doomed: whoever gets the
/// `Err` must raise it.
pub fn reworded<T>(act: impl FnOnce() -> T, reword: impl Fn(Error) -> Error) -> Result<T> {
    match caught(|| Ok(act()), passes_through) {
        Ok(outcome) => outcome.map_err(reword),
        Err(error) => raise(error),
    }
}

/// Runs `act`; an error that Postgres raises in it is made ours, whichever it is, and a panic too. The transaction stays doomed:
/// whoever gets the `Err` must raise it or roll back.
pub fn caught_all<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(act, |_| false)?
}

/// `Ok` of what came of `act`, an error raised by Postgres made ours; `Err` of what is to be raised on.
///
/// Postgres' own copy of the error is gone when this returns, so it is ours, not the original, that is raised on.
fn caught<T>(act: impl FnOnce() -> Result<T>, passes: fn(&ErrorReportWithLevel) -> bool) -> Result<Result<T>> {
    let ours = |report: &ErrorReportWithLevel| {
        let error = Error::caught(report.sql_error_code(), report.message(), report.detail(), report.hint());
        if is_cancellation(report) { error.cancelled() } else { error }
    };
    PgTryBuilder::new(AssertUnwindSafe(|| Ok(act())))
        .catch_others(|cause| match &cause {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
                if passes(report) {
                    Err(ours(report))
                } else {
                    Ok(Err(ours(report)))
                }
            }
            CaughtError::RustPanic { ereport, .. } => Err(ours(ereport)),
        })
        .execute()
}

/// Raises `error`.
pub fn raise(error: Error) -> ! {
    ErrorReport::from(error).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

fn passes_through(report: &ErrorReportWithLevel) -> bool {
    use pgrx::PgSqlErrorCode::*;
    is_cancellation(report)
        || matches!(
            report.sql_error_code(),
            ERRCODE_ADMIN_SHUTDOWN
                | ERRCODE_CRASH_SHUTDOWN
                | ERRCODE_T_R_SERIALIZATION_FAILURE
                | ERRCODE_T_R_DEADLOCK_DETECTED
                | ERRCODE_OUT_OF_MEMORY
        )
}

/// Whether this session was to stop what it is doing. Others raise the same SQLSTATE, and are known by where they do: another server
/// whose own timeout was over, and whoever says so in PL/pgSQL. (PL/Python and the like raise anew what was raised inside of them.)
fn is_cancellation(report: &ErrorReportWithLevel) -> bool {
    const OTHERS: [&str; 3] = ["pgfdw_report_error", "dblink_res_error", "exec_stmt_raise"];
    let by_others = report.function_name().is_some_and(|name| OTHERS.contains(&name));
    report.sql_error_code() == pgrx::PgSqlErrorCode::ERRCODE_QUERY_CANCELED && !by_others
}

/// What a subtransaction changes of the surroundings and must put back.
struct Outer {
    context: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Outer {
    fn begin() -> Self {
        // SAFETY: the sequence PL/pgSQL uses for a block with an exception handler.
        unsafe {
            let outer = Outer { context: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(outer.context);
            outer
        }
    }

    fn commit(self) {
        // SAFETY: as above.
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        self.put_back();
    }

    /// Rolls back, then returns the outcome, or raises it on.
    fn roll_back_with<T>(self, outcome: Result<Result<T>>) -> Result<T> {
        // SAFETY: as above.
        unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
        self.put_back();
        match outcome {
            Ok(outcome) => outcome,
            Err(error) => raise(error),
        }
    }

    fn put_back(&self) {
        // SAFETY: both outlive the subtransaction.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.context);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}

//! Trying something that may fail, without losing the transaction.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};

use crate::error::{Error, Result};

/// Runs `act` in a subtransaction: committed on `Ok`, rolled back on `Err` and on any error Postgres raises.
///
/// Cancellation and shutdown are not failures of `act`: they pass through.
pub fn attempt<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = Outer::begin();
    let outcome = caught(act);
    match &outcome {
        Ok(_) => outer.commit(),
        Err(_) => outer.roll_back(),
    }
    outcome
}

/// Runs `act` in a subtransaction that is rolled back whatever comes of it.
pub fn rehearse<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = Outer::begin();
    let outcome = caught(act);
    outer.roll_back();
    outcome
}

/// Turns an error Postgres raises inside `act` into ours, with `reword`. The transaction stays doomed: whoever gets the
/// `Err` must raise it.
pub fn reworded<T>(act: impl FnOnce() -> T, reword: impl Fn(Error) -> Error) -> Result<T> {
    caught(|| Ok(act())).map_err(reword)
}

fn caught<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    PgTryBuilder::new(AssertUnwindSafe(act))
        .catch_others(|cause| match &cause {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) if !passes_through(report) => {
                Err(Error::caught(report.sql_error_code(), report.message(), report.detail(), report.hint()))
            }
            _ => cause.rethrow(),
        })
        .execute()
}

fn passes_through(report: &pgrx::pg_sys::panic::ErrorReportWithLevel) -> bool {
    use pgrx::PgSqlErrorCode::*;
    matches!(
        report.sql_error_code(),
        ERRCODE_QUERY_CANCELED
            | ERRCODE_ADMIN_SHUTDOWN
            | ERRCODE_CRASH_SHUTDOWN
            | ERRCODE_T_R_SERIALIZATION_FAILURE
            | ERRCODE_T_R_DEADLOCK_DETECTED
            | ERRCODE_OUT_OF_MEMORY
    )
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

    fn roll_back(self) {
        // SAFETY: as above.
        unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
        self.put_back();
    }

    fn put_back(&self) {
        // SAFETY: both outlive the subtransaction.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.context);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}

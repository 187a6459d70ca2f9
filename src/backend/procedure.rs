//! A procedure that commits as it goes.

use pgrx::pg_sys;

use super::subtransaction::attempt_for_now;
use super::transaction::{commit_and_begin, with_memory, with_snapshot};
use crate::error::{Error, Result};

/// Runs `act`, which may commit (`transaction::commit_and_begin`), beginning with a transaction of its own; 25001 where the
/// caller would lose a transaction by it.
///
/// # Safety
/// `call` is the call that is being executed.
pub unsafe fn committing<T>(call: pg_sys::FunctionCallInfo, act: impl FnOnce() -> T) -> Result<T> {
    // SAFETY: by contract of this function; context is NULL or a node.
    let may_commit = unsafe {
        let context = (*call).context;
        !context.is_null()
            && (*context).type_ == pg_sys::NodeTag::T_CallContext
            && !(*context.cast::<pg_sys::CallContext>()).atomic
    };
    if !may_commit {
        return Err(Error::in_transaction("this procedure cannot run inside a transaction block or a function")
            .detail("It commits batch by batch.")
            .hint("CALL it by itself."));
    }
    // SAFETY: connected here and finished below; an error's abort does it otherwise.
    unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) };
    commit_and_begin();
    let value = act();
    // SAFETY: as above.
    unsafe { pg_sys::SPI_finish() };
    Ok(value)
}

/// Runs `act`, inside `committing`, in a transaction of its own; commits what it did unless it fails, with whatever error.
pub fn transaction<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let outcome = with_memory(|| attempt_for_now(|| with_snapshot(act)));
    commit_and_begin();
    outcome
}

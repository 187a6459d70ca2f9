//! NOTIFY, in the running transaction.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

/// Sends `payload`, JSON (at most 7,999 bytes, as Postgres has it), on `channel` when the transaction commits.
pub fn send(channel: &CStr, payload: String) {
    // In JSON there is no NUL, so this copies nothing.
    let payload = CString::new(payload).unwrap_or_default();
    // SAFETY: copies both strings.
    unsafe { pg_sys::Async_Notify(channel.as_ptr(), payload.as_ptr()) };
}

//! NOTIFY, in the running transaction.

use pgrx::pg_sys;

use super::identity::c_string;

/// Sends `payload` (at most 7,999 bytes, as Postgres has it) on `channel` when the transaction commits.
pub fn send(channel: &str, payload: &str) {
    let (channel, payload) = (c_string(channel), c_string(payload));
    // SAFETY: copies both strings.
    unsafe { pg_sys::Async_Notify(channel.as_ptr(), payload.as_ptr()) };
}

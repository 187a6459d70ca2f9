//! Giving something only so long: what takes longer is cancelled, as by statement_timeout.

use std::time::{Duration, Instant};

use pgrx::pg_sys;

/// The number of statement_timeout in utils/timeout.h, the same in all supported versions.
const STATEMENT_TIMEOUT: core::ffi::c_int = 3;

// Of utils/timeout.h, which pgrx does not bind. None raises an error.
unsafe extern "C" {
    fn enable_timeout_at(id: core::ffi::c_int, finish: pg_sys::TimestampTz);
    fn disable_timeout(id: core::ffi::c_int, keep_indicator: bool);
    fn get_timeout_active(id: core::ffi::c_int) -> bool;
    fn get_timeout_finish_time(id: core::ffi::c_int) -> pg_sys::TimestampTz;
}

/// Runs `act`, and cancels it (57014) when it takes longer, or when the time is over that was given to what it is a part of.
pub fn at_most<T>(long: Duration, act: impl FnOnce() -> T) -> T {
    let _deadline = Deadline::set(long);
    act()
}

/// The same; tells as well whether `act` has had its time: then a cancellation that came of it was nobody's wish.
pub fn at_most_and_whether<T>(long: Duration, act: impl FnOnce() -> T) -> (T, bool) {
    let began = Instant::now();
    let value = at_most(long, act);
    (value, began.elapsed() >= long)
}

/// A time that is up at some moment, and what it stands in place of.
struct Deadline {
    finish: pg_sys::TimestampTz,
    /// Whether `finish` is ours, and not that of what we are a part of.
    is_ours: bool,
    before: Option<pg_sys::TimestampTz>,
}

impl Deadline {
    fn set(long: Duration) -> Deadline {
        let microseconds = i64::try_from(long.as_micros()).unwrap_or(i64::MAX);
        // SAFETY: a timeout that Postgres has registered for every process with a connection.
        unsafe {
            let before = get_timeout_active(STATEMENT_TIMEOUT).then(|| get_timeout_finish_time(STATEMENT_TIMEOUT));
            let ours = pg_sys::GetCurrentTimestamp().saturating_add(microseconds);
            let finish = before.map_or(ours, |before| before.min(ours));
            enable_timeout_at(STATEMENT_TIMEOUT, finish);
            Deadline { finish, is_ours: finish == ours, before }
        }
    }
}

impl Drop for Deadline {
    /// Also when an error unwinds.
    fn drop(&mut self) {
        // SAFETY: as above; the flag is what Postgres' own signal handler writes.
        unsafe {
            disable_timeout(STATEMENT_TIMEOUT, false);
            let now = pg_sys::GetCurrentTimestamp();
            if self.is_ours && now >= self.finish {
                // It may have been up just when `act` was done: then that cancellation is nobody's any more.
                (&raw mut pg_sys::QueryCancelPending).write_volatile(0);
            }
            // One that is up already has said so.
            if let Some(before) = self.before.filter(|before| *before > now) {
                enable_timeout_at(STATEMENT_TIMEOUT, before);
            }
        }
    }
}

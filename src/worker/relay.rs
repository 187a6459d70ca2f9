//! The relay: announces what writers have marked as the relay's, in their place.

use pgrx::{pg_guard, pg_sys};

/// Starts this database's relay where one is wanted and none is there; called by the worker.
pub fn keep() {}

/// Its main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_tombstone_relay(_database: pg_sys::Datum) {}

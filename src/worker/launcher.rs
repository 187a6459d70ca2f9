//! The launcher: one worker for each database that has the extension.

use std::time::Duration;

use pgrx::{pg_guard, pg_sys};

use super::board::Kind;
use super::process::{self, register_launcher};

/// Registers it; called at preload.
pub fn register() {
    register_launcher();
}

/// Its main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_tombstone_launcher(_argument: pg_sys::Datum) {
    if !process::start(Kind::Launcher, None) {
        return;
    }
    loop {
        process::sleep(Duration::from_secs(60));
    }
}

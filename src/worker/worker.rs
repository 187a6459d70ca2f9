//! A database's worker: looks whether the extension is there, and does what is due for as long as it is.

use pgrx::{FromDatum, pg_guard, pg_sys};

use super::board::{self, ProcessKind};
use super::maintenance::Maintenance;
use super::{EXTENSION, process, relay};
use crate::backend::extension;
use crate::backend::process::{show_activity, transaction};
use crate::error::Result;

/// Its main function; the argument is the database's OID.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_tombstone_worker(database: pg_sys::Datum) {
    // SAFETY: whoever launches a worker passes an OID.
    let database = unsafe { pg_sys::Oid::from_datum(database, false) };
    if !process::start(ProcessKind::Worker, database) {
        return;
    }
    match work() {
        Ok(()) => board::found_no_extension(),
        Err(error) => pgrx::log!("pg_tombstone: {}", error.summary()),
    }
}

/// Until the extension is gone.
fn work() -> Result<()> {
    let mut maintenance = Maintenance::of_worker();
    let mut relay = relay::Keeper::default();
    let mut is_settled = false;
    while extension_is_here()? {
        if !is_settled {
            board::found_extension();
            is_settled = true;
        }
        let relay_rest = relay.keep();
        let rest = maintenance.slice()?;
        board::got_through();
        process::sleep(rest.min(relay_rest));
    }
    Ok(())
}

fn extension_is_here() -> Result<bool> {
    show_activity("looking for the extension");
    transaction(|| Ok(extension::find(EXTENSION).is_some()))
}

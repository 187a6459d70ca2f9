//! state: what has become of a record, as far as the caller may know: row security hides rows here as everywhere.

use pgrx::datum::AnyElement;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Lock, Standing};
use super::record;
use super::rows::Rows;
use crate::backend::identity::row_security_binds;
use crate::backend::relation::LockFor;
use crate::error::Result;
use crate::log::event;
use crate::table::Fits;

/// live, deleted, purged or unknown (DESIGN §3).
#[pg_extern(sql = false)]
fn state(id: Option<AnyElement>, relation: Option<pg_sys::Oid>) -> Result<String, ErrorReport> {
    let state = || -> Result<&'static str> {
        let (table, key) = record(id, relation, Fits::Records, LockFor::Reading)?;
        let found = layout::of(&table).find(&Rows::Record(&key), Lock::None)?;
        if found.iter().any(|row| row.standing == Standing::Live) {
            return Ok("live");
        }
        if !found.is_empty() {
            return Ok("deleted");
        }
        // The log knows of rows that row security may have hidden: then it must not tell.
        let purged = !row_security_binds(table.oid) && event::remembers_purge(table.number, &key.text)?;
        Ok(if purged { "purged" } else { "unknown" })
    };
    state().map(str::to_string).map_err(Into::into)
}

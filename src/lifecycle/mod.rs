//! The doors of the lifecycle. A door finds the table and the key, asks whether the caller may, and writes the table's
//! rows through its `Layout`; what the write means is the triggers' business.

pub mod cascade;
pub mod hold;
mod layout;
mod owners;
mod purge;
mod purge_versions;
mod restore;
mod rows;
mod soft_delete;
mod soft_delete_many;
mod state;
mod undo;
mod value_states;
pub mod version_choice;

use std::rc::Rc;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::table::key::Key;
use crate::table::{Fits, Table, resolve};

/// The table and the key a door is about.
fn record(id: Option<String>, relation: Option<pg_sys::Oid>, fits: Fits) -> Result<(Rc<Table>, Key)> {
    let table = resolve(relation, fits)?;
    let id = id.ok_or_else(|| Error::invalid("id must not be NULL").hint(format!("Name a record of {}.", table.title())))?;
    let key = table.key(&id)?;
    Ok((table, key))
}

/// P0002: the table has no such record.
fn no_such_record(table: &Table, key: &Key) -> Error {
    Error::no_data_found(format!("table {} has no record \"{}\"", table.title(), key.text))
        .detail("It was never there, was purged, or is hidden from you by row security.")
        .hint("tombstone.state() tells what has become of a record.")
}

/// 55000: the record is there, and the write did not happen.
fn cancelled(table: &Table, key: &Key, verb: &str) -> Error {
    Error::not_ready(format!("record \"{}\" of table {} was not {verb}", key.text, table.title()))
        .detail("A trigger of the table cancelled the write.")
        .hint("Look for BEFORE triggers that return NULL.")
}

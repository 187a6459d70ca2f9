//! The doors of the lifecycle. A door finds the table and the key, asks whether the caller may, and writes the table's
//! rows through its `Layout`; what the write means is the triggers' business.

pub mod cascade;
mod deferred;
mod discretion;
pub mod fallen;
pub mod hold;
pub mod layout;
mod locking;
mod owners;
mod purge;
mod purge_versions;
mod replay;
mod restore;
pub mod restoring;
pub mod rows;
pub mod rule;
pub mod soft_delete;
mod soft_delete_many;
mod state;
mod undo;
mod undo_binned;
pub mod unlinked;
mod value_states;
pub mod version_choice;
pub mod whole;

use std::rc::Rc;

use pgrx::datum::AnyElement;
use pgrx::pg_sys;

use self::layout::{Found, Lock, Standing};
use self::rows::Rows;
use crate::backend::identity::row_security_binds;
use crate::backend::relation::LockFor;
use crate::backend::subtransaction::attempt;
use crate::error::{Error, Result};
use crate::log::event;
use crate::table::given::text_of;
use crate::table::key::Key;
use crate::table::{Fits, Table, resolve};

/// The table and the key a door is about.
fn record(id: Option<AnyElement>, relation: Option<pg_sys::Oid>, fits: Fits, what_for: LockFor) -> Result<(Rc<Table>, Key)> {
    let table = resolve(relation, fits, what_for)?;
    let id = id.ok_or_else(|| Error::invalid("id must not be NULL").hint(format!("Name a record of {}.", table.title())))?;
    let key = table.key(&text_of(id))?;
    Ok((table, key))
}

/// The keys that can be read, each with its place among `ids`.
pub fn readable_keys(table: &Table, ids: &[&str]) -> Result<Vec<(usize, Key)>> {
    let named = || ids.iter().enumerate();
    let all = attempt(|| named().map(|(place, id)| Ok((place, table.key(id)?))).collect::<Result<Vec<_>>>());
    match all {
        Ok(keys) => Ok(keys),
        Err(_) => Ok(named().filter_map(|(place, id)| attempt(|| table.key(id)).ok().map(|key| (place, key))).collect()),
    }
}

/// Writes all of `keys`, in a subtransaction; returns those that a hold, a child, a privilege or a constraint refuses, by their
/// places, found by halving. What `stops` it is no verdict on a record, and ends it all.
pub fn all_but_refused(
    keys: &[Key],
    stops: fn(&Error) -> bool,
    write: &impl Fn(&[Key]) -> Result<u64>,
) -> Result<Vec<(usize, Error)>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let Err(error) = attempt(|| write(keys)) else { return Ok(Vec::new()) };
    if stops(&error) {
        return Err(error);
    }
    if keys.len() == 1 {
        return Ok(vec![(0, error)]);
    }
    let (left, right) = keys.split_at(keys.len() / 2);
    let mut refused = all_but_refused(left, stops, write)?;
    refused.extend(all_but_refused(right, stops, write)?.into_iter().map(|(place, error)| (left.len() + place, error)));
    Ok(refused)
}

/// What came of a write of one record's rows.
enum Written {
    Rows,
    /// None, as the record stands so.
    Nothing(Vec<Found>),
}

/// Runs a write of one record's rows. Where it wrote none, and yet there are rows that it could have written, a rival may have
/// changed them in between: with the rows locked it is tried once more, and then it is not for a rival that it writes none.
fn despite_rivals(
    table: &Table,
    key: &Key,
    could: impl Fn(Standing) -> bool,
    write: impl Fn() -> Result<u64>,
) -> Result<Written> {
    if write()? > 0 {
        return Ok(Written::Rows);
    }
    let find = |lock| layout::of(table).find(&Rows::Record(key), lock);
    let could_be = |found: &[Found]| found.iter().any(|row| could(row.standing));
    let mut found = find(Lock::None)?;
    if could_be(&found) {
        found = find(Lock::Update)?;
        if could_be(&found) && write()? > 0 {
            return Ok(Written::Rows);
        }
    }
    Ok(Written::Nothing(found))
}

/// P0002: the table has no such record.
fn no_such_record(table: &Table, key: &Key) -> Error {
    Error::no_data_found(format!("table {} has no record \"{}\"", table.title(), key.text))
        .detail("It was never there, was purged, or is hidden from you by row security.")
        .hint("tombstone.state() tells what has become of a record.")
}

/// The record is there, and the write did not happen: 42501 where that may be for row security, else 55000.
fn cancelled(table: &Table, key: &Key, verb: &str) -> Error {
    let message = format!("record \"{}\" of table {} was not {verb}", key.text, table.title());
    if row_security_binds(table.oid) {
        return Error::denied(message)
            .detail("No policy of the table lets you, or a trigger of the table cancelled the write.")
            .hint("Look at its policies in pg_policies, and for BEFORE triggers that return NULL.");
    }
    Error::not_ready(message)
        .detail("A trigger of the table cancelled the write.")
        .hint("Look for BEFORE triggers that return NULL.")
}

/// Runs a write of rows, and sees to it that the table's triggers saw it: 55000 where they slept.
pub fn seen(table: &Table, write: impl FnOnce() -> Result<u64>) -> Result<u64> {
    let before = event::noted();
    match write()? {
        1.. if event::noted() == before => Err(Error::not_ready(format!(
            "the triggers of managed table {} did not fire",
            table.title()
        ))
        .detail("They are disabled, session_replication_role is replica, or the rows belong to a table that inherits from it.")
        .hint(format!("ALTER TABLE {} ENABLE TRIGGER USER; RESET session_replication_role;", table.title()))
        .saying_triggers_slept()),
        written => Ok(written),
    }
}

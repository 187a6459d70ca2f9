//! soft_delete: one record becomes a tombstone. With the caller's rights, as the UPDATE it is.

use pgrx::datum::AnyElement;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Found, Standing};
use super::rows::Rows;
use super::{Written, cancelled, despite_rivals, no_such_record, owners, record, seen};
use crate::backend::relation::LockFor;
use crate::error::{Error, Result};
use crate::log::account::{self, Account, Cause};
use crate::log::deletion;
use crate::table::key::Key;
use crate::table::{Fits, Table};

/// Soft-deletes a record; returns the deletion's number (DESIGN §3).
#[pg_extern(sql = false)]
fn soft_delete(id: Option<AnyElement>, relation: Option<pg_sys::Oid>, reason: Option<String>) -> Result<i64, ErrorReport> {
    let delete = || -> Result<i64> {
        let (table, key) = record(id, relation, Fits::Records, LockFor::Writing)?;
        owners::require(&table, &key)?;
        let account = Account::new(Cause::User, reason);
        let write = || seen(&table, || layout::of(&table).soft_delete_as_caller(&Rows::Record(&key)));
        match account::on(account, || despite_rivals(&table, &key, |standing| standing == Standing::Live, write))? {
            Written::Rows => Ok(deletion::number()),
            Written::Nothing(found) => Err(why_not(&table, &key, &found)),
        }
    };
    delete().map_err(Into::into)
}

/// Soft-deletes one live row, as the caller may; whether there was one. Of a table without versions that is its record.
pub fn row(table: &Table, key: &Key, version: Option<i64>) -> Result<bool> {
    let rows = version.as_ref().map_or(Rows::Record(key), |version| Rows::Versions(key, std::slice::from_ref(version)));
    Ok(seen(table, || layout::of(table).soft_delete_as_caller(&rows))? > 0)
}

/// Why there was nothing to delete.
fn why_not(table: &Table, key: &Key, found: &[Found]) -> Error {
    if found.is_empty() {
        return no_such_record(table, key);
    }
    if found.iter().any(|row| row.standing == Standing::Live) {
        return cancelled(table, key, "deleted");
    }
    Error::no_data_found(format!("record \"{}\" of table {} is deleted already", key.text, table.title()))
        .detail("A tombstone is not deleted twice.")
        .hint("tombstone.restore() brings it back; tombstone.purge() removes it for ever.")
}

//! soft_delete: one record becomes a tombstone. With the caller's rights, as the UPDATE it is.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Found, Lock, Standing};
use super::rows::Rows;
use super::{Written, cancelled, despite_rivals, no_such_record, owners, record, seen};
use crate::backend::identity::row_security_binds;
use crate::backend::query::Statement;
use crate::backend::relation::LockFor;
use crate::error::{Error, Result};
use crate::log::account::{self, Account, Cause};
use crate::log::deletion;
use crate::table::key::Key;
use crate::table::{Fits, Table};

/// Soft-deletes a record; returns the deletion's number (DESIGN §3).
#[pg_extern(sql = false)]
fn soft_delete(id: Option<String>, relation: Option<pg_sys::Oid>, reason: Option<String>) -> Result<i64, ErrorReport> {
    let delete = || -> Result<i64> {
        let (table, key) = record(id, relation, Fits::Records, LockFor::Writing)?;
        owners::require(&table, &key)?;
        let account = Account { cause: Cause::User, reason, undoes: None };
        let write = || rows_as_caller(&table, &Rows::Record(&key));
        match account::on(account, || despite_rivals(&table, &key, |standing| standing == Standing::Live, write))? {
            Written::Rows => Ok(deletion::number()),
            Written::Nothing(found) => Err(why_not(&table, &key, &found)),
        }
    };
    delete().map_err(Into::into)
}

/// Soft-deletes rows for the caller; returns how many.
///
/// Row security that hides tombstones (a policy `deleted_at IS NULL`) would refuse the very row this writes. So where row
/// security binds the caller, it decides which rows the caller may see and update; the write itself is the owner's.
pub fn rows_as_caller(table: &Table, rows: &Rows) -> Result<u64> {
    let layout = layout::of(table);
    if !row_security_binds(table.oid) {
        return seen(table, || layout.soft_delete(table, rows));
    }
    require_update_of_deleted_at(table)?;
    let find = || layout.find(table, rows, Lock::Update);
    let live = |found: Vec<Found>| found.into_iter().filter(|row| row.standing == Standing::Live).count();
    let visible = live(find()?);
    if visible == 0 {
        return Ok(0);
    }
    // The owner's write cannot tell rows apart that share a key, as where the id is unique only with the partition key.
    if visible < live(table.as_owner(find)?) {
        return Err(Error::denied(format!("row security hides a part of what was to be deleted from table {}", table.title()))
            .detail("Rows that share an id are deleted together, or not at all.")
            .hint("Name an id that is unique by itself."));
    }
    seen(table, || table.as_owner(|| layout.soft_delete(table, rows)))
}

thread_local! {
    static MAY_UPDATE: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.has_column_privilege($1, $2, 'UPDATE')", [pg_sys::OIDOID, pg_sys::TEXTOID],
    )));
}

fn require_update_of_deleted_at(table: &Table) -> Result<()> {
    let arguments = [DatumWithOid::from(table.oid), DatumWithOid::from(table.deleted_at.name.as_str())];
    let may = MAY_UPDATE.with(|statement| statement.rows(&arguments, |row| Ok(row.get::<bool>(1)?.unwrap_or_default())))?;
    if may.into_iter().all(|may| may) {
        return Ok(());
    }
    Err(Error::denied(format!("permission denied for column {} of table {}", table.deleted_at.name, table.title()))
        .hint("Deleting a record takes the UPDATE privilege on that column."))
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

//! What may be said of rows that are written in their owner's name: whoever caused that may have no right to see them. Postgres' own
//! words show what the owner may see.

use std::ffi::CString;

use pgrx::pg_sys;

use crate::backend::identity::{acting_as, asking, c_string, caller, has_privileges_of, may_select, row_security_binds};
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
use crate::backend::subtransaction::reworded;
use crate::error::Result;
use crate::table::{Column, Table};

thread_local! {
    // Walks pg_inherits itself: pg_partition_tree() would lock every partition.
    static TRIGGERS: &'static Statement = Box::leak(Box::new(Statement::new(
        "WITH RECURSIVE tree AS (
             SELECT $1 AS relation
             UNION ALL
             SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.relation
         )
         SELECT 'some'
         FROM tree
         JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.relation AND NOT t.tgisinternal AND t.tgenabled <> 'D'
         JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
         JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname <> 'tombstone'
         LIMIT 1",
        [pg_sys::OIDOID],
    )));
}

/// Runs `act`, which writes rows of `tables` in their owner's name, because of a change elsewhere. Where the caller may not see them,
/// an error that Postgres raises says none of their values.
pub fn withholding<T>(tables: &[&Table], act: impl FnOnce() -> Result<T>) -> Result<T> {
    for table in tables {
        if !shows_rows(table)? {
            return reworded(act, |error| error.without_values(&table.title()))?;
        }
    }
    act()
}

/// Whether the caller may see whatever an error says of rows of `table`. A trigger may bring in those of other tables: then only who
/// has the rights of its owner, with which it runs.
fn shows_rows(table: &Table) -> Result<bool> {
    if has_privileges_of(caller(), table.owner) {
        return Ok(true);
    }
    let is_open = may_select(caller(), table.oid, &[]) && !row_security_binds(table.oid);
    Ok(is_open && !has_triggers(table)?)
}

/// Whether triggers of the application's own are on `table`, or on a partition of it.
fn has_triggers(table: &Table) -> Result<bool> {
    let found = acting_as(keeper(), || TRIGGERS.with(|statement| statement.latest(&[table.oid.into()])))?;
    Ok(found.is_some())
}

/// Whether the caller may know the ids of `table`.
pub fn shows_ids(table: &Table) -> bool {
    may_know(caller(), table, &table.id)
}

/// A record as a message names it to the caller: without its id where they may not know it.
pub fn named(table: &Table, id: &str) -> String {
    if shows_ids(table) { format!("\"{id}\" of {}", table.title()) } else { format!("a record of {}", table.title()) }
}

/// The same in a trigger, which may run in the name of the owner of `table` because of what somebody else does elsewhere.
pub fn named_to_asking(table: &Table, id: &str) -> String {
    format!("{} of table {}", id_to_asking(table, id), table.title())
}

/// The same where the message names the table besides.
pub fn id_to_asking(table: &Table, id: &str) -> String {
    if shows_to_asking(table, &table.id) { format!("record \"{id}\"") } else { "a record".to_string() }
}

/// Whether whoever asks may know these columns of `table`.
pub fn shows_to_asking(table: &Table, columns: &[Column]) -> bool {
    may_know(asking(), table, columns)
}

fn may_know(role: pg_sys::Oid, table: &Table, columns: &[Column]) -> bool {
    let names: Vec<CString> = columns.iter().map(|column| c_string(&column.name)).collect();
    has_privileges_of(role, table.owner) || may_select(role, table.oid, &names)
}

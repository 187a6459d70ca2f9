//! What refers to a table with layout archive: rows that its deletes take along by their own foreign keys. Unmanaged, they could not
//! come back; in_place, they would be purged. Both are decided when a table is put under management, and when a foreign key is added.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::backend::own_table::own_statements;
use crate::error::{Error, Result};
use crate::table::catalog::{self, Relation};
use crate::table::options::ARCHIVE;

/// A foreign key whose ON DELETE writes the other table's rows.
pub struct Reaching {
    pub name: String,
    pub child: pg_sys::Oid,
    pub parent: pg_sys::Oid,
    /// As declared.
    pub action: &'static str,
    /// The layout of the child, and of the parent, where it is managed.
    pub child_layout: Option<String>,
    pub parent_layout: Option<String>,
    /// Whether this transaction has made it.
    is_new: bool,
}

own_statements! {
    REACHING(OID) =
        "SELECT c.conname::pg_catalog.text, c.conrelid, c.confrelid, c.confdeltype::pg_catalog.text, child.layout, parent.layout, c.xmin
         FROM pg_catalog.pg_constraint c
         LEFT JOIN tombstone.managed child ON child.relation = c.conrelid
         LEFT JOIN tombstone.managed parent ON parent.relation = c.confrelid
         WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confdeltype IN ('c', 'n', 'd') AND $1 IN (c.conrelid, c.confrelid)
         ORDER BY c.conrelid::pg_catalog.regclass::pg_catalog.text, c.conname";
}

/// The foreign keys at one end of which `table` stands, and whose ON DELETE writes rows.
pub fn reaching(table: pg_sys::Oid) -> Result<Vec<Reaching>> {
    REACHING.rows(&[table.into()], |row| {
        Ok(Reaching {
            name: row.get(1)?,
            child: row.get(2)?,
            parent: row.get(3)?,
            action: row.parsed(4, declared)?,
            child_layout: row.nullable(5)?,
            parent_layout: row.nullable(6)?,
            is_new: is_of_this_transaction(row.get(7)?),
        })
    })
}

/// An action that writes rows, as it is declared.
fn declared(action: &str) -> Option<&'static str> {
    match action {
        "c" => Some("CASCADE"),
        "n" => Some("SET NULL"),
        "d" => Some("SET DEFAULT"),
        _ => None,
    }
}

pub fn is_of_this_transaction(transaction: pg_sys::TransactionId) -> bool {
    // SAFETY: looks among this transaction's own.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(transaction) }
}

/// A table was made or changed: decides about foreign keys that are new as manage() would have decided.
pub fn check_new(table: pg_sys::Oid) -> Result<()> {
    let is_archive = |layout: &Option<String>| layout.as_deref() == Some(ARCHIVE);
    for key in reaching(table)?.iter().filter(|key| key.is_new && is_archive(&key.parent_layout)) {
        if key.child_layout.is_none() {
            warn_of(key);
        }
        refuse_if_mixed(key)?;
    }
    Ok(())
}

/// A row of `key`'s child would be lost for ever, or keep a lost value, though its parent comes back.
pub fn warn_of(key: &Reaching) {
    let (child, parent, action) = (catalog::title(key.child), catalog::title(key.parent), key.action);
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("table {child} refers to {parent} ON DELETE {action}, and is not managed"),
        "pg_tombstone",
    )
    .set_detail("What a DELETE does to its rows could not be undone.")
    .set_hint(format!("SELECT tombstone.manage('{child}'); or manage both at once with tree => true."))
    .report(PgLogLevel::WARNING);
}

/// 0A000 where a table that keeps its tombstones would lose rows for ever with a parent that does not. `table` is managed by now.
pub fn refuse_mixed(table: &Relation) -> Result<()> {
    reaching(table.oid)?.iter().try_for_each(refuse_if_mixed)
}

fn refuse_if_mixed(key: &Reaching) -> Result<()> {
    let is = |layout: &Option<String>, wanted: bool| layout.as_deref().is_some_and(|layout| (layout == ARCHIVE) == wanted);
    if key.action != "CASCADE" || !is(&key.parent_layout, true) || !is(&key.child_layout, false) {
        return Ok(());
    }
    let (child, parent) = (catalog::title(key.child), catalog::title(key.parent));
    Err(Error::unsupported(format!("{child} with layout in_place cannot hang on {parent} with layout archive"))
        .detail(format!(
            "Foreign key \"{}\" is ON DELETE CASCADE: a DELETE of {parent} would purge the rows of {child}, and no undo would bring them back.",
            key.name
        ))
        .hint(format!("Manage both with the same layout, or declare the foreign key ON DELETE RESTRICT: {child} then has to be purged first.")))
}

/// What `table` reaches that is not managed.
pub fn unmanaged(table: pg_sys::Oid) -> Result<Vec<Reaching>> {
    let out_of_reach = |key: &Reaching| key.parent == table && key.child_layout.is_none();
    Ok(reaching(table)?.into_iter().filter(out_of_reach).collect())
}

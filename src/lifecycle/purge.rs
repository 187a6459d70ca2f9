//! purge: a record goes for ever, live or deleted. EXECUTE is granted to few, and they must own the record as well;
//! the DELETE is then the table owner's.

use pgrx::datum::AnyElement;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Lock};
use super::rows::Rows;
use super::{cancelled, no_such_record, owners, record, seen};
use crate::backend::relation::LockFor;
use crate::error::Result;
use crate::table::Fits;

/// Hard delete of a record; returns how many rows went (DESIGN §3).
#[pg_extern(sql = false)]
fn purge(id: Option<AnyElement>, relation: Option<pg_sys::Oid>) -> Result<i64, ErrorReport> {
    let purge = || -> Result<i64> {
        let (table, key) = record(id, relation, Fits::Records, LockFor::Writing)?;
        let (layout, rows) = (layout::of(&table), Rows::Record(&key));
        if table.as_owner(|| layout.find(&rows, Lock::Delete))?.is_empty() {
            return Err(no_such_record(&table, &key));
        }
        owners::require_of_record_or_table(&table, &key)?;
        match seen(&table, || table.as_owner(|| layout.purge(&rows)))? {
            0 => Err(cancelled(&table, &key, "purged")),
            purged => Ok(purged as i64),
        }
    };
    purge().map_err(Into::into)
}

//! restore: a tombstone becomes a live record, and with it the children that its deletion took by cascade.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Standing};
use super::rows::Rows;
use super::{Written, cancelled, cascade, despite_rivals, no_such_record, owners, record, seen};
use crate::backend::relation::LockFor;
use crate::error::{Error, Result};
use crate::log::account::{self, Account, Cause};
use crate::table::Fits;

/// Restores a record; returns how many records came back, itself and cascaded children (DESIGN §3).
#[pg_extern(sql = false)]
fn restore(id: Option<String>, relation: Option<pg_sys::Oid>) -> Result<i64, ErrorReport> {
    let restore = || -> Result<i64> {
        let (table, key) = record(id, relation, Fits::Records, LockFor::Writing)?;
        owners::require(&table, &key)?;
        let (rows, account) = (Rows::Record(&key), Account { cause: Cause::User, reason: None, undoes: None });
        let write = || seen(&table, || layout::of(&table).restore(&rows, None));
        let despite_rivals = || despite_rivals(&table, &key, |standing| standing != Standing::Live, write);
        let (written, followed) = cascade::counting(|| account::on(account, despite_rivals));
        let found = match written? {
            Written::Rows => return Ok(1 + followed as i64),
            Written::Nothing(found) => found,
        };
        if found.is_empty() {
            return Err(no_such_record(&table, &key));
        }
        if found.iter().any(|row| row.standing != Standing::Live) {
            return Err(cancelled(&table, &key, "restored"));
        }
        Err(Error::no_data_found(format!("record \"{}\" of table {} is not deleted", key.text, table.title()))
            .detail("It is live.")
            .hint("Only tombstones can be restored."))
    };
    restore().map_err(Into::into)
}

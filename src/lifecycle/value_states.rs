//! tombstone_value_states: the versions of a record up to an epoch get their tombstone values (seed 000). It is the soft
//! delete of versions: one statement, so all or nothing; what is tombstoned already is not written again.

use pgrx::datum::AnyElement;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::purge_versions::require_versions;
use super::rows::Rows;
use super::{layout, owners, record, seen};
use crate::backend::relation::LockFor;
use crate::error::{Error, Result};
use crate::log::account::{self, Account, Cause};
use crate::table::Fits;

/// Returns the rows newly tombstoned; 0 for an unknown user (DESIGN §3).
#[pg_extern(sql = false)]
fn tombstone_value_states(
    user: Option<AnyElement>,
    epoch: Option<i64>,
    relation: Option<pg_sys::Oid>,
) -> Result<i64, ErrorReport> {
    up_to(user, epoch, relation).map_err(Into::into)
}

fn up_to(user: Option<AnyElement>, epoch: Option<i64>, relation: Option<pg_sys::Oid>) -> Result<i64> {
    let user = user.ok_or_else(|| Error::invalid("user must not be NULL").hint("Name the user whose states to tombstone."))?;
    let (table, key) = record(Some(user), relation, Fits::Versions, LockFor::Writing)?;
    require_versions(&table, "tombstone_value_states()")?;
    if table.bin().is_some() {
        return Err(Error::unsupported(format!("table {} has layout archive: its tombstones leave it", table.title()))
            .detail("tombstone_value_states() blanks versions that stay where they are.")
            .hint("Manage the table with layout => 'in_place'; or soft_delete() the record, or purge_versions() of it."));
    }
    let epoch = epoch.ok_or_else(|| Error::invalid("epoch must not be NULL"))?;
    if epoch < 0 {
        return Err(Error::invalid(format!("epoch is {epoch}, and must not be negative"))
            .detail(format!("States of \"{}\" of table {} were to be tombstoned.", key.text, table.title()))
            .hint("Epochs count from 0; the bound is inclusive."));
    }
    owners::require(&table, &key)?;
    let account = Account::new(Cause::User, None);
    let write = || layout::of(&table).soft_delete_as_caller(&Rows::UpTo(&key, epoch));
    Ok(account::on(account, || seen(&table, write))? as i64)
}

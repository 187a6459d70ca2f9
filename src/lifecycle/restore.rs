//! restore: a tombstone becomes a live record, and with it the children that its deletion took.

use pgrx::datum::AnyElement;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Fallen, Found, Lock, Standing};
use super::rows::Rows;
use super::{Written, cancelled, cascade, despite_rivals, hold, no_such_record, owners, record, seen};
use crate::backend::relation::LockFor;
use crate::error::{Error, Result};
use crate::log::account::{self, Account, Cause};
use crate::log::event::{self, Taken};
use crate::table::key::Key;
use crate::table::{Fits, Table};

/// Restores a record; returns how many records came back, itself and its children (DESIGN §3).
#[pg_extern(sql = false)]
fn restore(id: Option<AnyElement>, relation: Option<pg_sys::Oid>, deletion: Option<i64>) -> Result<i64, ErrorReport> {
    let restore = || -> Result<i64> {
        let (table, key) = record(id, relation, Fits::Records, LockFor::Writing)?;
        owners::require(&table, &key)?;
        let fallen = deletion.map_or(Ok(Fallen::Last), |deletion| fallen_in(&table, &key, deletion))?;
        let (rows, account) = (Rows::Record(&key), Account::new(Cause::User, None));
        let write = || seen(&table, || layout::of(&table).restore(&rows, fallen));
        let despite_rivals = || despite_rivals(&table, &key, |standing| standing != Standing::Live, write);
        let (written, followed) = cascade::counting(|| account::on(account, despite_rivals));
        let found = match written? {
            Written::Rows => return Ok(1 + followed as i64),
            Written::Nothing(found) => found,
        };
        if found.is_empty() {
            return Err(no_such_record(&table, &key));
        }
        if let Some(deletion) = deletion.filter(|_| !is_among(&found, fallen)) {
            return Err(not_of(&table, &key, deletion));
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

/// The tombstone that `deletion` left of this record.
fn fallen_in(table: &Table, key: &Key, deletion: i64) -> Result<Fallen> {
    if table.bin().is_some() {
        return Ok(Fallen::Numbered(deletion));
    }
    // The log has the spelling of the row.
    let id = hold::spelling(table, key)?.unwrap_or_else(|| key.text.clone());
    let took = |taken: &Taken| taken.managed == table.number && taken.ids.contains(&id);
    let taken = event::taken_by(deletion, vec![])?.into_iter().rfind(took).ok_or_else(|| not_of(table, key, deletion))?;
    let again = event::taken_again(deletion, taken.managed, taken.stamp)?;
    let is_taken_again = again.iter().any(|((other, _), seq)| *other == id && *seq > taken.seq);
    match taken.stamp {
        Some(stamp) if !is_taken_again => {
            let found = layout::of(table).find(&Rows::Record(key), Lock::None)?;
            Ok(Fallen::Stamped(layout::stamp_among(table, stamp, &found)))
        }
        _ => Err(not_of(table, key, deletion)),
    }
}

/// Whether one of these tombstones is the one that was meant; of a table with an archive, all of them are others.
fn is_among(found: &[Found], meant: Fallen) -> bool {
    let Fallen::Stamped(stamp) = meant else { return false };
    found.iter().any(|row| row.standing.stamp().is_none_or(|other| other == stamp))
}

/// P0002: the record may be deleted, but not by that deletion.
fn not_of(table: &Table, key: &Key, deletion: i64) -> Error {
    Error::no_data_found(format!("deletion {deletion} left no tombstone of record \"{}\" in table {}", key.text, table.title()))
        .detail("It did not take that record, or the tombstone was restored or purged since.")
        .hint("Without a deletion, restore() takes the record's last one.")
}

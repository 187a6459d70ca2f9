//! Legal hold: a held record is neither deleted, restored nor purged, whichever road is tried.
//!
//! hold() locks the record's rows; a statement that changes them has locked them before it asks here. So one of the two
//! waits for the other, and whoever comes second sees what the first did: the answer must come from the latest snapshot.

use pgrx::datum::{AnyElement, DatumWithOid};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::discretion::{id_to_asking, named_to_asking};
use super::layout::{self, Lock};
use super::rows::Rows;
use super::{no_such_record, record};
use crate::backend::identity::{actor, caller, has_privileges_of};
use crate::backend::own_table::own_statements;
use crate::backend::relation::{LockFor, is_empty_file, own};
use crate::backend::subtransaction::reworded;
use crate::error::{Error, Result};
use crate::table::given::text_of;
use crate::table::key::Key;
use crate::table::{Fits, Purpose, Table, not_managed, resolve};

own_statements! {
    HELD(INT4, TEXT_ARRAY) = "SELECT id FROM tombstone.held WHERE managed = $1 AND id = ANY ($2) LIMIT 1";
    ANY(INT4) = "SELECT id FROM tombstone.held WHERE managed = $1 LIMIT 1";
    ALL(INT4) = "SELECT id FROM tombstone.held WHERE managed = $1";
    AMONG(INT4, TEXT_ARRAY) = "SELECT id FROM tombstone.held WHERE managed = $1 AND id = ANY ($2)";
    INSERT(INT4, TEXT, TEXT, TEXT) =
        "INSERT INTO tombstone.held (managed, id, actor, reason) VALUES ($1, $2, $3, $4)
         ON CONFLICT (managed, id) DO UPDATE SET reason = EXCLUDED.reason WHERE EXCLUDED.reason IS NOT NULL";
    DELETE(INT4, TEXT) = "DELETE FROM tombstone.held WHERE managed = $1 AND id = $2";
}

/// 55006 where one of `ids` is on hold.
pub fn refuse_held(table: &Table, ids: &[String]) -> Result<()> {
    if is_empty_file(own(c"held")) {
        return Ok(()); // no record of any table is: most servers, most of the time
    }
    let mut ids = ids.to_vec();
    ids.dedup();
    let held = HELD.latest(&[table.number.into(), DatumWithOid::from(ids)])?;
    held.map_or(Ok(()), |id: String| Err(on_hold(format!("{} is on hold", named_to_asking(table, &id)))))
}

/// 55006 where any record of the table is on hold.
pub fn refuse_any(table: &Table) -> Result<()> {
    let held = ANY.latest(&[table.number.into()])?;
    let refusal =
        |id: String| on_hold(format!("cannot truncate table {}: {} is on hold", table.title(), id_to_asking(table, &id)));
    held.map_or(Ok(()), |id: String| Err(refusal(id)))
}

/// 55006 where a record on hold is nowhere any more: neither in the table nor among its tombstones.
pub fn refuse_lost(table: &Table) -> Result<()> {
    let held = all_held(table)?;
    if held.is_empty() {
        return Ok(());
    }
    let keys = held.iter().map(|id| table.key(id)).collect::<Result<Vec<_>>>()?;
    let standings = table.evaluating(|| layout::of(table).standings(&Rows::Records(&keys)))?;
    let lost = held.iter().zip(standings).find(|(_, standing)| standing.is_none());
    lost.map_or(Ok(()), |(id, _)| Err(on_hold(format!("{} is on hold", named_to_asking(table, id)))))
}

/// 55006 of this record, which is on hold.
pub fn refusal(table: &Table, key: &Key) -> Error {
    on_hold(format!("{} is on hold", named_to_asking(table, &key.text)))
}

fn on_hold(message: String) -> Error {
    Error::on_hold(message)
        .detail("A record on hold can be neither deleted, restored nor purged.")
        .hint("See tombstone.holds; tombstone.release() ends a hold.")
}

/// The ids of all records of the table that are on hold.
pub fn all_held(table: &Table) -> Result<Vec<String>> {
    if is_empty_file(own(c"held")) {
        return Ok(Vec::new());
    }
    ALL.rows(&[table.number.into()], |row| row.get(1))
}

/// The texts of those `keys` whose records are on hold.
pub fn held_among(table: &Table, keys: &[Key]) -> Result<Vec<String>> {
    held(table, &keys.iter().map(|key| key.text.as_str()).collect::<Vec<_>>())
}

/// Those of the ids, spelt as rows have them, whose records are on hold.
pub fn held(table: &Table, ids: &[&str]) -> Result<Vec<String>> {
    let ids: Vec<String> = ids.iter().map(|id| id.to_string()).collect();
    AMONG.rows(&[table.number.into(), DatumWithOid::from(ids)], |row| row.get(1))
}

/// Puts a record on hold (DESIGN §3).
#[pg_extern(sql = false)]
fn hold(id: Option<AnyElement>, relation: Option<pg_sys::Oid>, reason: Option<String>) -> Result<(), ErrorReport> {
    let hold = || -> Result<()> {
        let (table, key) = record(id, relation, Fits::Records, LockFor::Writing)?;
        require_table_owner(&table, "hold")?;
        let rows = table.as_owner(|| layout::of(&table).find(&Rows::Record(&key), Lock::Update))?;
        let Some(id) = spelling(&table, &key)?.filter(|_| !rows.is_empty()) else {
            return Err(no_such_record(&table, &key));
        };
        let arguments = [table.number.into(), id.into(), actor().into(), reason.into()];
        // A table unmanaged meanwhile has no row to refer to.
        reworded(|| INSERT.run(&arguments), |error| if error.is_foreign_key() { not_managed(table.oid) } else { error })?
    };
    hold().map_err(Into::into)
}

/// Ends a hold (DESIGN §3).
#[pg_extern(sql = false)]
fn release(id: Option<AnyElement>, relation: Option<pg_sys::Oid>) -> Result<(), ErrorReport> {
    let release = || -> Result<()> {
        let table = resolve(relation, Fits::Records, LockFor::Writing)?;
        require_table_owner(&table, "release")?;
        let id =
            id.ok_or_else(|| Error::invalid("id must not be NULL").hint(format!("Name a record of {}.", table.title())))?;
        let id = text_of(id);
        // Word for word, as tombstone.holds has it: the key's type may have changed, and the text name no record any more.
        if end(&table, &id)? {
            return Ok(());
        }
        let key = table.key(&id)?;
        match end(&table, &spelling(&table, &key)?.unwrap_or(key.text.clone()))? {
            false => Err(Error::no_data_found(format!("record \"{}\" of table {} is not on hold", key.text, table.title()))
                .detail("There is no hold to release.")
                .hint("See tombstone.holds.")),
            true => Ok(()),
        }
    };
    release().map_err(Into::into)
}

/// Ends the hold on the record of this very text; false where there is none.
fn end(table: &Table, id: &str) -> Result<bool> {
    DELETE.any(&[table.number.into(), id.into()])
}

/// The record's id as its row has it. Equal keys may be spelt in more than one way (1.5 and 1.50); the triggers know this one.
pub fn spelling(table: &Table, key: &Key) -> Result<Option<String>> {
    let rows = Rows::Record(key);
    let statement = table.statement(Purpose("spelling", "", 0), || {
        let clause = rows.clause(table);
        let columns: Vec<String> = table.id.iter().map(|column| format!("t.{}", column.sql())).collect();
        let columns = columns.join(", ");
        let from = |rows: &str| format!("(SELECT {columns} FROM {rows} AS t WHERE {} LIMIT 1)", clause.condition);
        let sql = match table.bin() {
            None => from(&table.sql()),
            Some(bin) => format!("{} UNION ALL {} LIMIT 1", from(&table.sql()), from(&bin.sql())),
        };
        (sql, clause.types)
    });
    let values = table.as_owner(|| statement.first_row(&rows.arguments(table)))?;
    // SAFETY: just read from the id columns.
    Ok(values.map(|values| unsafe { table.key_text(&values) }))
}

fn require_table_owner(table: &Table, verb: &str) -> Result<()> {
    if has_privileges_of(caller(), table.owner) {
        return Ok(());
    }
    Err(Error::denied(format!("must be owner of table {} to {verb} its records", table.title())))
}

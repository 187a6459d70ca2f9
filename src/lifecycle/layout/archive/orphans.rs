//! Children that fell with a record and cannot come back with it, as another parent of theirs is not there: they stay in their bins
//! until the last of their parents brings them along. Reads bins and tables, each in its owner's name.

use std::collections::HashSet;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::parts::by_index;
use super::revive::{Lot, values_of};
use crate::backend::query::Statement;
use crate::error::Result;
use crate::lifecycle::cascade;
use crate::lifecycle::rows::{keys_from, keys_from_after};
use crate::table::{ForeignKey, by_oid};

/// Takes out of the lots, but for the first, whatever has a parent that neither is there nor comes back; and what has that for a parent.
pub fn leave_out(deletion: i64, lots: &mut Vec<Lot>) -> Result<()> {
    // Whose table refers to one other only has been found by it: that parent comes back, for all that is known at first.
    let mut parents = 2;
    loop {
        let asked = lots.iter().enumerate().skip(1).filter(|(_, lot)| lot.table.references.len() >= parents);
        let found = asked.map(|(i, lot)| Ok((i, orphans(deletion, lots, lot)?))).collect::<Result<Vec<_>>>()?;
        if found.iter().all(|(_, ids)| ids.is_empty()) {
            break;
        }
        for (i, ids) in found {
            lots[i].leave(&ids);
        }
        parents = 1;
    }
    let mut place = 0;
    lots.retain(|lot| {
        place += 1;
        place == 1 || !lot.is_empty()
    });
    Ok(())
}

/// The ids of those of the lot's records.
fn orphans(deletion: i64, lots: &[Lot], lot: &Lot) -> Result<HashSet<String>> {
    let mut ids = HashSet::new();
    for key in &lot.table.references {
        ids.extend(without_parent(deletion, lots, lot, key)?);
    }
    Ok(ids)
}

fn without_parent(deletion: i64, lots: &[Lot], lot: &Lot, key: &ForeignKey) -> Result<Vec<String>> {
    let (child, columns) = (&lot.table, &key.child_columns);
    let (from, condition, types, arguments) = lot.clause(deletion)?;
    let from = if from.is_empty() { String::new() } else { format!(", {from}") };
    let values = columns.iter().map(|column| format!(", t.{}::{}", column.sql(), column.type_of.base_sql()));
    let whole = columns.iter().map(|column| format!(" AND t.{} IS NOT NULL", column.sql()));
    let sql = format!(
        "SELECT {}{} FROM {} AS t{from} WHERE {condition}{}",
        cascade::columns(&child.id),
        values.collect::<String>(),
        lot.bin()?.sql(),
        whole.collect::<String>(),
    );
    let rows = child.as_owner(|| by_index(|| Statement::new(sql, types).value_rows(&arguments)))?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let column = |i: usize| rows.iter().map(|values| values[child.id.len() + i]).collect();
    let mut types: Vec<pg_sys::Oid> = columns.iter().map(|column| column.type_of.array()).collect();
    let mut arguments: Vec<DatumWithOid> = columns.iter().enumerate().map(|(i, of)| of.type_of.array_of(column(i))).collect();
    let parent = by_oid(key.parent)?;
    let is_parent = |alias: &str, column: &dyn Fn(usize) -> String| {
        let same = key.operators.iter().enumerate().map(|(i, operator)| format!("{alias}.{} {operator} k.c{i}", column(i)));
        same.collect::<Vec<_>>().join(" AND ")
    };
    let mut conditions = vec![format!(
        "NOT EXISTS (SELECT FROM {} AS t WHERE {} AND {})",
        parent.sql(),
        is_parent("t", &|i| key.parent_columns[i].sql()),
        parent.is_live("t"),
    )];
    for lot in lots.iter().filter(|lot| lot.table.oid == key.parent) {
        let coming = values_of(deletion, lot, key)?;
        if !coming.is_empty() {
            let rows = keys_from_after(types.len(), "r", columns.len());
            conditions.push(format!("NOT EXISTS (SELECT FROM {rows} WHERE {})", is_parent("r", &|i| format!("c{i}"))));
            types.extend(coming.types());
            arguments.extend(coming.arguments());
        }
    }
    let sql = format!("SELECT k.n FROM {} WHERE {}", keys_from("k", columns.len()), conditions.join(" AND "));
    let place = |row: &pgrx::spi::SpiHeapTupleData| Ok(row.get::<i64>(1)?.map_or(0, |place| place as usize - 1));
    let places = parent.as_owner(|| Statement::new(sql, types).rows(&arguments, place))?;
    // SAFETY: just read from the id columns.
    Ok(places.into_iter().map(|place| unsafe { child.key_text(&rows[place][..child.id.len()]) }).collect())
}

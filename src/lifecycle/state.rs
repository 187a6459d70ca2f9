//! state: what has become of a record, as far as the caller may know: row security hides rows here as everywhere.

use pgrx::datum::AnyElement;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::layout::{self, Lock, Standing};
use super::rows::{Rows, keys_from};
use super::{readable_keys, record};
use crate::backend::identity::row_security_binds;
use crate::backend::relation::LockFor;
use crate::error::Result;
use crate::log::event;
use crate::table::key::{Key, columns_of};
use crate::table::{Column, Fits, Purpose, Table};

/// live, deleted, purged or unknown (DESIGN §3).
#[pg_extern(sql = false)]
fn state(id: Option<AnyElement>, relation: Option<pg_sys::Oid>) -> Result<String, ErrorReport> {
    let state = || -> Result<&'static str> {
        let (table, key) = record(id, relation, Fits::Records, LockFor::Reading)?;
        let found = layout::of(&table).find(&Rows::Record(&key), Lock::None)?;
        if found.iter().any(|row| row.standing == Standing::Live) {
            return Ok("live");
        }
        if !found.is_empty() {
            return Ok("deleted");
        }
        // The log knows of rows that row security may have hidden: then it must not tell.
        let purged = !row_security_binds(table.oid) && remembers_purge(&table, &key)?;
        Ok(if purged { "purged" } else { "unknown" })
    };
    state().map(str::to_string).map_err(Into::into)
}

/// Whether the log remembers that the record was purged, under this id or another one that the types of its key call equal (1.5 and
/// 1.50): it has the spelling of the row that is gone.
fn remembers_purge(table: &Table, key: &Key) -> Result<bool> {
    if event::remembers_purge(table.number, &key.text)? {
        return Ok(true);
    }
    if table.id.iter().all(|column| column.type_of.has_one_spelling()) {
        return Ok(false);
    }
    let mut after = 0;
    while let Some((ids, last)) = event::purged_after(table.number, after)? {
        if is_among(table, key, &ids)? {
            return Ok(true);
        }
        after = last;
    }
    Ok(false)
}

/// Whether one of `ids` names the same record as `key`. With the caller's rights: to compare values is the code of their types.
fn is_among(table: &Table, key: &Key, ids: &[String]) -> Result<bool> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let keys: Vec<Key> = readable_keys(table, &ids)?.into_iter().map(|(_, key)| key).collect();
    let statement = table.statement(Purpose("spelt", "", 0), || {
        let count = table.id.len();
        let arrays = table.id.iter().map(|column| column.type_of.array());
        let types = arrays.chain(table.id.iter().map(|column| column.type_of.base())).collect();
        let same = |(i, column): (usize, &Column)| format!("k.c{i} {} ${}", column.type_of.equality(), count + i + 1);
        let same: Vec<String> = table.id.iter().enumerate().map(same).collect();
        (format!("SELECT 1 FROM {} WHERE {} LIMIT 1", keys_from("k", count), same.join(" AND ")), types)
    });
    let mut arguments = columns_of(table, &keys);
    arguments.extend(Rows::Record(key).arguments(table));
    Ok(statement.first_row(&arguments)?.is_some())
}

//! The records of a table that are to be asked after, a batch at a time, in the order of their keys: all there are, or some that
//! somebody has named.

use std::collections::HashSet;

use super::batch::size_of_next;
use super::revival;
use crate::backend::transaction::with_memory;
use crate::error::Result;
use crate::lifecycle::layout::live::{self, Live, Marked};
use crate::lifecycle::readable_keys;
use crate::table::Table;
use crate::table::key::Key;

pub enum Pages {
    /// What is left of those that were named.
    Named(Vec<Marked>),
    /// All after this id, or from the first.
    After(Option<String>),
}

/// Which records somebody means.
pub enum Records {
    All,
    Named(Vec<String>),
}

impl Records {
    /// NULL: all.
    pub fn of(ids: Option<Vec<Option<String>>>) -> Records {
        let mut known = HashSet::new();
        let mut each_once =
            |ids: Vec<Option<String>>| ids.into_iter().flatten().filter(|id| known.insert(id.clone())).collect();
        ids.map_or(Records::All, |ids| Records::Named(each_once(ids)))
    }

    /// How many there are at most.
    pub fn count(&self, table: &Table) -> Result<u64> {
        match self {
            Records::Named(ids) => Ok(ids.len() as u64),
            Records::All => Ok(table.evaluating(|| live::count(table))?.unsigned_abs()),
        }
    }

    /// Those that are live. What names no record is none.
    pub fn live(&self, table: &Table) -> Result<Pages> {
        let Records::Named(ids) = self else { return Ok(Pages::After(None)) };
        let keys = keys(table, ids)?;
        Ok(Pages::Named(table.evaluating(|| live::records(table, Live::Among(&keys)))?))
    }

    /// Those that are tombstones of a watcher's.
    pub fn vanished(&self, table: &Table) -> Result<Pages> {
        let Records::Named(ids) = self else { return Ok(Pages::After(None)) };
        let ids = keys(table, ids)?.into_iter().map(|key| key.text).collect();
        Ok(Pages::Named(revival::among(table, ids)?))
    }
}

/// The keys that these ids name, each once.
fn keys(table: &Table, ids: &[String]) -> Result<Vec<Key>> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut known = HashSet::new();
    let mut keys: Vec<Key> = readable_keys(table, &ids)?.into_iter().map(|(_, key)| key).collect();
    keys.retain(|key| known.insert(key.text.clone()));
    Ok(keys)
}

impl Pages {
    /// The next live records, at most `most`; none: there are no more.
    pub fn next_live(&mut self, table: &Table, most: usize) -> Result<Vec<Marked>> {
        let position = match self {
            Pages::Named(left) => return Ok(split(left, most)),
            Pages::After(position) => position,
        };
        let mut found = with_memory(|| {
            let after = position.as_deref().map(|id| table.key(id)).transpose()?;
            table.evaluating(|| live::records(table, Live::After(after.as_ref(), 2 * most)))
        })?;
        let page = split(&mut found, most);
        *position = page.last().map(|record| record.id.clone());
        Ok(page)
    }

    /// The next tombstones of a watcher's.
    pub fn next_vanished(&mut self, table: &Table, most: usize) -> Result<Vec<Marked>> {
        let position = match self {
            Pages::Named(left) => return Ok(split(left, most)),
            Pages::After(position) => position,
        };
        loop {
            let (page, end) = with_memory(|| revival::page(table, position.as_deref(), most))?;
            *position = end;
            if !page.is_empty() || position.is_none() {
                return Ok(page);
            }
        }
    }
}

fn split(records: &mut Vec<Marked>, most: usize) -> Vec<Marked> {
    let left = records.split_off(size_of_next(records.len().min(2 * most), most));
    std::mem::replace(records, left)
}

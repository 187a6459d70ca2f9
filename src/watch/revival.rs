//! What watchers have deleted, and whether the source has it again: then it is restored, through the table's layout, as its owner. The
//! list is kept by `vanished`; who is on it and no tombstone of a watcher's any more (restored, purged, deleted anew by somebody) is
//! struck off.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use super::suspects::{Rights, stops};
use super::tally::Tally;
use super::vanished::{self, Vanished};
use crate::error::{Error, Result};
use crate::lifecycle::layout::live::Marked;
use crate::lifecycle::layout::{self, Fallen, Standing};
use crate::lifecycle::rows::Rows;
use crate::lifecycle::{all_but_refused, readable_keys, seen};
use crate::log::account::{self, Account, Cause};
use crate::table::Table;
use crate::table::key::Key;

/// The next tombstones to ask after, at most `most`, after `position`; and the id that the list has been read up to, `None` at its
/// end.
pub fn page(table: &Table, position: Option<&str>, most: usize) -> Result<(Vec<Marked>, Option<String>)> {
    let entries = vanished::page(table.number, position, most)?;
    let end = entries.last().map(|entry| entry.id.clone());
    Ok((tombstones(table, entries)?.into_iter().map(to_be_asked).collect(), end))
}

/// Those of `ids` that are tombstones of a watcher's.
pub fn among(table: &Table, ids: Vec<String>) -> Result<Vec<Marked>> {
    let entries = vanished::among(table.number, ids)?;
    Ok(tombstones(table, entries)?.into_iter().map(to_be_asked).collect())
}

fn to_be_asked(entry: Vanished) -> Marked {
    Marked { id: entry.id, mark: String::new() }
}

/// The entries whose tombstones stand as they did; the others are struck off.
fn tombstones(table: &Table, entries: Vec<Vanished>) -> Result<Vec<Vanished>> {
    let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    let (places, keys): (Vec<usize>, Vec<Key>) = readable_keys(table, &ids)?.into_iter().unzip();
    let standings = table.evaluating(|| layout::of(table).standings(&Rows::Records(&keys)))?;
    let is_tombstone = |(place, standing): (&usize, Option<Standing>)| {
        (standing == Some(Standing::Deleted(table.held(entries[*place].stamp)))).then_some(*place)
    };
    let stand: HashSet<usize> = places.iter().zip(standings).filter_map(is_tombstone).collect();
    let (stay, go): (Vec<_>, Vec<_>) = entries.into_iter().enumerate().partition(|(place, _)| stand.contains(place));
    vanished::forget(table.number, go.into_iter().map(|(_, entry)| entry.id).collect())?;
    Ok(stay.into_iter().map(|(_, entry)| entry).collect())
}

/// Restores those of the list that the source has again; says how many, and what was kept.
pub fn restore(table: &Rc<Table>, ids: Vec<String>, rights: Rights) -> Result<Tally> {
    let mut tally = Tally::default();
    if ids.is_empty() {
        return Ok(tally);
    }
    let entries = tombstones(table, vanished::among(table.number, ids)?)?;
    let mut by_stamp: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    entries.into_iter().for_each(|entry| by_stamp.entry(entry.stamp).or_default().push(entry.id));
    for (stamp, ids) in by_stamp {
        let keys = ids.iter().map(|id| table.key(id)).collect::<Result<Vec<_>>>()?;
        let write = |keys: &[Key]| {
            rights.to_write(table, || seen(table, || layout::of(table).restore(&Rows::Records(keys), Fallen::Stamped(stamp))))
        };
        let account = Account::new(Cause::Reconcile, None);
        let refused: HashMap<usize, Error> =
            account::on(account, || all_but_refused(&keys, stops, &write))?.into_iter().collect();
        // What is none live by now, a trigger of the table has kept.
        let standings = table.evaluating(|| layout::of(table).standings(&Rows::Records(&keys)))?;
        let mut back = Vec::new();
        for (place, (id, standing)) in ids.into_iter().zip(standings).enumerate() {
            let why = match refused.get(&place) {
                Some(error) => error.summary(),
                None if standing != Some(Standing::Live) => "a trigger of the table has kept it".into(),
                None => {
                    back.push(id);
                    continue;
                }
            };
            tally.remark(format!("\"{id}\" is in the source again, and was not restored: {why}"));
        }
        tally.restored += back.len() as u64;
        vanished::forget(table.number, back)?;
    }
    if tally.restored > 0 && !table.redactions.is_empty() {
        tally.remark("what redaction blanked of the restored is gone".into());
    }
    Ok(tally)
}

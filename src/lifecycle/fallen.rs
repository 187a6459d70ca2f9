//! What comes back with a restored record: the children that fell with it. And what it needs: live parents.
//!
//! Children are found by foreign key and stamp. Where more than one deletion has left that stamp, the log says which of them took what.
//! A child that has another parent comes back with the last of its parents. When nothing more comes back so, there may be some that wait
//! for each other: a circle of foreign keys. These come back together, and only then is it asked whether all parents are there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use pgrx::pg_sys;

use super::cascade::{Referred, dead_parents, require_live_parents};
use super::discretion::withholding;
use super::layout::{self, Fallen, Fell, Standing};
use super::rows::Rows;
use crate::error::Result;
use crate::log::account::{self, Account};
use crate::log::event::{self, Stamped};
use crate::table::key::Key;
use crate::table::{ForeignKey, OnDelete, Table, by_oid};

/// Records of one table that fell with one stamp, and on whose account they come back.
struct Records {
    table: Rc<Table>,
    keys: Vec<Key>,
    stamp: i64,
    account: Account,
}

/// What the statements that are being settled leave to their end.
#[derive(Default)]
struct Left {
    /// Restored, although a parent is a tombstone.
    orphans: Vec<(Rc<Table>, Vec<Key>)>,
    /// Not restored, as a parent is a tombstone which may come back yet.
    waiting: Vec<Records>,
}

thread_local! {
    static LEFT: RefCell<Left> = RefCell::default();
}

/// Brings back the children of these records, which have just come back.
pub fn follow(table: &Table, stamp: i64, keys: Vec<Key>) -> Result<()> {
    match require_live_parents(table, &keys) {
        Err(error) if error.is_foreign_key() => {
            let orphans = (table.shared()?, keys.clone());
            LEFT.with_borrow_mut(|left| left.orphans.push(orphans));
        }
        asked => asked?,
    }
    if table.bin().is_some() || cascades(table).next().is_none() {
        return Ok(()); // what fell with a row of a bin has come back in the same statement
    }
    for together in Together::all(table, stamp, keys)? {
        cascades(table).try_for_each(|key| bring_back(table, key, &together))?;
    }
    Ok(())
}

/// Brings back those that wait for nothing but each other; whether there are any, whose children are to be followed now.
pub fn bring_back_circles() -> Result<bool> {
    let waiting = LEFT.with_borrow_mut(|left| std::mem::take(&mut left.waiting));
    if waiting.is_empty() {
        return Ok(false);
    }
    let mut circle = Circle::default();
    for records in waiting {
        circle.add(records.still_dead()?)?;
    }
    circle.leave_out_blocked()?;
    circle.restore()
}

/// 23503 where a record has come back, and a parent of it has not.
pub fn require_parents() -> Result<()> {
    let orphans = LEFT.with_borrow_mut(|left| std::mem::take(&mut left.orphans));
    orphans.iter().try_for_each(|(table, keys)| require_live_parents(table, keys))
}

/// Nothing is left to any end: the settling is over, or broken off.
pub fn forget() {
    LEFT.take();
}

/// The foreign keys along which children fall with a record of `table`.
fn cascades(table: &Table) -> impl Iterator<Item = &ForeignKey> {
    table.children.iter().filter(|key| key.on_delete == OnDelete::Cascade)
}

/// Restored records of one table that fell together.
struct Together {
    keys: Vec<Key>,
    fell: Fell,
    /// Whether other deletions, too, have left the stamp in their table or in their children's.
    is_shared: bool,
}

impl Together {
    /// The records by the deletion that took them: an application that rounds its stamps leaves the same one in several.
    fn all(table: &Table, stamp: i64, keys: Vec<Key>) -> Result<Vec<Together>> {
        let together = |deletion, keys, is_shared| Together { keys, fell: Fell { stamp, deletion }, is_shared };
        if !table.has_events {
            return Ok(vec![together(None, keys, false)]);
        }
        let children = cascades(table).map(|key| by_oid(key.child)).collect::<Result<Vec<_>>>()?;
        // A child's column may keep fewer digits of it.
        let stamps: BTreeSet<i64> = children.iter().map(|child| child.held(stamp)).chain([stamp]).collect();
        let (stamps, numbers) = (Vec::from_iter(stamps), children.iter().map(|child| child.number).collect());
        match event::stamped(&stamps, table.number, numbers)? {
            Stamped::One(deletion) => Ok(vec![together(Some(deletion), keys, false)]),
            Stamped::Unknown => Ok(vec![together(None, keys, false)]),
            Stamped::Several => {
                let takers = event::takers(stamp, table.number, keys.iter().map(|key| key.text.as_str()))?;
                let mut by_deletion: BTreeMap<Option<i64>, Vec<Key>> = BTreeMap::new();
                keys.into_iter().for_each(|key| by_deletion.entry(takers.last_of(&key.text)).or_default().push(key));
                Ok(by_deletion.into_iter().map(|(deletion, keys)| together(deletion, keys, true)).collect())
            }
        }
    }

    /// The children of these parents, which are they, that fell with them.
    fn children(&self, child: &Table, key: &ForeignKey, parents: &Referred) -> Result<Vec<Key>> {
        let fallen = child.as_owner(|| layout::of(child).fallen_children(key, parents, self.fell))?;
        let is_said_by_the_bin = child.bin().is_some() && self.fell.deletion.is_some();
        if !self.is_shared || is_said_by_the_bin || !child.has_events {
            return Ok(fallen);
        }
        let takers = event::takers(child.held(self.fell.stamp), child.number, fallen.iter().map(|key| key.text.as_str()))?;
        Ok(fallen.into_iter().filter(|key| takers.took_all(self.fell.deletion, &key.text)).collect())
    }

    /// Which of the tombstones of such a child.
    fn tombstone_of(&self, child: &Table) -> Fallen {
        match self.fell.deletion {
            Some(deletion) if child.bin().is_some() => Fallen::Numbered(deletion),
            _ => Fallen::Stamped(self.fell.stamp),
        }
    }
}

/// Brings back the children of records of `table` along one foreign key.
fn bring_back(table: &Table, key: &ForeignKey, together: &Together) -> Result<()> {
    let parents = Referred::from_parents(table, key, &together.keys)?;
    if parents.is_empty() {
        return Ok(());
    }
    let child = by_oid(key.child)?;
    if let (false, [_only_this]) = (together.is_shared, child.parents.as_slice()) {
        let restore = || layout::of(&child).restore_children(key, &parents, together.fell);
        return account::as_cascade(|| withholding(&[&child], || child.as_owner(restore)));
    }
    let fallen = together.children(&child, key, &parents)?;
    let free = without_blocked(table, &child, fallen, together.fell.stamp)?;
    restore(&child, &free, together.tombstone_of(&child))
}

/// Those of the children whose parents are all there. Of the others those wait whose parents may come back yet, as what falls with
/// records of `table`.
fn without_blocked(table: &Table, child: &Rc<Table>, keys: Vec<Key>, stamp: i64) -> Result<Vec<Key>> {
    let dead = dead_parents(child, &keys)?;
    if dead.is_empty() {
        return Ok(keys);
    }
    let below = below(table)?;
    let blocked: HashSet<usize> = dead.iter().map(|dead| dead.place).collect();
    let for_good: HashSet<usize> = dead.iter().filter(|dead| !below.contains(&dead.parent)).map(|dead| dead.place).collect();
    let (mut free, mut waiting) = (Vec::new(), Vec::new());
    for (place, key) in keys.into_iter().enumerate() {
        match blocked.contains(&place) {
            false => free.push(key),
            true if !for_good.contains(&place) => waiting.push(key),
            true => (),
        }
    }
    if !waiting.is_empty() && child.bin().is_none() {
        let waiting = Records { table: Rc::clone(child), keys: waiting, stamp: child.held(stamp), account: account::current() };
        LEFT.with_borrow_mut(|left| left.waiting.push(waiting));
    }
    Ok(free)
}

/// The tables whose records can fall with one of `table`.
fn below(table: &Table) -> Result<HashSet<pg_sys::Oid>> {
    let (mut below, mut next) = (HashSet::new(), vec![table.shared()?]);
    while let Some(table) = next.pop() {
        for key in cascades(&table) {
            if below.insert(key.child) {
                next.push(by_oid(key.child)?);
            }
        }
    }
    Ok(below)
}

/// Restores children, as foreign keys do: in their owner's name.
fn restore(child: &Table, keys: &[Key], fallen: Fallen) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let restore = || layout::of(child).restore(&Rows::Records(keys), fallen);
    account::as_cascade(|| withholding(&[child], || child.as_owner(restore))).map(drop)
}

impl Records {
    /// Those that have not come back in the meantime.
    fn still_dead(mut self) -> Result<Records> {
        let standings = self.table.as_owner(|| layout::of(&self.table).standings(&Rows::Records(&self.keys)))?;
        let mut is_dead = standings.into_iter().map(|standing| standing == Some(Standing::Deleted(self.stamp)));
        self.keys.retain(|_| is_dead.next().unwrap_or_default());
        Ok(self)
    }
}

/// A record's table and id.
type Name = (pg_sys::Oid, String);

/// Records that fell together, and come back together. All of them stay in their tables.
#[derive(Default)]
struct Circle {
    records: Vec<Records>,
    names: HashSet<Name>,
}

impl Circle {
    /// Adds these, and whatever fell with them.
    fn add(&mut self, records: Records) -> Result<()> {
        let mut next = vec![records];
        while let Some(mut records) = next.pop() {
            let Records { table, stamp, account, .. } = &records;
            let (table, stamp, account) = (Rc::clone(table), *stamp, account.clone());
            records.keys.retain(|key| self.names.insert((table.oid, key.text.clone())));
            if records.keys.is_empty() {
                continue;
            }
            for together in Together::all(&table, stamp, records.keys.clone())? {
                for key in cascades(&table) {
                    let child = by_oid(key.child)?;
                    let parents = Referred::from_parents(&table, key, &together.keys)?;
                    if child.bin().is_none() && !parents.is_empty() {
                        let (keys, stamp) = (together.children(&child, key, &parents)?, child.held(stamp));
                        next.push(Records { table: child, keys, stamp, account: account.clone() });
                    }
                }
            }
            self.records.push(records);
        }
        Ok(())
    }

    /// Leaves out what has a parent that is a tombstone and none of these, and what then has such a parent.
    fn leave_out_blocked(&mut self) -> Result<()> {
        let mut parents: Vec<(Name, Name)> = Vec::new();
        for Records { table, keys, .. } in &self.records {
            let of = |dead: super::cascade::Dead| ((table.oid, keys[dead.place].text.clone()), (dead.parent, dead.id));
            parents.extend(dead_parents(table, keys)?.into_iter().map(of));
        }
        loop {
            let blocked = |(child, parent): &&(Name, Name)| self.names.contains(child) && !self.names.contains(parent);
            let blocked: Vec<&Name> = parents.iter().filter(blocked).map(|(child, _)| child).collect();
            if blocked.is_empty() {
                return Ok(());
            }
            blocked.into_iter().for_each(|child| {
                self.names.remove(child);
            });
        }
    }

    /// Restores what is left; whether there is anything.
    fn restore(self) -> Result<bool> {
        for Records { table, keys, stamp, account } in self.records {
            let stays = |key: &Key| self.names.contains(&(table.oid, key.text.clone()));
            let keys: Vec<Key> = keys.into_iter().filter(stays).collect();
            account::on(account, || restore(&table, &keys, Fallen::Stamped(stamp)))?;
        }
        Ok(!self.names.is_empty())
    }
}

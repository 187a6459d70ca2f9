//! Locks on many records, and on the children that fall with them, before a soft delete. Whoever takes them here waits for nobody while
//! it holds one of them: so no deadlock is of our making, in whatever order others lock the same rows. A plain `UPDATE` of many rows
//! takes its locks in the order of its scan, and two of those need not be the same; one order of ours would suit only some of them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use pgrx::pg_sys;

use super::cascade;
use super::layout::{self, Found, Lock, Standing};
use super::rows::Rows;
use crate::backend::subtransaction::{attempt, rehearse};
use crate::error::Result;
use crate::table::key::Key;
use crate::table::{OnDelete, Table, by_oid};

/// How many records one statement locks.
const AT_ONCE: usize = 1000;

/// Records of one table; of children, to be locked in their owner's name.
struct Records {
    table: Rc<Table>,
    keys: Vec<Key>,
    are_children: bool,
}

/// Locks these records of `table`, and the children that a soft delete of them takes along; returns how the records stand, in the
/// order of `keys`.
///
/// If one of them all is locked by somebody else, those that are locked already are given back. Then that one is waited for, and
/// all is tried anew.
pub fn with_children(table: &Table, keys: &[Key]) -> Result<Vec<Found>> {
    let asked = Records { table: table.shared()?, keys: keys.to_vec(), are_children: false };
    loop {
        let busy = RefCell::new(None);
        let locked = attempt(|| {
            let found = asked.lock(&busy)?;
            let live: HashSet<usize> = found.iter().filter(|row| row.standing == Standing::Live).map(|row| row.key).collect();
            lock_children(asked.only(&live), &busy)?;
            Ok(found)
        });
        match (locked, busy.into_inner()) {
            (Err(error), Some(busy)) if error.is_lock_timeout() => busy.wait_for_one()?,
            (locked, _) => return locked,
        }
    }
}

/// Level by level, as a chain of references may be long.
fn lock_children(parents: Records, busy: &RefCell<Option<Records>>) -> Result<()> {
    let mut known: HashSet<(pg_sys::Oid, String)> = HashSet::new();
    let mut queue = vec![parents];
    while let Some(Records { table, keys, .. }) = queue.pop() {
        for key in table.children.iter().filter(|key| key.on_delete == OnDelete::Cascade) {
            let child = by_oid(key.child)?;
            let mut fall = cascade::live_children(&table, &child, key, &keys)?;
            fall.retain(|key| known.insert((child.oid, key.text.clone())));
            if fall.is_empty() {
                continue;
            }
            fall.sort_by(|one, other| one.text.cmp(&other.text));
            let children = Records { table: child, keys: fall, are_children: true };
            children.lock(busy)?;
            queue.push(children);
        }
    }
    Ok(())
}

impl Records {
    /// Locks them, or fails at once (55P03) where somebody else has one locked; `busy` then says among which it is.
    fn lock(&self, busy: &RefCell<Option<Records>>) -> Result<Vec<Found>> {
        let mut found = Vec::with_capacity(self.keys.len());
        // Of none it asks all the same whether they may be locked.
        for start in (0..self.keys.len().max(1)).step_by(AT_ONCE) {
            let keys = &self.keys[start..self.keys.len().min(start + AT_ONCE)];
            busy.replace(Some(self.part(keys)));
            let of_part = self.find(keys, self.strength().at_once())?;
            found.extend(of_part.into_iter().map(|row| Found { key: start + row.key, ..row }));
        }
        busy.take();
        Ok(found)
    }

    /// Waits until one that somebody else has locked is free; holds nothing in the end.
    fn wait_for_one(&self) -> Result<()> {
        let mut keys = self.keys.as_slice();
        while keys.len() > 1 {
            let (left, right) = keys.split_at(keys.len() / 2);
            keys = if self.are_free(left)? { right } else { left };
        }
        rehearse(|| self.find(keys, self.strength())).map(drop)
    }

    fn are_free(&self, keys: &[Key]) -> Result<bool> {
        match rehearse(|| self.find(keys, self.strength().at_once())) {
            Err(error) if error.is_lock_timeout() => Ok(false),
            found => found.map(|_| true),
        }
    }

    fn find(&self, keys: &[Key], lock: Lock) -> Result<Vec<Found>> {
        let find = || layout::of(&self.table).find(&Rows::Records(keys), lock);
        if self.are_children { self.table.as_owner(find) } else { find() }
    }

    /// What follows from the soft delete locks parents against children on their way in. If it had to strengthen its locks, it would
    /// wait while it holds them.
    fn strength(&self) -> Lock {
        let is_followed = self.table.children.iter().any(|key| key.on_delete != OnDelete::Wait);
        if is_followed { Lock::Delete } else { Lock::Update }
    }

    /// Those at these places.
    fn only(&self, places: &HashSet<usize>) -> Records {
        let keys = self.keys.iter().enumerate().filter(|(i, _)| places.contains(i)).map(|(_, key)| key.clone());
        Records { table: Rc::clone(&self.table), keys: keys.collect(), are_children: self.are_children }
    }

    fn part(&self, keys: &[Key]) -> Records {
        Records { table: Rc::clone(&self.table), keys: keys.to_vec(), are_children: self.are_children }
    }
}

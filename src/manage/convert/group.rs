//! Which tables are converted together. A child that keeps its tombstones cannot hang by ON DELETE CASCADE on a parent that does not
//! (`manage::tree`): so to an archive a table takes along the children below it, and back to in_place the parents above it.

use pgrx::{Spi, pg_sys};

use crate::backend::ident::qualified;
use crate::backend::identity::{acting_as, caller, has_privileges_of};
use crate::backend::relation::LockFor;
use crate::backend::subtransaction::reworded;
use crate::error::{Error, Result};
use crate::manage::doors::owned;
use crate::manage::tree::{self, Reaching};
use crate::table::catalog::{self, Relation};
use crate::table::options::{ARCHIVE, IN_PLACE, Options};

/// A table that is converted.
pub struct Member {
    pub relation: Relation,
    pub number: i32,
    /// As they are.
    pub options: Options,
    /// Its bin: full, with layout archive; being filled, or none yet, with in_place.
    pub bin: Option<pg_sys::Oid>,
}

impl Member {
    /// The managed table `table`, which the caller owns.
    pub fn of(table: pg_sys::Oid) -> Result<Member> {
        let relation = catalog::relation(table)?.ok_or_else(|| catalog::not_managed(table))?;
        let (number, options) = catalog::options_of(table)?.ok_or_else(|| catalog::not_managed(table))?;
        Ok(Member { relation, number, options, bin: catalog::bin_of(table)? })
    }

    pub fn is_archived(&self) -> bool {
        self.options.layout.as_deref() == Some(ARCHIVE)
    }
}

/// `table` and what an archive takes along: the children that its deletes take along, and those of these. Parents first.
pub fn below(table: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let is_next = |key: &Reaching, of| key.parent == of && key.child_layout.as_deref() == Some(IN_PLACE);
    reached(table, |key, of| is_next(key, of).then_some(key.child))
}

/// `table` and what it takes along back to in_place: the parents whose deletes take it along, and those of these. Parents first.
pub fn above(table: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    let is_next = |key: &Reaching, of| key.child == of && key.parent_layout.as_deref() == Some(ARCHIVE);
    reached(table, |key, of| is_next(key, of).then_some(key.parent))
}

fn reached(table: pg_sys::Oid, next: impl Fn(&Reaching, pg_sys::Oid) -> Option<pg_sys::Oid>) -> Result<Vec<pg_sys::Oid>> {
    let mut tables = vec![table];
    let mut keys: Vec<(pg_sys::Oid, pg_sys::Oid)> = Vec::new();
    let mut done = 0;
    while let Some(table) = tables.get(done).copied() {
        done += 1;
        for key in tree::reaching(table)?.iter().filter(|key| key.action == "CASCADE") {
            if let Some(other) = next(key, table) {
                keys.push((key.parent, key.child));
                if !tables.contains(&other) {
                    tables.push(other);
                }
            }
        }
    }
    Ok(parents_first(tables, &keys))
}

/// Tables that refer to each other in a circle come last, as they are.
fn parents_first(mut left: Vec<pg_sys::Oid>, keys: &[(pg_sys::Oid, pg_sys::Oid)]) -> Vec<pg_sys::Oid> {
    let mut order = Vec::new();
    while !left.is_empty() {
        let hangs =
            |table: &pg_sys::Oid| keys.iter().any(|(parent, child)| child == table && parent != table && left.contains(parent));
        let place = left.iter().position(|table| !hangs(table)).unwrap_or(0);
        order.push(left.remove(place));
    }
    order
}

/// The tables, locked against changes of their options, or against everybody; 42501 where the caller does not own one of them.
pub fn locked(tables: &[pg_sys::Oid], named: pg_sys::Oid, what_for: LockFor) -> Result<Vec<Member>> {
    for table in tables {
        let Some(relation) = catalog::relation(*table)? else { continue };
        if *table != named && !has_privileges_of(caller(), relation.owner) {
            return Err(Error::denied(format!("must be owner of table {}", relation.title())).detail(format!(
                "It is tied to {} by ON DELETE CASCADE: both need the same layout, and are converted together.",
                catalog::title(named)
            )));
        }
    }
    let lock = |table: &pg_sys::Oid| {
        let relation = owned(Some(*table), what_for)?;
        if what_for == LockFor::Ending {
            lock_partitions(&relation)?;
        }
        Member::of(*table)
    };
    reworded(|| tables.iter().map(lock).collect(), not_now)?
}

/// Those of a partitioned table, at every level.
fn lock_partitions(relation: &Relation) -> Result<()> {
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", qualified(&relation.schema, &relation.name));
    acting_as(relation.owner, || Ok(Spi::run(&lock)?))
}

/// Somebody is in the way.
fn not_now(error: Error) -> Error {
    if error.is_lock_timeout() { error.hint("Nothing is lost: CALL it again.") } else { error }
}

/// The names of all but the one that was named.
pub fn others(members: &[Member], named: pg_sys::Oid) -> String {
    let others = members.iter().filter(|member| member.relation.oid != named).map(|member| member.relation.title());
    others.collect::<Vec<_>>().join(", ")
}

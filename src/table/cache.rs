//! The managed tables this session has met. Another session's DDL or configure() reaches us as an invalidation: it
//! begins a new generation, and the next look-up starts anew. Entries in use stay whole until their users are done.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use super::{Table, catalog};
use crate::backend::invalidation;
use crate::error::{Error, Result};

#[derive(Default)]
struct Known {
    generation: u64,
    /// By the OID a trigger or caller names: the table's, its bin's, or that of a partition of either.
    tables: HashMap<pg_sys::Oid, Rc<Table>>,
    /// Whatever a change of would make an entry wrong.
    concerns: HashSet<pg_sys::Oid>,
}

thread_local! {
    // Never dropped: at the process's end there is no server left to free a plan in.
    static KNOWN: ManuallyDrop<RefCell<Known>> = ManuallyDrop::new(RefCell::default());
    static GENERATION: Cell<u64> = const { Cell::new(0) };
}

pub fn init() {
    invalidation::watch(|changed| {
        let concerned = match changed {
            None => true,
            // Unreadable means a look-up is going on: what it loads must be loaded again.
            Some(relation) => KNOWN.with(|known| known.try_borrow().map_or(true, |known| known.concerns.contains(&relation))),
        };
        if concerned {
            GENERATION.set(GENERATION.get() + 1);
        }
    });
}

/// Changes whenever what is known of managed tables may be wrong.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// The managed table `relation`.
pub fn by_oid(relation: pg_sys::Oid) -> Result<Rc<Table>> {
    // A partition is known by its trigger, but is not itself the managed table.
    match remembered(relation).filter(|table| table.oid == relation) {
        Some(table) => Ok(table),
        None => catalog::load(relation)?.map(|table| remember(relation, table)).ok_or_else(|| catalog::not_managed(relation)),
    }
}

/// The managed table numbered `number`, if it is one still.
pub fn by_number(number: i32) -> Result<Option<Rc<Table>>> {
    catalog::relation_of(number)?.map(by_oid).transpose()
}

/// The managed table whose trigger fired on `relation`: the table itself, its bin, or a partition of either.
pub fn by_trigger(relation: pg_sys::Oid) -> Result<Rc<Table>> {
    if let Some(table) = remembered(relation) {
        return Ok(table);
    }
    for candidate in catalog::with_ancestors(relation)? {
        let candidate = catalog::table_of_archive(candidate)?.unwrap_or(candidate);
        if let Some(table) = catalog::load(candidate)? {
            return Ok(remember(relation, table));
        }
    }
    Err(catalog::copied(relation))
}

/// The managed table whose live rows `view` shows.
pub fn by_live_view(view: pg_sys::Oid) -> Result<Rc<Table>> {
    if let Some(table) = remembered(view) {
        return Ok(table);
    }
    let table = catalog::table_of_live_view(view)?.map(catalog::load).transpose()?.flatten();
    table.map(|table| remember(view, table)).ok_or_else(|| {
        Error::undefined(format!("view {} is not one of a managed table", catalog::title(view)))
            .hint("tombstone.live_view() makes views of live rows.")
    })
}

fn remembered(relation: pg_sys::Oid) -> Option<Rc<Table>> {
    KNOWN.with(|known| {
        if known.borrow().generation != generation() {
            let forgotten = known.replace(Known { generation: generation(), ..Known::default() });
            drop(forgotten);
            return None;
        }
        known.borrow().tables.get(&relation).map(Rc::clone)
    })
}

fn remember(relation: pg_sys::Oid, table: Table) -> Rc<Table> {
    let table = Rc::new(table);
    KNOWN.with(|known| {
        let mut known = known.borrow_mut();
        known.concerns.extend([relation, table.oid]);
        known.concerns.extend(table.bin().map(|bin| bin.oid));
        known.concerns.extend(table.children.iter().map(|key| key.child));
        known.concerns.extend(table.parents.iter().map(|key| key.parent));
        known.tables.insert(relation, Rc::clone(&table));
    });
    table
}

//! Relations by OID: their owner, whether they hold anything, and the extension's own.

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::pg_sys;

use super::identity::c_string;
use crate::error::{Error, Result};

thread_local! {
    /// The extension's own relations, as looked up before: every deletion asks for some.
    static OWN: RefCell<Vec<(&'static CStr, pg_sys::Oid)>> = const { RefCell::new(Vec::new()) };
}

/// One of the extension's own tables and sequences; InvalidOid after DROP EXTENSION.
pub fn own(name: &'static CStr) -> pg_sys::Oid {
    if let Some(known) = OWN.with_borrow(|own| own.iter().find(|(other, _)| *other == name).map(|(_, oid)| *oid)) {
        return known;
    }
    // SAFETY: catalog look-ups by name.
    let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"tombstone".as_ptr(), true)) };
    if oid != pg_sys::InvalidOid {
        OWN.with_borrow_mut(|own| own.push((name, oid)));
    }
    oid
}

/// Forgets what `own` knows, if `changed` (`None`: anything) is of it.
pub fn forget_own(changed: Option<pg_sys::Oid>) {
    OWN.with_borrow_mut(|own| {
        if changed.is_none_or(|changed| own.iter().any(|(_, oid)| *oid == changed)) {
            own.clear();
        }
    });
}

/// The owner of the extension's own tables, in whose name they are read and written.
pub fn keeper() -> pg_sys::Oid {
    owner_of(own(c"managed"))
}

/// The owner of `relation`; InvalidOid, which has no rights at all, where there is no such relation.
pub fn owner_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: reads a syscache tuple while holding its pin.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return pg_sys::InvalidOid;
        }
        let owner = (*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_class)).relowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

/// Whether `relation` holds no row at all, without reading it: its file is empty.
pub fn is_empty_file(relation: pg_sys::Oid) -> bool {
    // SAFETY: opened and closed here, under a lock kept to the transaction's end.
    unsafe {
        let opened = pg_sys::table_open(relation, pg_sys::AccessShareLock as i32);
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(opened, pg_sys::ForkNumber::MAIN_FORKNUM);
        pg_sys::table_close(opened, pg_sys::NoLock as i32);
        blocks == 0
    }
}

/// What `relation`, which the running command has dropped, was a partition of: its row in pg_inherits is deleted, but there still.
pub fn dropped_from(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let (column, is) = (pg_sys::Anum_pg_inherits_inhrelid as _, pg_sys::BTEqualStrategyNumber as _);
    let mut key = pg_sys::ScanKeyData::default();
    let mut parents = Vec::new();
    // SAFETY: the key compares OIDs, and so does the index; opened and closed here, or by the abort of an error; each row is read
    // while the scan holds it.
    unsafe {
        pg_sys::ScanKeyInit(&mut key, column, is, pg_sys::F_OIDEQ.into(), pg_sys::Datum::from(relation));
        let rows = pg_sys::table_open(pg_sys::InheritsRelationId, pg_sys::AccessShareLock as i32);
        let index = pg_sys::InheritsRelidSeqnoIndexId.into();
        let scan = pg_sys::systable_beginscan(rows, index, true, &raw mut pg_sys::SnapshotAnyData, 1, &mut key);
        loop {
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            parents.push((*(pg_sys::GETSTRUCT(row) as *const pg_sys::FormData_pg_inherits)).inhparent);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(rows, pg_sys::AccessShareLock as i32);
    }
    parents
}

/// Whether `relation` has a trigger of that name.
pub fn has_trigger(relation: pg_sys::Oid, name: &str) -> bool {
    // SAFETY: a catalog look-up by name.
    unsafe { pg_sys::get_trigger_oid(relation, c_string(name).as_ptr(), true) != pg_sys::InvalidOid }
}

/// The command that makes the index anew, with its tablespace. Names that the search path finds are not qualified.
pub fn index_definition(index: pg_sys::Oid) -> String {
    // SAFETY: the index exists; its definition is a fresh C string.
    unsafe { CStr::from_ptr(pg_sys::pg_get_indexdef_string(index)).to_string_lossy().into_owned() }
}

/// What a lock on a relation is taken for; held to the transaction's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFor {
    Reading,
    /// Writing rows: waits for changes of its definition and options.
    Writing,
    /// Changing its definition or options: waits for writers.
    Configuring,
    /// Ending its management: waits for everybody.
    Ending,
}

/// Locks `relation`. Whoever looks up what is cached about it afterwards has heard of every change made before.
pub fn lock(relation: pg_sys::Oid, what_for: LockFor) {
    let mode = match what_for {
        LockFor::Reading => pg_sys::AccessShareLock,
        LockFor::Writing => pg_sys::RowExclusiveLock,
        LockFor::Configuring => pg_sys::ShareRowExclusiveLock,
        LockFor::Ending => pg_sys::AccessExclusiveLock,
    };
    // SAFETY: takes a lock that the transaction's end releases.
    unsafe { pg_sys::LockRelationOid(relation, mode as i32) };
}

/// The next number of one of the extension's own sequences, as its keeper would draw it.
pub fn draw(sequence: &'static CStr) -> i64 {
    // SAFETY: draws from a sequence that the extension's script creates.
    unsafe { pg_sys::nextval_internal(own(sequence), false) }
}

/// 55000, of one of the extension's own tables.
pub fn not_as_made(table: &CStr) -> Error {
    Error::not_ready(format!("table tombstone.{} is not as this version of pg_tombstone made it", table.to_string_lossy()))
        .hint("ALTER EXTENSION pg_tombstone UPDATE;")
}

/// Appends a row to one of the extension's own tables, past privileges, defaults, constraints and triggers, with its indexes.
pub fn append(table: &'static CStr, row: &[Option<pg_sys::Datum>]) -> Result<()> {
    let mut values: Vec<pg_sys::Datum> = row.iter().map(|value| value.unwrap_or(pg_sys::Datum::from(0))).collect();
    let mut nulls: Vec<bool> = row.iter().map(Option::is_none).collect();
    // SAFETY: as many values as the table has columns, of their types: both are fixed by the extension's script.
    unsafe {
        let relation = pg_sys::table_open(own(table), pg_sys::RowExclusiveLock as i32);
        if (*(*relation).rd_att).natts as usize != row.len() {
            return Err(not_as_made(table));
        }
        let tuple = pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::CatalogTupleInsert(relation, tuple);
        pg_sys::heap_freetuple(tuple);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}

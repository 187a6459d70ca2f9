//! Rows that go without a word: past the executor, so no trigger, no foreign key, no rule and no policy hears of it. For whoever has
//! the table to itself, and has seen to all of them.

use std::collections::HashMap;

use pgrx::datum::DatumWithOid;
use pgrx::htup::heap_getattr_raw;
use pgrx::pg_sys;

use super::query::Statement;
use super::transaction::with_snapshot;
use crate::error::{Error, Result};

/// Rows looked for at once.
const AT_ONCE: i64 = 1000;

/// Deletes the rows that `statement` finds by tableoid and ctid; returns how many. Their tables are locked against everybody else.
pub fn erase(statement: &Statement, arguments: &[DatumWithOid]) -> Result<u64> {
    let mut tables = Tables(HashMap::new());
    let mut erased = 0;
    let mut failure = None;
    let one = |tuple, shape| {
        const FIRST: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN;
        // SAFETY: a row of two columns, an oid and a tid.
        let row = unsafe { heap_getattr_raw(tuple, FIRST, shape).zip(heap_getattr_raw(tuple, FIRST.saturating_add(1), shape)) };
        let Some((table, place)) = row else {
            failure = Some(Error::misread("a row is nowhere"));
            return;
        };
        // SAFETY: the table is locked, so the row is where it was seen, and nobody else is at it.
        unsafe {
            let table = tables.open(pg_sys::Oid::from(table.value() as u32));
            if (*(*table).rd_rel).relkind as u8 != pg_sys::RELKIND_RELATION {
                failure = Some(Error::unsupported("rows of a foreign table can only be deleted by its own server"));
                return;
            }
            pg_sys::simple_table_tuple_delete(table, place.cast_mut_ptr(), pg_sys::GetActiveSnapshot());
        }
        erased += 1;
    };
    with_snapshot(|| statement.each_tuple(arguments, AT_ONCE, one))?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    // SAFETY: as any command that has written.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(erased)
}

/// The tables that rows were found in, open; closed here, or by the abort of an error.
struct Tables(HashMap<pg_sys::Oid, pg_sys::Relation>);

impl Tables {
    fn open(&mut self, table: pg_sys::Oid) -> pg_sys::Relation {
        // SAFETY: the row's table, locked.
        *self.0.entry(table).or_insert_with(|| unsafe { pg_sys::table_open(table, pg_sys::NoLock as i32) })
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort that follows closes them
        }
        for table in self.0.values() {
            // SAFETY: opened by `open`.
            unsafe { pg_sys::table_close(*table, pg_sys::NoLock as i32) };
        }
    }
}

//! Rows of the extension's own tables, read along an index. Past the planner: it would have to know how far a table has grown
//! since it was last looked at, and to plan takes longer than to read what is new.

use std::ffi::CStr;
use std::ops::ControlFlow;

use pgrx::{PgMemoryContexts, pg_sys};

use super::relation::{not_as_made, own};
use crate::error::Result;

/// What a column of the index is to be: the column's number in its table, and a value.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    Int4Is(i16, i32),
    Int4Above(i16, i32),
    Int8Is(i16, i64),
    Int8From(i16, i64),
    Xid8Is(i16, u64),
    Xid8From(i16, u64),
}

impl Bound {
    fn scan_key(self) -> pg_sys::ScanKeyData {
        use pg_sys::{BTEqualStrategyNumber as IS, BTGreaterEqualStrategyNumber as FROM, BTGreaterStrategyNumber as ABOVE};
        let (column, how, compare, value) = match self {
            Bound::Int4Is(column, value) => (column, IS, pg_sys::F_INT4EQ, pg_sys::Datum::from(value)),
            Bound::Int4Above(column, value) => (column, ABOVE, pg_sys::F_INT4GT, pg_sys::Datum::from(value)),
            Bound::Int8Is(column, value) => (column, IS, pg_sys::F_INT8EQ, pg_sys::Datum::from(value)),
            Bound::Int8From(column, value) => (column, FROM, pg_sys::F_INT8GE, pg_sys::Datum::from(value)),
            Bound::Xid8Is(column, value) => (column, IS, pg_sys::F_XID8EQ, pg_sys::Datum::from(value)),
            Bound::Xid8From(column, value) => (column, FROM, pg_sys::F_XID8GE, pg_sys::Datum::from(value)),
        };
        let mut key = pg_sys::ScanKeyData::default();
        // SAFETY: fills the key; the function compares two values of that type.
        unsafe { pg_sys::ScanKeyInit(&mut key, column, how as _, compare.into(), value) };
        key
    }
}

/// Reads the rows of `table` that fit all `keys`, in the order of `index`, until `read` breaks off or they end; whether they
/// ended. The values are good until `read` returns. Sees what the statement that is running sees.
pub fn along(
    table: &'static CStr,
    index: &'static CStr,
    keys: &[Bound],
    mut read: impl FnMut(&[Option<pg_sys::Datum>]) -> Result<ControlFlow<()>>,
) -> Result<bool> {
    let mut keys: Vec<pg_sys::ScanKeyData> = keys.iter().map(|key| key.scan_key()).collect();
    let mut memory = PgMemoryContexts::new("pg_tombstone row");
    let (table_oid, index_oid) = (own(table), own(index));
    if table_oid == pg_sys::InvalidOid || index_oid == pg_sys::InvalidOid {
        return Err(not_as_made(table));
    }
    // SAFETY: opened and closed here, or by the abort of an error, under locks kept to the transaction's end; a statement is
    // running, so there is an active snapshot; each row is read while the scan holds it.
    unsafe {
        let rows = pg_sys::table_open(table_oid, pg_sys::AccessShareLock as i32);
        let order = pg_sys::index_open(index_oid, pg_sys::AccessShareLock as i32);
        let snapshot = pg_sys::GetActiveSnapshot();
        let scan = pg_sys::systable_beginscan_ordered(rows, order, snapshot, keys.len() as i32, keys.as_mut_ptr());
        let outcome = loop {
            let row = pg_sys::systable_getnext_ordered(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if row.is_null() {
                break Ok(true);
            }
            let go_on = memory.switch_to(|_| read(&values(row, (*rows).rd_att)));
            memory.reset();
            match go_on {
                Ok(ControlFlow::Continue(())) => (),
                Ok(ControlFlow::Break(())) => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        pg_sys::systable_endscan_ordered(scan);
        pg_sys::index_close(order, pg_sys::NoLock as i32);
        pg_sys::table_close(rows, pg_sys::NoLock as i32);
        outcome
    }
}

/// # Safety
/// `row` is of that shape.
unsafe fn values(row: pg_sys::HeapTuple, shape: pg_sys::TupleDesc) -> Vec<Option<pg_sys::Datum>> {
    // SAFETY: by contract of this function; as many values and flags as the shape has columns.
    unsafe {
        let width = (*shape).natts as usize;
        let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); width], vec![false; width]);
        pg_sys::heap_deform_tuple(row, shape, values.as_mut_ptr(), nulls.as_mut_ptr());
        values.into_iter().zip(nulls).map(|(value, is_null)| (!is_null).then_some(value)).collect()
    }
}

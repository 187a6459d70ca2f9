//! Rows into a table, many at a time: a page of them is one record of WAL. Past the planner and past triggers, for tables whose rows
//! are made by us; every index of the table is kept up, whoever made it.

use pgrx::{PgBox, PgMemoryContexts, pg_sys};

use super::relation::owner_of;

/// Copies of rows of one table, until they are written.
pub struct Load {
    relation: pg_sys::Oid,
    tuples: Vec<pg_sys::HeapTuple>,
    bytes: usize,
    /// The rows live here, and not in the memory of whoever hands them over.
    memory: PgMemoryContexts,
}

/// So many rows are written at once, or so many bytes of them: as COPY does it.
const MOST_ROWS: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

impl Load {
    /// None yet, of the table `relation`.
    pub fn new(relation: pg_sys::Oid) -> Load {
        // SAFETY: only makes a context below that one.
        let memory =
            unsafe { PgMemoryContexts::TopMemoryContext.switch_to(|_| PgMemoryContexts::new("pg_tombstone rows to write")) };
        Load { relation, tuples: Vec::new(), bytes: 0, memory }
    }

    /// Adds a row; it is time to write when this returns true.
    ///
    /// # Safety
    /// As many values and flags as `shape` has columns, which is the table's.
    pub unsafe fn add(&mut self, shape: pg_sys::TupleDesc, values: &mut [pg_sys::Datum], nulls: &mut [bool]) -> bool {
        // SAFETY: by contract of this function; the row is copied to our memory.
        unsafe {
            let tuple = self.memory.switch_to(|_| pg_sys::heap_form_tuple(shape, values.as_mut_ptr(), nulls.as_mut_ptr()));
            self.bytes += (*tuple).t_len as usize;
            self.tuples.push(tuple);
        }
        self.tuples.len() >= MOST_ROWS || self.bytes >= MOST_BYTES
    }

    /// Writes the rows; there are none then. The next command of the transaction sees them.
    pub fn write(&mut self) {
        if self.tuples.is_empty() {
            return;
        }
        debug_assert_ne!(owner_of(self.relation), pg_sys::InvalidOid);
        // SAFETY: the table is opened and closed here, or by the abort of an error, its lock kept to the transaction's end; the rows
        // are of its shape.
        unsafe {
            let table = pg_sys::table_open(self.relation, pg_sys::RowExclusiveLock as i32);
            let estate = pg_sys::CreateExecutorState();
            let mut memory = PgMemoryContexts::For((*estate).es_query_cxt);
            memory.switch_to(|_| insert(table, estate, &self.tuples));
            pg_sys::FreeExecutorState(estate);
            pg_sys::table_close(table, pg_sys::NoLock as i32);
            pg_sys::CommandCounterIncrement();
        }
        self.tuples.clear();
        self.bytes = 0;
        // SAFETY: nothing of it is in use any more.
        unsafe { self.memory.reset() };
    }
}

/// # Safety
/// `table` is open, the rows are of its shape, and the memory in use is the state's.
unsafe fn insert(table: pg_sys::Relation, estate: *mut pg_sys::EState, tuples: &[pg_sys::HeapTuple]) {
    // SAFETY: by contract of this function, in the order in which COPY does it.
    unsafe {
        let info = PgBox::<pg_sys::ResultRelInfo>::alloc_node(pg_sys::NodeTag::T_ResultRelInfo).into_pg();
        pg_sys::InitResultRelInfo(info, table, 0, std::ptr::null_mut(), 0);
        pg_sys::ExecOpenIndices(info, false);
        let slot = |tuple: &pg_sys::HeapTuple| {
            let slot = pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &raw const pg_sys::TTSOpsHeapTuple);
            pg_sys::ExecStoreHeapTuple(*tuple, slot, false);
            slot
        };
        let mut slots: Vec<*mut pg_sys::TupleTableSlot> = tuples.iter().map(slot).collect();
        let command = pg_sys::GetCurrentCommandId(true);
        pg_sys::heap_multi_insert(table, slots.as_mut_ptr(), slots.len() as i32, command, 0, std::ptr::null_mut());
        for slot in &slots {
            if (*info).ri_NumIndices > 0 {
                insert_into_indexes(info, *slot, estate);
                let per_row = (*estate).es_per_tuple_exprcontext;
                if !per_row.is_null() {
                    pg_sys::MemoryContextReset((*per_row).ecxt_per_tuple_memory);
                }
            }
            pg_sys::ExecDropSingleTupleTableSlot(*slot);
        }
        pg_sys::ExecCloseIndices(info);
    }
}

/// # Safety
/// `info` has its indexes open, and the slot's row has just been inserted.
unsafe fn insert_into_indexes(
    info: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
) {
    // SAFETY: by contract of this function.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        pg_sys::ExecInsertIndexTuples(info, slot, estate, false, false, std::ptr::null_mut(), std::ptr::null_mut());
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        pg_sys::ExecInsertIndexTuples(info, slot, estate, false, false, std::ptr::null_mut(), std::ptr::null_mut(), false);
    }
}

//! Rows into a table, many at a time: a page of them is one record of WAL. Past the planner and past triggers, for tables whose rows
//! are made by us; every index of the table is kept up, whoever made it. Nothing else is asked: no NOT NULL, no CHECK, no default, and no
//! bounds of a partition. Whoever hands rows over has seen to it that they fit.
//!
//! Between two writes nothing is open and nothing is counted by Postgres: a load that an error leaves behind is memory, and no more.

use pgrx::{PgBox, PgList, PgMemoryContexts, name_data_to_str, pg_sys};

use super::relation::owner_of;
use super::subtransaction::raise;
use super::transaction::with_memory;
use crate::error::Error;

/// Copies of rows of one table, until they are written.
pub struct Load {
    relation: pg_sys::Oid,
    /// The rows' descriptor, which no resource owner counts.
    shape: pg_sys::TupleDesc,
    /// Made as they are needed, and kept for the next write; the first `rows` of them have a row.
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    rows: usize,
    bytes: usize,
    /// Rows and slots live here, and not in the memory of whoever hands the rows over.
    memory: PgMemoryContexts,
}

/// No room is looked for where rows are gone: whatever comes later stands further back.
const AT_THE_END: i32 = pg_sys::TABLE_INSERT_SKIP_FSM as i32;

/// So many rows are written at once, or so many bytes of them: as COPY does it.
const MOST_ROWS: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

impl Load {
    /// None yet, of the table `relation`.
    ///
    /// # Safety
    /// `shape` is a copy of the table's descriptor, not counted, and outlives this.
    pub unsafe fn new(relation: pg_sys::Oid, shape: pg_sys::TupleDesc) -> Load {
        // SAFETY: only makes a context below that one.
        let memory =
            unsafe { PgMemoryContexts::TopMemoryContext.switch_to(|_| PgMemoryContexts::new("pg_tombstone rows to write")) };
        Load { relation, shape, slots: Vec::new(), rows: 0, bytes: 0, memory }
    }

    /// Adds a row; it is time to write when this returns true.
    ///
    /// # Safety
    /// As many values and flags as the table has columns.
    pub unsafe fn add(&mut self, values: &mut [pg_sys::Datum], nulls: &mut [bool]) -> bool {
        let Load { shape, slots, rows, bytes, memory, .. } = self;
        // SAFETY: by contract of this function; the row is copied to our memory, and is the slot's then.
        unsafe {
            memory.switch_to(|_| {
                if *rows == slots.len() {
                    slots.push(pg_sys::MakeSingleTupleTableSlot(*shape, &raw const pg_sys::TTSOpsHeapTuple));
                }
                let tuple = pg_sys::heap_form_tuple(*shape, values.as_mut_ptr(), nulls.as_mut_ptr());
                *bytes += (*tuple).t_len as usize;
                pg_sys::ExecStoreHeapTuple(tuple, slots[*rows], true);
                *rows += 1;
            });
        }
        self.rows >= MOST_ROWS || self.bytes >= MOST_BYTES
    }

    /// Writes the rows; there are none then. The next command of the transaction sees them.
    pub fn write(&mut self) {
        if self.rows == 0 {
            return;
        }
        debug_assert_ne!(owner_of(self.relation), pg_sys::InvalidOid);
        let (relation, slots) = (self.relation, &mut self.slots[..self.rows]);
        let shape = self.shape;
        // SAFETY: the table is opened and closed here, or by the abort of an error, its lock kept to the transaction's end; the rows
        // are of its shape, or it is an error.
        with_memory(|| unsafe {
            let table = pg_sys::table_open(relation, pg_sys::RowExclusiveLock as i32);
            if !pg_sys::equalTupleDescs((*table).rd_att, shape) {
                raise(altered(table));
            }
            insert(table, slots);
            pg_sys::table_close(table, pg_sys::NoLock as i32);
            pg_sys::CommandCounterIncrement();
        });
        for slot in slots {
            // SAFETY: frees the slot's row, which nobody uses any more.
            unsafe { pg_sys::ExecClearTuple(*slot) };
        }
        (self.rows, self.bytes) = (0, 0);
    }
}

/// # Safety
/// `table` is open.
unsafe fn altered(table: pg_sys::Relation) -> Error {
    // SAFETY: by contract of this function.
    let name = unsafe { name_data_to_str(&(*(*table).rd_rel).relname) };
    Error::not_ready(format!("table {name} was altered while rows were on their way to it")).hint("Try again.")
}

/// # Safety
/// `table` is open, the slots' rows are of its shape, and the memory in use is freed soon.
unsafe fn insert(table: pg_sys::Relation, slots: &mut [*mut pg_sys::TupleTableSlot]) {
    // SAFETY: by contract of this function, in the order in which COPY does it. An index is closed again here, or by an error's abort.
    unsafe {
        let command = pg_sys::GetCurrentCommandId(true);
        // With one of these the table grows by all the pages that are needed at once; without, from PostgreSQL 16 on, page by page.
        let bulk = pg_sys::GetBulkInsertState();
        pg_sys::heap_multi_insert(table, slots.as_mut_ptr(), slots.len() as i32, command, AT_THE_END, bulk);
        pg_sys::FreeBulkInsertState(bulk);
        let lock = pg_sys::RowExclusiveLock as i32;
        let indexes = PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(table));
        let indexes: Vec<Index> = indexes.iter_oid().map(|oid| Index::of(pg_sys::index_open(oid, lock))).collect();
        if indexes.iter().all(Index::is_plain) {
            indexes.iter().for_each(|index| index.insert(table, slots));
        } else {
            insert_by_executor(table, slots);
        }
        indexes.iter().for_each(|index| pg_sys::index_close(index.relation, lock));
    }
}

/// An open index.
struct Index {
    relation: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
}

impl Index {
    /// # Safety
    /// `relation` is an open index.
    unsafe fn of(relation: pg_sys::Relation) -> Index {
        // SAFETY: by contract of this function.
        Index { relation, info: unsafe { pg_sys::BuildIndexInfo(relation) } }
    }

    /// Whether it takes any row, and each as it is: whatever else there may be to an index is the executor's to know.
    fn is_plain(&self) -> bool {
        // SAFETY: made by `of`.
        let info = unsafe { &*self.info };
        let is_of_columns = info.ii_Expressions.is_null() && info.ii_Predicate.is_null();
        is_of_columns && !info.ii_Unique && info.ii_ExclusionOps.is_null() && info.ii_ReadyForInserts
    }

    /// # Safety
    /// It is plain, and one of `table`; the slots' rows have just been inserted.
    unsafe fn insert(&self, table: pg_sys::Relation, slots: &[*mut pg_sys::TupleTableSlot]) {
        let mut values = [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
        let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
        // SAFETY: by contract of this function; an index has no more columns than that.
        unsafe {
            for slot in slots {
                pg_sys::FormIndexDatum(self.info, *slot, std::ptr::null_mut(), values, nulls);
                let (place, check) = (&raw mut (**slot).tts_tid, pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO);
                pg_sys::index_insert(self.relation, values, nulls, place, table, check, false, self.info);
            }
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            pg_sys::index_insert_cleanup(self.relation, self.info);
        }
    }
}

/// # Safety
/// The slots' rows have just been inserted into `table`.
unsafe fn insert_by_executor(table: pg_sys::Relation, slots: &[*mut pg_sys::TupleTableSlot]) {
    // SAFETY: by contract of this function; what is opened is closed here, or by the abort of an error.
    unsafe {
        let estate = pg_sys::CreateExecutorState();
        let info = PgBox::<pg_sys::ResultRelInfo>::alloc_node(pg_sys::NodeTag::T_ResultRelInfo).into_pg();
        pg_sys::InitResultRelInfo(info, table, 0, std::ptr::null_mut(), 0);
        pg_sys::ExecOpenIndices(info, false);
        for slot in slots {
            insert_into_indexes(info, *slot, estate);
            let per_row = (*estate).es_per_tuple_exprcontext;
            if !per_row.is_null() {
                pg_sys::MemoryContextReset((*per_row).ecxt_per_tuple_memory);
            }
        }
        pg_sys::ExecCloseIndices(info);
        pg_sys::FreeExecutorState(estate);
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

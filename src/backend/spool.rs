//! Rows put by for transactions to come: read from a table in one go, and taken out a few at a time, in their order. Beyond
//! work_mem they go to a temporary file.

use pgrx::datum::DatumWithOid;
use pgrx::{PgMemoryContexts, pg_sys};

use super::query::Statement;
use crate::error::Result;

/// Rows of some columns, none of them NULL.
pub struct Spool {
    types: Vec<pg_sys::Oid>,
    store: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
    shape: pg_sys::TupleDesc,
    columns: Vec<Storage>,
    rows: u64,
    /// All of the above lives here, and not in the transaction that fills it.
    memory: PgMemoryContexts,
}

/// Rows taken out, good for as long as this lives.
pub struct Taken {
    pub rows: Vec<Vec<pg_sys::Datum>>,
    _memory: PgMemoryContexts,
}

/// Memory that no transaction's end frees.
fn lasting(name: &'static str) -> PgMemoryContexts {
    // SAFETY: only makes a context below that one.
    unsafe { PgMemoryContexts::TopMemoryContext.switch_to(|_| PgMemoryContexts::new(name)) }
}

/// How the values of a type are stored.
#[derive(Debug, Clone, Copy)]
struct Storage {
    length: i16,
    by_value: bool,
}

impl Spool {
    /// An empty one, for rows of `types`.
    pub fn new(types: &[pg_sys::Oid]) -> Spool {
        let mut memory = lasting("pg_tombstone spool");
        let columns = types.iter().map(|kind| Storage::of(*kind)).collect();
        // SAFETY: makes three structures of the same columns, in memory that lives as long as they are used. The store's file
        // outlives the transaction, as that of a cursor WITH HOLD does.
        let (shape, slot, store) = unsafe {
            memory.switch_to(|_| {
                let shape = pg_sys::CreateTemplateTupleDesc(types.len() as i32);
                for (number, kind) in (1i16..).zip(types) {
                    pg_sys::TupleDescInitEntry(shape, number, c"".as_ptr(), *kind, -1, 0);
                }
                let slot = pg_sys::MakeSingleTupleTableSlot(shape, &raw const pg_sys::TTSOpsMinimalTuple);
                (shape, slot, pg_sys::tuplestore_begin_heap(false, true, pg_sys::work_mem))
            })
        };
        Spool { types: types.to_vec(), store, slot, shape, columns, rows: 0, memory }
    }

    /// Adds the rows that `statement` finds, whose columns are ours.
    pub fn fill(&mut self, statement: &Statement, arguments: &[DatumWithOid]) -> Result<()> {
        const AT_ONCE: i64 = 1000;
        statement.each_tuple(arguments, AT_ONCE, |tuple, shape| {
            // SAFETY: a row of the statement, whose columns are ours; the store copies it. What is kept apart from its row in the
            // table is fetched now: it may be gone when it is asked for.
            unsafe {
                let whole = if has_external(tuple) { pg_sys::toast_flatten_tuple(tuple, shape) } else { tuple };
                self.memory.switch_to(|_| pg_sys::tuplestore_puttuple(self.store, whole));
            }
            self.rows += 1;
        })
    }

    /// The types of its columns.
    pub fn types(&self) -> &[pg_sys::Oid] {
        &self.types
    }

    /// How many rows were ever put in.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes out the next rows, at most `most`.
    pub fn take(&mut self, most: usize) -> Taken {
        let mut memory = lasting("pg_tombstone rows taken");
        // SAFETY: the values copied there are used only while it lives.
        let rows = unsafe { memory.switch_to(|_| std::iter::from_fn(|| self.next()).take(most).collect()) };
        Taken { rows, _memory: memory }
    }

    fn next(&mut self) -> Option<Vec<pg_sys::Datum>> {
        let width = self.columns.len();
        let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); width], vec![false; width]);
        let (store, slot, shape) = (self.store, self.slot, self.shape);
        // SAFETY: the slot's row is read, and its values copied to the caller's memory, before another one takes its place. What
        // the slot owns it frees at the next turn: so that is made in the spool's memory.
        unsafe {
            let is_there = self.memory.switch_to(|_| {
                let is_there = pg_sys::tuplestore_gettupleslot(store, true, false, slot);
                if is_there {
                    let mut is_ours = false;
                    let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, true, &mut is_ours);
                    pg_sys::heap_deform_tuple(tuple, shape, values.as_mut_ptr(), nulls.as_mut_ptr());
                }
                is_there
            });
            let copy =
                |(column, value): (&Storage, pg_sys::Datum)| pg_sys::datumCopy(value, column.by_value, column.length.into());
            is_there.then(|| self.columns.iter().zip(values).map(copy).collect())
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // SAFETY: ours, and used by nobody else; closes and removes the temporary file.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::tuplestore_end(self.store);
        }
    }
}

impl Storage {
    fn of(kind: pg_sys::Oid) -> Storage {
        let mut storage = Storage { length: 0, by_value: false };
        // SAFETY: a catalog look-up of a type that a column has.
        unsafe { pg_sys::get_typlenbyval(kind, &mut storage.length, &mut storage.by_value) };
        storage
    }
}

/// # Safety
/// `tuple` is one.
unsafe fn has_external(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: by contract of this function.
    unsafe { u32::from((*(*tuple).t_data).t_infomask) & pg_sys::HEAP_HASEXTERNAL != 0 }
}

//! Rows kept between two statements of a transaction, which SQL can read by a name. Beyond maintenance_work_mem they go to a temporary
//! file: it is for those who do rarely, and one at a time, what takes much memory.

use std::ffi::CString;

use pgrx::datum::DatumWithOid;
use pgrx::{PgMemoryContexts, PgTupleDesc, Spi, pg_sys};

use super::identity::c_string;
use super::query::Statement;
use crate::error::{Error, Result};

/// Rows of one shape, in the order in which they came.
pub struct Stash {
    store: *mut pg_sys::Tuplestorestate,
    shape: pg_sys::TupleDesc,
    rows: u64,
    /// All of it lives here, and not in the memory of whoever fills it.
    memory: PgMemoryContexts,
}

impl Stash {
    /// The rows that `statement` returns, which may write; `None` where there are none.
    pub fn of(statement: &Statement, arguments: &[DatumWithOid]) -> Result<Option<Stash>> {
        let mut stash = Stash::new();
        // SAFETY: the store has just been opened.
        (stash.shape, stash.rows) = unsafe { statement.store(arguments, stash.store, &mut stash.memory)? };
        Ok((stash.rows > 0).then_some(stash))
    }

    fn new() -> Stash {
        // SAFETY: makes a context below that one, and an empty store in it. Read from any place, and again from the first.
        unsafe {
            let mut memory = PgMemoryContexts::CurTransactionContext.switch_to(|_| PgMemoryContexts::new("pg_tombstone stash"));
            let store = memory.switch_to(|_| pg_sys::tuplestore_begin_heap(true, false, pg_sys::maintenance_work_mem));
            pg_sys::tuplestore_set_eflags(store, (pg_sys::EXEC_FLAG_REWIND | pg_sys::EXEC_FLAG_BACKWARD) as i32);
            Stash { store, shape: std::ptr::null_mut(), rows: 0, memory }
        }
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whoever reads the rows besides, from the first on.
    pub fn reader(&self) -> Reader {
        // SAFETY: a second place in the same store, and a row to read into; both go with the store's memory or the transaction's.
        unsafe {
            let place = pg_sys::tuplestore_alloc_read_pointer(self.store, pg_sys::EXEC_FLAG_REWIND as i32);
            pg_sys::tuplestore_select_read_pointer(self.store, place);
            pg_sys::tuplestore_rescan(self.store);
            pg_sys::tuplestore_select_read_pointer(self.store, 0);
            let slot = pg_sys::MakeSingleTupleTableSlot(self.shape, &raw const pg_sys::TTSOpsMinimalTuple);
            Reader { store: self.store, shape: self.shape, place, slot }
        }
    }
}

impl Drop for Stash {
    fn drop(&mut self) {
        // SAFETY: ours; closes and removes the temporary file. When an error unwinds the transaction's end does so.
        if !std::thread::panicking() {
            unsafe { pg_sys::tuplestore_end(self.store) };
        }
    }
}

/// A place among the rows of a stash, which has to live as long.
pub struct Reader {
    store: *mut pg_sys::Tuplestorestate,
    shape: pg_sys::TupleDesc,
    place: i32,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Reader {
    /// Goes on to the next row; false where there is none.
    pub fn advance(&mut self) -> bool {
        // SAFETY: the store lives by contract of this type; its first place is put back for whoever else reads.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.store, self.place);
            let is_there = pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot);
            pg_sys::tuplestore_select_read_pointer(self.store, 0);
            is_there
        }
    }

    /// The values of the row it is at, good until it goes on.
    pub fn values(&self) -> Vec<Option<pg_sys::Datum>> {
        // SAFETY: the slot holds a row of that shape.
        unsafe {
            pg_sys::slot_getallattrs(self.slot);
            let width = (*self.shape).natts as usize;
            (0..width).map(|i| (!*(*self.slot).tts_isnull.add(i)).then(|| *(*self.slot).tts_values.add(i))).collect()
        }
    }

    /// `tuple` with the values of the row it is at, for the columns that both have.
    ///
    /// # Safety
    /// `tuple` is of descriptor `row`.
    pub unsafe fn put_into(&self, tuple: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
        let values = self.values();
        // SAFETY: by contract of this function; columns of one name are of one type, as the rows were made for this table.
        unsafe {
            let width = (*row).natts as usize;
            let (mut new, mut nulls) = (vec![pg_sys::Datum::from(0); width], vec![false; width]);
            pg_sys::heap_deform_tuple(tuple, row, new.as_mut_ptr(), nulls.as_mut_ptr());
            let (ours, theirs) = (PgTupleDesc::from_pg_copy(self.shape), PgTupleDesc::from_pg_copy(row));
            for (i, column) in theirs.iter().enumerate().filter(|(_, column)| !column.is_dropped()) {
                if let Some(place) = ours.iter().position(|ours| ours.name() == column.name()) {
                    new[i] = values[place].unwrap_or(pg_sys::Datum::from(0));
                    nulls[i] = values[place].is_none();
                }
            }
            pg_sys::heap_form_tuple(row, new.as_mut_ptr(), nulls.as_mut_ptr())
        }
    }
}

/// Runs `sql`, in which each stash is a table of the name that goes with it; returns how many rows its last part wrote.
pub fn run(sql: &str, stashes: &[(String, &Stash)]) -> Result<u64> {
    let names: Vec<CString> = stashes.iter().map(|(name, _)| c_string(name)).collect();
    let sql = c_string(sql);
    Spi::connect_mut(|_| {
        // SAFETY: SPI is connected; names, shapes and stores outlive the statement, and are forgotten when SPI disconnects.
        unsafe {
            for ((_, stash), name) in stashes.iter().zip(&names) {
                let relation =
                    pg_sys::palloc0(size_of::<pg_sys::EphemeralNamedRelationData>()) as pg_sys::EphemeralNamedRelation;
                (*relation).md.name = name.as_ptr().cast_mut();
                (*relation).md.reliddesc = pg_sys::InvalidOid;
                (*relation).md.tupdesc = stash.shape;
                (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
                (*relation).md.enrtuples = stash.rows as f64;
                (*relation).reldata = stash.store.cast();
                if pg_sys::SPI_register_relation(relation) != pg_sys::SPI_OK_REL_REGISTER as i32 {
                    return Err(Error::not_ready("rows that are to come back could not be named"));
                }
            }
            Spi::check_status(pg_sys::SPI_execute(sql.as_ptr(), false, 0))?;
            Ok(pg_sys::SPI_processed)
        }
    })
}

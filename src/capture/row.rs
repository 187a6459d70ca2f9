//! Rows as triggers hand them over, for what must be read from them besides the key: the kind.
//!
//! An expression is evaluated for many rows at once, in one statement; until then copies of them are kept.

use std::num::NonZeroUsize;

use pgrx::datum::DatumWithOid;
use pgrx::htup::heap_getattr_raw;
use pgrx::{FromDatum, pg_sys};

use crate::backend::owned::Owned;

/// Rows are kept up to this many, or this many bytes of them; their kinds are then evaluated at once.
const MOST_ROWS: usize = 512;
const MOST_WORDS: usize = (1 << 20) / size_of::<u64>();

/// A row while its trigger runs.
#[derive(Clone, Copy)]
pub struct RowOf<'a> {
    pub tuple: pg_sys::HeapTuple,
    pub shape: pg_sys::TupleDesc,
    /// Where the kind stands, if it is a column.
    pub kind: Option<&'a NonZeroUsize>,
}

impl RowOf<'_> {
    /// # Safety
    /// `tuple` is of `shape`, and the kind's column is of a text type.
    pub unsafe fn kind_in_column(&self) -> Option<String> {
        // SAFETY: by contract of this function.
        unsafe {
            let value = heap_getattr_raw(self.tuple, *self.kind?, self.shape)?;
            String::from_datum(value, false)
        }
    }

    fn row_type(&self) -> pg_sys::Oid {
        // SAFETY: the descriptor of an open relation.
        unsafe { (*self.shape).tdtypeid }
    }
}

/// Copies of rows of one type.
#[derive(Default)]
pub struct RowCopies {
    row_type: Option<pg_sys::Oid>,
    values: Vec<Owned>,
    words: usize,
}

impl RowCopies {
    /// Whether `row` is of the type of these.
    pub fn takes(&self, row: &RowOf) -> bool {
        self.row_type.is_none_or(|row_type| row_type == row.row_type())
    }

    pub fn is_full(&self) -> bool {
        self.values.len() >= MOST_ROWS || self.words >= MOST_WORDS
    }

    /// Adds a copy of a row of the same type.
    ///
    /// # Safety
    /// `row` has its tuple and descriptor still.
    pub unsafe fn push(&mut self, row: &RowOf) {
        // SAFETY: by contract of this function.
        let value = unsafe {
            let value = pg_sys::heap_copy_tuple_as_datum(row.tuple, row.shape);
            let owned = Owned::copy_of(value);
            pg_sys::pfree(value.cast_mut_ptr());
            owned
        };
        self.row_type = Some(row.row_type());
        self.words += value.words();
        self.values.push(value);
    }

    /// Their type, and an array of them as a parameter; `None` where there are none.
    pub fn argument<'a>(&self) -> Option<(pg_sys::Oid, DatumWithOid<'a>)> {
        let row_type = self.row_type.filter(|_| !self.values.is_empty())?;
        let mut values: Vec<pg_sys::Datum> = self.values.iter().map(Owned::datum).collect();
        // SAFETY: builds an array of values of this composite type; the parameter is typed as that array.
        unsafe {
            let (count, alignment) = (values.len() as i32, pg_sys::TYPALIGN_DOUBLE as core::ffi::c_char);
            let array = pg_sys::construct_array(values.as_mut_ptr(), count, row_type, -1, false, alignment);
            Some((row_type, DatumWithOid::new(pg_sys::Datum::from(array), pg_sys::get_array_type(row_type))))
        }
    }
}

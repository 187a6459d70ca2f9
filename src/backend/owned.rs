//! Values of variable length in memory of our own: they outlive the memory context they were read in.

use pgrx::pg_sys;

/// A copy of such a value, whole and uncompressed; in words, as some types want to be aligned so.
pub struct Owned(Box<[u64]>);

impl Owned {
    /// # Safety
    /// `value` is one of a type of variable length.
    pub unsafe fn copy_of(value: pg_sys::Datum) -> Owned {
        // SAFETY: by contract of this function; such a value, once whole, begins with its length in bytes.
        unsafe {
            let whole = pg_sys::pg_detoast_datum(value.cast_mut_ptr());
            let bytes = pgrx::varsize(whole);
            let mut words = vec![0u64; bytes.div_ceil(size_of::<u64>())].into_boxed_slice();
            core::ptr::copy_nonoverlapping(whole.cast::<u8>(), words.as_mut_ptr().cast(), bytes);
            Owned(words)
        }
    }

    /// The value, for as long as this lives.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.0.as_ptr())
    }

    /// A copy in the current memory context.
    pub fn to_datum(&self) -> pg_sys::Datum {
        // SAFETY: copies a whole value of variable length.
        unsafe { pg_sys::datumCopy(self.datum(), false, -1) }
    }

    /// Its size in words.
    pub fn words(&self) -> usize {
        self.0.len()
    }
}

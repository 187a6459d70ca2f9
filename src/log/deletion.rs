//! The number of the running transaction's deletion.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::backend::relation::own;

thread_local! {
    static NUMBER: Cell<Option<i64>> = const { Cell::new(None) };
}

/// The number of this transaction's deletion, drawn at its first delete.
pub fn number() -> i64 {
    if let Some(number) = NUMBER.get() {
        return number;
    }
    // SAFETY: draws from the extension's own sequence, as its default privileges would have the keeper do.
    let number = unsafe { pg_sys::nextval_internal(own(c"deletion"), false) };
    NUMBER.set(Some(number));
    number
}

/// The number of this transaction's deletion, if it has deleted anything.
pub fn drawn() -> Option<i64> {
    NUMBER.get()
}

/// The transaction ended.
pub fn forget() {
    NUMBER.set(None);
}

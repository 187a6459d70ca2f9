//! The number of the running transaction's deletion.

use std::cell::Cell;

use crate::backend::relation::draw;

thread_local! {
    static NUMBER: Cell<Option<i64>> = const { Cell::new(None) };
}

/// The number of this transaction's deletion, drawn at its first delete.
pub fn number() -> i64 {
    if let Some(number) = NUMBER.get() {
        return number;
    }
    let number = draw(c"deletion");
    NUMBER.set(Some(number));
    number
}

/// The transaction ended.
pub fn forget() {
    NUMBER.set(None);
}

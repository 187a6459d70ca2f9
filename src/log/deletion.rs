//! The number of the running transaction's deletion: that of its first entry which deletes. A transaction has one, unless it
//! begins anew.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::backend::relation::draw;
use crate::backend::transaction::current_subtransaction;

#[derive(Clone, Copy)]
struct Deletion {
    number: i64,
    /// Where the number was drawn: rolled back with that, nothing bears it.
    subtransaction: pg_sys::SubTransactionId,
    /// Whether the entry of that number has been written.
    written: bool,
}

thread_local! {
    static CURRENT: Cell<Option<Deletion>> = const { Cell::new(None) };
}

/// The next number of an entry.
pub fn next_seq() -> i64 {
    draw(c"event_seq_seq")
}

/// The number of this transaction's deletion.
pub fn number() -> i64 {
    current(false).number
}

/// Whether this transaction has deleted anything.
pub fn is_under_way() -> bool {
    CURRENT.get().is_some()
}

/// What is deleted from here on belongs to another deletion: where one transaction does what would else have been several's.
pub fn begin_anew() {
    forget();
}

/// For an entry that deletes: its own number, and its deletion's.
pub fn seq_and_number() -> (i64, i64) {
    let before = current(false);
    let seq = if before.written { next_seq() } else { before.number };
    (seq, current(true).number)
}

fn current(written: bool) -> Deletion {
    let mut deletion = CURRENT.get().unwrap_or_else(|| Deletion {
        number: next_seq(),
        subtransaction: current_subtransaction(),
        written: false,
    });
    if written && !deletion.written {
        // Whatever is rolled back from here on takes the entry along that the number is found by.
        deletion = Deletion { subtransaction: current_subtransaction(), written, ..deletion };
    }
    CURRENT.set(Some(deletion));
    deletion
}

/// The transaction ended.
pub fn forget() {
    CURRENT.set(None);
}

/// A subtransaction was rolled back, and whatever began inside it.
pub fn forget_from(subtransaction: pg_sys::SubTransactionId) {
    CURRENT.set(CURRENT.get().filter(|deletion| deletion.subtransaction < subtransaction));
}

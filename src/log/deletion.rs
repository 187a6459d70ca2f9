//! The number of the running transaction's deletion: that of its first entry which deletes. A transaction has one, unless it
//! begins anew.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

use crate::backend::relation::draw;
use crate::backend::transaction::current_subtransaction;

#[derive(Clone, Copy)]
struct Deletion {
    number: i64,
    /// Where the number was drawn: rolled back with that, nothing bears it.
    drawn: pg_sys::SubTransactionId,
    /// Where the entry of that number was written. Rolled back with that, the next entry has it: rows in bins may bear the number
    /// already.
    written: Option<pg_sys::SubTransactionId>,
}

/// What the transaction deleted before it began anew.
struct Former {
    deletion: Deletion,
    /// Where it began anew: rolled back with that, the deletion goes on.
    ended: pg_sys::SubTransactionId,
}

thread_local! {
    static CURRENT: Cell<Option<Deletion>> = const { Cell::new(None) };
    static FORMER: RefCell<Vec<Former>> = const { RefCell::new(Vec::new()) };
}

/// The next number of an entry.
pub fn next_seq() -> i64 {
    draw(c"event_seq_seq")
}

/// The number of this transaction's deletion.
pub fn number() -> i64 {
    current().number
}

/// Whether this transaction has deleted anything.
pub fn is_under_way() -> bool {
    CURRENT.get().is_some()
}

/// Whether `number` is that of this transaction's deletion.
pub fn is_current(number: i64) -> bool {
    CURRENT.get().is_some_and(|deletion| deletion.number == number)
}

/// What is deleted from here on belongs to another deletion: where one transaction does what would else have been several's.
pub fn begin_anew() {
    if let Some(deletion) = CURRENT.take() {
        FORMER.with_borrow_mut(|all| all.push(Former { deletion, ended: current_subtransaction() }));
    }
}

/// For an entry that deletes: its own number, which may be reserved, and its deletion's.
pub fn seq_and_number(reserved: Option<i64>) -> (i64, i64) {
    let seq = reserved.unwrap_or_else(|| take(current_subtransaction()));
    (seq, number())
}

/// The number of an entry that deletes, which `subtransaction`, one around us, will write.
pub fn reserve(subtransaction: pg_sys::SubTransactionId) -> i64 {
    let deletion = current();
    CURRENT.set(Some(Deletion { drawn: deletion.drawn.min(subtransaction), ..deletion }));
    take(subtransaction)
}

/// The deletion's own number for its first entry, which `subtransaction` writes, and another one for any other.
fn take(subtransaction: pg_sys::SubTransactionId) -> i64 {
    let deletion = current();
    if deletion.written.is_some() {
        return next_seq();
    }
    CURRENT.set(Some(Deletion { written: Some(subtransaction), ..deletion }));
    deletion.number
}

fn current() -> Deletion {
    let draw = || Deletion { number: next_seq(), drawn: current_subtransaction(), written: None };
    let deletion = CURRENT.get().unwrap_or_else(draw);
    CURRENT.set(Some(deletion));
    deletion
}

/// The transaction ended.
pub fn forget() {
    CURRENT.set(None);
    drop(FORMER.take());
}

/// A subtransaction was rolled back, and whatever began inside it: also the number that was drawn there, and the entry that was
/// written there with one from outside.
pub fn forget_from(subtransaction: pg_sys::SubTransactionId) {
    let is_gone = |of: pg_sys::SubTransactionId| of >= subtransaction;
    FORMER.with_borrow_mut(|all| {
        while let Some(former) = all.pop_if(|former| is_gone(former.ended)) {
            CURRENT.set(Some(former.deletion));
        }
    });
    let stays = CURRENT.get().filter(|deletion| !is_gone(deletion.drawn));
    CURRENT.set(stays.map(|deletion| Deletion { written: deletion.written.filter(|of| !is_gone(*of)), ..deletion }));
}

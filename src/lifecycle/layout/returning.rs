//! Rows on their way from a bin back to their table: what the triggers they pass have to know of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use pgrx::pg_sys;

use crate::backend::executor;
use crate::backend::stash::Reader;

/// Rows that are being inserted into one table.
struct Returning {
    table: i32,
    stamp: i64,
    depth: u32,
    /// How many have passed the last trigger so far.
    passed: u64,
    /// The rows as they are to come, from one reader and then the next; and how many of them have been read, as nobody asks for them
    /// where no other trigger can have changed them.
    rows: VecDeque<Reader>,
    read: u64,
}

impl Returning {
    /// The row that passes now.
    fn current(&mut self) -> Option<&Reader> {
        while self.read < self.passed {
            if self.rows.front_mut()?.advance() {
                self.read += 1;
            } else {
                self.rows.pop_front();
            }
        }
        self.rows.front()
    }
}

thread_local! {
    static RETURNING: RefCell<Vec<Returning>> = const { RefCell::new(Vec::new()) };
    static TAKES_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Puts back what it found, also when an error unwinds.
struct Restore(usize, bool);

impl Drop for Restore {
    fn drop(&mut self) {
        RETURNING.with_borrow_mut(|all| all.truncate(self.0));
        TAKES_OUT.set(self.1);
    }
}

/// Runs `act`, which takes rows out of a bin that are to come back.
pub fn taking_out<T>(act: impl FnOnce() -> T) -> T {
    let _restore = Restore(RETURNING.with_borrow(Vec::len), TAKES_OUT.replace(true));
    act()
}

/// Whether rows that leave a bin now do so to come back.
pub fn takes_out() -> bool {
    TAKES_OUT.get()
}

/// Runs `act`, whose next statement inserts these rows, all that it gets of a table in their order: each table by its number, with
/// the stamp its rows had. Returns with its value how many of each have passed.
pub fn inserting<T>(rows: Vec<(i32, i64, VecDeque<Reader>)>, act: impl FnOnce() -> T) -> (T, Vec<u64>) {
    let before = RETURNING.with_borrow(Vec::len);
    let _restore = Restore(before, TAKES_OUT.replace(false));
    let depth = executor::next_depth();
    let returning = rows.into_iter().map(|(table, stamp, rows)| Returning { table, stamp, depth, passed: 0, rows, read: 0 });
    RETURNING.with_borrow_mut(|all| all.extend(returning));
    let value = act();
    let passed = RETURNING.with_borrow(|all| all[before..].iter().map(|one| one.passed).collect());
    (value, passed)
}

/// Whether anything is coming back at all.
pub fn is_any() -> bool {
    RETURNING.with_borrow(|all| !all.is_empty())
}

fn with<T>(table: i32, act: impl FnOnce(&mut Returning) -> T) -> Option<T> {
    RETURNING.with_borrow_mut(|all| {
        let depth = executor::depth();
        all.iter_mut().rev().find(|one| one.table == table && one.depth == depth).map(act)
    })
}

/// Whether the row that was just inserted into this table came back.
pub fn is_under_way(table: i32) -> bool {
    with(table, |_| ()).is_some()
}

/// One more row passes into this table; the stamp it had, if it comes back.
pub fn next(table: i32) -> Option<i64> {
    with(table, |one| {
        one.passed += 1;
        one.stamp
    })
}

/// The row as its bin had it: `tuple`, but for what triggers have made of it.
///
/// # Safety
/// `tuple` is of descriptor `row`.
pub unsafe fn as_it_was(table: i32, tuple: pg_sys::HeapTuple, row: pg_sys::TupleDesc) -> pg_sys::HeapTuple {
    // SAFETY: by contract of this function.
    with(table, |one| one.current().map(|reader| unsafe { reader.put_into(tuple, row) })).flatten().unwrap_or(tuple)
}

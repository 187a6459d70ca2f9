//! Rows on their way from a bin back to their table: what the triggers they pass have to know of it. And rows that have come back:
//! what triggers make of them because of others that come back after them.
//!
//! A row that went took its state with it. What went after it changed it no more: the trigger of a child that fell with its parent
//! found no parent to count in. So on the way back that trigger finds the parent there, and must not count in it either.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};

use pgrx::pg_sys;

use crate::backend::executor;
use crate::backend::stash::Reader;
use crate::error::Result;

/// Rows that are being inserted into one table.
struct Returning {
    table: i32,
    stamp: i64,
    depth: u32,
    /// How many have passed the last trigger so far.
    passed: u64,
    /// Whether a trigger of the application's own came after ours.
    had_later_trigger: bool,
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
    /// How many scopes deep we are: what has come back is known until the outermost ends.
    static SCOPES: Cell<u32> = const { Cell::new(0) };
    /// The commands that inserted what has come back. No other row is of any of them.
    static COMMANDS: RefCell<Vec<pg_sys::CommandId>> = const { RefCell::new(Vec::new()) };
    /// Rows that have been written since they came back, and are of another command now: table, id and version, and the place of the
    /// command that they came with.
    static CHANGED: RefCell<HashMap<Row, usize>> = RefCell::default();
    static KEEPING: Cell<Option<Keeping>> = const { Cell::new(None) };
}

type Row = (i32, String, Option<i64>);

/// Statements deeper than this leave rows that have come back as they are: those of the commands from this place on.
#[derive(Clone, Copy)]
struct Keeping {
    depth: u32,
    from: usize,
}

/// Runs `act`, which brings back rows in several statements.
pub fn scope<T>(act: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            SCOPES.set(SCOPES.get() - 1);
            if SCOPES.get() == 0 {
                COMMANDS.take();
                CHANGED.take();
            }
        }
    }
    SCOPES.set(SCOPES.get() + 1);
    let _leave = Leave;
    act()
}

/// Runs `act`, whose next statement fires triggers because of what went after all that has come back so far.
pub fn keeping<T>(act: impl FnOnce() -> T) -> T {
    keeping_from(0, act)
}

fn keeping_from<T>(from: usize, act: impl FnOnce() -> T) -> T {
    struct Before(Option<Keeping>);
    impl Drop for Before {
        fn drop(&mut self) {
            KEEPING.set(self.0);
        }
    }
    let _before = Before(KEEPING.replace(Some(Keeping { depth: executor::next_depth(), from })));
    act()
}

/// Whether a row that is being updated stays as it is: it has come back, and what a trigger makes of it now it made of it before the row
/// went, or would have, had the row been there.
///
/// # Safety
/// `tuple` is the row as stored; `row` says which it is.
pub unsafe fn stays(tuple: pg_sys::HeapTuple, row: impl FnOnce() -> Result<Row>) -> Result<bool> {
    let Some(keeping) = KEEPING.get() else { return Ok(false) };
    // SAFETY: by contract of this function. Only the header of a row of this transaction has a command.
    let came_with = unsafe {
        let header = (*tuple).t_data;
        let is_ours = pg_sys::TransactionIdIsCurrentTransactionId((*header).t_choice.t_heap.t_xmin);
        let command = is_ours.then(|| pg_sys::HeapTupleHeaderGetCmin(header));
        command.and_then(|command| COMMANDS.with_borrow(|all| all.iter().position(|one| *one == command)))
    };
    if came_with.is_none() && CHANGED.with_borrow(HashMap::is_empty) {
        return Ok(false);
    }
    let row = row()?;
    let came_with = CHANGED.with_borrow_mut(|changed| match came_with {
        Some(place) => {
            changed.insert(row, place);
            Some(place)
        }
        None => changed.get(&row).copied(),
    });
    Ok(came_with.is_some_and(|place| place >= keeping.from) && executor::depth() > keeping.depth)
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
/// the stamp its rows had. `fell` says whether all of them went because of others, and so after whatever has come back so far.
/// Returns with its value how many of each have passed, and whether a trigger came after ours.
pub fn inserting<T>(rows: Vec<(i32, i64, VecDeque<Reader>)>, fell: bool, act: impl FnOnce() -> T) -> (T, Vec<(u64, bool)>) {
    let before = RETURNING.with_borrow(Vec::len);
    let _restore = Restore(before, TAKES_OUT.replace(false));
    let depth = executor::next_depth();
    let returning = rows.into_iter().map(|(table, stamp, rows)| Returning {
        table,
        stamp,
        depth,
        passed: 0,
        had_later_trigger: false,
        rows,
        read: 0,
    });
    RETURNING.with_borrow_mut(|all| all.extend(returning));
    let from = if fell { 0 } else { COMMANDS.with_borrow(Vec::len) };
    let value = keeping_from(from, act);
    let passed = |one: &Returning| (one.passed, one.had_later_trigger);
    let passed = RETURNING.with_borrow(|all| all[before..].iter().map(passed).collect());
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

/// One more row passes into this table; the stamp it had, if it comes back. `is_last` says whether no other trigger comes after ours.
pub fn next(table: i32, is_last: bool) -> Option<i64> {
    with(table, |one| {
        one.passed += 1;
        one.had_later_trigger |= !is_last;
        COMMANDS.with_borrow_mut(|all| {
            if let Some(command) = executor::command().filter(|command| all.last() != Some(command)) {
                all.push(command);
            }
        });
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

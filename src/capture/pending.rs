//! Changes that triggers reported and no statement's end has settled yet. Set-based from here on: one batch holds many
//! records, and is checked, logged and followed as one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};

use crate::backend::executor;
use crate::backend::transaction::{current_subtransaction, with_snapshot};
use crate::error::Result;
use crate::lifecycle::{cascade, hold};
use crate::log::account::{self, Account};
use crate::log::event::{self, Change, Entry};
use crate::table::Table;

/// A batch is logged as one row; beyond this many records a new one begins.
const MOST_RECORDS: usize = 8192;

/// How far back to look for a batch to join: stamps may alternate within a statement.
const OPEN_BATCHES: usize = 4;

struct Batch {
    table: Rc<Table>,
    /// `None`: the records got another key, which holds forbid and the log does not tell.
    change: Option<Change>,
    ids: Vec<String>,
    versions: Vec<i64>,
    /// On whose account: that of the door, cascade or plain statement that made the change.
    account: Account,
    depth: u32,
    subtransaction: pg_sys::SubTransactionId,
}

thread_local! {
    static BATCHES: RefCell<Vec<Batch>> = const { RefCell::new(Vec::new()) };
    static SETTLING: Cell<bool> = const { Cell::new(false) };
}

/// Notes that the running statement does `change` to the record `id`, or gives it another key.
pub fn note(table: &Rc<Table>, change: Option<Change>, id: String, version: Option<i64>) -> Result<()> {
    let (depth, subtransaction) = (executor::depth(), current_subtransaction());
    event::note_one();
    let full = BATCHES.with_borrow_mut(|batches| {
        let joins = |batch: &Batch| {
            batch.change == change
                && batch.table.number == table.number
                && batch.depth == depth
                && batch.subtransaction == subtransaction
                && batch.ids.len() < MOST_RECORDS
                && account::is_current(&batch.account)
        };
        let batch = match batches.iter().rev().take(OPEN_BATCHES).position(joins) {
            Some(back) => batches.len() - 1 - back,
            None => {
                let (table, account) = (Rc::clone(table), account::current());
                batches.push(Batch { table, change, ids: vec![], versions: vec![], account, depth, subtransaction });
                batches.len() - 1
            }
        };
        batches[batch].ids.push(id);
        batches[batch].versions.extend(version);
        // Where nothing follows from a batch it need not wait for the statement's end, nor its memory.
        (batches[batch].ids.len() == MOST_RECORDS && !cascade::concerns(table)).then(|| batches.remove(batch))
    });
    full.map_or(Ok(()), settle)
}

/// Settles what statements deeper than `depth` did: called when the statement at that depth ends.
///
/// The statements of a cascade end inside this: what they did is settled here as well, one generation after the other. So
/// a chain of references costs a turn of this loop for each link, not a level of the stack.
pub fn settle_above(depth: u32) {
    if SETTLING.get() {
        return;
    }
    let _settling = Settling::new();
    while let Some(batch) = take_above(depth) {
        settle(batch).map_err(ErrorReport::from).unwrap_or_report();
    }
}

/// Settles what no statement's end has: an apply worker of logical replication runs none.
pub fn settle_last() {
    if BATCHES.with_borrow(|batches| !batches.is_empty()) {
        with_snapshot(|| settle_above(0));
    }
}

/// While it lives, whoever ends a statement leaves the settling to us.
struct Settling;

impl Settling {
    fn new() -> Self {
        SETTLING.set(true);
        Settling
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        SETTLING.set(false);
    }
}

fn take_above(depth: u32) -> Option<Batch> {
    BATCHES.with_borrow_mut(|batches| {
        let first = batches.iter().position(|batch| batch.depth > depth)?;
        Some(batches.remove(first))
    })
}

fn settle(batch: Batch) -> Result<()> {
    let Batch { table, change, ids, versions, account, .. } = batch;
    hold::refuse_held(&table, &ids)?;
    let Some(change) = change else { return Ok(()) };
    if !cascade::concerns(&table) {
        return event::append(Entry { managed: table.number, change, ids, versions }, &account);
    }
    event::append(Entry { managed: table.number, change, ids: ids.clone(), versions }, &account)?;
    account::on(account, || cascade::follow(&table, change, &ids))
}

/// The transaction ended: nothing is pending any more.
pub fn forget_all() {
    drop(BATCHES.take());
}

/// A subtransaction was rolled back, and whatever began inside it.
pub fn forget_from(subtransaction: pg_sys::SubTransactionId) {
    let forgotten = BATCHES.with_borrow_mut(|batches| {
        let (stay, go) = std::mem::take(batches).into_iter().partition(|batch: &Batch| batch.subtransaction < subtransaction);
        *batches = stay;
        go as Vec<Batch>
    });
    drop(forgotten);
}

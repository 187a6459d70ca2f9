//! Changes that triggers reported and no statement's end has settled yet. Set-based from here on: one batch holds many
//! records, and is checked, logged and followed as one.

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};

use crate::backend::executor;
use crate::backend::transaction::current_subtransaction;
use crate::error::Result;
use crate::lifecycle::{cascade, hold};
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
    depth: u32,
    subtransaction: pg_sys::SubTransactionId,
}

thread_local! {
    static BATCHES: RefCell<Vec<Batch>> = const { RefCell::new(Vec::new()) };
}

/// Notes that the running statement does `change` to the record `id`, or gives it another key.
pub fn note(table: &Rc<Table>, change: Option<Change>, id: String, version: Option<i64>) -> Result<()> {
    let (depth, subtransaction) = (executor::depth(), current_subtransaction());
    let full = BATCHES.with_borrow_mut(|batches| {
        let joins = |batch: &&mut Batch| {
            batch.change == change
                && batch.table.number == table.number
                && batch.depth == depth
                && batch.subtransaction == subtransaction
                && batch.ids.len() < MOST_RECORDS
        };
        let batch = match batches.iter_mut().rev().take(OPEN_BATCHES).position(|batch| joins(&batch)) {
            Some(back) => batches.len() - 1 - back,
            None => {
                let (table, ids, versions) = (Rc::clone(table), Vec::new(), Vec::new());
                batches.push(Batch { table, change, ids, versions, depth, subtransaction });
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
pub fn settle_above(depth: u32) {
    while let Some(batch) = take_above(depth) {
        settle(batch).map_err(ErrorReport::from).unwrap_or_report();
    }
}

fn take_above(depth: u32) -> Option<Batch> {
    BATCHES.with_borrow_mut(|batches| {
        let first = batches.iter().position(|batch| batch.depth > depth)?;
        Some(batches.remove(first))
    })
}

fn settle(batch: Batch) -> Result<()> {
    let Batch { table, change, ids, versions, .. } = batch;
    hold::refuse_held(&table, &ids)?;
    let Some(change) = change else { return Ok(()) };
    if cascade::concerns(&table) {
        event::append(Entry { managed: table.number, change, ids: ids.clone(), versions })?;
        return cascade::follow(&table, change, &ids);
    }
    event::append(Entry { managed: table.number, change, ids, versions })
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

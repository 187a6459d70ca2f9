//! Changes that triggers reported and no statement's end has settled yet. Set-based from here on: one batch holds many
//! records, and is checked, logged, announced and followed as one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};

use super::archive::{Binned, Target};
use super::row::{RowCopies, RowOf};
use crate::backend::executor;
use crate::backend::transaction::{current_subtransaction, with_snapshot};
use crate::error::{Error, Result};
use crate::lifecycle::whole::MOST_RECORDS;
use crate::lifecycle::{cascade, fallen, hold, unlinked};
use crate::log::account::{self, Account, Cause};
use crate::log::deletion;
use crate::log::event::{self, Change, Entry};
use crate::log::notify;
use crate::table::{Kind, Table};

/// How far back to look for a batch to join: stamps may alternate within a statement.
const OPEN_BATCHES: usize = 4;

/// What a trigger has to tell of a row.
pub struct Noted<'a> {
    /// `None`: the record got another key, which holds forbid and the log does not tell.
    pub change: Option<Change>,
    pub id: String,
    pub version: Option<i64>,
    /// What the kind is read from: the row as it was before a delete, as it is after anything else.
    pub row: RowOf<'a>,
    /// Whether a foreign key's own action did it.
    pub by_foreign_key: bool,
    /// Where the row goes, if it goes to a bin.
    pub binned: Option<&'a Target>,
}

struct Pending {
    table: Rc<Table>,
    change: Option<Change>,
    ids: Vec<String>,
    versions: Vec<i64>,
    kinds: Vec<Option<String>>,
    /// Rows whose kinds are still to be evaluated, the last of the batch.
    rows: RowCopies,
    /// Rows on their way to the table's bin.
    binned: Option<Binned>,
    /// On whose account: that of the door, cascade or plain statement that made the change.
    account: Account,
    depth: u32,
    subtransaction: pg_sys::SubTransactionId,
    /// The number of its entry, drawn ahead of a later change of the same table that is logged before it. Rows may join it still: they are
    /// of the statement that is running, and that change cannot have been of a row which this statement has yet to change.
    seq: Option<i64>,
    /// Logged already, ahead of a later change of the same table: what is left is to follow foreign keys.
    logged: bool,
}

thread_local! {
    /// The oldest first, and settled first: a statement may make as many as it meets stamps.
    static BATCHES: RefCell<VecDeque<Pending>> = const { RefCell::new(VecDeque::new()) };
    static SETTLING: Cell<bool> = const { Cell::new(false) };
}

/// Notes what the running statement does to a record of `table`.
pub fn note(table: &Rc<Table>, noted: Noted) -> Result<()> {
    let Noted { change, id, version, row, by_foreign_key, binned } = noted;
    let (depth, subtransaction) = (executor::depth(), current_subtransaction());
    event::note_one();
    let ready = BATCHES.with_borrow_mut(|batches| {
        let joins = |batch: &Pending| {
            !batch.logged
                && batch.change == change
                && batch.table.number == table.number
                && batch.depth == depth
                && batch.subtransaction == subtransaction
                && batch.ids.len() < MOST_RECORDS
                && batch.is_on_current_account(by_foreign_key)
                && batch.rows.takes(&row)
                && batch.binned.as_ref().is_none_or(|binned| binned.takes(row.shape))
        };
        let place = match batches.iter().rev().take(OPEN_BATCHES).position(joins) {
            Some(back) => batches.len() - 1 - back,
            None => {
                batches.push_back(Pending::new(table, change, by_foreign_key, depth, subtransaction));
                batches.len() - 1
            }
        };
        let batch = &mut batches[place];
        let mut writes = false;
        if let (Some(target), Some(Change::SoftDelete { stamp, .. })) = (binned, change) {
            if batch.binned.is_none() {
                batch.binned = Some(target.begin(table, row.shape, stamp, &batch.account)?);
            }
            if let Some(binned) = &mut batch.binned {
                // SAFETY: the trigger's own row, of the shape it says.
                writes = unsafe { binned.add(row.tuple, row.shape) };
            }
        }
        batch.ids.push(id);
        batch.versions.extend(version);
        match &table.kind {
            // SAFETY: the trigger's own row, of the shape it says.
            Kind::Column(_) => batch.kinds.push(unsafe { row.kind_in_column() }),
            Kind::Expression(_) => unsafe { batch.rows.push(&row) },
            Kind::None | Kind::Constant(_) => (),
        }
        // Where nothing follows from a batch it need not wait for the statement's end, nor its memory.
        let full = batch.ids.len() == MOST_RECORDS && !batch.is_followed();
        let is_ready = full || writes || batch.rows.is_full();
        let ready = if is_ready { batches.remove(place) } else { None };
        Ok::<_, Error>(ready.map(|batch| (place, batch, full)))
    })?;
    match ready {
        Some((place, batch, true)) => settle(place, batch),
        // Evaluating runs SQL, and that may come back here: the batch is out of the way meanwhile.
        Some((place, mut batch, false)) => {
            batch.write_binned();
            if batch.rows.is_full() {
                batch.evaluate_kinds()?;
            }
            BATCHES.with_borrow_mut(|batches| batches.insert(place.min(batches.len()), batch));
            Ok(())
        }
        None => Ok(()),
    }
}

/// Logs and announces a change that no statement's end has to be waited for.
pub fn log_now(table: &Table, entry: Entry) -> Result<()> {
    log_older(table.number, usize::MAX)?;
    log(table, entry, &account::current())
}

impl Pending {
    fn new(
        table: &Rc<Table>,
        change: Option<Change>,
        by_foreign_key: bool,
        depth: u32,
        subtransaction: pg_sys::SubTransactionId,
    ) -> Pending {
        let account = account::current();
        let account = if by_foreign_key { Account { cause: Cause::Cascade, ..account } } else { account };
        let kinds = match &table.kind {
            Kind::Constant(kind) => vec![Some(kind.clone())],
            _ => vec![],
        };
        let (ids, versions, rows, table) = (vec![], vec![], RowCopies::default(), Rc::clone(table));
        Pending {
            table,
            change,
            ids,
            versions,
            kinds,
            rows,
            binned: None,
            account,
            depth,
            subtransaction,
            seq: None,
            logged: false,
        }
    }

    fn is_on_current_account(&self, by_foreign_key: bool) -> bool {
        account::is_current(&self.account, by_foreign_key)
    }

    /// Whether subtransaction `here`, the one we are in, or one that has become part of it, made the change.
    fn is_of(&self, here: pg_sys::SubTransactionId) -> bool {
        self.subtransaction >= here
    }

    /// Whether anything follows from it along foreign keys.
    fn is_followed(&self) -> bool {
        self.change.is_none_or(|change| cascade::follows(&self.table, change))
    }

    /// Draws the number of its entry.
    fn reserve(&mut self) {
        if let (None, Some(change)) = (self.seq, self.change)
            && is_told(&self.table, change, &self.account)
        {
            let deletes = change.deletion_type().is_some();
            self.seq = Some(if deletes { deletion::reserve(self.subtransaction) } else { deletion::next_seq() });
        }
    }

    fn write_binned(&mut self) {
        if let Some(binned) = &mut self.binned {
            binned.write();
        }
    }

    fn evaluate_kinds(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if let Some((row_type, rows)) = rows.argument() {
            self.kinds.extend(self.table.kinds_of(row_type, rows)?);
        }
        Ok(())
    }
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
    unlinked::keep().map_err(ErrorReport::from).unwrap_or_report();
    settle_all_above(depth).map_err(ErrorReport::from).unwrap_or_report();
}

fn settle_all_above(depth: u32) -> Result<()> {
    loop {
        while let Some((place, batch)) = take_above(depth) {
            settle(place, batch)?;
        }
        if !fallen::bring_back_circles()? {
            return fallen::require_parents();
        }
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
        fallen::forget();
    }
}

/// The oldest batch of such a statement that may be written here, and its place among all.
///
/// Those of a foreign key's own statement are as deep as a trigger's, and wait for the statement that caused it.
fn take_above(depth: u32) -> Option<(usize, Pending)> {
    let here = current_subtransaction();
    BATCHES.with_borrow_mut(|batches| {
        let first = batches.iter().position(|batch| batch.depth > depth && batch.is_of(here))?;
        batches.remove(first).map(|batch| (first, batch))
    })
}

/// Settles a batch whose place was `place`.
fn settle(place: usize, batch: Pending) -> Result<()> {
    log_older(batch.table.number, place)?;
    match logged(batch)? {
        Some(Pending { table, change: Some(change), ids, account, .. }) => {
            account::on(account, || cascade::follow(&table, change, &ids))
        }
        _ => Ok(()),
    }
}

/// Logs what was pending of a table before `place`: a statement inside a trigger ends before the one that fired it, and what
/// it did to the same record comes after.
///
/// What an outer subtransaction did waits for its own statement's end: written here it would be rolled back with this one, and
/// what it tells of would stand. It has its number from here on, so that it comes first in the log.
fn log_older(table: i32, mut place: usize) -> Result<()> {
    let here = current_subtransaction();
    BATCHES.with_borrow_mut(|batches| {
        let older = |batch: &&mut Pending| batch.table.number == table && !batch.logged && !batch.is_of(here);
        batches.iter_mut().take(place).filter(older).for_each(Pending::reserve);
    });
    let next = |place: usize| {
        BATCHES.with_borrow_mut(|batches| {
            let older = |batch: &Pending| batch.table.number == table && !batch.logged && batch.is_of(here);
            let first = batches.iter().take(place).position(older)?;
            batches.remove(first).map(|batch| (first, batch))
        })
    };
    while let Some((first, batch)) = next(place) {
        match logged(batch)? {
            Some(batch) => BATCHES.with_borrow_mut(|batches| batches.insert(first.min(batches.len()), batch)),
            None => place = place.saturating_sub(1),
        }
    }
    Ok(())
}

/// Checks, logs and announces a batch, unless that is done; what is left of it where foreign keys are to be followed.
fn logged(mut batch: Pending) -> Result<Option<Pending>> {
    if batch.logged {
        return Ok(Some(batch));
    }
    batch.write_binned();
    batch.evaluate_kinds()?;
    if batch.change.is_none_or(Change::is_of_the_lifecycle) {
        hold::refuse_held(&batch.table, &batch.ids)?;
    }
    let Some(change) = batch.change else { return Ok(None) };
    let followed = batch.is_followed();
    let (versions, kinds) = (std::mem::take(&mut batch.versions), std::mem::take(&mut batch.kinds));
    let ids = if followed { batch.ids.clone() } else { std::mem::take(&mut batch.ids) };
    log(&batch.table, Entry { managed: batch.table.number, change, ids, versions, kinds, seq: batch.seq }, &batch.account)?;
    batch.logged = true;
    Ok(followed.then_some(batch))
}

fn log(table: &Table, entry: Entry, account: &Account) -> Result<()> {
    if !is_told(table, entry.change, account) {
        return Ok(());
    }
    notify::log(entry, account, table)
}

/// Whether the log tells of such a change.
fn is_told(table: &Table, change: Change, account: &Account) -> bool {
    table.has_events && (change != Change::Purge || account.cause != Cause::Retention || table.logs_maintenance)
}

/// The transaction ended: nothing is pending any more.
pub fn forget_all() {
    drop(BATCHES.take());
}

/// A subtransaction was rolled back, and whatever began inside it. Nothing else was written there.
pub fn forget_from(subtransaction: pg_sys::SubTransactionId) {
    let forgotten = BATCHES.with_borrow_mut(|batches| {
        let stays = |batch: &Pending| batch.subtransaction < subtransaction;
        let (stay, go): (VecDeque<Pending>, VecDeque<Pending>) = std::mem::take(batches).into_iter().partition(stays);
        *batches = stay;
        go
    });
    drop(forgotten);
}

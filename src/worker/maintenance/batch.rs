//! A look at what is due, and batches of it: each a transaction, with the table's owner's rights only.
//!
//! What the owner wrote (expressions, triggers, operators, casts) runs in here. In a security-restricted operation it can
//! leave nothing behind that would run later with more rights: no cursor, no temporary table. Deferred constraints, which
//! would have to be left behind, are checked at once.

use std::ffi::CString;
use std::rc::Rc;
use std::time::Duration;

use pgrx::{Spi, pg_sys};

use super::host::Host;
use crate::backend::identity::with_settings;
use crate::backend::relation::{LockFor, lock};
use crate::backend::spool::Spool;
use crate::backend::subtransaction::attempt_for_now;
use crate::error::{Error, Result};
use crate::lifecycle::layout::archive::parts;
use crate::lifecycle::layout::{self, DueRow, live};
use crate::lifecycle::rule::{Action, Rule};
use crate::lifecycle::{hold, seen};
use crate::log::account::{self, Account};
use crate::log::event;
use crate::log::run::{self, Run};
use crate::settings::{self, in_our_settings};
use crate::table::key::Key;
use crate::table::{MaxPurge, Table, Terms, by_oid, terms_of};

/// What a look has found.
pub enum Look {
    Nothing,
    /// More than the table's max_purge allows, which is said in words.
    Refused {
        due: u64,
        most: String,
    },
    Due(Run, Spool),
}

/// What came of a batch.
pub enum BatchEnd {
    /// Of `rows` that were due when looked for `taken` were taken, and `written` rows with all that followed from them.
    Took { rows: usize, taken: u64, written: u64 },
    /// There are no more.
    None,
    /// The table does not want it any more.
    Ended(&'static str),
    /// The table cannot be had, whichever of its rows it is about.
    Failed(Error),
}

/// Records that are due, and that something forbids to take.
#[derive(Debug, Default)]
pub struct Kept {
    pub records: u64,
    pub why: Option<String>,
}

/// Looks what is due of `action`, in one transaction.
pub fn look(number: i32, relation: pg_sys::Oid, action: Action) -> Result<Look> {
    in_our_settings(|| {
        lock(relation, LockFor::Reading);
        let Some((terms, rule)) = wanted(number, action)? else { return Ok(Look::Nothing) };
        let table = by_oid(relation)?;
        let held = held_keys(&table)?;
        let rows = table.evaluating(|| layout::of(&table).due(&rule, &held))?;
        let due = rows.rows();
        if due == 0 {
            return Ok(Look::Nothing);
        }
        match terms.max_purge.map(|most| excess(&table, due, most)).transpose()?.flatten() {
            Some(most) => {
                run::note_refusal(number, action.name(), due, &most)?;
                Ok(Look::Refused { due, most })
            }
            None => Ok(Look::Due(Run::begin(number, action.name(), due)?, rows)),
        }
    })
}

/// The limit in words, if `due` records are more.
fn excess(table: &Table, due: u64, most: MaxPurge) -> Result<Option<String>> {
    let (records, words) = match most {
        MaxPurge::Records(records) => (records, most.to_string()),
        MaxPurge::Percent(_) => {
            let rows = table.evaluating(|| live::size(table))?;
            (most.of(rows), format!("{most}, which is {} of about {rows} rows", most.of(rows)))
        }
    };
    Ok((due > records).then_some(words))
}

/// Of the purge of a table with an archive: closes the open partition if it is time, or drops one that is due as a whole, in one
/// transaction; whether there may be more of it to do.
pub fn tend_parts(number: i32, relation: pg_sys::Oid) -> Result<bool> {
    in_our_settings(|| {
        lock(relation, LockFor::Reading);
        let Some((terms, rule)) = wanted(number, Action::Purge)? else { return Ok(false) };
        let table = by_oid(relation)?;
        let Some(bin) = table.bin() else { return Ok(false) };
        let account = Account::new(Action::Purge.cause(), None);
        let tend = || -> Result<bool> {
            // Where a number of records is the limit, they are counted and taken one by one.
            if terms.max_purge.is_none()
                && let Some(part) = parts::due(bin, &rule.after)?
                && let Some(rows) = table.evaluating(|| parts::drop_part(&table, bin, part))?
            {
                let run = Run::begin(number, Action::Purge.name(), rows)?;
                run.count(rows)?;
                run.end("done", Some("a partition was dropped"))?;
                return Ok(true);
            }
            table.evaluating(|| parts::close(bin, &rule.after))
        };
        account::on(account, tend)
    })
}

/// The records of the table that are on hold: none of them is due. 55000 where a hold names a record in words that are none any
/// more, as when the key's type was changed: better none is taken than that one.
pub fn held_keys(table: &Table) -> Result<Vec<Key>> {
    let held = hold::all_held(table)?;
    let read = |id: &String| {
        table.key(id).map_err(|error| {
            Error::not_ready(format!("the hold on record \"{id}\" of table {} names no record any more", table.title()))
                .detail(error.summary())
                .hint("See tombstone.holds: release() it, and hold() the record as it is named now.")
        })
    };
    held.iter().map(read).collect()
}

/// Takes the next `most` rows; those that cannot be taken are found by halving, and left.
pub fn take(
    host: Host,
    run: &Run,
    relation: pg_sys::Oid,
    action: Action,
    spool: &mut Spool,
    most: usize,
    kept: &mut Kept,
) -> Result<BatchEnd> {
    let next = spool.take(most);
    if next.rows.is_empty() {
        return Ok(BatchEnd::None);
    }
    take_rows(host, &Taker { run, relation, action, types: spool.types() }, &next.rows, kept)
}

struct Taker<'a> {
    run: &'a Run,
    relation: pg_sys::Oid,
    action: Action,
    /// What the values of the rows are of.
    types: &'a [pg_sys::Oid],
}

fn take_rows(host: Host, taker: &Taker, rows: &[DueRow], kept: &mut Kept) -> Result<BatchEnd> {
    match host.transaction(|| in_our_settings(|| taker.batch(rows))) {
        Err(error) if !error.may_be_of_a_record() => Err(error),
        Err(error) if rows.len() == 1 => {
            kept.records += 1;
            kept.why = Some(error.summary());
            Ok(BatchEnd::Took { rows: 1, taken: 0, written: 0 })
        }
        Err(_) => {
            let (mut all, mut written) = (0, 0);
            for half in [&rows[..rows.len() / 2], &rows[rows.len() / 2..]] {
                match take_rows(host, taker, half, kept)? {
                    BatchEnd::Took { taken, written: more, .. } => (all, written) = (all + taken, written + more),
                    other => return Ok(other),
                }
            }
            Ok(BatchEnd::Took { rows: rows.len(), taken: all, written })
        }
        batch => batch,
    }
}

impl Taker<'_> {
    fn batch(&self, rows: &[DueRow]) -> Result<BatchEnd> {
        if let Err(error) = attempt_for_now(|| {
            lock(self.relation, LockFor::Writing);
            Ok(())
        }) {
            return Ok(BatchEnd::Failed(error));
        }
        let Some((_, rule)) = wanted(self.run.managed, self.action)? else {
            return Ok(BatchEnd::Ended("paused, unmanaged, or its options have changed"));
        };
        let table = by_oid(self.relation)?;
        if layout::of(&table).types_of_due(&rule) != self.types {
            return Ok(BatchEnd::Ended("its key has changed"));
        }
        let free = not_held(&table, rows)?;
        let before = event::noted();
        let account = Account::new(self.action.cause(), None);
        let taken = account::on(account, || table.evaluating(|| taken(&table, &rule, &free)))?;
        let written = event::noted() - before;
        self.run.count(taken)?;
        Ok(BatchEnd::Took { rows: rows.len(), taken, written })
    }
}

/// Takes those of `rows` that nobody else has locked.
fn taken(table: &Rc<Table>, rule: &Rule, rows: &[DueRow]) -> Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    Spi::run("SET CONSTRAINTS ALL IMMEDIATE")?;
    if !rule.looks_further() {
        match taken_at_once(table, rule, rows) {
            Err(error) if error.is_lock_timeout() => (),
            taken => return taken,
        }
    }
    // What follows along foreign keys is waited for as long as a batch may take.
    waiting_at_most(settings::batch_time(), || locked_and_taken(table, rule, rows))
}

/// In one statement, which checks the rule again for each row that it has had to wait for. Mostly nobody has any of them locked;
/// as soon as somebody has, nothing is taken.
fn taken_at_once(table: &Rc<Table>, rule: &Rule, rows: &[DueRow]) -> Result<u64> {
    const NOT_AT_ALL: Duration = Duration::from_millis(1);
    waiting_at_most(NOT_AT_ALL, || attempt_for_now(|| seen(table, || layout::of(table).take_due(rule, rows))))
}

/// In two: the second sees what was committed before the locks were had, also in other tables that the rule asks.
fn locked_and_taken(table: &Rc<Table>, rule: &Rule, rows: &[DueRow]) -> Result<u64> {
    let layout = layout::of(table);
    let locked = layout.lock_due(rule, rows)?;
    if locked.is_empty() {
        return Ok(0);
    }
    seen(table, || layout.take_due(rule, &locked))
}

fn waiting_at_most<T>(most: Duration, act: impl FnOnce() -> T) -> T {
    let milliseconds = CString::new(most.as_millis().max(1).to_string()).unwrap_or_default();
    with_settings(&[(c"lock_timeout", &milliseconds)], act)
}

/// The rows whose records are not on hold.
fn not_held(table: &Table, rows: &[DueRow]) -> Result<Vec<DueRow>> {
    let held = hold::all_held(table)?;
    if held.is_empty() {
        return Ok(rows.to_vec());
    }
    // SAFETY: a row begins with the values of the id columns.
    let is_free = |row: &&DueRow| !held.contains(&unsafe { table.key_text(&row[..table.id.len()]) });
    Ok(rows.iter().filter(is_free).cloned().collect())
}

/// The table's terms as they are now, and its rule for `action`; `None` where it does not want it, or not now.
fn wanted(number: i32, action: Action) -> Result<Option<(Terms, Rule)>> {
    let terms = terms_of(number)?.filter(|terms| !super::is_paused(terms));
    Ok(terms.and_then(|terms| Rule::of(&terms, action).map(|rule| (terms, rule))))
}

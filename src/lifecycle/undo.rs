//! undo: brings back exactly what a deletion took, parents before children, or nothing.
//!
//! Which rows those are the log says, and their stamp: a row restored since, or deleted anew by another deletion, is not
//! touched. Where two deletions' stamps look the same, as in a column of whole seconds, the log knows which was the last. A
//! restore that fails anyway (a unique key taken meanwhile) is found by trying, in a subtransaction.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::discretion::{named, shows_ids, withholding};
use super::layout::{self, Fallen, Found, Lock, Standing, returning};
use super::rows::Rows;
use super::undo_binned::{Binned, Line};
use super::{cascade, hold, owners};
use crate::backend::subtransaction::{attempt, rehearse};
use crate::error::{Error, Result};
use crate::log::account::{self, Account, Cause};
use crate::log::deletion;
use crate::log::event::{self, Named, Taken};
use crate::table::key::Key;
use crate::table::{Table, all_managed, by_number, by_oid};

/// What would become, or became, of one row that the deletion took.
#[derive(Debug, Clone, PartialEq)]
enum UndoOutcome {
    Restored,
    RestoredRedacted,
    AlreadyLive,
    DeletedLater,
    Conflict(&'static str, Error),
}

/// Outcomes that a row has in either layout, and what is said of it.
pub const ALREADY_LIVE: (&str, &str) = ("already_live", "it was restored since");
pub const DELETED_LATER: (&str, &str) = ("deleted_later", "another deletion took it since");
pub const PURGED: (&str, &str) = ("purged", "the record was purged, or is hidden from you");

/// By table and stamp, what other deletions have taken with a stamp that may look the same (`event::taken_again`).
type TakenAgain = HashMap<(i32, Option<i64>), HashMap<Named, i64>>;

/// Rows that one statement of the deletion took from one table with one stamp.
struct Part {
    deletion: i64,
    table: Rc<Table>,
    taken: Taken,
    keys: Vec<Key>,
    outcomes: Vec<UndoOutcome>,
}

/// Undoes a deletion, or says what undoing it would do (DESIGN §3).
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads the columns' names and types from it")]
fn undo(
    deletion: Option<i64>,
    dry_run: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (name!(relation, pg_sys::Oid), name!(id, Option<String>), name!(outcome, String), name!(detail, Option<String>)),
    >,
    ErrorReport,
> {
    let undo = || -> Result<Vec<Shown>> {
        let deletion = deletion.ok_or_else(|| Error::invalid("deletion must not be NULL"))?;
        let (mut parts, mut binned) = (parts_of(deletion)?, Binned::of(deletion)?);
        if parts.is_empty() && binned.is_unknown() {
            return Err(no_such_deletion(deletion));
        }
        let rehearsed = dry_run.unwrap_or(false);
        if !rehearsed && !event::mark_undone(deletion)? {
            return Err(undone_already(deletion));
        }
        let account = Account { undoes: Some(deletion), ..Account::new(Cause::Undo, None) };
        let restore = || {
            account::on(account, || -> Result<Vec<Line>> {
                let lines = if rehearsed { binned.rehearse()? } else { binned.restore()? };
                restore_all(&mut parts)?;
                Ok(lines)
            })
        };
        let lines = returning::scope(|| if rehearsed { rehearse(restore) } else { restore() })?;
        if !rehearsed {
            refuse_conflicts(deletion, &parts)?;
            if deletion::is_current(deletion) {
                // It is undone once: what this transaction deletes from here on must be undone by another number.
                deletion::begin_anew();
            }
        }
        shown(lines.into_iter().chain(parts.iter().flat_map(Part::lines)))
    };
    undo().map(TableIterator::new).map_err(Into::into)
}

/// A line as the caller gets it: who may not know the ids of a table gets them as NULL.
type Shown = (pg_sys::Oid, Option<String>, String, Option<String>);

fn shown(lines: impl Iterator<Item = Line>) -> Result<Vec<Shown>> {
    let mut known: HashMap<pg_sys::Oid, bool> = HashMap::new();
    let shown = lines.map(|(relation, id, outcome, detail)| {
        let is_known = match known.get(&relation) {
            Some(is_known) => *is_known,
            None => *known.entry(relation).or_insert(shows_ids(&*by_oid(relation)?)),
        };
        Ok((relation, is_known.then_some(id), outcome, detail))
    });
    shown.collect()
}

fn parts_of(deletion: i64) -> Result<Vec<Part>> {
    if event::is_undone(deletion)? {
        return Err(undone_already(deletion));
    }
    let archived: Vec<i32> = all_managed()?.iter().filter(|table| table.is_archived).map(|table| table.number).collect();
    let taken = event::taken_by(deletion, archived)?;
    let mut parts = taken.into_iter().map(|taken| Part::new(deletion, taken)).collect::<Result<Vec<_>>>()?;
    keep_last(&mut parts);
    Ok(parts)
}

/// A record that the deletion took more than once, as it was there again in between, is listed once: as it was taken last.
fn keep_last(parts: &mut [Part]) {
    let mut known = HashSet::new();
    let mut is_last: Vec<Vec<bool>> = Vec::new();
    for part in parts.iter().rev() {
        let mut of_part: Vec<bool> = (0..part.keys.len()).rev().map(|i| known.insert(part.row(i))).collect();
        of_part.reverse();
        is_last.push(of_part);
    }
    for (part, is_last) in parts.iter_mut().zip(is_last.into_iter().rev()) {
        if is_last.contains(&false) {
            part.keep(&is_last);
        }
    }
}

fn no_such_deletion(deletion: i64) -> Error {
    Error::undefined(format!("there is no deletion {deletion}"))
        .detail("No archive holds any of it, and the log knows of none, or no more: it reaches back as far as event_retention, not across a dump, and not to tables whose option events is none.")
        .hint("See tombstone.deletions; tombstone.restore() needs no log.")
}

pub fn undone_already(deletion: i64) -> Error {
    Error::not_ready(format!("deletion {deletion} was undone already"))
        .detail("A deletion is undone once.")
        .hint("See undone_at in tombstone.deletions.")
}

impl Part {
    fn new(deletion: i64, taken: Taken) -> Result<Part> {
        let table = by_number(taken.managed)?.ok_or_else(|| {
            Error::not_ready(format!("deletion {deletion} took records of a table that is managed no longer"))
                .detail("The table was dropped, or unmanaged, since.")
                .hint("What is left of the records is in their table.")
        })?;
        let keys = taken.ids.iter().map(|id| table.key(id)).collect::<Result<Vec<_>>>()?;
        let outcomes = vec![UndoOutcome::Restored; keys.len()];
        Ok(Part { deletion, table, taken, keys, outcomes })
    }

    /// What tells a row from all others: its table, id and version.
    fn row(&self, i: usize) -> (i32, &str, Option<i64>) {
        (self.table.number, &self.keys[i].text, self.taken.versions.get(i).copied())
    }

    /// Drops the rows that are not `kept`, a word for each.
    fn keep(&mut self, kept: &[bool]) {
        let places: Vec<usize> = (0..kept.len()).filter(|i| kept[*i]).collect();
        (self.keys, self.taken.versions) = self.keys_and_versions(&places);
        self.outcomes.truncate(places.len());
    }

    /// The rows of this part whose places are `among`.
    fn keys_and_versions(&self, among: &[usize]) -> (Vec<Key>, Vec<i64>) {
        let keys = among.iter().map(|i| self.keys[*i].clone()).collect();
        let versions = among.iter().filter_map(|i| self.taken.versions.get(*i).copied()).collect();
        (keys, versions)
    }

    /// Runs `act` on the rows whose places are `among`, with the rights the deletion had: a cascade's were the owner's.
    fn on_rows<T>(&self, among: &[usize], act: impl FnOnce(&Rows) -> Result<T>) -> Result<T> {
        let (keys, versions) = self.keys_and_versions(among);
        let rows = if versions.is_empty() { Rows::Records(&keys) } else { Rows::Pairs(&keys, &versions) };
        if self.taken.by_cascade { withholding(&[&self.table], || self.table.as_owner(|| act(&rows))) } else { act(&rows) }
    }

    fn candidates(&self) -> Vec<usize> {
        (0..self.keys.len())
            .filter(|i| matches!(self.outcomes[*i], UndoOutcome::Restored | UndoOutcome::RestoredRedacted))
            .collect()
    }

    /// Locks the rows; returns how each of them stands, by its place.
    fn lock(&self) -> Result<HashMap<usize, Found>> {
        let everything: Vec<usize> = (0..self.keys.len()).collect();
        let found = self.on_rows(&everything, |rows| layout::of(&self.table).find(rows, Lock::Update))?;
        Ok(found.into_iter().map(|row| (row.key, row)).collect())
    }

    /// Judges each row by how it stands now; leaves as restored those that can be tried.
    fn judge(&mut self, found: &HashMap<usize, Found>, again: &mut TakenAgain) -> Result<()> {
        let owned = if self.taken.by_cascade { vec![true; self.keys.len()] } else { owners::owned(&self.table, &self.keys)? };
        let held = hold::held_among(&self.table, &self.keys)?;
        self.taken.stamp = self.taken.stamp.map(|stamp| layout::stamp_among(&self.table, stamp, found.values()));
        let again = self.taken_again(found.values(), again)?;
        for (i, is_owned) in owned.into_iter().enumerate() {
            let row = (self.taken.ids[i].clone(), self.taken.versions.get(i).copied());
            self.outcomes[i] = match found.get(&i).map(|row| row.standing) {
                None => UndoOutcome::Conflict(PURGED.0, Error::not_ready(PURGED.1)),
                Some(Standing::Live) => UndoOutcome::AlreadyLive,
                Some(Standing::Deleted(stamp)) if Some(stamp) != self.taken.stamp => UndoOutcome::DeletedLater,
                Some(_) if again.is_some_and(|again| again.get(&row).is_some_and(|seq| *seq > self.taken.seq)) => {
                    UndoOutcome::DeletedLater
                }
                Some(_) if held.contains(&self.keys[i].text) => {
                    UndoOutcome::Conflict("held", Error::on_hold("the record is on hold"))
                }
                Some(_) if !is_owned => UndoOutcome::Conflict("denied", Error::denied("the record is not yours")),
                Some(_) if self.taken.redacted => UndoOutcome::RestoredRedacted,
                Some(_) => UndoOutcome::Restored,
            };
        }
        Ok(())
    }

    /// What other deletions have taken with a stamp that looks like this part's; `None` where none of these rows bears it.
    fn taken_again<'a, 'f>(
        &self,
        mut found: impl Iterator<Item = &'f Found>,
        again: &'a mut TakenAgain,
    ) -> Result<Option<&'a HashMap<Named, i64>>> {
        let bears = |row: &Found| row.standing.stamp().is_some_and(|stamp| Some(stamp) == self.taken.stamp);
        if !found.any(bears) {
            return Ok(None);
        }
        Ok(Some(match again.entry((self.taken.managed, self.taken.stamp)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(event::taken_again(self.deletion, self.taken.managed, self.taken.stamp)?),
        }))
    }

    /// Restores all candidates at once; where that fails, finds by trying each which of them conflict.
    fn restore(&mut self) -> Result<()> {
        let candidates = self.candidates();
        if candidates.is_empty() {
            return Ok(());
        }
        let fallen = self.taken.stamp.map_or(Fallen::Last, Fallen::Stamped);
        let restore = |part: &Part, among: &[usize]| part.on_rows(among, |rows| layout::of(&part.table).restore(rows, fallen));
        let Err(failure) = attempt(|| restore(self, &candidates).map(drop)) else { return Ok(()) };
        for i in &candidates {
            if let Err(error) = rehearse(|| restore(self, &[*i])) {
                self.outcomes[*i] = conflict(error);
            }
        }
        // The others come back all the same, for the parts that need them: each conflict is to be its own.
        let rest = self.candidates();
        if !rest.is_empty() && attempt(|| restore(self, &rest).map(drop)).is_err() {
            // Each alone would do, but not together: two of them want the same unique key.
            for i in rest {
                self.outcomes[i] = conflict(failure.clone());
            }
        }
        Ok(())
    }

    fn require_live_parents(&mut self) -> Result<()> {
        let candidates = self.candidates();
        let (keys, _) = self.keys_and_versions(&candidates);
        if cascade::require_live_parents(&self.table, &keys).is_ok() {
            return Ok(());
        }
        for i in candidates {
            if let Err(error) = cascade::require_live_parents(&self.table, std::slice::from_ref(&self.keys[i])) {
                self.outcomes[i] = conflict(error);
            }
        }
        Ok(())
    }

    fn lines(&self) -> impl Iterator<Item = Line> {
        (0..self.keys.len()).map(|i| {
            let version = self.taken.versions.get(i).map(|version| format!("version {version}"));
            let (outcome, detail) = match &self.outcomes[i] {
                UndoOutcome::Restored => ("restored", None),
                UndoOutcome::RestoredRedacted => ("restored_redacted", Some("what redaction blanked is gone".to_string())),
                UndoOutcome::AlreadyLive => (ALREADY_LIVE.0, Some(ALREADY_LIVE.1.to_string())),
                UndoOutcome::DeletedLater => (DELETED_LATER.0, Some(DELETED_LATER.1.to_string())),
                UndoOutcome::Conflict(name, error) => (*name, Some(error.summary())),
            };
            let detail = [version, detail].into_iter().flatten().collect::<Vec<_>>().join(": ");
            (self.table.oid, self.keys[i].text.clone(), outcome.to_string(), (!detail.is_empty()).then_some(detail))
        })
    }
}

/// Everything back first, parents checked after: the deletion's own order need not have been parents first.
fn restore_all(parts: &mut [Part]) -> Result<()> {
    // All are locked before the log is asked what has become of them: so it needs to be asked but once for a table and a stamp.
    let found = parts.iter().map(Part::lock).collect::<Result<Vec<_>>>()?;
    let mut again = TakenAgain::new();
    for (part, found) in parts.iter_mut().zip(&found) {
        part.judge(found, &mut again)?;
    }
    for part in parts.iter_mut() {
        part.restore()?;
    }
    for part in parts.iter_mut() {
        part.require_live_parents()?;
    }
    Ok(())
}

fn conflict(error: Error) -> UndoOutcome {
    UndoOutcome::Conflict(conflict_name(&error), error)
}

/// What a conflict is called.
pub fn conflict_name(error: &Error) -> &'static str {
    match error.code() {
        PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION | PgSqlErrorCode::ERRCODE_EXCLUSION_VIOLATION => "unique",
        PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION => "missing_parent",
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE => "denied",
        PgSqlErrorCode::ERRCODE_OBJECT_IN_USE => "held",
        _ => "failed",
    }
}

fn refuse_conflicts(deletion: i64, parts: &[Part]) -> Result<()> {
    let conflicts: Vec<(&Part, usize, Error)> = parts
        .iter()
        .flat_map(|part| part.outcomes.iter().enumerate().map(move |(i, outcome)| (part, i, outcome)))
        .filter_map(|(part, i, outcome)| match outcome {
            UndoOutcome::Conflict(_, error) => Some((part, i, error.clone())),
            _ => None,
        })
        .collect();
    let Some((_, _, first)) = conflicts.first() else { return Ok(()) };
    let named = conflicts
        .iter()
        .take(5)
        .map(|(part, i, error)| format!("{}: {}", named(&part.table, &part.keys[*i].text), error.summary()));
    Err(first
        .clone()
        .reworded(format!("deletion {deletion} cannot be undone: not all of its records can come back"))
        .detail(named.collect::<Vec<_>>().join("; "))
        .hint(format!("SELECT * FROM tombstone.undo({deletion}, dry_run => true) lists every conflict.")))
}

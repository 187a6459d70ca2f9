//! Suspects: records of one batch that the source has not, as the search has found. Just before they are deleted the source is asked
//! two more questions: after all of them together with a witness, a record of the same batch that it has; and then after the witness
//! alone. Both must be answered with one. So a search that a source that changed meanwhile has misled is found out; so is a source that is
//! down, or that some of those who answer find empty: 0 is a wrong answer to either.
//!
//! `tombstone.suspect` keeps them until then, also for somebody to look at. Written in the keeper's name, and by nobody else.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::Spi;
use pgrx::datum::DatumWithOid;

use super::batch::Questions;
use super::probe::{Answer, Probe};
use super::stored::from_anywhere;
use super::tally::{Cost, Tally};
use super::vanished;
use super::watched::Manner;
use crate::backend::identity::caller;
use crate::backend::own_table::{OwnRow, own_statements};
use crate::error::{Error, Result};
use crate::lifecycle::layout::live::{self, Live};
use crate::lifecycle::layout::{self, Lock};
use crate::lifecycle::rows::Rows;
use crate::lifecycle::{all_but_refused, hold, readable_keys, seen};
use crate::log::account::{self, Account, Cause};
use crate::log::deletion;
use crate::log::run::Run;
use crate::table::Table;
use crate::table::key::Key;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspects {
    /// Counts the batches of a run.
    pub batch: i32,
    pub ids: Vec<String>,
    /// What tells whether a record was changed since, parallel to `ids`.
    marks: Vec<String>,
    witness: Option<String>,
    /// How often the last questions about them were not answered as expected.
    pub attempt: u32,
    /// Of an outside client's run: whether the first of the last questions was answered as expected, not long ago.
    pub confirmed: bool,
}

/// The last questions, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// After all suspects, and the witness.
    All,
    Witness,
}

/// With which of the owner's rights rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Of a process, or of somebody who sees to other people's tables: nothing that the owner wrote outlives the write.
    Maintenance,
    /// Of the owner's own transaction: as foreign keys write, whose deferred constraints wait for its end.
    Statement,
}

impl Rights {
    /// Those of a caller who has named the table: who is not its owner himself acts in a stranger's house.
    pub fn of_caller(table: &Table) -> Rights {
        if caller() == table.owner { Rights::Statement } else { Rights::Maintenance }
    }

    pub fn to_write<T>(self, table: &Table, act: impl FnOnce() -> Result<T>) -> Result<T> {
        match self {
            Rights::Maintenance => table.evaluating(|| {
                // Postgres refuses to defer here, and what was deferred would run with nobody's rights in particular.
                Spi::run("SET CONSTRAINTS ALL IMMEDIATE")?;
                act()
            }),
            Rights::Statement => table.as_owner(act),
        }
    }
}

own_statements! {
    INSERT(INT8, INT4, TEXT_ARRAY, TEXT_ARRAY, TEXT) =
        "INSERT INTO tombstone.suspect (run, batch, ids, marks, witness)
         VALUES ($1, COALESCE($2, (SELECT COALESCE(max(batch), 0) + 1 FROM tombstone.suspect WHERE run = $1)), $3, $4, $5)";
    NEXT(INT8, INT4) = select("batch > $2 ORDER BY batch LIMIT 1");
    LAST(INT8) = "SELECT max(batch) FROM tombstone.suspect WHERE run = $1";
    NUMBERS(INT8, INT4, INT4, INT8) =
        "SELECT batch FROM tombstone.suspect WHERE run = $1 AND batch BETWEEN $2 AND $3 ORDER BY batch LIMIT $4";
    PEEK(INT8, INT4) = select("batch = $2");
    ONE(INT8, INT4) = select("batch = $2 FOR UPDATE");
    CONFIRMED(INT8, INT8) =
        format!("SELECT batch FROM tombstone.suspect WHERE run = $1 AND {IS_CONFIRMED} ORDER BY confirmed_at LIMIT $2");
    // That an earlier one has been for nothing counts as an attempt.
    CONFIRM(INT8, INT4) =
        "UPDATE tombstone.suspect
         SET attempt = attempt + CASE WHEN confirmed_at IS NULL THEN 0 ELSE 1 END, confirmed_at = clock_timestamp()
         WHERE run = $1 AND batch = $2";
    FAIL(INT8, INT4) =
        "UPDATE tombstone.suspect SET attempt = attempt + 1, confirmed_at = NULL WHERE run = $1 AND batch = $2";
    REMOVE(INT8, INT4) = "DELETE FROM tombstone.suspect WHERE run = $1 AND batch = $2";
    CLEAR(INT8_ARRAY) = "DELETE FROM tombstone.suspect WHERE run = ANY ($1)";
    CLEAR_EARLIER(INT4) = format!("{EARLIER} WHERE s.run = earlier.run");
    SEEN_TO(INT4, TEXT_ARRAY) = format!(
        "{EARLIER} WHERE s.run = earlier.run AND NOT EXISTS (SELECT FROM unnest(s.ids) i WHERE i NOT IN (SELECT unnest($2)))"
    );
}

/// What begins a statement that deletes suspects of a table's runs that have ended. The runs are locked, so that whoever forgets old
/// ones passes these by, rather than wait for what is deleted with them.
const EARLIER: &str = "WITH earlier AS (SELECT run FROM tombstone.run WHERE managed = $1 AND ended IS NOT NULL FOR KEY SHARE)
                       DELETE FROM tombstone.suspect s USING earlier";

/// For so long a confirmation counts.
const IS_CONFIRMED: &str = "confirmed_at > clock_timestamp() - interval '5 min'";

/// The statement that `read` reads, of those of a run that fit `which`.
fn select(which: &str) -> String {
    format!(
        "SELECT batch, ids, marks, witness, attempt, COALESCE({IS_CONFIRMED}, false) FROM tombstone.suspect
         WHERE run = $1 AND {which}"
    )
}

fn read(row: OwnRow) -> Result<Suspects> {
    Ok(Suspects {
        batch: row.get(1)?,
        ids: row.get(2)?,
        marks: row.get(3)?,
        witness: row.nullable(4)?,
        attempt: row.get::<i32>(5)?.unsigned_abs(),
        confirmed: row.get(6)?,
    })
}

/// The next suspects of a run after those of batch `after`.
pub fn next(run: Run, after: i32) -> Result<Option<Suspects>> {
    NEXT.first(&[run.number.into(), after.into()], read)
}

/// At most `most` of the batches of a run that have suspects: first those whose confirmation would lapse first, then from a random one
/// on.
pub fn some(run: Run, most: usize) -> Result<Vec<i32>> {
    let mut batches = CONFIRMED.rows(&[run.number.into(), (most as i64).into()], |row| row.get(1))?;
    let others = from_anywhere(run, most, &LAST, &NUMBERS)?;
    batches.extend(others.into_iter().filter(|batch| !batches.contains(batch)).collect::<Vec<_>>());
    batches.truncate(most);
    Ok(batches)
}

/// Those of one batch.
pub fn peek(run: Run, batch: i32) -> Result<Option<Suspects>> {
    PEEK.first(&[run.number.into(), batch.into()], read)
}

/// The same, locked.
pub fn one(run: Run, batch: i32) -> Result<Option<Suspects>> {
    ONE.first(&[run.number.into(), batch.into()], read)
}

impl Suspects {
    /// The missing of a batch, as number `number` of a run; `None`: there are none.
    pub fn of(batch: &Questions, number: i32) -> Option<Suspects> {
        let places = batch.missing().filter(|places| !places.is_empty())?;
        let pick = |of: &[String]| places.iter().filter_map(|place| of.get(*place)).cloned().collect();
        let witness = batch.present().into_iter().next();
        Some(Suspects {
            batch: number,
            ids: pick(&batch.ids),
            marks: pick(&batch.marks),
            witness,
            attempt: 0,
            confirmed: false,
        })
    }

    /// Puts them by for a run; those numbered 0 get the next number.
    pub fn store(self, run: Run) -> Result<()> {
        let number = Some(self.batch).filter(|number| *number > 0);
        let arguments =
            [run.number.into(), number.into(), self.ids.into(), DatumWithOid::from(self.marks), self.witness.into()];
        INSERT.run(&arguments)
    }

    /// Notes that the first of the last questions was answered as expected.
    pub fn note_confirmed(&self, run: Run) -> Result<()> {
        CONFIRM.run(&[run.number.into(), self.batch.into()])
    }

    /// Notes that the source has answered otherwise than expected.
    pub fn fail(&self, run: Run) -> Result<()> {
        FAIL.run(&[run.number.into(), self.batch.into()])
    }

    pub fn remove(&self, run: Run) -> Result<()> {
        REMOVE.run(&[run.number.into(), self.batch.into()])
    }

    /// What becomes of them where they cannot be deleted, because of `why`: they are left, and named.
    pub fn given_up(&self, why: &Error) -> Tally {
        let mut tally = Tally::default();
        tally.keep(self.size(), format!("{}: {}", self.title(), why.summary()));
        tally
    }

    /// How many they are.
    pub fn size(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Which records they are, in words.
    pub fn title(&self) -> String {
        match self.ids.as_slice() {
            [first, .., last] => format!("{} records, \"{first}\" to \"{last}\"", self.ids.len()),
            _ => format!("record \"{}\"", self.ids.concat()),
        }
    }

    /// The ids of one of the last questions.
    pub fn question(&self, last: Last) -> Vec<&str> {
        let missing = self.ids.iter().filter(|_| last == Last::All);
        missing.chain(&self.witness).map(String::as_str).collect()
    }

    /// Which of the last questions comes next.
    pub fn next_question(&self) -> Last {
        if self.confirmed { Last::Witness } else { Last::All }
    }

    /// Whether there is nothing to be asked after this one. Where none of a batch is there, as somebody has confirmed, there is no
    /// witness.
    pub fn is_answered_with(&self, last: Last) -> bool {
        last == Last::Witness || self.witness.is_none()
    }

    /// That the source has the witness, and nothing of what is missing.
    pub fn confirm(&self, answer: &Answer) -> Result<()> {
        let lacks = |lacks: bool| {
            Error::no_answer(match lacks {
                true => "the source lacks a record now that it had when it was asked before",
                false => "the source has some of it, when it is asked once more just before it is deleted",
            })
        };
        match answer {
            Answer::Count(present) => match present.cmp(&u64::from(self.witness.is_some())) {
                Ordering::Less => Err(lacks(true)),
                Ordering::Greater => Err(lacks(false)),
                Ordering::Equal => Ok(()),
            },
            Answer::Listed(ids) if ids.iter().eq(&self.witness) => Ok(()),
            Answer::Listed(ids) => Err(lacks(ids.is_empty())),
        }
    }

    /// Asks the last questions; whether all of it is as before, or why not. An error: the source could not be asked.
    pub fn ask_once_more(&self, table: &Table, probe: &Probe, cost: &mut Cost) -> Result<Result<()>> {
        for last in [Last::All, Last::Witness] {
            cost.questions += 1;
            cost.rounds += 1;
            let answer = probe.ask(table, &self.question(last))?;
            let confirmed = self.confirm(&answer);
            if confirmed.is_err() || self.is_answered_with(last) {
                return Ok(confirmed);
            }
        }
        Ok(Ok(()))
    }

    /// Whether the source answers at all, if only after the witness.
    pub fn source_answers(&self, table: &Table, probe: &Probe, cost: &mut Cost) -> Result<bool> {
        cost.questions += 1;
        cost.rounds += 1;
        match probe.ask(table, &self.question(Last::Witness)) {
            Err(error) if error.is_cancellation() => Err(error),
            answer => Ok(answer.is_ok()),
        }
    }

    /// Deletes for `run`, as one deletion of their own, those that are live still, were not changed since they were asked after, and are
    /// not on hold. Counts them, and says what was kept. With `restore`, the next pass will ask whether they have re-appeared.
    pub fn delete(&self, table: &Rc<Table>, run: Run, manner: &Manner, rights: Rights) -> Result<Tally> {
        deletion::begin_anew();
        let tally = self.delete_some(table, run, manner, rights)?;
        deletion::begin_anew();
        run.count(self.size() - tally.kept)?;
        Ok(tally)
    }

    fn delete_some(&self, table: &Rc<Table>, run: Run, manner: &Manner, rights: Rights) -> Result<Tally> {
        let mut tally = Tally::default();
        if self.witness.is_none() && manner.max_missing.is_some() {
            tally.keep(self.size(), format!("{}: there is nothing of its batch that the source has", self.title()));
            return Ok(tally);
        }
        let keys = self.ids.iter().map(|id| table.key(id)).collect::<Result<Vec<_>>>()?;
        // Locked first, then looked at in a statement of its own, which sees what was committed before the locks were had.
        rights.to_write(table, || layout::of(table).find(&Rows::Records(&keys), Lock::Update))?;
        let unchanged: HashMap<String, String> =
            live(table, &keys)?.into_iter().map(|record| (record.id, record.mark)).collect();
        let held = hold::held_among(table, &keys)?;
        let mut candidates = Vec::new();
        for (key, mark) in keys.into_iter().zip(&self.marks) {
            let id = &key.text;
            if unchanged.get(id) != Some(mark) {
                tally.keep(1, format!("\"{id}\" was changed since it was asked after"));
            } else if held.contains(id) {
                tally.keep(1, format!("\"{id}\" is on hold"));
            } else {
                candidates.push((key, live::rows_of_mark(mark)));
            }
        }
        let deleted = delete(table, run, candidates, rights, &mut tally)?;
        if manner.restore {
            vanished::remember(table.number, deleted)?;
        }
        Ok(tally)
    }
}

fn live(table: &Table, keys: &[Key]) -> Result<Vec<live::Marked>> {
    table.evaluating(|| live::records(table, Live::Among(keys)))
}

/// Deletes records that each have so many rows; returns the ids of those that are deleted now.
fn delete(table: &Rc<Table>, run: Run, candidates: Vec<(Key, u64)>, rights: Rights, tally: &mut Tally) -> Result<Vec<String>> {
    let rows: HashMap<String, u64> = candidates.iter().map(|(key, rows)| (key.text.clone(), *rows)).collect();
    let keys: Vec<Key> = candidates.into_iter().map(|(key, _)| key).collect();
    let write = |keys: &[Key]| {
        let written = rights.to_write(table, || seen(table, || layout::of(table).soft_delete(&Rows::Records(keys))))?;
        // A version that has come meanwhile could not be locked before.
        if written > keys.iter().filter_map(|key| rows.get(&key.text)).sum() {
            return Err(Error::changed("it was changed since it was asked after"));
        }
        Ok(written)
    };
    let reason = Some(format!("run {}", run.number));
    let account = Account::new(Cause::Reconcile, reason);
    let refused = account::on(account, || all_but_refused(&keys, stops, &write))?;
    for (place, error) in &refused {
        tally.keep(1, format!("\"{}\": {}", keys[*place].text, error.summary()));
    }
    let is_refused: HashSet<usize> = refused.into_iter().map(|(place, _)| place).collect();
    // What is live still, a trigger of the table kept alive.
    let alive: HashSet<String> = live(table, &keys)?.into_iter().map(|record| record.id).collect();
    let mut deleted = Vec::new();
    for (_, key) in keys.into_iter().enumerate().filter(|(place, _)| !is_refused.contains(place)) {
        if alive.contains(&key.text) {
            tally.keep(1, format!("\"{}\" was kept by a trigger of the table", key.text));
        } else {
            deleted.push(key.text);
        }
    }
    Ok(deleted)
}

/// What is no verdict on a record: that our triggers are disabled, or that others have rows locked.
pub fn stops(error: &Error) -> bool {
    error.says_triggers_slept() || error.is_lock_timeout()
}

/// The runs of these numbers are over, and there is nothing of them to be looked at.
pub fn clear(runs: Vec<i64>) -> Result<()> {
    CLEAR.run(&[runs.into()])
}

/// What earlier runs of the table numbered `managed` have left for somebody to look at, is old: all of it is asked after anew.
pub fn clear_earlier(managed: i32) -> Result<()> {
    CLEAR_EARLIER.run(&[managed.into()])
}

/// Somebody has seen to these records: the batches of which earlier runs of the table have left no others to be looked at, go.
pub fn see_to(table: &Table, ids: &[String]) -> Result<()> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let ids: Vec<String> = readable_keys(table, &ids)?.into_iter().map(|(_, key)| key.text).collect();
    SEEN_TO.run(&[table.number.into(), ids.into()])
}

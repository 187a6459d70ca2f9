//! Suspects: records of one batch that the source has not, as the search has found. Before they are deleted the source is asked
//! after them once more, together with a witness: a record of the same batch that it has. All of it must be answered as the search
//! says: a search that a changing source has misled is found out, and so is a source that is down and answers 0 to everything.
//!
//! `tombstone.suspect` keeps them until then, also for somebody to look at. Written in the keeper's name.

use std::collections::HashSet;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;
use pgrx::{Spi, pg_sys};

use super::batch::Batch;
use super::inquiry::Tally;
use super::probe::Answer;
use crate::backend::identity::{acting_as, caller};
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
use crate::backend::transaction;
use crate::error::{Error, Result};
use crate::lifecycle::layout::{self, Live, Lock};
use crate::lifecycle::rows::Rows;
use crate::lifecycle::{all_but_refused, hold, seen};
use crate::log::account::{self, Account, Cause};
use crate::log::event::stamp_argument;
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
    /// How often the last question about them was not answered as expected.
    pub attempt: u32,
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

struct Statements {
    insert: Statement,
    next: Statement,
    all: Statement,
    one: Statement,
    fail: Statement,
    remove: Statement,
    vanished: Statement,
}

thread_local! {
    static STATEMENTS: &'static Statements = Box::leak(Box::new(Statements::new()));
}

impl Statements {
    fn new() -> Self {
        use pg_sys::*;
        let select = "SELECT batch, ids, marks, witness, attempt FROM tombstone.suspect WHERE run = $1";
        Statements {
            insert: Statement::new(
                "INSERT INTO tombstone.suspect (run, batch, ids, marks, witness)
                 VALUES ($1, COALESCE($2, (SELECT COALESCE(max(batch), 0) + 1 FROM tombstone.suspect WHERE run = $1)), $3, $4, $5)",
                [INT8OID, INT4OID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID],
            ),
            next: Statement::new(format!("{select} AND batch > $2 ORDER BY batch LIMIT 1"), [INT8OID, INT4OID]),
            all: Statement::new(format!("{select} ORDER BY batch"), [INT8OID]),
            one: Statement::new(format!("{select} AND batch = $2 FOR UPDATE"), [INT8OID, INT4OID]),
            fail: Statement::new(
                "UPDATE tombstone.suspect SET attempt = attempt + 1 WHERE run = $1 AND batch = $2",
                [INT8OID, INT4OID],
            ),
            remove: Statement::new("DELETE FROM tombstone.suspect WHERE run = $1 AND batch = $2", [INT8OID, INT4OID]),
            vanished: Statement::new(
                "INSERT INTO tombstone.vanished (managed, id, deleted_at) SELECT $1, unnest($2), $3
                 ON CONFLICT (managed, id) DO UPDATE SET deleted_at = EXCLUDED.deleted_at",
                [INT4OID, TEXTARRAYOID, TIMESTAMPTZOID],
            ),
        }
    }
}

fn with<T>(act: impl FnOnce(&Statements) -> Result<T>) -> Result<T> {
    acting_as(keeper(), || STATEMENTS.with(|statements| act(statements)))
}

fn read(row: &SpiHeapTupleData) -> Result<Suspects> {
    Ok(Suspects {
        batch: row.get(1)?.unwrap_or_default(),
        ids: row.get(2)?.unwrap_or_default(),
        marks: row.get(3)?.unwrap_or_default(),
        witness: row.get(4)?,
        attempt: row.get::<i32>(5)?.unwrap_or_default().unsigned_abs(),
    })
}

/// The next suspects of a run after those of batch `after`.
pub fn next(run: Run, after: i32) -> Result<Option<Suspects>> {
    with(|statements| Ok(statements.next.rows(&[run.number.into(), after.into()], read)?.into_iter().next()))
}

/// All suspects of a run.
pub fn all(run: Run) -> Result<Vec<Suspects>> {
    with(|statements| statements.all.rows(&[run.number.into()], read))
}

/// Those of one batch, locked.
pub fn one(run: Run, batch: i32) -> Result<Option<Suspects>> {
    with(|statements| Ok(statements.one.rows(&[run.number.into(), batch.into()], read)?.into_iter().next()))
}

impl Suspects {
    /// The missing of a batch, as number `number` of a run; `None`: there are none.
    pub fn of(batch: &Batch, number: i32) -> Option<Suspects> {
        let places = batch.missing().filter(|places| !places.is_empty())?;
        let pick = |of: &[String]| places.iter().filter_map(|place| of.get(*place)).cloned().collect();
        let witness = batch.present().into_iter().next();
        Some(Suspects { batch: number, ids: pick(&batch.ids), marks: pick(&batch.marks), witness, attempt: 0 })
    }

    /// Puts them by for a run; those numbered 0 get the next number.
    pub fn store(self, run: Run) -> Result<()> {
        let number = Some(self.batch).filter(|number| *number > 0);
        let arguments =
            [run.number.into(), number.into(), self.ids.into(), DatumWithOid::from(self.marks), self.witness.into()];
        with(|statements| statements.insert.execute(&arguments).map(drop))
    }

    /// Notes that the source has answered otherwise than expected.
    pub fn fail(&self, run: Run) -> Result<()> {
        with(|statements| statements.fail.execute(&[run.number.into(), self.batch.into()]).map(drop))
    }

    pub fn remove(&self, run: Run) -> Result<()> {
        with(|statements| statements.remove.execute(&[run.number.into(), self.batch.into()]).map(drop))
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

    /// What is asked after once more.
    pub fn question(&self) -> Vec<&str> {
        self.ids.iter().chain(&self.witness).map(String::as_str).collect()
    }

    /// That the source has the witness and nothing else.
    pub fn confirm(&self, answer: &Answer) -> Result<()> {
        let as_expected = match answer {
            Answer::Count(count) => *count == u64::from(self.witness.is_some()),
            Answer::Listed(ids) => ids.iter().eq(self.witness.as_ref()),
        };
        if as_expected {
            return Ok(());
        }
        let word = "the source answers otherwise when it is asked once more about what is missing and one record that it had";
        Err(Error::no_answer(word))
    }

    /// Deletes those that are live still, were not changed since they were asked after, and are not on hold; says what was kept. With
    /// `restore`, the next pass will ask whether they have re-appeared.
    pub fn delete(&self, table: &Rc<Table>, restore: bool, rights: Rights) -> Result<Tally> {
        let mut tally = Tally::default();
        let keys = self.ids.iter().map(|id| table.key(id)).collect::<Result<Vec<_>>>()?;
        // Locked first, then looked at in a statement of its own, which sees what was committed before the locks were had.
        rights.to_write(table, || layout::of(table).find(table, &Rows::Records(&keys), Lock::Update))?;
        let unchanged: HashSet<(String, String)> =
            live(table, &keys)?.into_iter().map(|record| (record.id, record.mark)).collect();
        let held = hold::held_among(table, &keys)?;
        let mut candidates = Vec::new();
        for (key, mark) in keys.into_iter().zip(&self.marks) {
            let id = &key.text;
            if !unchanged.contains(&(id.clone(), mark.clone())) {
                tally.keep(1, format!("\"{id}\" was changed since it was asked after"));
            } else if held.contains(id) {
                tally.keep(1, format!("\"{id}\" is on hold"));
            } else {
                candidates.push(key);
            }
        }
        let deleted = delete(table, candidates, rights, &mut tally)?;
        if restore {
            remember(table, deleted)?;
        }
        Ok(tally)
    }
}

fn live(table: &Table, keys: &[Key]) -> Result<Vec<layout::Marked>> {
    table.evaluating(|| layout::of(table).live(table, Live::Among(keys)))
}

/// Returns the ids of those that are deleted now.
fn delete(table: &Rc<Table>, candidates: Vec<Key>, rights: Rights, tally: &mut Tally) -> Result<Vec<String>> {
    let write =
        |keys: &[Key]| rights.to_write(table, || seen(table, || layout::of(table).soft_delete(table, &Rows::Records(keys))));
    let account = Account { cause: Cause::Reconcile, reason: None, undoes: None };
    let refused = account::on(account, || all_but_refused(&candidates, &write))?;
    for (place, error) in &refused {
        tally.keep(1, format!("\"{}\": {}", candidates[*place].text, error.summary()));
    }
    let is_refused: HashSet<usize> = refused.into_iter().map(|(place, _)| place).collect();
    // What is live still, a trigger of the table kept alive.
    let alive: HashSet<String> = live(table, &candidates)?.into_iter().map(|record| record.id).collect();
    let mut deleted = Vec::new();
    for (_, key) in candidates.into_iter().enumerate().filter(|(place, _)| !is_refused.contains(place)) {
        if alive.contains(&key.text) {
            tally.keep(1, format!("\"{}\" was kept by a trigger of the table", key.text));
        } else {
            deleted.push(key.text);
        }
    }
    Ok(deleted)
}

fn remember(table: &Table, ids: Vec<String>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let arguments = [table.number.into(), ids.into(), stamp_argument(Some(transaction::started()))];
    with(|statements| statements.vanished.execute(&arguments).map(drop))
}

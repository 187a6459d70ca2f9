//! `tombstone.batch`: batches that outlive a process. Those that an outside client is being asked about, with his answers so far; and
//! those of a pass that have failed, and are to be asked about again. Written in the keeper's name.

use counting::{Search, Strategy};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use super::batch::{Batch, contradiction, title_of};
use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
use crate::backend::transaction::with_memory;
use crate::error::Result;
use crate::lifecycle::layout::live::Marked;
use crate::log::run::Run;

/// A batch as it is stored.
pub struct Stored {
    pub number: i32,
    pub is_live: bool,
    pub ids: Vec<String>,
    marks: Vec<String>,
    pub attempt: u32,
    /// One for each question asked so far, in their order; `None`: not answered yet.
    pub answers: Vec<Option<i64>>,
}

struct Statements {
    insert: Statement,
    last: Statement,
    numbers: Statement,
    one: Statement,
    answer: Statement,
    start_over: Statement,
    remove: Statement,
    any: Statement,
}

thread_local! {
    static STATEMENTS: &'static Statements = Box::leak(Box::new(Statements::new()));
}

impl Statements {
    fn new() -> Self {
        use pg_sys::*;
        Statements {
            insert: Statement::new(
                "INSERT INTO tombstone.batch (run, batch, is_live, ids, marks)
                 SELECT $1, COALESCE(max(batch), 0) + 1, $2, $3, $4 FROM tombstone.batch WHERE run = $1 RETURNING batch",
                [INT8OID, BOOLOID, TEXTARRAYOID, TEXTARRAYOID],
            ),
            last: Statement::new("SELECT max(batch) FROM tombstone.batch WHERE run = $1", [INT8OID]),
            numbers: Statement::new(
                "SELECT batch FROM tombstone.batch WHERE run = $1 AND batch BETWEEN $2 AND $3 ORDER BY batch LIMIT $4",
                [INT8OID, INT4OID, INT4OID, INT8OID],
            ),
            one: Statement::new(
                "SELECT batch, is_live, ids, marks, attempt, answers FROM tombstone.batch WHERE run = $1 AND batch = $2",
                [INT8OID, INT4OID],
            ),
            answer: Statement::new(
                "UPDATE tombstone.batch SET answers = $3 WHERE run = $1 AND batch = $2",
                [INT8OID, INT4OID, INT8ARRAYOID],
            ),
            start_over: Statement::new(
                "UPDATE tombstone.batch SET answers = '{}', attempt = attempt + 1 WHERE run = $1 AND batch = $2",
                [INT8OID, INT4OID],
            ),
            remove: Statement::new("DELETE FROM tombstone.batch WHERE run = $1 AND batch = $2", [INT8OID, INT4OID]),
            any: Statement::new("SELECT 1 FROM tombstone.batch WHERE run = $1 LIMIT 1", [INT8OID]),
        }
    }
}

fn with<T>(act: impl FnOnce(&Statements) -> Result<T>) -> Result<T> {
    acting_as(keeper(), || STATEMENTS.with(|statements| act(statements)))
}

/// Stores a batch of live records, or of tombstones, for a run; returns its number.
pub fn insert(run: Run, is_live: bool, ids: Vec<String>, marks: Vec<String>) -> Result<i32> {
    let marks = if is_live { marks } else { Vec::new() };
    with_memory(|| {
        let arguments = [run.number.into(), is_live.into(), ids.into(), DatumWithOid::from(marks)];
        let number = with(|statements| statements.insert.rows(&arguments, |row| Ok(row.get::<i32>(1)?)))?;
        Ok(number.into_iter().flatten().next().unwrap_or_default())
    })
}

/// The numbers of a run's batches: at most `most`, from a random one on, so that several who ask mostly get different ones.
pub fn some(run: Run, most: usize) -> Result<Vec<i32>> {
    with(|statements| from_anywhere(run, most, &statements.last, &statements.numbers))
}

/// The same of another table with batches: `last` finds the highest number of a run, `numbers` those between two of them.
pub fn from_anywhere(run: Run, most: usize, last: &Statement, numbers: &Statement) -> Result<Vec<i32>> {
    let last = last.rows(&[run.number.into()], |row| Ok(row.get::<i32>(1)?))?.into_iter().flatten().next();
    let Some(last @ 1..) = last else { return Ok(Vec::new()) };
    let start = fastrand::i32(1..=last);
    let between = |from: i32, to: i32, most: usize| {
        let arguments = [run.number.into(), from.into(), to.into(), (most as i64).into()];
        numbers.rows(&arguments, |row| Ok(row.get::<i32>(1)?.unwrap_or_default()))
    };
    let mut found = between(start, last, most)?;
    let rest = most - found.len().min(most);
    found.extend(between(1, start - 1, rest)?);
    Ok(found)
}

/// One of them.
pub fn one(run: Run, batch: i32) -> Result<Option<Stored>> {
    let read = |row: &SpiHeapTupleData| {
        Ok(Stored {
            number: row.get(1)?.unwrap_or_default(),
            is_live: row.get(2)?.unwrap_or_default(),
            ids: row.get(3)?.unwrap_or_default(),
            marks: row.get(4)?.unwrap_or_default(),
            attempt: row.get::<i32>(5)?.unwrap_or_default().unsigned_abs(),
            answers: row.get(6)?.unwrap_or_default(),
        })
    };
    with(|statements| Ok(statements.one.rows(&[run.number.into(), batch.into()], read)?.into_iter().next()))
}

/// A batch is settled or given up.
pub fn remove(run: Run, batch: i32) -> Result<()> {
    with(|statements| statements.remove.execute(&[run.number.into(), batch.into()]).map(drop))
}

/// Whether the run has any.
pub fn any(run: Run) -> Result<bool> {
    with(|statements| Ok(statements.any.execute(&[run.number.into()])? > 0))
}

impl Stored {
    /// The search as it stands, and how many answers the rounds that are over have taken.
    pub fn search(&self, strategy: Strategy) -> Result<(Search, usize)> {
        let answers: Vec<u64> = self.answers.iter().map_while(|answer| u64::try_from((*answer)?).ok()).collect();
        Search::resume(self.ids.len(), strategy, &answers).map_err(|why| contradiction(&why))
    }

    pub fn store_answers(&self, run: Run) -> Result<()> {
        let arguments = [run.number.into(), self.number.into(), DatumWithOid::from(self.answers.clone())];
        with(|statements| statements.answer.execute(&arguments).map(drop))
    }

    /// Forgets the answers.
    pub fn start_over(&self, run: Run) -> Result<()> {
        with(|statements| statements.start_over.execute(&[run.number.into(), self.number.into()]).map(drop))
    }

    /// The batch, to be asked about from the beginning.
    pub fn into_batch(self, strategy: Strategy) -> Batch {
        let marks = self.marks.into_iter().chain(std::iter::repeat(String::new()));
        Batch::new(self.ids.into_iter().zip(marks).map(|(id, mark)| Marked { id, mark }).collect(), strategy)
    }

    /// Which records it is about, in words.
    pub fn title(&self) -> String {
        title_of(&self.ids)
    }
}

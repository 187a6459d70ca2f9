//! `tombstone.batch`: batches that outlive a process. Those that an outside client is being asked about, with his answers so far; and
//! those of a pass that have failed, and are to be asked about again. Written in the keeper's name, and by nobody else.

use counting::{Search, Strategy};
use pgrx::datum::DatumWithOid;

use super::batch::{Questions, contradiction, title_of};
use crate::backend::own_table::{OwnStatement, own_statements};
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

own_statements! {
    INSERT(INT8, BOOL, TEXT_ARRAY, TEXT_ARRAY) =
        "INSERT INTO tombstone.batch (run, batch, is_live, ids, marks)
         SELECT $1, COALESCE(max(batch), 0) + 1, $2, $3, $4 FROM tombstone.batch WHERE run = $1 RETURNING batch";
    LAST(INT8) = "SELECT max(batch) FROM tombstone.batch WHERE run = $1";
    NUMBERS(INT8, INT4, INT4, INT8) =
        "SELECT batch FROM tombstone.batch WHERE run = $1 AND batch BETWEEN $2 AND $3 ORDER BY batch LIMIT $4";
    ONE(INT8, INT4) =
        "SELECT batch, is_live, ids, marks, attempt, answers FROM tombstone.batch WHERE run = $1 AND batch = $2";
    ANSWER(INT8, INT4, INT8_ARRAY) = "UPDATE tombstone.batch SET answers = $3 WHERE run = $1 AND batch = $2";
    START_OVER(INT8, INT4) =
        "UPDATE tombstone.batch SET answers = '{}', attempt = attempt + 1 WHERE run = $1 AND batch = $2";
    REMOVE(INT8, INT4) = "DELETE FROM tombstone.batch WHERE run = $1 AND batch = $2";
    CLEAR(INT8_ARRAY) = "DELETE FROM tombstone.batch WHERE run = ANY ($1)";
    ANY(INT8) = "SELECT 1 FROM tombstone.batch WHERE run = $1 LIMIT 1";
}

/// Stores a batch of live records, or of tombstones, for a run; returns its number.
pub fn insert(run: Run, is_live: bool, ids: Vec<String>, marks: Vec<String>) -> Result<i32> {
    let marks = if is_live { marks } else { Vec::new() };
    with_memory(|| {
        let arguments = [run.number.into(), is_live.into(), ids.into(), DatumWithOid::from(marks)];
        INSERT.one(&arguments, |row| row.get(1))
    })
}

/// The numbers of a run's batches: at most `most`, from a random one on, so that several who ask mostly get different ones.
pub fn some(run: Run, most: usize) -> Result<Vec<i32>> {
    from_anywhere(run, most, &LAST, &NUMBERS)
}

/// The same of another table with batches: `last` finds the highest number of a run, `numbers` those between two of them.
pub fn from_anywhere(run: Run, most: usize, last: &OwnStatement, numbers: &OwnStatement) -> Result<Vec<i32>> {
    let Some(last @ 1..) = last.one(&[run.number.into()], |row| row.nullable(1))? else { return Ok(Vec::new()) };
    let start = fastrand::i32(1..=last);
    let between = |from: i32, to: i32, most: usize| {
        let arguments = [run.number.into(), from.into(), to.into(), (most as i64).into()];
        numbers.rows(&arguments, |row| row.get(1))
    };
    let mut found = between(start, last, most)?;
    let rest = most - found.len().min(most);
    found.extend(between(1, start - 1, rest)?);
    Ok(found)
}

/// One of them.
pub fn one(run: Run, batch: i32) -> Result<Option<Stored>> {
    ONE.first(&[run.number.into(), batch.into()], |row| {
        Ok(Stored {
            number: row.get(1)?,
            is_live: row.get(2)?,
            ids: row.get(3)?,
            marks: row.get(4)?,
            attempt: row.get::<i32>(5)?.unsigned_abs(),
            answers: row.get(6)?,
        })
    })
}

/// A batch is settled or given up.
pub fn remove(run: Run, batch: i32) -> Result<()> {
    REMOVE.run(&[run.number.into(), batch.into()])
}

/// The runs of these numbers are over: their batches go.
pub fn clear(runs: Vec<i64>) -> Result<()> {
    CLEAR.run(&[runs.into()])
}

/// Whether the run has any.
pub fn any(run: Run) -> Result<bool> {
    ANY.any(&[run.number.into()])
}

impl Stored {
    /// The search as it stands, and how many answers the rounds that are over have taken.
    pub fn search(&self, strategy: Strategy) -> Result<(Search, usize)> {
        let answers: Vec<u64> = self.answers.iter().map_while(|answer| u64::try_from((*answer)?).ok()).collect();
        Search::resume(self.ids.len(), strategy, &answers).map_err(|why| contradiction(&why))
    }

    pub fn store_answers(&self, run: Run) -> Result<()> {
        ANSWER.run(&[run.number.into(), self.number.into(), DatumWithOid::from(self.answers.clone())])
    }

    /// Forgets the answers.
    pub fn start_over(&self, run: Run) -> Result<()> {
        START_OVER.run(&[run.number.into(), self.number.into()])
    }

    /// The batch, to be asked about from the beginning.
    pub fn into_batch(self, strategy: Strategy) -> Questions {
        let marks = self.marks.into_iter().chain(std::iter::repeat(String::new()));
        Questions::new(self.ids.into_iter().zip(marks).map(|(id, mark)| Marked { id, mark }).collect(), strategy)
    }

    /// Which records it is about, in words.
    pub fn title(&self) -> String {
        title_of(&self.ids)
    }
}

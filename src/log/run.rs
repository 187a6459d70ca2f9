//! `tombstone.run`: what maintenance and watchers did, and how far what is being done has come. A run's count moves in the
//! transaction of the batch that it counts. Written in the keeper's name, and by nobody else; what the watcher keeps of a run goes
//! with it when it is forgotten, by its foreign keys.

use std::collections::HashMap;
use std::time::Duration;

use pgrx::datum::Interval;

use crate::backend::own_table::own_statements;
use crate::error::Result;

/// A run under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub number: i64,
    pub managed: i32,
}

/// How often in a row a table has failed, and how long ago it did so last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failures {
    pub in_a_row: u32,
    pub since: Duration,
}

own_statements! {
    BEGIN(INT4, TEXT, INT8) = format!("{} RETURNING run", insert("due", "$3"));
    BEGIN_ALONE(INT4, TEXT, INT8) = format!("{} ON CONFLICT DO NOTHING RETURNING run", insert("due", "$3"));
    BEGIN_WAITING(INT4, TEXT, INT8) = "INSERT INTO tombstone.run (managed, action, due) VALUES ($1, $2, $3) RETURNING run";
    // Process numbers come again, so the time of its beginning tells whether it is the same that lives.
    CLAIM(INT8) =
        "UPDATE tombstone.run r SET pid = a.pid, backend_start = a.backend_start
         FROM pg_stat_get_activity(pg_backend_pid()) a
         WHERE r.run = $1 AND r.ended IS NULL AND NOT EXISTS (
             SELECT FROM pg_stat_get_activity(r.pid) o WHERE o.backend_start = r.backend_start AND o.pid <> a.pid)";
    RELEASE(INT8_ARRAY) =
        "UPDATE tombstone.run SET pid = NULL, backend_start = NULL WHERE run = ANY ($1) AND ended IS NULL";
    NOTE(INT4, TEXT, INT8, TEXT, TEXT) = insert("due, ended, outcome, detail", "$3, clock_timestamp(), $4, $5");
    SET_DUE(INT8, INT8) = "UPDATE tombstone.run SET due = $2 WHERE run = $1";
    COUNT(INT8, INT8) = "UPDATE tombstone.run SET records = records + $2 WHERE run = $1";
    END(INT8_ARRAY, TEXT, TEXT) =
        "UPDATE tombstone.run SET ended = clock_timestamp(), outcome = $2, detail = $3 WHERE run = ANY ($1) AND ended IS NULL";
    CLOSE(INT4, TEXT, TEXT) =
        "UPDATE tombstone.run SET ended = clock_timestamp(), outcome = 'ended', detail = $3
         WHERE managed = $1 AND action = $2 AND ended IS NULL RETURNING run";
    INTERRUPTED() =
        "UPDATE tombstone.run r SET ended = clock_timestamp(), outcome = 'interrupted', detail = 'its process is gone'
         WHERE r.ended IS NULL AND r.action IN ('expire', 'purge', 'convert') AND NOT EXISTS (
             SELECT FROM pg_stat_get_activity(r.pid) a WHERE a.backend_start = r.backend_start)";
    AT_IT(INT4, TEXT) =
        "SELECT r.pid FROM tombstone.run r
         WHERE r.managed = $1 AND r.action = $2 AND r.ended IS NULL AND r.pid <> pg_backend_pid() AND EXISTS (
             SELECT FROM pg_stat_get_activity(r.pid) a WHERE a.backend_start = r.backend_start)";
    FAILURES() =
        "SELECT managed, action, count(*), min(clock_timestamp() - ended)
         FROM (SELECT managed, action, ended,
                      bool_and(outcome IN ('failed', 'interrupted')) OVER (PARTITION BY managed, action ORDER BY run DESC) AS still
               FROM tombstone.run WHERE ended IS NOT NULL) last
         WHERE still GROUP BY managed, action";
    PRUNE() =
        "DELETE FROM tombstone.run WHERE run IN (
             SELECT run FROM tombstone.run
             WHERE ended IS NOT NULL
               AND (run <= (SELECT max(run) FROM tombstone.run) - 10000 OR at < clock_timestamp() - interval '30 days')
             FOR UPDATE SKIP LOCKED)";
}

/// The statement that inserts a run that this process is at.
fn insert(columns: &str, values: &str) -> String {
    format!(
        "INSERT INTO tombstone.run (managed, action, pid, backend_start, {columns})
         SELECT $1, $2, a.pid, a.backend_start, {values} FROM pg_stat_get_activity(pg_backend_pid()) a"
    )
}

impl Run {
    /// Begins a run of `action`, which has found `due` rows.
    pub fn begin(managed: i32, action: &str, due: u64) -> Result<Run> {
        let number = BEGIN.one(&[managed.into(), action.into(), (due as i64).into()], |row| row.get(1))?;
        Ok(Run { number, managed })
    }

    /// The same where only one of its kind may be under way; `None`: one is.
    pub fn begin_alone(managed: i32, action: &str, due: u64) -> Result<Option<Run>> {
        let number = BEGIN_ALONE.first(&[managed.into(), action.into(), (due as i64).into()], |row| row.get(1))?;
        Ok(number.map(|number| Run { number, managed }))
    }

    /// The same of one that no process is at, for now.
    pub fn begin_waiting(managed: i32, action: &str, due: u64) -> Result<Run> {
        let number = BEGIN_WAITING.one(&[managed.into(), action.into(), (due as i64).into()], |row| row.get(1))?;
        Ok(Run { number, managed })
    }

    /// Makes it this process's own; false where another one that lives is at it, or it has ended.
    pub fn claim(&self) -> Result<bool> {
        CLAIM.any(&[self.number.into()])
    }

    /// Leaves it to whoever comes to go on with it.
    pub fn release(&self) -> Result<()> {
        release(vec![self.number])
    }

    /// Says how many rows it has found, where it could not know as it began.
    pub fn set_due(&self, due: u64) -> Result<()> {
        SET_DUE.run(&[self.number.into(), (due as i64).into()])
    }

    /// Counts `taken` rows more.
    pub fn count(&self, taken: u64) -> Result<()> {
        if taken == 0 {
            return Ok(());
        }
        COUNT.run(&[self.number.into(), (taken as i64).into()])
    }

    /// Ends it; false where it has ended.
    pub fn end(&self, outcome: &str, detail: Option<&str>) -> Result<bool> {
        END.any(&[vec![self.number].into(), outcome.into(), detail.into()])
    }
}

/// Leaves the runs of these numbers to whoever comes to go on with them.
pub fn release(runs: Vec<i64>) -> Result<()> {
    RELEASE.run(&[runs.into()])
}

/// Ends the runs of these numbers that have not ended.
pub fn end(runs: Vec<i64>, outcome: &str, detail: &str) -> Result<()> {
    END.run(&[runs.into(), outcome.into(), detail.into()])
}

/// Ends what runs of `action` the table has under way, because of `why`; returns their numbers.
pub fn close(managed: i32, action: &str, why: &str) -> Result<Vec<i64>> {
    CLOSE.rows(&[managed.into(), action.into(), why.into()], |row| row.get(1))
}

/// The process, other than this one, that is at a run of `action` of the table, if there is one.
pub fn at_it(managed: i32, action: &str) -> Result<Option<i32>> {
    AT_IT.first(&[managed.into(), action.into()], |row| row.get(1))
}

/// Notes that `action` could not even begin.
pub fn note_failure(managed: i32, action: &str, detail: &str) -> Result<()> {
    note(managed, action, 0, "failed", detail)
}

/// Notes that more rows are due than max_purge, which is `most`, and that none was taken.
pub fn note_refusal(managed: i32, action: &str, due: u64, most: &str) -> Result<()> {
    note(managed, action, due, "refused", &format!("{due} records are due, and max_purge is {most}"))
}

fn note(managed: i32, action: &str, due: u64, outcome: &str, detail: &str) -> Result<()> {
    NOTE.run(&[managed.into(), action.into(), (due as i64).into(), outcome.into(), detail.into()])
}

/// Forgets the runs that nobody will ask for any more. Not for users' transactions, which may last.
pub fn prune() -> Result<()> {
    PRUNE.run(&[])
}

/// Ends the runs whose processes are gone without having ended them.
pub fn mark_interrupted() -> Result<()> {
    INTERRUPTED.run(&[])
}

/// The tables and actions that failed last time.
pub fn recent_failures() -> Result<HashMap<(i32, String), Failures>> {
    let rows = FAILURES.rows(&[], |row| {
        let since: Interval = row.get(4)?;
        let failures = Failures {
            in_a_row: row.get::<i64>(3)?.min(32) as u32,
            since: Duration::from_micros((since.micros() + i64::from(since.days()) * 86_400_000_000).max(0).unsigned_abs()),
        };
        Ok(((row.get(1)?, row.get(2)?), failures))
    })?;
    Ok(rows.into_iter().collect())
}

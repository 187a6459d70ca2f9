//! `tombstone.run`: what maintenance and watchers did, and how far what is being done has come. A run's count moves in the
//! transaction of the batch that it counts. Written in the keeper's name.

use std::collections::HashMap;
use std::time::Duration;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
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

struct Statements {
    begin: Statement,
    begin_alone: Statement,
    begin_waiting: Statement,
    claim: Statement,
    release: Statement,
    note: Statement,
    count: Statement,
    end: Statement,
    interrupted: Statement,
    failures: Statement,
    prune: Statement,
}

thread_local! {
    static STATEMENTS: &'static Statements = Box::leak(Box::new(Statements::new()));
}

impl Statements {
    fn new() -> Self {
        use pg_sys::*;
        let insert = |columns: &str, values: &str| {
            format!(
                "INSERT INTO tombstone.run (managed, action, pid, backend_start, {columns})
                 SELECT $1, $2, a.pid, a.backend_start, {values} FROM pg_stat_get_activity(pg_backend_pid()) a"
            )
        };
        let numbered = |insert: &str| format!("{insert} RETURNING run");
        Statements {
            begin: Statement::new(numbered(&insert("due", "$3")), [INT4OID, TEXTOID, INT8OID]),
            begin_alone: Statement::new(
                numbered(&format!("{} ON CONFLICT DO NOTHING", insert("due", "$3"))),
                [INT4OID, TEXTOID, INT8OID],
            ),
            begin_waiting: Statement::new(
                "INSERT INTO tombstone.run (managed, action, due) VALUES ($1, $2, $3) RETURNING run",
                [INT4OID, TEXTOID, INT8OID],
            ),
            // Process numbers come again, so the time of its beginning tells whether it is the same that lives.
            claim: Statement::new(
                "UPDATE tombstone.run r SET pid = a.pid, backend_start = a.backend_start
                 FROM pg_stat_get_activity(pg_backend_pid()) a
                 WHERE r.run = $1 AND r.ended IS NULL AND NOT EXISTS (
                     SELECT FROM pg_stat_get_activity(r.pid) o WHERE o.backend_start = r.backend_start AND o.pid <> a.pid)",
                [INT8OID],
            ),
            release: Statement::new(
                "UPDATE tombstone.run SET pid = NULL, backend_start = NULL WHERE run = $1 AND ended IS NULL",
                [INT8OID],
            ),
            note: Statement::new(
                numbered(&insert("due, ended, outcome, detail", "$3, clock_timestamp(), $4, $5")),
                [INT4OID, TEXTOID, INT8OID, TEXTOID, TEXTOID],
            ),
            count: Statement::new("UPDATE tombstone.run SET records = records + $2 WHERE run = $1", [INT8OID, INT8OID]),
            end: Statement::new(
                "UPDATE tombstone.run SET ended = clock_timestamp(), outcome = $2, detail = $3 WHERE run = $1 AND ended IS NULL",
                [INT8OID, TEXTOID, TEXTOID],
            ),
            interrupted: Statement::new(
                "UPDATE tombstone.run r SET ended = clock_timestamp(), outcome = 'interrupted', detail = 'its process is gone'
                 WHERE r.ended IS NULL AND r.action IN ('expire', 'purge') AND NOT EXISTS (
                     SELECT FROM pg_stat_get_activity(r.pid) a WHERE a.backend_start = r.backend_start)",
                [],
            ),
            failures: Statement::new(
                "SELECT managed, action, count(*), min(clock_timestamp() - ended)
                 FROM (SELECT managed, action, ended,
                              bool_and(outcome IN ('failed', 'interrupted')) OVER (PARTITION BY managed, action ORDER BY run DESC) AS still
                       FROM tombstone.run WHERE ended IS NOT NULL) last
                 WHERE still GROUP BY managed, action",
                [],
            ),
            prune: Statement::new(
                "DELETE FROM tombstone.run WHERE run IN (
                     SELECT run FROM tombstone.run
                     WHERE ended IS NOT NULL
                       AND (run <= (SELECT max(run) FROM tombstone.run) - 10000 OR at < clock_timestamp() - interval '30 days')
                     FOR UPDATE SKIP LOCKED)",
                [],
            ),
        }
    }
}

fn with<T>(act: impl FnOnce(&Statements) -> Result<T>) -> Result<T> {
    acting_as(keeper(), || STATEMENTS.with(|statements| act(statements)))
}

impl Run {
    /// Begins a run of `action`, which has found `due` rows.
    pub fn begin(managed: i32, action: &str, due: u64) -> Result<Run> {
        let number = begun(managed, action, due, |statements| &statements.begin)?;
        Ok(Run { number: number.unwrap_or_default(), managed })
    }

    /// The same where only one of its kind may be under way; `None`: one is.
    pub fn begin_alone(managed: i32, action: &str, due: u64) -> Result<Option<Run>> {
        let number = begun(managed, action, due, |statements| &statements.begin_alone)?;
        Ok(number.map(|number| Run { number, managed }))
    }

    /// The same of one that no process is at, for now.
    pub fn begin_waiting(managed: i32, action: &str, due: u64) -> Result<Run> {
        let number = begun(managed, action, due, |statements| &statements.begin_waiting)?;
        Ok(Run { number: number.unwrap_or_default(), managed })
    }

    /// Makes it this process's own; false where another one that lives is at it, or it has ended.
    pub fn claim(&self) -> Result<bool> {
        with(|statements| Ok(statements.claim.execute(&[self.number.into()])? > 0))
    }

    /// Leaves it to whoever comes to go on with it.
    pub fn release(&self) -> Result<()> {
        with(|statements| statements.release.execute(&[self.number.into()]).map(drop))
    }

    /// Counts `taken` rows more.
    pub fn count(&self, taken: u64) -> Result<()> {
        if taken == 0 {
            return Ok(());
        }
        with(|statements| statements.count.execute(&[self.number.into(), (taken as i64).into()]).map(drop))
    }

    /// Ends it; false where it has ended.
    pub fn end(&self, outcome: &str, detail: Option<&str>) -> Result<bool> {
        with(|statements| Ok(statements.end.execute(&[self.number.into(), outcome.into(), detail.into()])? > 0))
    }
}

fn begun(managed: i32, action: &str, due: u64, how: fn(&Statements) -> &Statement) -> Result<Option<i64>> {
    let arguments = [managed.into(), action.into(), (due as i64).into()];
    with(|statements| inserted(how(statements), &arguments))
}

/// Notes that `action` could not even begin.
pub fn note_failure(managed: i32, action: &str, detail: &str) -> Result<()> {
    note(managed, action, 0, "failed", detail)
}

/// Notes that more rows are due than `most`, and that none was taken.
pub fn note_refusal(managed: i32, action: &str, due: u64, most: i64) -> Result<()> {
    note(managed, action, due, "refused", &format!("{due} records are due, and max_purge is {most}"))
}

fn note(managed: i32, action: &str, due: u64, outcome: &str, detail: &str) -> Result<()> {
    let arguments = [managed.into(), action.into(), (due as i64).into(), outcome.into(), detail.into()];
    with(|statements| inserted(&statements.note, &arguments).map(drop))
}

/// Inserts a run, if it may; returns its number.
fn inserted(insert: &Statement, arguments: &[DatumWithOid]) -> Result<Option<i64>> {
    Ok(insert.rows(arguments, |row| Ok(row.get::<i64>(1)?))?.into_iter().flatten().next())
}

/// Forgets the runs that nobody will ask for any more. Not for users' transactions, which may last.
pub fn prune() -> Result<()> {
    with(|statements| statements.prune.execute(&[]).map(drop))
}

/// Ends the runs whose processes are gone without having ended them.
pub fn mark_interrupted() -> Result<()> {
    with(|statements| statements.interrupted.execute(&[]).map(drop))
}

/// The tables and actions that failed last time.
pub fn recent_failures() -> Result<HashMap<(i32, String), Failures>> {
    with(|statements| {
        let rows = statements.failures.rows(&[], |row| {
            let since = row
                .get::<pgrx::datum::Interval>(4)?
                .map_or(0, |since| since.micros() + i64::from(since.days()) * 86_400_000_000);
            let failures = Failures {
                in_a_row: row.get::<i64>(3)?.unwrap_or_default().min(32) as u32,
                since: Duration::from_micros(since.max(0).unsigned_abs()),
            };
            Ok(((row.get::<i32>(1)?.unwrap_or_default(), row.get::<String>(2)?.unwrap_or_default()), failures))
        })?;
        Ok(rows.into_iter().collect())
    })
}

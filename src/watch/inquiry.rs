//! `tombstone.inquiry`: how far the runs that ask a source have come. Enough is kept here for any process to go on with a run whose
//! own has ended, in whichever way. Written in the keeper's name.

use counting::Strategy;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::safety::Share;
use super::tally::{Cost, REMARKS, Tally};
use super::watched::Manner;
use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
use crate::error::Result;
use crate::log::run::Run;

/// What a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Asks after what watchers have deleted.
    Reappeared,
    /// Asks after live records.
    Missing,
    /// Asks once more after what is missing, and deletes it.
    Deleting,
}

impl Phase {
    const ALL: [Phase; 3] = [Phase::Reappeared, Phase::Missing, Phase::Deleting];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Reappeared => "reappeared",
            Phase::Missing => "missing",
            Phase::Deleting => "deleting",
        }
    }
}

/// A run that asks a source, as far as it has come.
#[derive(Debug, Clone)]
pub struct Inquiry {
    pub run: Run,
    pub phase: Phase,
    /// Of a pass: the id up to which the phase has come.
    pub position: Option<String>,
    pub manner: Manner,
    /// How many records there were to ask after when it began.
    pub due: u64,
    pub tally: Tally,
}

struct Statements {
    begin: Statement,
    peek: Statement,
    load: Statement,
    open_pass: Statement,
    tally: Statement,
    move_to: Statement,
    clear: Statement,
    clear_batches: Statement,
    clear_suspects: Statement,
    close: Statement,
    tidy: Statement,
}

thread_local! {
    static STATEMENTS: &'static Statements = Box::leak(Box::new(Statements::new()));
}

impl Statements {
    fn new() -> Self {
        use pg_sys::*;
        let under_way = "SELECT r.managed, i.phase, i.position, (i.max_missing * 1000000)::int4, i.strategy, i.restore,
                                i.asked, i.missing, i.restored, i.kept, i.remarks, i.questions, i.rounds, r.due, i.lost
                         FROM tombstone.run r JOIN tombstone.inquiry i USING (run) WHERE r.run = $1 AND r.ended IS NULL";
        Statements {
            begin: Statement::new(
                "INSERT INTO tombstone.inquiry (run, phase, max_missing, strategy, restore) VALUES ($1, $2, $3 / 1000000.0, $4, $5)",
                [INT8OID, TEXTOID, INT4OID, TEXTOID, BOOLOID],
            ),
            peek: Statement::new(under_way, [INT8OID]),
            load: Statement::new(format!("{under_way} FOR UPDATE OF r, i"), [INT8OID]),
            open_pass: Statement::new(
                "SELECT r.run, i.phase = 'deleting' AND r.at < clock_timestamp() - least(w.every, interval '4000 years')
                 FROM tombstone.run r JOIN tombstone.inquiry i USING (run) JOIN tombstone.watched w USING (managed)
                 WHERE r.managed = $1 AND r.action = 'watch' AND r.ended IS NULL LIMIT 1",
                [INT4OID],
            ),
            tally: Statement::new(
                "UPDATE tombstone.inquiry
                 SET asked = asked + $2, missing = missing + $3, restored = restored + $4, kept = kept + $5,
                     questions = questions + $6, rounds = rounds + $7, remarks = (remarks || $8)[1:$9], lost = lost + $10
                 WHERE run = $1",
                [INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTARRAYOID, INT4OID, INT8OID],
            ),
            move_to: Statement::new(
                "UPDATE tombstone.inquiry SET phase = $2, position = $3 WHERE run = $1",
                [INT8OID, TEXTOID, TEXTOID],
            ),
            // What earlier runs of the table have left for somebody to look at is old by then. The runs are locked, so that whoever
            // forgets old ones passes these by, rather than wait for what is deleted with them.
            clear: Statement::new(
                "WITH earlier AS (SELECT run FROM tombstone.run WHERE managed = $1 AND ended IS NOT NULL FOR KEY SHARE)
                 DELETE FROM tombstone.suspect s USING earlier WHERE s.run = earlier.run",
                [INT4OID],
            ),
            clear_batches: Statement::new("DELETE FROM tombstone.batch WHERE run = $1", [INT8OID]),
            clear_suspects: Statement::new("DELETE FROM tombstone.suspect WHERE run = $1", [INT8OID]),
            close: Statement::new(
                "WITH over AS (
                     UPDATE tombstone.run SET ended = clock_timestamp(), outcome = 'ended', detail = $2
                     WHERE managed = $1 AND action = 'watch' AND ended IS NULL RETURNING run),
                 batches AS (DELETE FROM tombstone.batch b USING over WHERE b.run = over.run)
                 DELETE FROM tombstone.suspect s USING over WHERE s.run = over.run",
                [INT4OID, TEXTOID],
            ),
            // Passes whose process is gone wait for the next one; what nobody goes on with any more is ended. Those that somebody is
            // about to change are left to him.
            tidy: Statement::new(
                "WITH free AS (
                     SELECT r.run, r.action, w.managed IS NOT NULL AS watched
                     FROM tombstone.run r LEFT JOIN tombstone.watched w USING (managed)
                     WHERE r.ended IS NULL
                       AND (r.action = 'watch'
                            AND (w.managed IS NULL OR r.pid IS NOT NULL AND NOT EXISTS (
                                SELECT FROM pg_stat_get_activity(r.pid) a WHERE a.backend_start = r.backend_start))
                            OR r.action = 'reconcile' AND r.at < clock_timestamp() - interval '30 days')
                     FOR UPDATE OF r SKIP LOCKED
                 ), over AS (
                     SELECT run FROM free WHERE action = 'reconcile' OR NOT watched
                 ), batches AS (
                     DELETE FROM tombstone.batch b USING over WHERE b.run = over.run
                 ), waits AS (
                     UPDATE tombstone.run r SET pid = NULL, backend_start = NULL FROM free f
                     WHERE r.run = f.run AND f.action = 'watch' AND f.watched
                 )
                 UPDATE tombstone.run r SET ended = clock_timestamp(), outcome = 'interrupted', detail = 'nobody has gone on with it'
                 FROM over WHERE r.run = over.run",
                [],
            ),
        }
    }
}

fn with<T>(act: impl FnOnce(&Statements) -> Result<T>) -> Result<T> {
    acting_as(keeper(), || STATEMENTS.with(|statements| act(statements)))
}

/// Begins the inquiry of `run`.
pub fn begin(run: Run, phase: Phase, manner: &Manner) -> Result<()> {
    let most = manner.max_missing.map(|Share(millionths)| millionths as i32);
    let arguments = [run.number.into(), phase.name().into(), most.into(), manner.strategy.name().into(), manner.restore.into()];
    with(|statements| statements.begin.execute(&arguments).map(drop))
}

/// What earlier runs of the table numbered `managed` have left for somebody to look at, goes: a pass begins.
pub fn clear(managed: i32) -> Result<()> {
    with(|statements| statements.clear.execute(&[managed.into()]).map(drop))
}

/// The inquiry of the run numbered `run`; `None` where there is none, or it has ended.
pub fn peek(run: i64) -> Result<Option<Inquiry>> {
    under_way(run, |statements| &statements.peek)
}

/// The same, locked until the transaction ends: whoever ends the run waits, or has ended it.
pub fn load(run: i64) -> Result<Option<Inquiry>> {
    under_way(run, |statements| &statements.load)
}

fn under_way(run: i64, statement: fn(&Statements) -> &Statement) -> Result<Option<Inquiry>> {
    let count = |value: Option<i64>| value.unwrap_or_default().unsigned_abs();
    with(|statements| {
        let rows = statement(statements).rows(&[run.into()], |row| {
            let phase = row.get::<String>(2)?.unwrap_or_default();
            Ok(Inquiry {
                run: Run { number: run, managed: row.get(1)?.unwrap_or_default() },
                phase: Phase::ALL.into_iter().find(|known| known.name() == phase).unwrap_or(Phase::Reappeared),
                position: row.get(3)?,
                manner: Manner {
                    max_missing: row.get::<i32>(4)?.map(|millionths| Share(millionths.unsigned_abs())),
                    strategy: row.get::<String>(5)?.and_then(|name| Strategy::from_name(&name)).unwrap_or(Strategy::Level),
                    restore: row.get(6)?.unwrap_or_default(),
                },
                due: count(row.get(14)?),
                tally: Tally {
                    asked: count(row.get(7)?),
                    missing: count(row.get(8)?),
                    restored: count(row.get(9)?),
                    kept: count(row.get(10)?),
                    lost: count(row.get(15)?),
                    remarks: row.get(11)?.unwrap_or_default(),
                    cost: Cost { questions: count(row.get(12)?), rounds: count(row.get(13)?) },
                },
            })
        })?;
        Ok(rows.into_iter().next())
    })
}

/// The pass of the table numbered `managed` that is under way, or waits for somebody to go on with it; and whether it has asked after
/// all it was to ask after, and the next one is due by now.
pub fn open_pass(managed: i32) -> Result<Option<(Run, bool)>> {
    with(|statements| {
        let runs = statements.open_pass.rows(&[managed.into()], |row| Ok((row.get::<i64>(1)?, row.get::<bool>(2)?)))?;
        let found =
            |(number, overdue): (Option<i64>, Option<bool>)| Some((Run { number: number?, managed }, overdue == Some(true)));
        Ok(runs.into_iter().find_map(found))
    })
}

/// Adds what a step has found.
pub fn add(run: Run, tally: Tally) -> Result<()> {
    let Tally { asked, missing, restored, kept, lost, cost, remarks } = tally;
    let number = |count: u64| DatumWithOid::from(i64::try_from(count).unwrap_or(i64::MAX));
    let arguments = [
        run.number.into(),
        number(asked),
        number(missing),
        number(restored),
        number(kept),
        number(cost.questions),
        number(cost.rounds),
        remarks.into(),
        (REMARKS as i32).into(),
        number(lost),
    ];
    with(|statements| statements.tally.execute(&arguments).map(drop))
}

/// Notes where a run has come to.
pub fn move_to(run: Run, phase: Phase, position: Option<&str>) -> Result<()> {
    with(|statements| statements.move_to.execute(&[run.number.into(), phase.name().into(), position.into()]).map(drop))
}

/// Ends a run, with all that is kept for whoever would go on with it; what a source lacks stays to be looked at where it was not seen
/// to. False where it has ended.
pub fn end(run: Run, outcome: &str, detail: Option<&str>) -> Result<bool> {
    let ended = run.end(outcome, detail)?;
    with(|statements| {
        statements.clear_batches.execute(&[run.number.into()])?;
        if ["done", "ended"].contains(&outcome) {
            statements.clear_suspects.execute(&[run.number.into()])?;
        }
        Ok(ended)
    })
}

/// What somebody may do about a run that was refused.
pub fn advice(run: Run) -> String {
    format!("see tombstone.suspects for run {}, and confirm => true for those you name", run.number)
}

/// Ends the pass of the table numbered `managed`, if one is under way, because of `why`.
pub fn close_pass(managed: i32, why: &str) -> Result<()> {
    with(|statements| statements.close.execute(&[managed.into(), why.into()]).map(drop))
}

/// Sees to the runs whose processes are gone, and to those that nobody goes on with.
pub fn tidy() -> Result<()> {
    with(|statements| statements.tidy.execute(&[]).map(drop))
}

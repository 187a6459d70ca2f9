//! `tombstone.inquiry`: how far the runs that ask a source have come. Enough is kept here for any process to go on with a run whose
//! own has ended, in whichever way. Written in the keeper's name, and by nobody else. The run itself, its batches and its suspects are in
//! tables of their own: whoever ends a run here has `log/run`, `stored` and `suspects` write these.

use counting::Strategy;
use pgrx::datum::DatumWithOid;

use super::safety::Share;
use super::tally::{Cost, REMARKS, Tally};
use super::watched::Manner;
use super::{stored, suspects};
use crate::backend::own_table::{OwnStatement, own_statements};
use crate::error::Result;
use crate::log::run::{self, Run};

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

    fn from_name(name: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.name() == name)
    }

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

own_statements! {
    BEGIN(INT8, TEXT, INT4, TEXT, BOOL) =
        "INSERT INTO tombstone.inquiry (run, phase, max_missing, strategy, restore) VALUES ($1, $2, $3 / 1000000.0, $4, $5)";
    PEEK(INT8) = UNDER_WAY;
    LOAD(INT8) = format!("{UNDER_WAY} FOR UPDATE OF r, i");
    OPEN_PASS(INT4) =
        "SELECT r.run, i.phase = 'deleting' AND r.at < clock_timestamp() - least(w.every, interval '4000 years')
         FROM tombstone.run r JOIN tombstone.inquiry i USING (run) JOIN tombstone.watched w USING (managed)
         WHERE r.managed = $1 AND r.action = 'watch' AND r.ended IS NULL LIMIT 1";
    TALLY(INT8, INT8, INT8, INT8, INT8, INT8, INT8, TEXT_ARRAY, INT4, INT8) =
        "UPDATE tombstone.inquiry
         SET asked = asked + $2, missing = missing + $3, restored = restored + $4, kept = kept + $5,
             questions = questions + $6, rounds = rounds + $7, remarks = (remarks || $8)[1:$9], lost = lost + $10
         WHERE run = $1";
    MOVE_TO(INT8, TEXT, TEXT) = "UPDATE tombstone.inquiry SET phase = $2, position = $3 WHERE run = $1";
    // The runs that no living process is at, or nobody goes on with; whether there will be another process for it. Those that
    // somebody is about to change are left to him.
    FREE() =
        "SELECT r.run, r.action = 'watch' AND w.managed IS NOT NULL
         FROM tombstone.run r LEFT JOIN tombstone.watched w USING (managed)
         WHERE r.ended IS NULL
           AND (r.action = 'watch'
                AND (w.managed IS NULL OR r.pid IS NOT NULL AND NOT EXISTS (
                    SELECT FROM pg_stat_get_activity(r.pid) a WHERE a.backend_start = r.backend_start))
                OR r.action = 'reconcile' AND r.at < clock_timestamp() - interval '30 days')
         FOR UPDATE OF r SKIP LOCKED";
}

/// What is read of a run under way.
const UNDER_WAY: &str = "SELECT r.managed, i.phase, i.position, (i.max_missing * 1000000)::int4, i.strategy, i.restore,
                                i.asked, i.missing, i.restored, i.kept, i.remarks, i.questions, i.rounds, r.due, i.lost
                         FROM tombstone.run r JOIN tombstone.inquiry i USING (run) WHERE r.run = $1 AND r.ended IS NULL";

/// Begins the inquiry of `run`.
pub fn begin(run: Run, phase: Phase, manner: &Manner) -> Result<()> {
    let most = manner.max_missing.map(|Share(millionths)| millionths as i32);
    let arguments = [run.number.into(), phase.name().into(), most.into(), manner.strategy.name().into(), manner.restore.into()];
    BEGIN.run(&arguments)
}

/// The inquiry of the run numbered `run`; `None` where there is none, or it has ended.
pub fn peek(run: i64) -> Result<Option<Inquiry>> {
    under_way(run, &PEEK)
}

/// The same, locked until the transaction ends: whoever ends the run waits, or has ended it.
pub fn load(run: i64) -> Result<Option<Inquiry>> {
    under_way(run, &LOAD)
}

fn under_way(run: i64, statement: &OwnStatement) -> Result<Option<Inquiry>> {
    statement.first(&[run.into()], |row| {
        Ok(Inquiry {
            run: Run { number: run, managed: row.get(1)? },
            phase: row.parsed(2, Phase::from_name)?,
            position: row.nullable(3)?,
            manner: Manner {
                max_missing: row.nullable::<i32>(4)?.map(|millionths| Share(millionths.unsigned_abs())),
                strategy: row.parsed(5, Strategy::from_name)?,
                restore: row.get(6)?,
            },
            due: row.count(14)?,
            tally: Tally {
                asked: row.count(7)?,
                missing: row.count(8)?,
                restored: row.count(9)?,
                kept: row.count(10)?,
                lost: row.count(15)?,
                remarks: row.get(11)?,
                cost: Cost { questions: row.count(12)?, rounds: row.count(13)? },
            },
        })
    })
}

/// The pass of the table numbered `managed` that is under way, or waits for somebody to go on with it; and whether it has asked after
/// all it was to ask after, and the next one is due by now.
pub fn open_pass(managed: i32) -> Result<Option<(Run, bool)>> {
    OPEN_PASS.first(&[managed.into()], |row| Ok((Run { number: row.get(1)?, managed }, row.get(2)?)))
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
    TALLY.run(&arguments)
}

/// Notes where a run has come to.
pub fn move_to(run: Run, phase: Phase, position: Option<&str>) -> Result<()> {
    MOVE_TO.run(&[run.number.into(), phase.name().into(), position.into()])
}

/// Ends a run, with all that is kept for whoever would go on with it; what a source lacks stays to be looked at where it was not seen
/// to. False where it has ended.
pub fn end(run: Run, outcome: &str, detail: Option<&str>) -> Result<bool> {
    let ended = run.end(outcome, detail)?;
    stored::clear(vec![run.number])?;
    if ["done", "ended"].contains(&outcome) {
        suspects::clear(vec![run.number])?;
    }
    Ok(ended)
}

/// What somebody may do about a run that was refused.
pub fn advice(run: Run) -> String {
    format!("see tombstone.suspects for run {}, and confirm => true for those you name", run.number)
}

/// Ends the pass of the table numbered `managed`, if one is under way, because of `why`.
pub fn close_pass(managed: i32, why: &str) -> Result<()> {
    let over = run::close(managed, "watch", why)?;
    if over.is_empty() {
        return Ok(());
    }
    stored::clear(over.clone())?;
    suspects::clear(over)
}

/// Sees to the runs whose processes are gone, and to those that nobody goes on with: passes wait for the next process, what nobody goes
/// on with any more is ended.
pub fn tidy() -> Result<()> {
    let free = FREE.rows(&[], |row| Ok((row.get::<i64>(1)?, row.get::<bool>(2)?)))?;
    let numbered = |waits: bool| free.iter().filter(|run| run.1 == waits).map(|run| run.0).collect::<Vec<_>>();
    let (wait, over) = (numbered(true), numbered(false));
    if !wait.is_empty() {
        run::release(wait)?;
    }
    if !over.is_empty() {
        run::end(over.clone(), "interrupted", "nobody has gone on with it")?;
        stored::clear(over)?;
    }
    Ok(())
}

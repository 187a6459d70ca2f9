//! Expiry or purge of one table, again and again: look what is due, take it batch by batch, rest.

use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::batch::{self, BatchEnd, Kept, Look};
use super::chore::{Chore, ChoreEnd, ChoreId, TOLD_EVERY, backoff, first};
use super::host::Host;
use super::pace::Pace;
use crate::backend::spool::Spool;
use crate::error::{Error, Result};
use crate::lifecycle::rule::Action;
use crate::log::run::{self, Run};
use crate::settings;
use crate::table::Terms;

/// The next look is this many times as long away as the last one took: a table without a fitting index is read whole.
const LOOKS_APART: u32 = 50;

pub struct Taking {
    host: Host,
    number: i32,
    relation: pg_sys::Oid,
    /// The table's name: between transactions there is no looking it up.
    name: String,
    action: Action,
    next: Instant,
    /// How often in a row it has failed, or found what is due and could take none of it.
    failures: u32,
    under_way: Option<UnderWay>,
}

/// A run.
struct UnderWay {
    run: Run,
    rows: Spool,
    pace: Pace,
    began: Instant,
    told: Instant,
    looked_for: Duration,
    /// Rows taken, and records that could not be, with why the last one could not.
    taken: u64,
    kept: Kept,
}

/// What follows when nothing is left to do for now.
struct Rest {
    least: Duration,
    /// Whether something was due, and nothing could be taken.
    in_vain: bool,
}

/// What comes next for a run.
enum Next {
    Batch(Duration),
    Over,
}

impl Taking {
    pub fn new(host: Host, terms: &Terms, action: Action, failures: run::Failures) -> Taking {
        let (number, relation, name) = (terms.number, terms.relation, terms.title.clone());
        let (next, failures) = (first(host, failures), failures.in_a_row);
        Taking { host, number, relation, name, action, next, failures, under_way: None }
    }
}

impl Chore for Taking {
    fn key(&self) -> ChoreId {
        (self.number, self.action.name())
    }

    fn next(&self) -> Instant {
        self.next
    }

    /// Looks, or takes batch after batch.
    fn work(&mut self, until: Instant) -> Option<ChoreEnd> {
        let outcome = match self.under_way.take() {
            None => self.look(),
            Some(under_way) => self.take(under_way, until),
        };
        match outcome {
            Ok(None) => None,
            Ok(Some(Rest { least, in_vain })) => {
                self.failures = if in_vain { self.failures + 1 } else { 0 };
                self.next = Instant::now() + least.max(backoff(self.failures));
                Some(ChoreEnd::Rests)
            }
            Err(error) => {
                self.failures += 1;
                self.next = Instant::now() + backoff(self.failures);
                Some(ChoreEnd::Failed(error))
            }
        }
    }

    fn break_off(&mut self, outcome: &str, why: &str) {
        if let Some(under_way) = self.under_way.take() {
            self.end(&under_way, outcome, Some(why.to_string()));
        }
    }
}

impl Taking {
    fn look(&mut self) -> Result<Option<Rest>> {
        self.host.show(&format!("looking what is to be {} in {}", self.action.participle(), self.name));
        self.tend_parts()?;
        let began = Instant::now();
        let look = self.host.transaction(|| batch::look(self.number, self.relation, self.action));
        let (now, looked_for) = (Instant::now(), began.elapsed());
        match look {
            Ok(Look::Nothing) => Ok(Some(Rest { least: rest_after(looked_for), in_vain: false })),
            Ok(Look::Refused { due, most }) => {
                let (message, hint) = refusal(&self.name, self.action, due, &most);
                self.host.warn(&message, Some(&hint));
                Ok(Some(Rest { least: rest_after(looked_for), in_vain: true }))
            }
            Ok(Look::Due(run, rows)) => {
                let pace = Pace::new(settings::batch_time(), settings::rate());
                let kept = Kept::default();
                self.under_way = Some(UnderWay { run, rows, pace, began, told: began, looked_for, taken: 0, kept });
                self.next = now;
                Ok(None)
            }
            Err(error) => {
                let note = || run::note_failure(self.number, self.action.name(), &error.summary());
                self.host.transaction(note)?;
                self.tell_failure(&error);
                Err(error)
            }
        }
    }

    /// What can be had of an archive without looking at its rows. Whoever is in the way has it done another time.
    fn tend_parts(&self) -> Result<()> {
        if self.action != Action::Purge {
            return Ok(());
        }
        loop {
            match self.host.transaction(|| batch::tend_parts(self.number, self.relation)) {
                Ok(true) => (),
                Ok(false) => break,
                Err(error) if error.is_transient() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, mut taking: UnderWay, until: Instant) -> Result<Option<Rest>> {
        loop {
            match self.batch(&mut taking) {
                Ok(Next::Batch(wait)) => {
                    self.next = Instant::now() + wait;
                    if !wait.is_zero() || Instant::now() >= until {
                        self.under_way = Some(taking);
                        return Ok(None);
                    }
                }
                Ok(Next::Over) => {
                    let in_vain = taking.taken == 0 && taking.kept.records > 0;
                    return Ok(Some(Rest { least: rest_after(taking.looked_for), in_vain }));
                }
                Err(error) => {
                    let outcome = if error.is_cancellation() { "interrupted" } else { "failed" };
                    self.end(&taking, outcome, Some(error.summary()));
                    return Err(error);
                }
            }
        }
    }

    fn batch(&mut self, taking: &mut UnderWay) -> Result<Next> {
        self.show(taking);
        let began = Instant::now();
        let UnderWay { run, rows, pace, kept, .. } = taking;
        pace.keep_to(settings::batch_time(), settings::rate());
        let batch = batch::take(self.host, run, self.relation, self.action, rows, pace.rows(), kept)?;
        match batch {
            BatchEnd::Took { rows, taken, written } => {
                taking.taken += taken;
                Ok(Next::Batch(pace.after(rows, written, began.elapsed())))
            }
            BatchEnd::None => {
                let detail = detail(taking);
                self.end(taking, "done", detail);
                Ok(Next::Over)
            }
            BatchEnd::Failed(error) => Err(error),
            BatchEnd::Ended(why) => {
                self.end(taking, "ended", Some(why.to_string()));
                Ok(Next::Over)
            }
        }
    }

    fn show(&self, taking: &mut UnderWay) {
        let (name, taken, due) = (&self.name, taking.taken, taking.rows.rows());
        let done = format!("{name}: {taken} of {due} {}", self.action.participle());
        self.host.show(&done);
        if self.host == Host::Session && taking.told.elapsed() >= TOLD_EVERY {
            taking.told = Instant::now();
            self.host.progress(&done);
        }
    }

    /// Notes the end of a run. That it cannot be noted must not keep the others from their turn: it is found unfinished later.
    fn end(&self, taking: &UnderWay, outcome: &str, detail: Option<String>) {
        let noted = self.host.transaction(|| taking.run.end(outcome, detail.as_deref()));
        let seconds = taking.began.elapsed().as_secs_f64();
        let (name, participle, taken) = (&self.name, self.action.participle(), taking.taken);
        let mut message = match outcome {
            "done" => format!("{name}: {taken} records {participle} in {seconds:.1} s"),
            outcome => format!("{name}: {taken} records {participle}, then {outcome}"),
        };
        if let Some(detail) = detail {
            message += &format!(": {detail}");
        }
        if let Err(error) = noted {
            message += &format!(" (not noted: {})", error.summary());
        }
        if outcome == "failed" { self.host.warn(&message, None) } else { self.host.tell(&message, None) }
    }

    fn tell_failure(&self, error: &Error) {
        let message = format!("{}: nothing can be {}: {}", self.name, self.action.participle(), error.summary());
        self.host.warn(&message, None);
    }
}

/// What a run that is done has left, if anything.
fn detail(taking: &UnderWay) -> Option<String> {
    let UnderWay { rows, taken, kept, .. } = taking;
    let skipped = rows.rows().saturating_sub(*taken + kept.records);
    let skipped = (skipped > 0).then(|| format!("{skipped} were locked, not due any more, or kept by a trigger"));
    let kept = kept.why.as_ref().map(|why| format!("{} could not be: {why}", kept.records));
    let all: Vec<String> = kept.into_iter().chain(skipped).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn refusal(name: &str, action: Action, due: u64, most: &str) -> (String, String) {
    (
        format!("{name}: none of {due} records {}: max_purge is {most}", action.participle()),
        format!("SELECT * FROM tombstone.preview('{name}'); then raise max_purge with configure(), if that is what should go."),
    )
}

fn rest_after(looked_for: Duration) -> Duration {
    settings::naptime().max(looked_for * LOOKS_APART)
}

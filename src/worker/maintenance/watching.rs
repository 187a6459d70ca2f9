//! A watcher's passes over one table: ask its source after every record, batch by batch; then, unless too much is missing, delete
//! what is. Each question is a transaction of its own, and so is each batch that is settled: what has been found out outlives any
//! process, and the next one goes on there.

use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::batch::in_our_settings;
use super::chore::{Chore, Key, Outcome, TOLD_EVERY, backoff};
use super::host::Host;
use super::is_paused;
use super::pace::Pace;
use crate::backend::relation::{LockFor, lock};
use crate::error::{Error, Result};
use crate::lifecycle::layout;
use crate::log::event;
use crate::log::run::{self, Run};
use crate::settings;
use crate::table::{Table, Terms, by_oid, terms_of};
use crate::watch::batch::{Batch, Cost};
use crate::watch::inquiry::{self, Inquiry, Phase, Tally};
use crate::watch::pages::Pages;
use crate::watch::suspects::{self, Rights, Suspects};
use crate::watch::watched::{self, Watched};
use crate::watch::{retry, revival};

/// As runs have it.
pub const ACTION: &str = "watch";

const ONE_QUESTION: Cost = Cost { questions: 1, rounds: 1 };

/// So many batches wait at most for another try: then a pass waits with them.
const MOST_ASIDE: usize = 8;

pub struct Watching {
    host: Host,
    number: i32,
    relation: pg_sys::Oid,
    /// The table's name: between transactions there is no looking it up.
    name: String,
    next: Instant,
    /// How often in a row it has failed.
    failures: u32,
    pass: Option<Pass>,
}

/// A pass under way.
struct Pass {
    run: Run,
    /// What it is at, and the id up to which that has come.
    phase: Phase,
    position: Option<String>,
    /// How many records there were to ask after, and how many have been answered for.
    due: u64,
    asked: u64,
    batch: Option<Asked>,
    /// Batches that have failed, and are asked about again later.
    aside: Vec<Asked>,
    lost_in_a_row: u32,
    /// Of the last questions: the batch before the one to be asked about, and how often that has failed.
    suspects_after: i32,
    failures: u32,
    told: Instant,
}

/// A batch, and how often its questions have failed.
struct Asked {
    batch: Batch,
    failures: u32,
    again: Instant,
}

/// What a step of a pass has come to.
enum Step {
    /// On with the next one, after so long.
    On(Duration),
    /// It is over, and noted as such.
    Over,
    /// It is over for this process: the table is paused, watched otherwise or no more, or dropped.
    Left,
}

/// What a step is about, as it is now.
struct Here {
    table: Rc<Table>,
    watched: Watched,
    inquiry: Inquiry,
}

impl Watching {
    pub fn new(host: Host, terms: &Terms, failures: run::Failures) -> Watching {
        // As for expiry and purge: a session does not rest, a worker goes on resting.
        let rest =
            if host == Host::Worker { backoff(failures.in_a_row).saturating_sub(failures.since) } else { Duration::ZERO };
        let (number, relation, name) = (terms.number, terms.relation, terms.title.clone());
        Watching { host, number, relation, name, next: Instant::now() + rest, failures: failures.in_a_row, pass: None }
    }
}

impl Chore for Watching {
    fn key(&self) -> Key {
        (self.number, ACTION)
    }

    fn next(&self) -> Instant {
        self.next
    }

    /// Begins a pass, or goes on with it step by step.
    fn work(&mut self, until: Instant) -> Option<Outcome> {
        let outcome = match self.pass.take() {
            None => self.begin(),
            Some(pass) => self.go_on(pass, until),
        };
        match outcome {
            Ok(false) => None,
            Ok(true) => {
                self.failures = 0;
                self.next = Instant::now() + settings::naptime();
                Some(Outcome::Rests)
            }
            Err(error) => {
                self.failures += 1;
                self.next = Instant::now() + backoff(self.failures);
                Some(Outcome::Failed(error))
            }
        }
    }

    /// Whoever comes next goes on with it.
    fn break_off(&mut self, _outcome: &str, why: &str) {
        if let Some(pass) = self.pass.take() {
            self.host.tell(&format!("{}: {} of {} records asked after, then {why}", self.name, pass.asked, pass.due), None);
            self.release(&pass);
        }
    }
}

impl Watching {
    /// Begins a pass, or takes up one that waits; whether there is nothing to do.
    fn begin(&mut self) -> Result<bool> {
        self.host.show(&format!("beginning to ask the source of {}", self.name));
        let begun = self.host.transaction(|| in_our_settings(|| begin(self.number, self.relation)));
        match begun {
            Ok(Some(pass)) => {
                self.pass = Some(pass);
                self.next = Instant::now();
                Ok(false)
            }
            Ok(None) => Ok(true),
            Err(error) => {
                self.host.transaction(|| run::note_failure(self.number, ACTION, &error.summary()))?;
                self.host.warn(&format!("{}: its source cannot be asked: {}", self.name, error.summary()), None);
                Err(error)
            }
        }
    }

    /// Whether it is over.
    fn go_on(&mut self, mut pass: Pass, until: Instant) -> Result<bool> {
        loop {
            self.show(&mut pass);
            match self.step(&mut pass) {
                Ok(Step::On(wait)) => {
                    self.next = Instant::now() + wait;
                    if !wait.is_zero() || Instant::now() >= until {
                        self.pass = Some(pass);
                        return Ok(false);
                    }
                }
                Ok(Step::Over) => return Ok(true),
                Ok(Step::Left) => {
                    self.release(&pass);
                    return Ok(true);
                }
                // Somebody was in the way, or wanted it to stop: whoever comes next goes on with it.
                Err(error) if error.is_cancellation() || error.is_transient() => {
                    self.release(&pass);
                    return Err(error);
                }
                Err(error) => {
                    self.fail(&pass, &error.summary())?;
                    return Err(error);
                }
            }
        }
    }

    fn step(&mut self, pass: &mut Pass) -> Result<Step> {
        if pass.phase == Phase::Deleting {
            return self.delete_next(pass);
        }
        let Some(mut asked) = pass.batch.take().or_else(|| pass.next_aside()) else { return self.fetch(pass) };
        if asked.batch.missing().is_some() {
            return self.settle(pass, asked);
        }
        match self.ask(pass, &mut asked.batch)? {
            None => return Ok(Step::Left),
            Some(Ok(())) => pass.batch = Some(asked),
            Some(Err(error)) if error.is_cancellation() => return Err(error),
            Some(Err(error)) => return self.put_aside(pass, asked, &error),
        }
        Ok(Step::On(Duration::ZERO))
    }

    /// Asks one question about a batch; `None`: nobody wants to know any more.
    fn ask(&self, pass: &Pass, batch: &mut Batch) -> Result<Option<Result<()>>> {
        self.transaction(|| {
            let here = self.here(pass, LockFor::Reading)?;
            Ok(here.map(|here| batch.ask(&here.table, &here.watched.probe)))
        })
    }

    /// A batch that has failed: it is asked about again after a while, or given up.
    fn put_aside(&mut self, pass: &mut Pass, mut asked: Asked, error: &Error) -> Result<Step> {
        asked.failures += 1;
        if let Some(pause) = retry::pause(asked.failures) {
            asked.again = Instant::now() + pause;
            pass.aside.push(asked);
            return Ok(Step::On(Duration::ZERO));
        }
        pass.lost_in_a_row += 1;
        let mut tally = Tally::of_cost(asked.batch.take_cost());
        tally.remark(format!("{} could not be asked about: {}", asked.batch.title(), error.summary()));
        self.transaction(|| inquiry::add(pass.run, tally))?;
        if pass.lost_in_a_row < retry::LOST_IN_A_ROW {
            return Ok(Step::On(Duration::ZERO));
        }
        Err(Error::no_answer(format!("the source cannot be asked: {}", error.summary())))
    }

    /// Reads the next batch; where there are no more, the pass goes on to its next phase.
    fn fetch(&mut self, pass: &mut Pass) -> Result<Step> {
        if pass.aside.len() >= MOST_ASIDE {
            return Ok(pass.wait());
        }
        let page = self.transaction(|| {
            let Some(here) = self.here(pass, LockFor::Reading)? else { return Ok(None) };
            let (mut pages, most) = (Pages::After(pass.position.clone()), here.watched.batch);
            let page = match pass.phase {
                Phase::Reappeared => pages.next_vanished(&here.table, most)?,
                _ => pages.next_live(&here.table, most)?,
            };
            Ok(Some((Batch::new(page, here.inquiry.manner.strategy), pages)))
        })?;
        let Some((batch, pages)) = page else { return Ok(Step::Left) };
        if batch.size() > 0 {
            if let Pages::After(position) = pages {
                pass.position = position;
            }
            pass.batch = Some(Asked { batch, failures: 0, again: Instant::now() });
            return Ok(Step::On(Duration::ZERO));
        }
        if !pass.aside.is_empty() {
            return Ok(pass.wait());
        }
        match pass.phase {
            Phase::Reappeared => self.move_on(pass, Phase::Missing),
            _ => self.move_on(pass, Phase::Deleting),
        }
    }

    fn move_on(&self, pass: &mut Pass, phase: Phase) -> Result<Step> {
        self.transaction(|| inquiry::move_to(pass.run, phase, None))?;
        (pass.phase, pass.position) = (phase, None);
        Ok(Step::On(Duration::ZERO))
    }

    /// Notes what has been found out about a batch.
    fn settle(&mut self, pass: &mut Pass, mut asked: Asked) -> Result<Step> {
        pass.lost_in_a_row = 0;
        let cost = Tally::of_cost(asked.batch.take_cost());
        let batch = &asked.batch;
        let refusal = self.transaction(|| {
            let Some(here) = self.here(pass, LockFor::Writing)? else { return Ok(None) };
            inquiry::add(pass.run, cost)?;
            if pass.phase == Phase::Reappeared {
                inquiry::add(pass.run, revival::restore(&here.table, batch.present(), Rights::Maintenance)?)?;
            } else {
                inquiry::add(pass.run, batch.tally())?;
                if let Some(suspects) = Suspects::of(batch, 0) {
                    suspects.store(pass.run)?;
                }
            }
            inquiry::move_to(pass.run, pass.phase, pass.position.as_deref())?;
            let most = here.inquiry.manner.max_missing;
            Ok(Some(Some(most).filter(|_| pass.phase == Phase::Missing).and_then(|most| batch.refusal(most))))
        })?;
        pass.asked += batch.tally().asked;
        match refusal {
            None => Ok(Step::Left),
            Some(Some(why)) => self.refuse(pass, &why),
            Some(None) => Ok(Step::On(Duration::ZERO)),
        }
    }

    /// Asks once more after what is missing of a batch, and deletes it.
    fn delete_next(&mut self, pass: &mut Pass) -> Result<Step> {
        let began = Instant::now();
        let deleted = self.transaction(|| {
            let Some(here) = self.here(pass, LockFor::Reading)? else { return Ok(Deleted::Left) };
            let Some(suspects) = suspects::next(pass.run, pass.suspects_after)? else { return Ok(Deleted::NoMore) };
            let answer = here.watched.probe.ask(&here.table, &suspects.question());
            match answer.and_then(|answer| suspects.confirm(&answer)) {
                Err(error) if error.is_cancellation() => Err(error),
                Err(error) => Ok(Deleted::Not(suspects, error)),
                Ok(()) => self.delete(pass, &suspects),
            }
        });
        match deleted? {
            Deleted::Left => Ok(Step::Left),
            Deleted::NoMore => self.end(pass),
            Deleted::Not(suspects, error) => self.delete_later(pass, suspects, &error),
            Deleted::Some { batch, records, written } => {
                (pass.suspects_after, pass.failures, pass.lost_in_a_row) = (batch, 0, 0);
                let mut pace = Pace::new(settings::batch_time(), settings::rate());
                Ok(Step::On(pace.after(records, written, began.elapsed())))
            }
        }
    }

    /// Deletes suspects that the source has confirmed, unless somebody has ended the pass in the meantime.
    fn delete(&self, pass: &Pass, suspects: &Suspects) -> Result<Deleted> {
        let Some(here) = self.here(pass, LockFor::Writing)? else { return Ok(Deleted::Left) };
        let before = event::noted();
        let mut tally = suspects.delete(&here.table, here.inquiry.manner.restore, Rights::Maintenance)?;
        let written = event::noted() - before;
        let records = suspects.size() - tally.kept;
        tally.add(Tally::of_cost(ONE_QUESTION));
        pass.run.count(records)?;
        suspects.remove(pass.run)?;
        inquiry::add(pass.run, tally)?;
        Ok(Deleted::Some { batch: suspects.batch, records: records as usize, written })
    }

    fn delete_later(&mut self, pass: &mut Pass, suspects: Suspects, error: &Error) -> Result<Step> {
        pass.failures += 1;
        let mut tally = Tally::of_cost(ONE_QUESTION);
        let pause = retry::pause(pass.failures);
        if pause.is_none() {
            tally.keep(suspects.size(), format!("{}: {}", suspects.title(), error.summary()));
            (pass.suspects_after, pass.failures) = (suspects.batch, 0);
        }
        self.transaction(|| inquiry::add(pass.run, tally))?;
        Ok(Step::On(pause.unwrap_or_default()))
    }

    fn end(&mut self, pass: &Pass) -> Result<Step> {
        let number = self.number;
        let ended = self.transaction(|| {
            let Some(inquiry) = inquiry::load(pass.run.number)? else { return Ok(None) };
            let (outcome, detail) = (inquiry.tally.outcome(), inquiry.tally.detail());
            pass.run.end(outcome, detail.as_deref())?;
            inquiry::clear_suspects(pass.run)?;
            watched::put_off(number)?;
            Ok(Some((inquiry.tally, outcome, detail)))
        })?;
        let Some((tally, outcome, detail)) = ended else { return Ok(Step::Left) };
        let Tally { asked, cost, .. } = tally;
        let mut message = format!(
            "{}: {} of {asked} records deleted, after {} questions to their source",
            self.name,
            tally.deleted(),
            cost.questions
        );
        if let Some(detail) = detail {
            message += &format!(": {detail}");
        }
        if outcome == "failed" {
            self.host.warn(&message, None)
        } else {
            self.host.tell(&message, None)
        }
        Ok(Step::Over)
    }

    fn refuse(&mut self, pass: &Pass, why: &str) -> Result<Step> {
        let number = self.number;
        self.transaction(|| {
            pass.run.end("refused", Some(why))?;
            watched::put_off(number)
        })?;
        let hint = format!(
            "See tombstone.suspects for run {}. If they are gone indeed: SELECT * FROM tombstone.reconcile('{}', confirm => true);",
            pass.run.number, self.name
        );
        self.host.warn(&format!("{}: nothing is deleted: {why}", self.name), Some(&hint));
        Ok(Step::Over)
    }

    fn fail(&self, pass: &Pass, why: &str) -> Result<()> {
        self.host.warn(&format!("{}: nothing more is asked: {why}", self.name), None);
        self.transaction(|| pass.run.end("failed", Some(why)))
    }

    /// Leaves the pass to whoever comes next. That it cannot be noted is found out by then.
    fn release(&self, pass: &Pass) {
        if let Err(error) = self.transaction(|| pass.run.release()) {
            self.host.warn(&format!("{}: its pass is not noted as left: {}", self.name, error.summary()), None);
        }
    }

    fn show(&self, pass: &mut Pass) {
        let what = match pass.phase {
            Phase::Deleting => format!("{}: deleting what its source has not", self.name),
            _ => format!("{}: asking its source, {} of {} records", self.name, pass.asked, pass.due),
        };
        self.host.show(&what);
        if pass.told.elapsed() >= TOLD_EVERY {
            pass.told = Instant::now();
            self.host.progress(&what);
        }
    }

    /// The table, how it is watched, and how far the pass has come, as they are now; `None` where it is none of ours any more. For
    /// writing, nobody else ends the pass before the transaction does.
    fn here(&self, pass: &Pass, what_for: LockFor) -> Result<Option<Here>> {
        lock(self.relation, what_for);
        if terms_of(self.number)?.is_none_or(|terms| is_paused(&terms)) {
            return Ok(None);
        }
        let look = if what_for == LockFor::Writing { inquiry::load } else { inquiry::peek };
        let Some(inquiry) = look(pass.run.number)? else { return Ok(None) };
        let table = by_oid(self.relation)?;
        Ok(watched::of(&table)?.map(|watched| Here { table, watched, inquiry }))
    }

    fn transaction<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.host.transaction(|| in_our_settings(act))
    }
}

impl Pass {
    /// A batch that was put aside, if it is time for one.
    fn next_aside(&mut self) -> Option<Asked> {
        let now = Instant::now();
        let ready = self.aside.iter().position(|asked| asked.again <= now)?;
        Some(self.aside.swap_remove(ready))
    }

    /// Until it is time for the first of those put aside.
    fn wait(&self) -> Step {
        let first = self.aside.iter().map(|asked| asked.again).min();
        Step::On(first.map_or(Duration::ZERO, |first| first.saturating_duration_since(Instant::now())))
    }
}

/// What came of the last question about suspects.
enum Deleted {
    /// So many are not live any more; `written` rows were, with all that followed from them.
    Some {
        batch: i32,
        records: usize,
        written: u64,
    },
    Not(Suspects, Error),
    NoMore,
    Left,
}

fn begin(number: i32, relation: pg_sys::Oid) -> Result<Option<Pass>> {
    lock(relation, LockFor::Reading);
    if terms_of(number)?.is_none_or(|terms| is_paused(&terms)) {
        return Ok(None);
    }
    let table = by_oid(relation)?;
    let Some(watched) = watched::of(&table)? else { return Ok(None) };
    let due = table.evaluating(|| layout::of(&table).count_live(&table))?.unsigned_abs();
    let run = match inquiry::open_pass(number)? {
        Some(run) if run.claim()? => run,
        Some(_) => return Ok(None), // another process is at it
        None => {
            let Some(run) = Run::begin_alone(number, ACTION, due)? else { return Ok(None) };
            let phase = if watched.manner.restore { Phase::Reappeared } else { Phase::Missing };
            inquiry::begin(run, phase, &watched.manner)?;
            run
        }
    };
    let pass = inquiry::load(run.number)?.map(|Inquiry { phase, position, tally, .. }| Pass {
        run,
        phase,
        position,
        due,
        asked: tally.asked,
        batch: None,
        aside: Vec::new(),
        lost_in_a_row: 0,
        suspects_after: 0,
        failures: 0,
        told: Instant::now(),
    });
    Ok(pass)
}

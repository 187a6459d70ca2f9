//! A watcher's passes over one table: ask its source after every record, batch by batch; then, unless too much is missing, delete
//! what is (`deleting.rs`). Each question is a transaction of its own, and so is each batch that is settled: what has been found out outlives any
//! process, and the next one goes on there.

mod deleting;

use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use self::deleting::Deleting;
use super::chore::{Chore, ChoreEnd, ChoreId, TOLD_EVERY, backoff, first};
use super::host::Host;
use super::is_paused;
use crate::backend::relation::{LockFor, lock};
use crate::backend::subtransaction::attempt;
use crate::error::{Error, Result};
use crate::lifecycle::layout::live;
use crate::log::run::{self, Run};
use crate::settings::{self, in_our_settings};
use crate::table::{Table, Terms, by_oid, terms_of};
use crate::watch::batch::Questions;
use crate::watch::inquiry::{self, Inquiry, Phase};
use crate::watch::pages::Pages;
use crate::watch::probe::Probe;
use crate::watch::stored;
use crate::watch::suspects::{self, Rights, Suspects};
use crate::watch::tally::Tally;
use crate::watch::watched::{self, Watched};
use crate::watch::{retry, revival, vanished};

/// As runs have it.
pub const ACTION: &str = "watch";

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
    /// How many records there were to ask after when it began, and how many have been answered for.
    due: u64,
    asked: u64,
    batch: Option<Asked>,
    /// Batches that have failed, and are asked about again later.
    aside: Vec<Asked>,
    lost_in_a_row: u32,
    deleting: Deleting,
    told: Instant,
}

/// A batch, by what table and watch it is asked about, and how often its questions have failed.
struct Asked {
    table: Rc<Table>,
    probe: Probe,
    batch: Questions,
    /// Its number where it is stored, as one that is to be asked about again whoever goes on with the pass.
    stored: Option<i32>,
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
    /// It cannot go on for now, because of this.
    Stuck(Error),
}

/// What a step is about, as it is now.
struct Here {
    table: Rc<Table>,
    watched: Watched,
    inquiry: Inquiry,
}

impl Watching {
    pub fn new(host: Host, terms: &Terms, failures: run::Failures) -> Watching {
        let (number, relation, name) = (terms.number, terms.relation, terms.title.clone());
        let (next, failures) = (first(host, failures), failures.in_a_row);
        Watching { host, number, relation, name, next, failures, pass: None }
    }
}

impl Chore for Watching {
    fn key(&self) -> ChoreId {
        (self.number, ACTION)
    }

    fn next(&self) -> Instant {
        self.next
    }

    /// Begins a pass, or goes on with it step by step.
    fn work(&mut self, until: Instant) -> Option<ChoreEnd> {
        let outcome = match self.pass.take() {
            None => self.begin(),
            Some(pass) => self.go_on(pass, until),
        };
        match outcome {
            Ok(false) => None,
            Ok(true) => {
                self.failures = 0;
                self.next = Instant::now() + settings::naptime();
                Some(ChoreEnd::Rests)
            }
            Err(error) => {
                self.failures += 1;
                self.next = Instant::now() + backoff(self.failures);
                Some(ChoreEnd::Failed(error))
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
            Err(error) if error.is_cancellation() || error.is_transient() => Err(error),
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
                Ok(Step::Stuck(error)) => {
                    self.wait(&pass, &error);
                    return Err(error);
                }
                // Somebody was in the way, or wanted it to stop.
                Err(error) if error.is_cancellation() || error.is_transient() => {
                    self.wait(&pass, &error);
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
        // Nothing of the table is locked while somebody outside thinks.
        match self.transaction(|| Ok(asked.batch.ask(&asked.table, &asked.probe)))? {
            Ok(()) => pass.batch = Some(asked),
            Err(error) if error.is_cancellation() => return Err(error),
            Err(error) => return self.put_aside(pass, asked, &error),
        }
        Ok(Step::On(Duration::ZERO))
    }

    /// A batch that has failed: it is asked about again after a while, or given up.
    fn put_aside(&mut self, pass: &mut Pass, mut asked: Asked, error: &Error) -> Result<Step> {
        asked.failures += 1;
        if let Some(pause) = retry::pause(asked.failures) {
            if asked.stored.is_none() {
                asked.stored = self.transaction(|| {
                    if inquiry::load(pass.run.number)?.is_none() {
                        return Ok(None);
                    }
                    inquiry::move_to(pass.run, pass.phase, pass.position.as_deref())?;
                    let (ids, marks) = (asked.batch.ids.clone(), asked.batch.marks.clone());
                    stored::insert(pass.run, pass.phase == Phase::Missing, ids, marks).map(Some)
                })?;
                if asked.stored.is_none() {
                    return Ok(Step::Left);
                }
            }
            asked.again = Instant::now() + pause;
            pass.aside.push(asked);
            return Ok(Step::On(Duration::ZERO));
        }
        pass.lost_in_a_row += 1;
        let mut tally = Tally::of_cost(asked.batch.take_cost());
        tally.lose(&asked.batch.title(), &error.summary());
        self.transaction(|| {
            asked.forget_stored(pass.run)?;
            inquiry::add(pass.run, tally)
        })?;
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
            let (batch, again) = (Questions::new(page, here.inquiry.manner.strategy), Instant::now());
            Ok(Some((Asked { table: here.table, probe: here.watched.probe, batch, stored: None, failures: 0, again }, pages)))
        })?;
        let Some((asked, pages)) = page else { return Ok(Step::Left) };
        if asked.batch.size() > 0 {
            if let Pages::After(position) = pages {
                pass.position = position;
            }
            pass.batch = Some(asked);
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

    /// Notes what has been found out about a batch; where too much of it is missing, that is the end of the pass.
    fn settle(&mut self, pass: &mut Pass, mut asked: Asked) -> Result<Step> {
        pass.lost_in_a_row = 0;
        let cost = Tally::of_cost(asked.batch.take_cost());
        let batch = &asked.batch;
        let settled = self.transaction(|| {
            let Some(here) = self.here(pass, LockFor::Writing)? else { return Ok(None) };
            inquiry::add(pass.run, cost)?;
            inquiry::move_to(pass.run, pass.phase, pass.position.as_deref())?;
            asked.forget_stored(pass.run)?;
            if pass.phase == Phase::Reappeared {
                inquiry::add(pass.run, restored(&here.table, batch)?)?;
                return Ok(Some(None));
            }
            inquiry::add(pass.run, batch.tally())?;
            if let Some(suspects) = Suspects::of(batch, 0) {
                suspects.store(pass.run)?;
            }
            let refusal = batch.refusal(&here.table, here.inquiry.manner.max_missing)?;
            if let Some(why) = &refusal {
                inquiry::end(pass.run, "refused", Some(why))?;
                watched::put_off(pass.run)?;
            }
            Ok(Some(refusal))
        })?;
        if pass.phase == Phase::Missing {
            pass.asked += batch.size();
        }
        match settled {
            None => Ok(Step::Left),
            Some(Some(why)) => Ok(self.tell_refusal(pass, &why)),
            Some(None) => Ok(Step::On(Duration::ZERO)),
        }
    }

    fn end(&mut self, pass: &Pass) -> Result<Step> {
        let ended = self.transaction(|| {
            let Some(inquiry) = inquiry::load(pass.run.number)? else { return Ok(None) };
            let (outcome, detail) = (inquiry.tally.outcome(), inquiry.tally.detail());
            inquiry::end(pass.run, outcome, detail.as_deref())?;
            if outcome == "done" {
                watched::put_off(pass.run)?;
            }
            Ok(Some((inquiry.tally, outcome, detail)))
        })?;
        let Some((tally, outcome, detail)) = ended else { return Ok(Step::Left) };
        if outcome != "done" {
            return Err(Error::no_answer(detail.unwrap_or_default()));
        }
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
        self.host.tell(&message, None);
        Ok(Step::Over)
    }

    fn tell_refusal(&self, pass: &Pass, why: &str) -> Step {
        let hint = format!(
            "Look at tombstone.suspects of run {run}. If they are gone indeed: SELECT * FROM tombstone.reconcile('{name}', ARRAY(SELECT id FROM tombstone.suspects WHERE run = {run}), confirm => true);",
            run = pass.run.number,
            name = self.name.replace('\'', "''"),
        );
        self.host.warn(&format!("{}: nothing is deleted: {why}", self.name), Some(&hint));
        Step::Over
    }

    fn fail(&self, pass: &Pass, why: &str) -> Result<()> {
        self.host.warn(&format!("{}: nothing more is asked: {why}", self.name), None);
        self.transaction(|| inquiry::end(pass.run, "failed", Some(why)).map(drop))
    }

    /// It cannot go on for now: whoever comes next does.
    fn wait(&self, pass: &Pass, why: &Error) {
        self.release(pass);
        self.host.warn(&format!("{}: its pass waits, to go on later: {}", self.name, why.summary()), None);
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

impl Asked {
    /// It is settled, or given up.
    fn forget_stored(&self, run: Run) -> Result<()> {
        self.stored.map_or(Ok(()), |number| stored::remove(run, number))
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

fn begin(number: i32, relation: pg_sys::Oid) -> Result<Option<Pass>> {
    lock(relation, LockFor::Reading);
    if terms_of(number)?.is_none_or(|terms| is_paused(&terms)) {
        return Ok(None);
    }
    let table = by_oid(relation)?;
    let Some(watched) = watched::of(&table)? else { return Ok(None) };
    let under_way = match inquiry::open_pass(number)? {
        Some((run, _)) if !run.claim()? => return Ok(None), // another process is at it
        Some((run, true)) => {
            inquiry::end(run, "failed", Some("it was interrupted while it deleted, and the next pass is due: that asks anew"))?;
            None
        }
        under_way => under_way.map(|(run, _)| run),
    };
    let begun = if under_way.is_none() { begin_anew(&table, &watched)? } else { under_way };
    let Some(run) = begun else { return Ok(None) }; // another process has begun it by now
    let Some(Inquiry { phase, position, due, manner, tally, .. }) = inquiry::load(run.number)? else { return Ok(None) };
    let mut aside = Vec::new();
    for number in stored::some(run, MOST_ASIDE)? {
        if let Some(stored) = stored::one(run, number)? {
            let (table, probe, batch) = (Rc::clone(&table), watched.probe.clone(), stored.into_batch(manner.strategy));
            aside.push(Asked { table, probe, batch, stored: Some(number), failures: 0, again: Instant::now() });
        }
    }
    let (asked, deleting, told) = (tally.asked, Deleting::default(), Instant::now());
    Ok(Some(Pass { run, phase, position, due, asked, batch: None, aside, lost_in_a_row: 0, deleting, told }))
}

/// Restores what of a batch is there again. What others have locked is for the next pass, and the rest of the batch with it: it stays on
/// the list.
fn restored(table: &Rc<Table>, batch: &Questions) -> Result<Tally> {
    match attempt(|| revival::restore(table, batch.present(), Rights::Maintenance)) {
        Err(error) if error.is_transient() => {
            let mut tally = Tally::default();
            tally.remark(format!("what is in the source again of {} was not restored: {}", batch.title(), error.summary()));
            Ok(tally)
        }
        restored => restored,
    }
}

fn begin_anew(table: &Table, watched: &Watched) -> Result<Option<Run>> {
    suspects::clear_earlier(table.number)?;
    vanished::forget_old(table.number)?;
    let due = table.evaluating(|| live::count(table))?.unsigned_abs();
    let run = Run::begin_alone(table.number, ACTION, due)?;
    let phase = if watched.manner.restore { Phase::Reappeared } else { Phase::Missing };
    if let Some(run) = run {
        inquiry::begin(run, phase, &watched.manner)?;
    }
    Ok(run)
}

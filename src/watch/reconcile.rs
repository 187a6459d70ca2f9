//! reconcile: asks the source of a watched table now, and deletes what it has not, in the caller's transaction.

use std::rc::Rc;

use pgrx::datum::AnyArray;
use pgrx::iter::TableIterator;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::batch::Questions;
use super::door::{confirmed, owned_table};
use super::inquiry::{self, Phase};
use super::pages::{Pages, Records};
use super::suspects::{self, Rights, Suspects};
use super::tally::Tally;
use super::watched::{self, Watched};
use super::{retry, revival, vanished};
use crate::backend::process;
use crate::backend::relation::LockFor;
use crate::backend::subtransaction::rehearse;
use crate::backend::transaction::keeps_snapshot;
use crate::error::{Error, Result};
use crate::lifecycle::layout::live::Marked;
use crate::log::run::Run;
use crate::table::Table;
use crate::table::given::texts_of;

type Line = (i64, i64, i64, i64, String, Option<String>, i64);

/// How it has ended.
enum PassEnd {
    Done,
    /// More is missing than may be.
    Refused(String),
    /// The source could not be asked.
    Failed(String),
}

/// Soft-deletes those of these records that the source has not, or says what it would do (DESIGN §3, seed 002).
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns are the contract")]
fn reconcile(
    relation: Option<pg_sys::Oid>,
    ids: Option<AnyArray>,
    dry_run: Option<bool>,
    confirm: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(asked, i64),
            name!(missing, i64),
            name!(questions, i64),
            name!(rounds, i64),
            name!(outcome, String),
            name!(detail, Option<String>),
            name!(run, i64),
        ),
    >,
    ErrorReport,
> {
    let reconcile = || -> Result<Line> {
        let table = owned_table(relation, LockFor::Writing)?;
        let Watched { probe, batch, manner } = watched::required(&table)?;
        let (records, is_rehearsal) = (Records::of(ids.map(texts_of)), dry_run.unwrap_or(false));
        if keeps_snapshot() && !is_rehearsal {
            return Err(cannot_ask_anew());
        }
        let manner = confirmed(manner, confirm, &records)?;
        vanished::forget_old(table.number)?;
        let run = Run::begin(table.number, "reconcile", records.count(&table)?)?;
        inquiry::begin(run, Phase::Missing, &manner)?;
        let watched = Watched { probe, batch, manner };
        let mut asking = Asking { table, watched, run, tally: Tally::default(), found: Vec::new(), named: 0, lost_in_a_row: 0 };
        let mut go = || asking.go(&records);
        let outcome = if is_rehearsal { rehearse(go)? } else { go()? };
        asking.report(&records, outcome, is_rehearsal)
    };
    reconcile().map(TableIterator::once).map_err(Into::into)
}

/// 25001: a source within reach of the transaction's snapshot would say the same for ever.
fn cannot_ask_anew() -> Error {
    Error::in_transaction("reconcile() cannot delete in a transaction that keeps its snapshot")
        .detail("What is to be deleted is asked after once more, and the answer must not be as old as the first.")
        .hint("Use READ COMMITTED; or dry_run => true.")
}

struct Asking {
    table: Rc<Table>,
    watched: Watched,
    run: Run,
    tally: Tally,
    found: Vec<Suspects>,
    /// How many records have been read to be asked after.
    named: u64,
    lost_in_a_row: u32,
}

impl Asking {
    fn go(&mut self, records: &Records) -> Result<PassEnd> {
        if self.watched.manner.restore
            && let Some(stopped) = self.restore_reappeared(records)?
        {
            return Ok(stopped);
        }
        if let Some(stopped) = self.find_missing(records)? {
            return Ok(stopped);
        }
        for place in 0..self.found.len() {
            self.delete(place)?;
        }
        self.remark_on_strangers(records)?;
        Ok(PassEnd::Done)
    }

    fn restore_reappeared(&mut self, records: &Records) -> Result<Option<PassEnd>> {
        let pages = records.vanished(&self.table)?;
        self.each_batch(pages, Pages::next_vanished, |this, batch| {
            let restored = revival::restore(&this.table, batch.present(), Rights::of_caller(&this.table))?;
            this.tally.add(restored);
            Ok(None)
        })
    }

    fn find_missing(&mut self, records: &Records) -> Result<Option<PassEnd>> {
        let pages = records.live(&self.table)?;
        self.each_batch(pages, Pages::next_live, |this, batch| {
            this.tally.add(batch.tally());
            this.found.extend(Suspects::of(batch, 0));
            Ok(batch.refusal(&this.table, this.watched.manner.max_missing)?.map(PassEnd::Refused))
        })
    }

    /// Asks after batch upon batch, and has each settled; until there are no more, or it must stop.
    fn each_batch(
        &mut self,
        mut pages: Pages,
        next: fn(&mut Pages, &Table, usize) -> Result<Vec<Marked>>,
        settle: impl Fn(&mut Self, &Questions) -> Result<Option<PassEnd>>,
    ) -> Result<Option<PassEnd>> {
        loop {
            let page = next(&mut pages, &self.table, self.watched.batch)?;
            if page.is_empty() {
                return Ok(None);
            }
            let mut batch = Questions::new(page, self.watched.manner.strategy);
            self.named += batch.size();
            let stopped = match self.ask(&mut batch)? {
                None => settle(self, &batch)?,
                stopped => stopped,
            };
            if stopped.is_some() {
                return Ok(stopped);
            }
        }
    }

    /// How many of the named could not be asked after, as they are none, or deleted otherwise.
    fn remark_on_strangers(&mut self, records: &Records) -> Result<()> {
        let strangers = records.count(&self.table)?.saturating_sub(self.named);
        if matches!(records, Records::Named(_)) && strangers > 0 {
            self.tally.remark(format!("{strangers} of the ids name no live record, or one that others do as well"));
        }
        Ok(())
    }

    /// Asks until the missing of a batch are known, or it is given up; says so where the source must be given up.
    fn ask(&mut self, batch: &mut Questions) -> Result<Option<PassEnd>> {
        let given_up = persistently(|| {
            while batch.missing().is_none() {
                batch.ask(&self.table, &self.watched.probe)?;
            }
            Ok(())
        })?;
        self.tally.add(Tally::of_cost(batch.take_cost()));
        let Some(error) = given_up else {
            self.lost_in_a_row = 0;
            return Ok(None);
        };
        self.tally.lose(&batch.title(), &error.summary());
        self.lost_in_a_row += 1;
        let is_over = self.lost_in_a_row >= retry::LOST_IN_A_ROW;
        Ok(is_over.then(|| PassEnd::Failed(format!("the source cannot be asked: {}", error.summary()))))
    }

    /// Asks once more, and deletes what is missing still, as a deletion of its own.
    fn delete(&mut self, place: usize) -> Result<()> {
        let suspects = &self.found[place];
        let ask = || suspects.ask_once_more(&self.table, &self.watched.probe, &mut self.tally.cost).flatten();
        let tally = match persistently(ask)? {
            Some(error) => suspects.given_up(&error),
            None => suspects.delete(&self.table, self.run, &self.watched.manner, Rights::of_caller(&self.table))?,
        };
        self.tally.add(tally);
        Ok(())
    }

    /// Ends the run; returns the line that reconcile() returns.
    fn report(self, records: &Records, outcome: PassEnd, is_rehearsal: bool) -> Result<Line> {
        let run = self.run;
        let (name, why) = match outcome {
            PassEnd::Done => (self.tally.outcome(), None),
            PassEnd::Refused(why) => ("refused", Some(why)),
            PassEnd::Failed(why) => ("failed", Some(why)),
        };
        let advice = (name == "refused").then(|| inquiry::advice(run));
        let detail = joined([why, advice, self.tally.detail()]);
        let noted = joined([is_rehearsal.then(|| "dry run".to_string()), detail.clone()]);
        // What was not deleted is for somebody to look at; what he has looked at and seen to, is no more.
        match records {
            _ if is_rehearsal || name != "done" => self.found.into_iter().try_for_each(|suspects| suspects.store(run))?,
            _ if self.tally.kept + self.tally.lost > 0 => (),
            Records::Named(ids) => suspects::see_to(&self.table, ids)?,
            Records::All => suspects::clear_earlier(self.table.number)?,
        }
        let Tally { asked, missing, cost, .. } = self.tally;
        inquiry::add(run, self.tally)?;
        run.end(name, noted.as_deref())?; // nothing is kept for others to go on with
        let outcome = if is_rehearsal && name == "done" { "dry_run" } else { name };
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Ok((count(asked), count(missing), count(cost.questions), count(cost.rounds), outcome.into(), detail, run.number))
    }
}

/// Tries a few times, with growing pauses. Returns the last error where it is given up; a cancellation is raised on.
fn persistently(mut ask: impl FnMut() -> Result<()>) -> Result<Option<Error>> {
    let mut failures = 0;
    loop {
        let Err(error) = ask() else { return Ok(None) };
        failures += 1;
        if error.is_cancellation() {
            return Err(error);
        }
        let Some(pause) = retry::pause(failures) else { return Ok(Some(error)) };
        process::rest(pause);
    }
}

/// What there is, one after the other.
fn joined<const N: usize>(parts: [Option<String>; N]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

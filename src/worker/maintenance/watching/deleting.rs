//! The end of a pass: the source is asked once more after what it lacks, batch by batch, and what it lacks still is deleted. What is
//! locked, or cannot be asked about, is left for the last, and tried a few times.

use std::time::{Duration, Instant};

use super::{Here, Pass, Step, Watching};
use crate::backend::relation::LockFor;
use crate::error::{Error, Result};
use crate::log::event;
use crate::settings;
use crate::watch::suspects::{self, Rights, Suspects};
use crate::watch::tally::{Cost, Tally};
use crate::watch::{inquiry, retry};
use crate::worker::maintenance::pace;

/// How far the last questions have come.
#[derive(Default)]
pub struct Deleting {
    /// The batch before the one that is next.
    after: i32,
    /// How often in a row the source has answered otherwise than expected about that one.
    answered_otherwise: u32,
    /// Whether something was left on the way, to be tried again at the end, and how often that was so.
    has_left: bool,
    times_left: u32,
    /// Whether the source has answered any of these questions, this time round.
    has_answered: bool,
}

impl Watching {
    /// Asks once more after what is missing of a batch, and deletes it.
    pub(super) fn delete_next(&mut self, pass: &mut Pass) -> Result<Step> {
        let began = Instant::now();
        let next = self.transaction(|| {
            let Some(here) = self.here(pass, LockFor::Reading)? else { return Ok(None) };
            Ok(Some((suspects::next(pass.run, pass.deleting.after)?, here)))
        })?;
        let Some((suspects, here)) = next else { return Ok(Step::Left) };
        let Some(suspects) = suspects else { return self.end_or_begin_again(pass) };

        // As for a batch: nothing of the table is locked meanwhile.
        let mut cost = Cost::default();
        let asked = self.transaction(|| Ok(suspects.ask_once_more(&here.table, &here.watched.probe, &mut cost)))?;
        self.transaction(|| inquiry::add(pass.run, Tally::of_cost(cost)))?;
        match asked {
            Err(error) if error.is_cancellation() => return Err(error),
            Err(error) => return self.not_asked(pass, &suspects, &here, error),
            Ok(confirmed) => {
                (pass.deleting.has_answered, pass.lost_in_a_row) = (true, 0);
                if let Err(why) = confirmed {
                    return self.not_confirmed(pass, &suspects, &why);
                }
            }
        }
        match self.transaction(|| self.delete(pass, suspects.batch)) {
            Err(error) if error.is_transient() && pass.deleting.is_last_time() => self.give_up(pass, &suspects, &error),
            Err(error) if error.is_transient() => Ok(pass.leave(&suspects)),
            Err(error) => Err(error),
            Ok(None) => Ok(Step::Left),
            Ok(Some(written)) => {
                pass.deleting.is_past(&suspects);
                Ok(Step::On(pace::rest(written, began.elapsed(), settings::rate())))
            }
        }
    }

    /// Deletes suspects that the source has confirmed, unless somebody has ended the pass in the meantime. Returns how many rows were
    /// written, with all that followed from them.
    fn delete(&self, pass: &Pass, batch: i32) -> Result<Option<u64>> {
        let Some(here) = self.here(pass, LockFor::Writing)? else { return Ok(None) };
        let Some(suspects) = suspects::one(pass.run, batch)? else { return Ok(None) };
        let before = event::noted();
        let tally = suspects.delete(&here.table, pass.run, &here.inquiry.manner, Rights::Maintenance)?;
        let written = event::noted() - before;
        suspects.remove(pass.run)?;
        inquiry::add(pass.run, tally)?;
        Ok(Some(written))
    }

    /// The source answers otherwise than it did: asks again after a while, and after a few times lets the batch be.
    fn not_confirmed(&mut self, pass: &mut Pass, suspects: &Suspects, why: &Error) -> Result<Step> {
        pass.deleting.answered_otherwise += 1;
        match retry::pause(pass.deleting.answered_otherwise) {
            Some(pause) => Ok(Step::On(pause)),
            None => self.give_up(pass, suspects, why),
        }
    }

    /// The source could not be asked: on with the next batch, unless it looks as if that went for all. The last time it makes a difference
    /// whether it can be asked about anything else: then this batch is left for good, else the pass waits for better times.
    fn not_asked(&mut self, pass: &mut Pass, suspects: &Suspects, here: &Here, error: Error) -> Result<Step> {
        pass.lost_in_a_row += 1;
        if !pass.deleting.is_last_time() {
            let step = pass.leave(suspects);
            return if pass.may_be_down() { self.end_or_begin_again(pass) } else { Ok(step) };
        }
        if !pass.deleting.has_answered || pass.may_be_down() {
            let mut cost = Cost::default();
            let answers = self.transaction(|| suspects.source_answers(&here.table, &here.watched.probe, &mut cost))?;
            self.transaction(|| inquiry::add(pass.run, Tally::of_cost(cost)))?;
            if !answers {
                return Ok(Step::Stuck(error));
            }
            (pass.deleting.has_answered, pass.lost_in_a_row) = (true, 0);
        }
        self.give_up(pass, suspects, &error)
    }

    /// Leaves suspects for good; the next pass asks after them anew.
    fn give_up(&mut self, pass: &mut Pass, suspects: &Suspects, why: &Error) -> Result<Step> {
        pass.deleting.is_past(suspects);
        self.transaction(|| {
            if inquiry::load(pass.run.number)?.is_none() {
                return Ok(Step::Left);
            }
            inquiry::add(pass.run, suspects.given_up(why))?;
            suspects.remove(pass.run)?;
            Ok(Step::On(Duration::ZERO))
        })
    }

    /// All suspects have been seen to: it is over, unless some were left. These are tried again after a while, a few times.
    fn end_or_begin_again(&mut self, pass: &mut Pass) -> Result<Step> {
        if !pass.deleting.has_left {
            return self.end(pass);
        }
        let times_left = pass.deleting.times_left + 1;
        pass.deleting = Deleting { times_left, ..Deleting::default() };
        pass.lost_in_a_row = 0;
        Ok(Step::On(retry::pause(times_left).unwrap_or_default()))
    }
}

impl Deleting {
    /// On with the next batch.
    fn is_past(&mut self, suspects: &Suspects) {
        (self.after, self.answered_otherwise) = (suspects.batch, 0);
    }

    fn is_last_time(&self) -> bool {
        self.times_left + 1 >= retry::TRIES
    }
}

impl Pass {
    fn may_be_down(&self) -> bool {
        self.lost_in_a_row >= retry::LOST_IN_A_ROW
    }

    /// Leaves suspects for the end.
    fn leave(&mut self, suspects: &Suspects) -> Step {
        self.deleting.is_past(suspects);
        self.deleting.has_left = true;
        Step::On(Duration::ZERO)
    }
}

//! A batch: records that are asked after together, until it is known which of them the source has not.

use std::collections::HashSet;

use counting::{Question, Search, Strategy};

use super::probe::{Answer, Probe};
use super::safety::{self, Share};
use super::tally::{Cost, Tally};
use crate::error::{Error, Result};
use crate::lifecycle::hold;
use crate::lifecycle::layout::live::Marked;
use crate::table::Table;

pub struct Questions {
    pub ids: Vec<String>,
    /// What tells whether a record was changed since, parallel to `ids`.
    pub marks: Vec<String>,
    strategy: Strategy,
    search: Search,
    /// To the first questions of the round that is on.
    answers: Vec<u64>,
    /// Which are missing, once the source has listed those it has.
    listed: Option<Vec<usize>>,
    cost: Cost,
}

impl Questions {
    pub fn new(records: Vec<Marked>, strategy: Strategy) -> Questions {
        let (ids, marks): (Vec<String>, Vec<String>) = records.into_iter().map(|record| (record.id, record.mark)).unzip();
        let search = Search::new(ids.len(), strategy);
        Questions { ids, marks, strategy, search, answers: Vec::new(), listed: None, cost: Cost::default() }
    }

    /// The same, whose search somebody else has led.
    pub fn searched(self, search: Search) -> Questions {
        Questions { search, ..self }
    }

    /// How many records it is about.
    pub fn size(&self) -> u64 {
        self.ids.len() as u64
    }

    /// The places of the missing, once they are known.
    pub fn missing(&self) -> Option<&[usize]> {
        self.listed.as_deref().or_else(|| self.search.missing())
    }

    /// The ids of those that are there; none, as long as that is not known.
    pub fn present(&self) -> Vec<String> {
        let Some(missing) = self.missing() else { return Vec::new() };
        let is_present = |(place, _): &(usize, &String)| missing.binary_search(place).is_err();
        self.ids.iter().enumerate().filter(is_present).map(|(_, id)| id.clone()).collect()
    }

    /// What has been found out, once it is.
    pub fn tally(&self) -> Tally {
        match self.missing() {
            Some(missing) => Tally { asked: self.size(), missing: missing.len() as u64, ..Tally::default() },
            None => Tally::default(),
        }
    }

    /// Why nothing may be deleted: too many of it are missing. Of records on hold nothing follows, whatever the source says.
    pub fn refusal(&self, table: &Table, most: Option<Share>) -> Result<Option<String>> {
        let missing: Vec<&str> =
            self.missing().unwrap_or_default().iter().filter_map(|place| self.ids.get(*place)).map(String::as_str).collect();
        let held = if missing.is_empty() { 0 } else { hold::held(table, &missing)?.len() as u64 };
        Ok(safety::refusal(&self.title(), self.size() - held, missing.len() as u64 - held, most))
    }

    /// Which records it is about, in words.
    pub fn title(&self) -> String {
        title_of(&self.ids)
    }

    /// What it has taken since this was asked last.
    pub fn take_cost(&mut self) -> Cost {
        std::mem::take(&mut self.cost)
    }

    /// Asks the next question. Answers that contradict each other are forgotten, and are an error like any other failure: the search
    /// begins anew.
    pub fn ask(&mut self, table: &Table, probe: &Probe) -> Result<()> {
        let Some(question) = self.search.questions().get(self.answers.len()) else { return Ok(()) };
        self.cost.questions += 1;
        let answer = probe.ask(table, &ids_of(question, &self.ids))?;
        let taken = match answer {
            Answer::Count(count) => self.count(count),
            Answer::Listed(present) => self.list(&present),
        };
        if taken.is_err() {
            (self.search, self.answers) = (Search::new(self.ids.len(), self.strategy), Vec::new());
        }
        taken
    }

    fn count(&mut self, present: u64) -> Result<()> {
        self.answers.push(present);
        if self.answers.len() < self.search.questions().len() {
            return Ok(());
        }
        self.cost.rounds += 1;
        self.search.answer(&std::mem::take(&mut self.answers)).map_err(|why| contradiction(&why))
    }

    fn list(&mut self, present: &HashSet<String>) -> Result<()> {
        self.cost.rounds += 1;
        let missing: Vec<usize> = (0..self.ids.len()).filter(|place| !present.contains(&self.ids[*place])).collect();
        // An id that comes back spelt otherwise would be taken for missing.
        let asked: HashSet<&str> = self.ids.iter().map(String::as_str).collect();
        if let Some(stranger) = present.iter().filter(|id| !asked.contains(id.as_str())).min() {
            return Err(Error::no_answer(format!("the probe named \"{stranger}\", which it was not asked after")));
        }
        self.listed = Some(missing);
        Ok(())
    }
}

/// Which records these are, in words.
pub fn title_of(ids: &[String]) -> String {
    match ids {
        [first, .., last] => format!("records \"{first}\" to \"{last}\""),
        [only] => format!("record \"{only}\""),
        [] => "no records".into(),
    }
}

/// How many of `found` records, of which more may follow where they are twice the `most` that a batch may have, make up the next
/// batch: what is left at the end is parted evenly, as a share of a few records says little.
pub fn size_of_next(found: usize, most: usize) -> usize {
    if found <= most {
        found
    } else if found < 2 * most {
        found.div_ceil(2)
    } else {
        most
    }
}

/// The ids of a question about these.
pub fn ids_of<'i>(question: &Question, ids: &'i [String]) -> Vec<&'i str> {
    question.places().filter_map(|place| ids.get(place)).map(String::as_str).collect()
}

/// The source has changed while it was asked, or errs.
pub fn contradiction(why: &counting::Contradiction) -> Error {
    Error::no_answer(format!("the answers contradict each other: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// All are asked about, in batches of which none is too large, and none small but where there are few in all.
        #[test]
        fn batches_are_even_at_the_end(records in 0usize..5000, most in 1usize..200) {
            let (mut left, mut sizes) = (records, Vec::new());
            while left > 0 {
                let size = size_of_next(left.min(2 * most), most);
                prop_assert!(size >= 1 && size <= most);
                sizes.push(size);
                left -= size;
            }
            prop_assert!(sizes.len() < 2 || sizes.iter().all(|size| *size * 2 >= most));
        }
    }
}

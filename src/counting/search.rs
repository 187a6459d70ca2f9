//! The search itself: rounds of questions, one after the other, until it is known of every item whether it is missing.

use crate::level::{Block, Pieces, Round};
use crate::predict::{Spread, item_by_item};
use crate::tracker::{self, Tracked};
use crate::{Contradiction, Question, Strategy};
use std::{iter, mem};

/// The search for the missing among `items` items, by counts of those present. Its state is a pure function of (items, strategy,
/// answers so far).
#[derive(Debug, Clone)]
pub struct Search {
    strategy: Strategy,
    /// The cut that is on.
    cut: Cut,
    /// Blocks that wait for a cut.
    open: Vec<Block>,
    spread: Spread,
    /// Blocks that the tracker is at, with a question each.
    tracked: Vec<Tracked>,
    /// Those of the cut first, then those of the tracked.
    questions: Vec<Question>,
    /// In the order in which they were found, until it is over.
    missing: Vec<usize>,
    over: bool,
    rounds: usize,
    asked: usize,
}

/// Where more are missing, and more present, the tracker's blocks are so many that halving them all at once takes fewer questions.
const MOST_TO_TRACK: usize = 400;

#[derive(Debug, Clone)]
enum Cut {
    /// Nothing is known yet.
    All(usize),
    Blocks(Round),
}

impl Search {
    /// No items: it is over at once, without a question.
    pub fn new(items: usize, strategy: Strategy) -> Search {
        let mut search = Search::among(Vec::new(), strategy);
        if items > 0 {
            search.over = false;
            search.cut = Cut::All(items);
            search.questions = vec![Question::about(iter::once(0..items))];
        }
        search
    }

    /// The search among blocks of which it is known how many are missing; ascending, none of them settled.
    pub(crate) fn among(open: Vec<Block>, strategy: Strategy) -> Search {
        let mut search = Search {
            strategy,
            cut: Cut::Blocks(Round::default()),
            open,
            spread: Spread::default(),
            tracked: Vec::new(),
            questions: Vec::new(),
            missing: Vec::new(),
            over: false,
            rounds: 0,
            asked: 0,
        };
        search.prepare();
        search
    }

    /// The same, as it stands after these answers, in the order of the questions; and how many of them were used. Those beyond the
    /// last complete round are the beginning of the round that is on, and are left.
    pub fn resume(items: usize, strategy: Strategy, answers: &[u64]) -> Result<(Search, usize), Contradiction> {
        let mut search = Search::new(items, strategy);
        let mut used = 0;
        while !search.questions.is_empty()
            && let Some(round) = answers[used..].get(..search.questions.len())
        {
            used += round.len();
            search.answer(round)?;
        }
        Ok((search, used))
    }

    /// The questions of the round that is on, which may be asked all at once; none: it is over.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Takes the answers to the whole round: how many of each question's items are present. After a contradiction the search is to
    /// be thrown away: it has no more questions, and no result either.
    pub fn answer(&mut self, present: &[u64]) -> Result<(), Contradiction> {
        let questions = mem::take(&mut self.questions);
        if questions.len() != present.len() {
            self.over = false;
            return Err(Contradiction::wrong_number_of_answers(questions.len(), present.len()));
        }
        if questions.is_empty() {
            return Ok(());
        }
        let missing = questions.iter().zip(present).map(|(question, present)| question.missing(*present));
        let missing = missing.collect::<Result<Vec<_>, _>>()?;
        self.take(&questions, &missing)?;
        self.rounds += 1;
        self.asked += questions.len();
        self.prepare();
        Ok(())
    }

    /// The places found missing, ascending, once it is over.
    pub fn missing(&self) -> Option<&[usize]> {
        self.over.then_some(&self.missing)
    }

    /// How many rounds are complete.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// How many questions are answered.
    pub fn asked(&self) -> usize {
        self.asked
    }

    fn take(&mut self, questions: &[Question], missing: &[usize]) -> Result<(), Contradiction> {
        let cut = questions.len() - self.tracked.len();
        for (place, tracked) in self.tracked.iter_mut().enumerate() {
            tracked.answer(&questions[cut + place], missing[cut + place])?;
        }
        match mem::replace(&mut self.cut, Cut::Blocks(Round::default())) {
            Cut::All(items) => {
                self.open = vec![Block { items: 0..items, missing: missing[0] }];
                if self.strategy == Strategy::Tracker && missing[0].min(items - missing[0]) > MOST_TO_TRACK {
                    self.strategy = Strategy::LevelStar;
                }
            }
            Cut::Blocks(round) => {
                let halves = round.is_into_halves();
                let waiting = mem::replace(&mut self.open, round.answer(&questions[..cut], &missing[..cut])?);
                if halves {
                    self.open.chunks_exact(2).for_each(|pair| self.spread.add(&pair[0], &pair[1]));
                }
                self.open.extend(waiting);
            }
        }
        Ok(())
    }

    /// The next round.
    fn prepare(&mut self) {
        self.settle();
        // Before the tracker takes its blocks: those that it could keep track of may be among the dense ones.
        let by_item = if self.spread.is_even() { item_by_item(&self.open, self.strategy) } else { 0 };
        let dense: Vec<Block> = self.open.drain(..by_item).collect();
        if self.strategy == Strategy::Tracker {
            self.track();
        }
        let (round, waiting) = if dense.is_empty() {
            Round::new(mem::take(&mut self.open), Pieces::Halves)
        } else {
            (Round::new(dense, Pieces::Items).0, mem::take(&mut self.open))
        };
        self.questions = round.questions().chain(self.tracked.iter().map(Tracked::question)).collect();
        (self.cut, self.open) = (Cut::Blocks(round), waiting);
        if self.questions.is_empty() {
            self.missing.sort_unstable();
            self.over = true;
        }
    }

    /// Puts away the blocks of which all is known.
    fn settle(&mut self) {
        let missing = &mut self.missing;
        self.open.retain(|block| {
            if block.is_settled() && block.missing > 0 {
                missing.extend(block.items.clone());
            }
            !block.is_settled()
        });
    }

    /// Hands over to the tracker what it can keep track of, and puts away what it knows all of.
    fn track(&mut self) {
        let uneven = self.spread.is_uneven();
        let (few, many) = mem::take(&mut self.open).into_iter().partition(|block| !uneven && tracker::is_for(block));
        self.open = many;
        let (known, tracked) = mem::take(&mut self.tracked).into_iter().partition(Tracked::is_known);
        self.tracked = tracked;
        self.missing.extend(Vec::into_iter(known).flat_map(Tracked::missing).flatten());
        self.tracked.extend(Vec::into_iter(few).map(Tracked::new));
    }
}

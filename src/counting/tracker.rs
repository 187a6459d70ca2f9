//! Asks what tells most: keeps every way in which a block's missing items may be spread over its cells, as long as the answers
//! allow it, and asks about those cells whose count is hardest to foretell.
//!
//! A block begins as one cell, with one hypothesis: all its missing are there. Cells are halved, and each hypothesis becomes all
//! those that agree with it, with their odds (how many sets of items they stand for). Then the cells to ask about are chosen, and
//! the hypotheses that do not give the answer go. A cell is done with when all hypotheses agree that nothing is missing in it, or all.
//!
//! Hypotheses are only ever dropped for an answer, never for being unlikely or many, and a question is only asked if they
//! do not agree on it. So no answer follows from those before it; and so there are at most as many questions as items: of more
//! sets of n items than n, one always follows from the others.

use crate::bits::log2;
use crate::level::{Block, half};
use crate::{Contradiction, Question};
use std::ops::Range;

/// Blocks are halved until no more than so many are missing, or present: the hypotheses about larger ones are too many to keep.
const FEW: usize = 60;
/// Cells are not halved if that makes more hypotheses than this.
const MOST_HYPOTHESES: usize = 1024;
/// Nor if there are as many cells as that already for each rare one, and besides. More make more work, and hardly better questions.
const CELLS_FOR_EACH: usize = 2;
const CELLS_BESIDES: usize = 20;
/// A cell that adds fewer bits than this to what the answer tells only adds what the logarithm is off by.
const LEAST_GAIN: f64 = 1e-5;

/// A block in which few are missing, or few present: the rare ones.
#[derive(Debug, Clone)]
pub struct Tracked {
    /// Whether the rare ones are those present.
    present: bool,
    /// The parts of the block that are not known yet, ascending.
    cells: Vec<Cell>,
    /// Of each hypothesis; the likeliest has 1.
    odds: Vec<f64>,
    missing: Vec<Range<usize>>,
}

#[derive(Debug, Clone)]
struct Cell {
    items: Range<usize>,
    /// How many rare ones are here, by each hypothesis. No hypothesis has more than FEW in all its cells.
    rare: Vec<u8>,
    /// Whether the question that is on asks about it.
    asked: bool,
}

pub fn is_for(block: &Block) -> bool {
    block.missing.min(block.items.len() - block.missing) <= FEW
}

impl Tracked {
    /// `block` is one that tracking `is_for`.
    pub fn new(block: Block) -> Tracked {
        let present = block.items.len() - block.missing;
        let rare = vec![block.missing.min(present) as u8];
        let mut tracked = Tracked {
            present: present < block.missing,
            cells: vec![Cell { items: block.items, rare, asked: false }],
            odds: vec![1.0],
            missing: Vec::new(),
        };
        tracked.prepare();
        tracked
    }

    pub fn is_known(&self) -> bool {
        self.cells.is_empty()
    }

    /// The question that is on.
    pub fn question(&self) -> Question {
        Question::about(self.cells.iter().filter(|cell| cell.asked).map(|cell| cell.items.clone()))
    }

    /// What is missing in the block, once all is known.
    pub fn missing(self) -> Vec<Range<usize>> {
        self.missing
    }

    pub fn answer(&mut self, question: &Question, missing: usize) -> Result<(), Contradiction> {
        let rare = if self.present { question.items() - missing } else { missing };
        let would_be = self.answers();
        if !would_be.iter().any(|answer| usize::from(*answer) == rare) {
            let ends = [would_be.iter().min(), would_be.iter().max()].map(|end| end.map_or(0, |end| usize::from(*end)));
            let possible = if self.present { (question.items() - ends[1], question.items() - ends[0]) } else { ends.into() };
            return Err(question.impossible(missing, possible));
        }
        let agree = |hypothesis: &usize| usize::from(would_be[*hypothesis]) == rare;
        let kept: Vec<usize> = (0..self.odds.len()).filter(agree).collect();
        self.odds = kept.iter().map(|hypothesis| self.odds[*hypothesis]).collect();
        for cell in &mut self.cells {
            cell.rare = kept.iter().map(|hypothesis| cell.rare[*hypothesis]).collect();
        }
        self.prepare();
        Ok(())
    }

    /// The answer to the question that is on, in rare ones, by each hypothesis.
    fn answers(&self) -> Vec<u8> {
        let mut answers = vec![0; self.odds.len()];
        for cell in self.cells.iter().filter(|cell| cell.asked) {
            cell.put_in(&mut answers);
        }
        answers
    }

    /// Puts away what is known, halves cells, chooses the next question.
    fn prepare(&mut self) {
        self.level_odds();
        self.settle();
        while let Some(cell) = self.cell_to_halve() {
            self.halve(cell);
            self.settle();
        }
        self.choose();
    }

    fn level_odds(&mut self) {
        let best = self.odds.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        self.odds.iter_mut().for_each(|odds| *odds /= best);
    }

    fn settle(&mut self) {
        let (present, missing) = (self.present, &mut self.missing);
        self.cells.retain(|cell| {
            let (none, full) = (cell.has_always(0), cell.has_always(cell.items.len()));
            if full != present && (none || full) {
                missing.push(cell.items.clone());
            }
            !none && !full
        });
    }

    /// The cell of which most is unknown, among those whose halves do not make too many hypotheses. One hypothesis by itself is
    /// never too many, so that there always is something to ask.
    fn cell_to_halve(&self) -> Option<usize> {
        let rare: usize = self.cells.iter().map(|cell| usize::from(cell.rare[0])).sum();
        if self.cells.len() >= CELLS_FOR_EACH * rare + CELLS_BESIDES && self.odds.len() > 1 {
            return None;
        }
        (0..self.cells.len())
            .filter(|cell| self.cells[*cell].items.len() > 1 && self.cells[*cell].hypotheses_if_halved() <= MOST_HYPOTHESES)
            .map(|cell| (cell, self.cells[cell].unknown(&self.odds)))
            .fold(None, |most: Option<(usize, f64)>, next| most.filter(|most| most.1 >= next.1).or(Some(next)))
            .map(|(cell, _)| cell)
    }

    fn halve(&mut self, place: usize) {
        let cell = self.cells.remove(place);
        let (first, second) = cell.half_lengths();
        let (first_ways, second_ways, ways) = (ways(first), ways(second), ways(first + second));
        let (mut parents, mut odds, mut in_first, mut in_second) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (hypothesis, rare) in cell.rare.iter().copied().enumerate() {
            for in_this in cell.first_half(rare) {
                let in_other = rare - in_this;
                // All of them together have the odds of the one they come from. In this order nothing comes too near to 0.
                let share = first_ways[usize::from(in_this)] / ways[usize::from(rare)] * second_ways[usize::from(in_other)];
                odds.push(self.odds[hypothesis] * share);
                parents.push(hypothesis);
                in_first.push(in_this);
                in_second.push(in_other);
            }
        }
        self.odds = odds;
        for other in &mut self.cells {
            other.rare = parents.iter().map(|parent| other.rare[*parent]).collect();
        }
        let middle = cell.items.start + first;
        let halves = [(cell.items.start..middle, in_first), (middle..cell.items.end, in_second)];
        self.cells.splice(place..place, halves.map(|(items, rare)| Cell { items, rare, asked: false }));
    }

    /// The cells to ask about: again and again the one cell is put in the question, or taken out, that makes the answer hardest to
    /// foretell.
    fn choose(&mut self) {
        self.cells.iter_mut().for_each(|cell| cell.asked = false);
        let telling: Vec<usize> = (0..self.cells.len()).filter(|cell| self.cells[*cell].tells()).collect();
        let mut answers = vec![0; self.odds.len()];
        let mut best = 0.0;
        loop {
            let mut step = None;
            for cell in &telling {
                let entropy = self.cells[*cell].entropy(&answers, &self.odds);
                if entropy > best + LEAST_GAIN {
                    (best, step) = (entropy, Some(*cell));
                }
            }
            let Some(cell) = step else { break };
            let cell = &mut self.cells[cell];
            if cell.asked {
                cell.take_out(&mut answers)
            } else {
                cell.put_in(&mut answers)
            }
            cell.asked = !cell.asked;
        }
        if best == 0.0
            && let Some(cell) = telling.first()
        {
            // Nothing is left to be told apart but from the all but impossible.
            self.cells[*cell].asked = true;
        }
    }
}

impl Cell {
    fn has_always(&self, rare: usize) -> bool {
        self.rare.iter().all(|this| usize::from(*this) == rare)
    }

    /// Whether the hypotheses differ here.
    fn tells(&self) -> bool {
        self.rare.windows(2).any(|pair| pair[0] != pair[1])
    }

    fn half_lengths(&self) -> (usize, usize) {
        let first = half(self.items.len());
        (first, self.items.len() - first)
    }

    /// How many of the rare ones the first half may have.
    fn first_half(&self, rare: u8) -> std::ops::RangeInclusive<u8> {
        let (first, second) = self.half_lengths();
        rare.saturating_sub(second.min(FEW) as u8)..=rare.min(first.min(FEW) as u8)
    }

    fn hypotheses_if_halved(&self) -> usize {
        self.rare.iter().map(|rare| self.first_half(*rare).len()).sum()
    }

    /// How many bits are to be learned here, on average.
    fn unknown(&self, odds: &[f64]) -> f64 {
        let mut by_rare = [0.0; FEW + 1];
        for (rare, odds) in self.rare.iter().zip(odds) {
            by_rare[usize::from(*rare)] += odds;
        }
        let (mut bits, mut unknown) = (0.0, 0.0);
        for (rare, odds) in by_rare.iter().enumerate().take(self.items.len()).skip(1) {
            bits += log2((self.items.len() - (rare - 1)) as f64 / rare as f64);
            unknown += odds * bits;
        }
        unknown
    }

    fn put_in(&self, answers: &mut [u8]) {
        answers.iter_mut().zip(&self.rare).for_each(|(answer, rare)| *answer += rare);
    }

    fn take_out(&self, answers: &mut [u8]) {
        answers.iter_mut().zip(&self.rare).for_each(|(answer, rare)| *answer -= rare);
    }

    /// How hard the answer is to foretell, in bits, with this cell put in the question, or taken out.
    fn entropy(&self, answers: &[u8], odds: &[f64]) -> f64 {
        let mut by_answer = [0.0; FEW + 1];
        for ((answer, rare), odds) in answers.iter().zip(&self.rare).zip(odds) {
            let answer = if self.asked { answer - rare } else { answer + rare };
            by_answer[usize::from(answer)] += odds;
        }
        let all: f64 = by_answer.iter().sum();
        by_answer.iter().filter(|odds| **odds > 0.0).map(|odds| odds / all * log2(all / odds)).sum()
    }
}

/// In how many ways 0, 1, 2 … can be chosen of so many items.
fn ways(items: usize) -> [f64; FEW + 1] {
    let mut ways = [1.0; FEW + 1];
    for chosen in 1..ways.len() {
        ways[chosen] = ways[chosen - 1] * items.saturating_sub(chosen - 1) as f64 / chosen as f64;
    }
    ways
}

//! One round: every open block is cut in pieces, and how many are missing in each piece is asked at once.

use crate::matrix::{Matrix, fewest};
use crate::{Contradiction, Question};
use std::ops::Range;

/// So many unknowns share a matrix. A question holds about one of them for each row; with more the questions get long,
/// and hardly fewer.
const MOST_IN_A_MATRIX: usize = 1024;
/// So many unknowns are asked in a round, as the questions are in memory. What is more waits for the next.
pub const MOST_IN_A_ROUND: usize = 8 * MOST_IN_A_MATRIX;

/// Neighbours of which it is known how many are missing.
#[derive(Debug, Clone)]
pub struct Block {
    pub items: Range<usize>,
    pub missing: usize,
}

impl Block {
    /// All or none are missing: nothing is left to ask.
    pub fn is_settled(&self) -> bool {
        self.missing == 0 || self.missing == self.items.len()
    }

    /// How many can be missing in so many of its items.
    fn possible(&self, items: usize) -> (usize, usize) {
        (self.missing.saturating_sub(self.items.len() - items), self.missing.min(items))
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub enum Pieces {
    #[default]
    Halves,
    Items,
}

impl Pieces {
    /// The pieces of a block in natural order, but for the last: how many are missing there follows by subtraction.
    fn asked(self, block: &Block) -> impl Iterator<Item = Range<usize>> + use<> {
        let (pieces, length) = match self {
            Pieces::Halves => (1, half(block.items.len())),
            Pieces::Items => (block.items.len().saturating_sub(1), 1),
        };
        let start = block.items.start;
        (0..pieces).map(move |piece| start + piece * length..start + (piece + 1) * length)
    }

    /// How many questions it takes at least to cut these blocks in one round.
    pub fn cost(self, blocks: &[Block]) -> usize {
        let unknowns: usize = blocks.iter().map(|block| self.asked(block).count()).sum();
        unknowns / MOST_IN_A_MATRIX * fewest(MOST_IN_A_MATRIX) + fewest(unknowns % MOST_IN_A_MATRIX)
    }
}

/// How long the first half is, of a block of two items or more: the power of two that is nearest to the middle. With middles, blocks
/// of a level would have more different sizes, and 10 items of which 2 are missing could take 8 questions; so it is 7 at most, as by
/// Wang's split, whose bound holds for every number of items and of missing ones.
pub fn half(items: usize) -> usize {
    let below = 1 << items.saturating_sub(1).max(1).ilog2();
    if items < below + below / 2 { below / 2 } else { below }
}

/// A round that is on.
#[derive(Debug, Clone, Default)]
pub struct Round {
    pieces: Pieces,
    blocks: Vec<Block>,
    unknowns: Vec<Unknown>,
    /// One for each MOST_IN_A_MATRIX unknowns.
    matrices: Vec<Matrix>,
}

/// How many are missing in a piece: between `least` and `most`, which differ, as the block is not settled.
#[derive(Debug, Clone)]
struct Unknown {
    items: Range<usize>,
    least: usize,
    most: usize,
}

impl Round {
    /// The round that cuts `blocks`, which are ascending and none of them settled; and those of them that have to wait.
    pub fn new(mut blocks: Vec<Block>, pieces: Pieces) -> (Round, Vec<Block>) {
        let mut unknowns = Vec::new();
        let mut cut = 0;
        while cut < blocks.len() && unknowns.len() < MOST_IN_A_ROUND {
            let block = &blocks[cut];
            unknowns.extend(pieces.asked(block).map(|items| {
                let (least, most) = block.possible(items.len());
                Unknown { items, least, most }
            }));
            cut += 1;
        }
        let waiting = blocks.split_off(cut);
        let matrices = unknowns.chunks(MOST_IN_A_MATRIX).map(|part| Matrix::new(&ranges(part))).collect();
        (Round { pieces, blocks, unknowns, matrices }, waiting)
    }

    /// Then the blocks that it makes come in pairs.
    pub fn is_into_halves(&self) -> bool {
        matches!(self.pieces, Pieces::Halves)
    }

    pub fn questions(&self) -> impl Iterator<Item = Question> {
        self.parts().flat_map(|(unknowns, matrix)| {
            (0..matrix.questions())
                .map(|question| Question::about(matrix.members(question).map(|unknown| unknowns[unknown].items.clone())))
        })
    }

    /// The pieces as blocks, given how many are missing of each question's items.
    pub fn answer(self, questions: &[Question], missing: &[usize]) -> Result<Vec<Block>, Contradiction> {
        let mut values = Vec::with_capacity(self.unknowns.len());
        let mut done = 0;
        for (unknowns, matrix) in self.parts() {
            let these = done..done + matrix.questions();
            values.extend(solve(unknowns, matrix, &questions[these.clone()], &missing[these.clone()])?);
            done = these.end;
        }
        self.divide(values)
    }

    fn parts(&self) -> impl Iterator<Item = (&[Unknown], &Matrix)> {
        self.unknowns.chunks(MOST_IN_A_MATRIX).zip(&self.matrices)
    }

    fn divide(self, values: Vec<usize>) -> Result<Vec<Block>, Contradiction> {
        let mut values = values.into_iter();
        let mut divided = Vec::with_capacity(self.unknowns.len() + self.blocks.len());
        for block in &self.blocks {
            let (mut start, mut left) = (block.items.start, block.missing);
            for (items, missing) in self.pieces.asked(block).zip(values.by_ref()) {
                start = items.end;
                left = left.checked_sub(missing).ok_or_else(Contradiction::together)?;
                divided.push(Block { items, missing });
            }
            let last = Block { items: start..block.items.end, missing: left };
            if left > last.items.len() {
                return Err(Contradiction::together());
            }
            divided.push(last);
        }
        Ok(divided)
    }
}

fn ranges(unknowns: &[Unknown]) -> Vec<u64> {
    unknowns.iter().map(|unknown| (unknown.most - unknown.least) as u64 + 1).collect()
}

/// How many are missing in each piece.
fn solve(
    unknowns: &[Unknown],
    matrix: &Matrix,
    questions: &[Question],
    missing: &[usize],
) -> Result<Vec<usize>, Contradiction> {
    let mut sums = Vec::with_capacity(missing.len());
    for (place, (question, missing)) in questions.iter().zip(missing).enumerate() {
        let (mut least, mut most) = (0, 0);
        for unknown in matrix.members(place) {
            least += unknowns[unknown].least;
            most += unknowns[unknown].most;
        }
        if !(least..=most).contains(missing) {
            return Err(question.impossible(*missing, (least, most)));
        }
        sums.push(missing - least);
    }
    let values = matrix.solve(&ranges(unknowns), &sums).ok_or_else(Contradiction::together)?;
    Ok(values.iter().zip(unknowns).map(|(value, unknown)| value + unknown.least).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the items of a block are said to be, one by one, has to make up what the block is known to miss.
    #[test]
    fn items_have_to_make_up_their_block() {
        for (missing, possible) in [([0, 0, 0, 0], false), ([1, 1, 1, 1], false), ([1, 0, 1, 0], true), ([1, 1, 1, 0], true)] {
            let (round, waiting) = Round::new(vec![Block { items: 10..15, missing: 3 }], Pieces::Items);
            assert!(waiting.is_empty());
            let questions: Vec<Question> = round.questions().collect();
            let of = |question: &Question| question.places().map(|place| missing[place - 10]).sum();
            let answers: Vec<usize> = questions.iter().map(of).collect();
            assert_eq!(round.answer(&questions, &answers).is_ok(), possible, "{missing:?}");
        }
    }
}

//! Whether to finish item by item: what either way would cost, before one is gone.

use crate::bits::ways;
use crate::level::{Block, MOST_IN_A_ROUND, Pieces};
use crate::{Question, Search, Strategy};

/// What a question of the tracker tells, in bits, where many are missing.
const BITS_BY_TRACKING: f64 = 3.2;
/// Three levels tell whether the missing lie together.
const HALVED_FIRST: f64 = 7.0;
/// If they do not, the squares are 1 on average; and rarely so much.
const MOST_UNEVEN: f64 = 2.0;
/// One block alone may be so much off, by chance.
const CHANCE: f64 = 4.0;
/// What a question of halving tells is never so little, where many are missing: then it need not be tried out.
const LEAST_BITS_BY_HALVING: f64 = 2.0;

/// How evenly the missing have turned out to be spread. If they are anywhere, a half's count is off its mean by its standard
/// deviation; if they lie together, by more: then blocks settle early, and to ask item by item would be waste.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    halved: f64,
    /// The halves' deviations from their means, squared, each in units of the variance.
    squares: f64,
}

impl Spread {
    /// What became of a block.
    pub fn add(&mut self, first: &Block, second: &Block) {
        let (a, b) = (first.items.len() as f64, second.items.len() as f64);
        let (items, missing) = (a + b, (first.missing + second.missing) as f64);
        let mean = missing * a / items;
        let variance = mean * (b / items) * (items - missing) / (items - 1.0);
        if variance > 0.0 {
            self.halved += 1.0;
            self.squares += (first.missing as f64 - mean) * (first.missing as f64 - mean) / variance;
        }
    }

    pub fn is_even(&self) -> bool {
        self.halved >= HALVED_FIRST && self.squares <= MOST_UNEVEN * self.halved
    }

    pub fn is_uneven(&self) -> bool {
        self.squares > MOST_UNEVEN * self.halved + CHANCE
    }
}

/// How many of `blocks`, from the first on, to cut item by item in one round, because that takes fewer questions than to go on.
/// Either none, or as many as a round takes.
pub fn item_by_item(blocks: &[Block], strategy: Strategy) -> usize {
    let mut items = 0;
    let fit = blocks.iter().take_while(|block| {
        items += block.items.len();
        items <= MOST_IN_A_ROUND
    });
    let fit = fit.count();
    if is_cheaper(&blocks[..fit], strategy) { fit } else { 0 }
}

fn is_cheaper(blocks: &[Block], strategy: Strategy) -> bool {
    let questions = Pieces::Items.cost(blocks);
    let bits: f64 = blocks.iter().map(|block| ways(block.items.len(), block.missing)).sum();
    match strategy {
        Strategy::Level => false,
        Strategy::LevelStar => bits > LEAST_BITS_BY_HALVING * questions as f64 && takes_longer_by_halving(blocks, questions),
        Strategy::Tracker => bits > BITS_BY_TRACKING * questions as f64,
    }
}

/// Plays halving out against a source that is made up: as many are missing in each block, and anywhere in it.
fn takes_longer_by_halving(blocks: &[Block], questions: usize) -> bool {
    let source = Imagined::new(blocks);
    let mut search = Search::among(blocks.to_vec(), Strategy::Level);
    while !search.questions().is_empty() && search.asked() <= questions {
        let answers: Vec<u64> = search.questions().iter().map(|question| source.present(question)).collect();
        if search.answer(&answers).is_err() {
            return false;
        }
    }
    search.asked() > questions
}

struct Imagined {
    start: usize,
    /// How many are present before each item from `start` on.
    present: Vec<u64>,
}

impl Imagined {
    fn new(blocks: &[Block]) -> Imagined {
        let start = blocks.first().map_or(0, |block| block.items.start);
        let mut imagined = Imagined { start, present: vec![0] };
        let (mut present, mut chance) = (0, 0x9e37_79b9_7f4a_7c15_u64);
        for block in blocks {
            imagined.present.resize(block.items.start - start + 1, present);
            let mut missing = block.missing;
            for left in (1..=block.items.len()).rev() {
                // Marsaglia's xorshift: always the same, and as good as chance for this.
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                if ((chance >> 20) % left as u64) < missing as u64 {
                    missing -= 1;
                } else {
                    present += 1;
                }
                imagined.present.push(present);
            }
        }
        imagined
    }

    fn present(&self, question: &Question) -> u64 {
        question
            .ranges()
            .iter()
            .map(|range| self.present[range.end - self.start] - self.present[range.start - self.start])
            .sum()
    }
}

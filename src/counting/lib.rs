//! Finds the missing among many items by asking how many of chosen sets are present.
//!
//! **The problem.** We hold a list of ids, and somebody else holds the records. Some of the records are gone, without a word. The only
//! thing that can be asked is: *how many of these ids do you still have?* Asking for each id by itself takes as many questions as there
//! are ids, nearly all of them to hear "one". But one question can be about a thousand ids, and if the answer is a thousand, all of them
//! are settled. If it is 997, three are missing, and the art is to find out which with few more questions.
//! (It is known as quantitative group testing; and as the problem of the counterfeit coins, with a scale that shows the weight.)
//!
//! **The bound.** There are C(n, d) sets of d missing among n items, so log2 C(n, d) bits have to be learned; and when d are missing, an
//! answer is one of at most d + 1 numbers (or n − d + 1, if less are present), so it tells log2(d + 1) bits at most. Nobody can do with
//! fewer than log2 C(n, d) / log2(min(d, n − d) + 1) questions on average, and the first, which tells d. For 10 of 1000 these are 24.
//!
//! **The search** goes in rounds; the questions of one round do not depend on each other and may be asked at once.
//! - `level` halves every block of neighbours in which some are missing and some present. The other half's count follows by subtraction.
//!   Blocks that turn out all present or all missing are done with: where nothing is missing, nothing more is asked. This alone is
//!   binary search for many things at once.
//! - `matrix` is why it takes still fewer: it finds the counts of *k* blocks with fewer than *k* questions, each about many blocks.
//! - `predict` finishes item by item in one round, if so many are missing that blocks hardly ever settle.
//! - `tracker` gives up on few rounds, and chooses each question by what it is likely to tell.
//!
//! **The promise.** Whatever the source answers:
//! - A search ends after as many questions as there are items, at most; [`Strategy::Level`] also within the bound of Wang's split of 2017,
//!   and never with more questions than halving one block after the other.
//! - It ends with a result only if that agrees with every single answer, and no other set of items does. Otherwise it is a
//!   [`Contradiction`]. An answer whose truth the others do not imply cannot be checked by anybody: a source that loses an item in
//!   mid-search may still give answers that fit together, and they then prove the set that is reported.
//! - No answer is asked for that is implied by earlier ones.
//! - The questions follow from the number of items, the strategy and the answers so far, on every machine. So the answers are all that has
//!   to be kept to go on later, elsewhere.
//!
//! Pure, and without any dependency: nothing here knows of databases, networks or clocks.
//!
//! ```
//! use counting::{Search, Strategy};
//!
//! let present = ["ant", "bee", "cow", "dog", "elk", "fox", "gnu"].map(|animal| animal != "dog");
//! let mut search = Search::new(present.len(), Strategy::Level);
//! while !search.questions().is_empty() {
//!     let count = |question: &counting::Question| question.places().filter(|place| present[*place]).count() as u64;
//!     let answers: Vec<u64> = search.questions().iter().map(count).collect();
//!     search.answer(&answers)?;
//! }
//! assert_eq!(search.missing(), Some(&[3][..]));
//! # Ok::<(), counting::Contradiction>(())
//! ```

mod bits;
mod contradiction;
mod level;
mod matrix;
mod predict;
mod question;
mod search;
mod strategy;
mod tracker;

pub use contradiction::Contradiction;
pub use question::Question;
pub use search::Search;
pub use strategy::Strategy;

#[cfg(test)]
mod tests;

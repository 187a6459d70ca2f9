//! A question: a set of items of which the source is asked how many are present.

use crate::Contradiction;
use std::ops::Range;

/// A set of items, asked about: places 0.. in natural order, as disjoint, ascending, non-adjacent ranges. No item twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    ranges: Vec<Range<usize>>,
    items: usize,
}

impl Question {
    /// The union of `parts`, which are disjoint and ascending.
    pub(crate) fn about(parts: impl IntoIterator<Item = Range<usize>>) -> Question {
        let mut question = Question { ranges: Vec::new(), items: 0 };
        for part in parts {
            question.items += part.len();
            match question.ranges.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => question.ranges.push(part),
            }
        }
        question
    }

    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.ranges.iter().flat_map(Range::clone)
    }

    /// How many items it asks about.
    pub fn items(&self) -> usize {
        self.items
    }

    /// How many are missing if so many are present.
    pub(crate) fn missing(&self, present: u64) -> Result<usize, Contradiction> {
        let present_of_these = usize::try_from(present).ok().filter(|present| *present <= self.items);
        present_of_these.map(|present| self.items - present).ok_or(Contradiction::more_than_all(present, self.items))
    }

    /// What to say when `missing` of its items are said to be, and that can only be a number in `possible`.
    pub(crate) fn impossible(&self, missing: usize, possible: (usize, usize)) -> Contradiction {
        Contradiction::out_of_range(self.items, self.items - missing, (self.items - possible.1, self.items - possible.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_range() {
        let question = Question::about([0..2, 2..3, 5..6]);
        assert_eq!(question.ranges(), [0..3, 5..6]);
        assert_eq!(question.items(), 4);
        assert_eq!(question.places().collect::<Vec<_>>(), [0, 1, 2, 5]);
    }

    #[test]
    fn more_than_all_cannot_be_present() {
        let question = Question::about([0..5, 7..8]);
        assert_eq!(question.missing(4), Ok(2));
        assert_eq!(question.missing(7).unwrap_err().to_string(), "7 of 6 items are said to be present");
        assert!(question.missing(u64::MAX).is_err());
    }
}

//! Why a search ends without a result: answers that cannot all be true.

use std::error::Error;
use std::fmt::{Display, Formatter, Result};

/// Why answers cannot all be true: the source changed in between, or errs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    WrongNumberOfAnswers { questions: usize, answers: usize },
    MoreThanAll { present: u64, items: usize },
    OutOfRange { items: usize, present: usize, least: usize, most: usize },
    Together,
}

impl Contradiction {
    pub(crate) fn wrong_number_of_answers(questions: usize, answers: usize) -> Contradiction {
        Contradiction { reason: Reason::WrongNumberOfAnswers { questions, answers } }
    }

    pub(crate) fn more_than_all(present: u64, items: usize) -> Contradiction {
        Contradiction { reason: Reason::MoreThanAll { present, items } }
    }

    pub(crate) fn out_of_range(items: usize, present: usize, (least, most): (usize, usize)) -> Contradiction {
        Contradiction { reason: Reason::OutOfRange { items, present, least, most } }
    }

    /// Each answer is possible by itself, all of them together are not.
    pub(crate) fn together() -> Contradiction {
        Contradiction { reason: Reason::Together }
    }
}

impl Display for Contradiction {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.reason {
            Reason::WrongNumberOfAnswers { questions: 1, answers } => {
                write!(f, "1 question was asked, and {answers} answers came")
            }
            Reason::WrongNumberOfAnswers { questions, answers } => {
                write!(f, "{questions} questions were asked, and the number of answers is {answers}")
            }
            Reason::MoreThanAll { present, items } => write!(f, "{present} of {items} items are said to be present"),
            Reason::OutOfRange { items, present, least, most } if least == most => {
                write!(f, "{least} of {items} items must be present, and {present} are said to be")
            }
            Reason::OutOfRange { items, present, least, most } => {
                write!(f, "between {least} and {most} of {items} items must be present, and {present} are said to be")
            }
            Reason::Together => write!(f, "whichever items were present, they would not have given all of these answers"),
        }
    }
}

impl Error for Contradiction {}

//! How many records one run may take: what the option `max_purge` says. Pure.

use std::fmt;

use crate::error::{Error, Result};

/// What a share ends with.
const PERCENT: char = '%';

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxPurge {
    /// So many records.
    Records(u64),
    /// So many of a hundred rows of the table, live and deleted.
    Percent(f64),
}

impl MaxPurge {
    /// What the option says: a number of records, or a share.
    pub fn of_option(text: &str) -> Result<MaxPurge> {
        let text = text.trim();
        if text.starts_with('-') {
            return Err(Error::invalid("option max_purge must not be negative").hint("NULL means no limit; 0 takes nothing."));
        }
        let read = match text.strip_suffix(PERCENT) {
            Some(percent) => {
                percent.trim().parse().ok().filter(|percent| (0.0..=100.0).contains(percent)).map(MaxPurge::Percent)
            }
            None => text.parse().ok().map(MaxPurge::Records),
        };
        read.ok_or_else(|| {
            Error::invalid(format!("option max_purge must be a number of records, or a share of them, not \"{text}\""))
                .hint("Say 1000, or '10%'.")
        })
    }

    /// How many records that is of `rows`.
    pub fn of(self, rows: u64) -> u64 {
        match self {
            MaxPurge::Records(most) => most,
            MaxPurge::Percent(percent) => (rows as f64 * percent / 100.0) as u64,
        }
    }
}

/// As the option has it.
impl fmt::Display for MaxPurge {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            MaxPurge::Records(most) => write!(f, "{most}"),
            MaxPurge::Percent(percent) => write!(f, "{percent}{PERCENT}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_a_number_or_a_share() {
        assert_eq!(MaxPurge::of_option(" 7 "), Ok(MaxPurge::Records(7)));
        assert_eq!(MaxPurge::of_option("2.5 %"), Ok(MaxPurge::Percent(2.5)));
        for other in ["7.5", "many", "%", "101%", "NaN%", "-1", "-1%", "1e3", ""] {
            assert!(MaxPurge::of_option(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_share_is_rounded_down() {
        assert_eq!(MaxPurge::Percent(10.0).of(100), 10);
        assert_eq!(MaxPurge::Percent(10.0).of(109), 10);
        assert_eq!(MaxPurge::Percent(10.0).of(9), 0);
        assert_eq!(MaxPurge::Percent(100.0).of(9), 9);
        assert_eq!(MaxPurge::Records(7).of(0), 7);
    }

    proptest! {
        #[test]
        fn it_is_written_as_it_is_read(percent in 0.0..=100.0, most in 0..u64::MAX) {
            for said in [MaxPurge::Percent(percent), MaxPurge::Records(most)] {
                prop_assert_eq!(MaxPurge::of_option(&said.to_string()), Ok(said));
            }
        }
    }
}

//! What a reader of the log has seen, as transaction numbers: a snapshot that outlives its transaction. Pure.
//!
//! Sequence numbers cannot say it, as transactions commit in another order than they write in; and waiting for the oldest
//! open transaction would stall every reader. The difference of two snapshots is exactly what was committed in between.

use std::fmt;

/// Transactions that were over at one moment: those below `end`, but for the `open` ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    end: u64,
    /// Ascending, each below `end`.
    open: Vec<u64>,
}

impl Snapshot {
    pub fn new(end: u64, mut open: Vec<u64>) -> Self {
        open.retain(|number| *number < end);
        open.sort_unstable();
        open.dedup();
        Snapshot { end, open }
    }

    /// Of a reader who has seen nothing.
    pub fn nothing() -> Self {
        Snapshot::default()
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn open(&self) -> &[u64] {
        &self.open
    }

    /// Whether transaction `number` was over.
    pub fn sees(&self, number: u64) -> bool {
        number < self.end && self.open.binary_search(&number).is_err()
    }

    /// What was over in either. So a reader never goes back: not with an old snapshot (REPEATABLE READ), nor at a standby.
    pub fn with(&self, other: &Snapshot) -> Snapshot {
        let open = self.open.iter().chain(&other.open).copied();
        Snapshot::new(self.end.max(other.end), open.filter(|number| !self.sees(*number) && !other.sees(*number)).collect())
    }

    /// Whether it sees all that `other` sees.
    pub fn covers(&self, other: &Snapshot) -> bool {
        self.with(other) == *self
    }

    /// As Postgres writes a pg_snapshot.
    pub fn to_pg(&self) -> String {
        let oldest = self.open.first().unwrap_or(&self.end);
        let open: Vec<String> = self.open.iter().map(u64::to_string).collect();
        // Postgres' numbers begin with 3, and it refuses a 0.
        format!("{}:{}:{}", oldest.max(&1), self.end.max(1), open.join(","))
    }

    /// Reads what Postgres has written; `None` where it is no pg_snapshot.
    pub fn from_pg(text: &str) -> Option<Snapshot> {
        let [_, end, open] = *text.split(':').collect::<Vec<_>>() else { return None };
        let open = open.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok());
        Some(Snapshot::new(end.parse().ok()?, open.collect::<Option<_>>()?))
    }
}

/// The end, and how far below it each open transaction is: `812-3-40`.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.end)?;
        self.open.iter().try_for_each(|number| write!(f, "-{}", self.end - number))
    }
}

impl std::str::FromStr for Snapshot {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('-').map(|number| number.parse::<u64>().map_err(drop));
        let end = numbers.next().ok_or(())??;
        let open = numbers.map(|below| below.and_then(|below| end.checked_sub(below).ok_or(())));
        Ok(Snapshot::new(end, open.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        pub fn snapshots()(end in 1u64..200, open in proptest::collection::vec(0u64..200, 0..20)) -> Snapshot {
            Snapshot::new(end, open)
        }
    }

    proptest! {
        #[test]
        fn text_comes_back(snapshot in snapshots()) {
            prop_assert_eq!(snapshot.to_string().parse(), Ok(snapshot.clone()));
            prop_assert_eq!(Snapshot::from_pg(&snapshot.to_pg()), Some(snapshot));
        }

        #[test]
        fn with_sees_what_either_sees(one in snapshots(), other in snapshots(), number in 0u64..220) {
            prop_assert_eq!(one.with(&other).sees(number), one.sees(number) || other.sees(number));
            prop_assert_eq!(one.with(&other), other.with(&one));
            prop_assert!(one.with(&other).covers(&one));
            prop_assert!(!one.covers(&other) || !other.sees(number) || one.sees(number));
        }

        /// What the log's queries rely on: between two snapshots lie the first one's open transactions, and those from its end.
        #[test]
        fn news_is_open_or_beyond_the_end(before in snapshots(), now in snapshots(), number in 0u64..220) {
            if now.sees(number) && !before.sees(number) {
                prop_assert!(number >= before.end() || before.open().contains(&number));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9:,a]{0,40}") {
            let _ = text.parse::<Snapshot>();
            let _ = Snapshot::from_pg(&text);
        }
    }
}

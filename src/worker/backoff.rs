//! How long to leave alone what has failed: pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Yet another failure; how long to wait after it. Twice as long as after the one before, up to five minutes.
    pub fn fail(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(2u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// It went well: the next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pauses(backoff: &mut Backoff, count: usize) -> Vec<u64> {
        (0..count).map(|_| backoff.fail().as_secs()).collect()
    }

    #[test]
    fn doubles_up_to_five_minutes_and_begins_anew_after_success() {
        let mut backoff = Backoff::default();
        assert_eq!(pauses(&mut backoff, 12), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        backoff.reset();
        assert_eq!(pauses(&mut backoff, 2), [1, 2]);
    }

    proptest! {
        #[test]
        fn never_shrinks_nor_ends(failures: u32) {
            let mut backoff = Backoff { failures };
            let (pause, next) = (backoff.fail(), backoff.fail());
            prop_assert!(FIRST <= pause && pause <= next && next <= LONGEST);
        }
    }
}

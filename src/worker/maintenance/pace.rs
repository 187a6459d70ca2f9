//! How many rows a batch takes, and how long to wait after it. Pure.

use std::time::Duration;

/// No batch takes more: its keys are in memory, and the log's entries hold as many.
const MOST: usize = 8192;
const FIRST: usize = 100;

/// The pace of one run.
#[derive(Debug, Clone)]
pub struct Pace {
    rows: usize,
    /// How long a batch should take.
    batch_time: Duration,
    /// Rows a second, in the long run.
    rate: Option<u32>,
}

impl Pace {
    pub fn new(batch_time: Duration, rate: Option<u32>) -> Pace {
        Pace { rows: FIRST, batch_time, rate }
    }

    /// The settings may change in the course of a run.
    pub fn keep_to(&mut self, batch_time: Duration, rate: Option<u32>) {
        (self.batch_time, self.rate) = (batch_time, rate);
    }

    /// How many rows the next batch is to take.
    pub fn rows(&self) -> usize {
        let allowed = self.rate.map_or(f64::MAX, |rate| f64::from(rate) * self.batch_time.as_secs_f64());
        self.rows.min(allowed as usize).max(1)
    }

    /// Learns from a batch that took `rows` rows, and `written` ones with all that followed from them; returns how long to wait.
    pub fn after(&mut self, rows: usize, written: u64, took: Duration) -> Duration {
        let ratio = self.batch_time.as_secs_f64() / took.as_secs_f64().max(1e-6);
        // Step by step: one slow or fast batch says little. A batch that was not full says nothing of what a full one takes.
        if rows >= self.rows() || ratio < 1.0 {
            self.rows = ((rows as f64 * ratio.clamp(0.5, 2.0)) as usize).clamp(1, MOST);
        }
        rest(written, took, self.rate)
    }
}

/// How long to wait after `written` rows that took so long, for no more than `rate` to be written in a second.
pub fn rest(written: u64, took: Duration, rate: Option<u32>) -> Duration {
    rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(written as f64 / f64::from(rate)).saturating_sub(took))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BATCH_TIME: Duration = Duration::from_millis(100);

    #[test]
    fn a_batch_comes_to_take_as_long_as_it_should() {
        let mut pace = Pace::new(BATCH_TIME, None);
        for per_row in [Duration::from_micros(50), Duration::from_millis(2)] {
            for _ in 0..20 {
                let rows = pace.rows();
                pace.after(rows, rows as u64, per_row * rows as u32);
            }
            let takes = per_row * pace.rows() as u32;
            assert!(takes > BATCH_TIME / 2 && takes < BATCH_TIME * 2, "{takes:?}");
        }
    }

    #[test]
    fn a_last_batch_that_is_small_teaches_nothing() {
        let mut pace = Pace::new(BATCH_TIME, None);
        pace.after(1, 1, Duration::from_micros(100));
        assert_eq!(pace.rows(), FIRST);
    }

    proptest! {
        /// Whatever rows cascade from a batch, and however long it takes: over time no more is written than the rate allows.
        #[test]
        fn the_rate_is_kept(rate in 1u32..100_000, batches in proptest::collection::vec((1u64..50, 1u64..2_000), 1..50)) {
            let mut pace = Pace::new(BATCH_TIME, Some(rate));
            let (mut time, mut written) = (Duration::ZERO, 0);
            for (cascade, milliseconds) in batches {
                let (rows, took) = (pace.rows(), Duration::from_millis(milliseconds));
                let all = rows as u64 * cascade;
                time += took + pace.after(rows, all, took);
                written += all;
                prop_assert!(written as f64 <= f64::from(rate) * time.as_secs_f64() * 1.001 + 1.0);
            }
        }

        #[test]
        fn a_batch_is_never_empty_and_never_endless(rate in proptest::option::of(1u32..), took in 0u64..100_000, rows in 1usize..10_000) {
            let mut pace = Pace::new(BATCH_TIME, rate);
            pace.after(rows, rows as u64, Duration::from_millis(took));
            prop_assert!((1..=MOST).contains(&pace.rows()));
        }
    }
}

//! How often, and after how long, a question that has failed is asked again. Pure but for chance.

use std::time::Duration;

/// How often a batch is tried before it is given up.
pub const TRIES: u32 = 4;
/// So many batches given up in a row, and nobody believes any more that the next one will do better.
pub const LOST_IN_A_ROW: u32 = 3;

const FIRST: Duration = Duration::from_millis(250);

/// How long to wait after the `failures`th failure of a batch: twice as long each time, and by chance up to half of that less, so
/// that those who failed together do not come back together. `None`: it is given up.
pub fn pause(failures: u32) -> Option<Duration> {
    let longest = FIRST * 2u32.saturating_pow(failures.saturating_sub(1));
    (failures < TRIES).then(|| longest.mul_f64(1.0 - fastrand::f64() / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        for (failures, longest) in [(1, 250), (2, 500), (3, 1000)] {
            for _ in 0..100 {
                let pause = pause(failures).expect("there is another try").as_millis();
                assert!((longest / 2..=longest).contains(&pause), "{pause} after {failures} failures");
            }
        }
        assert_eq!(pause(TRIES), None);
    }
}

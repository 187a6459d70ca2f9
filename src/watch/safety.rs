//! How much of a batch may be missing before it is taken for an outage. Pure. A run of which no batch lacks more than such a share
//! lacks no more than that share either: so it is enough to ask this of each batch.

use std::fmt;

/// A share, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

const WHOLE: u32 = 1_000_000;

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / f64::from(WHOLE))
    }
}

/// Why nothing may be deleted where `missing` of `asked` records are missing: more than `most`, or all of them. `None`: it may; also
/// where somebody has confirmed it, so that there is no limit. `which` records they are, for the message.
pub fn refusal(which: &str, asked: u64, missing: u64, most: Option<Share>) -> Option<String> {
    let most = most?;
    if missing == 0 {
        return None;
    }
    if missing == asked {
        return Some(format!("{which}: the source has none of {asked}, which is what an outage looks like"));
    }
    let is_too_much = u128::from(missing) * u128::from(WHOLE) > u128::from(asked) * u128::from(most.0);
    is_too_much.then(|| format!("{which}: the source lacks {missing} of {asked}, and max_missing is {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: Option<Share> = Some(Share(150_000));

    #[test]
    fn a_share_that_is_exactly_the_limit_may_be_missing() {
        assert_eq!(refusal("records", 100, 15, MOST), None);
        assert_eq!(
            refusal("records", 100, 16, MOST).as_deref(),
            Some("records: the source lacks 16 of 100, and max_missing is 0.15")
        );
    }

    #[test]
    fn all_of_them_are_never_taken_for_deleted_unless_confirmed() {
        let all = Some(Share(WHOLE));
        assert!(refusal("records", 1, 1, all).is_some_and(|why| why.contains("outage")));
        assert_eq!(refusal("records", 2, 1, all), None);
        assert_eq!(refusal("records", 1, 1, None), None);
        assert_eq!(refusal("records", 0, 0, MOST), None);
    }

    proptest! {
        #[test]
        fn a_run_is_as_good_as_its_batches(batches in proptest::collection::vec((1u64..2000, 0u64..2000), 1..50), most in 0..WHOLE) {
            let most = Some(Share(most));
            let batches = batches.into_iter().map(|(asked, missing)| (asked, missing % asked));
            let passed: Vec<_> = batches.filter(|(asked, missing)| refusal("", *asked, *missing, most).is_none()).collect();
            let (asked, missing) = passed.iter().fold((1, 0), |sum, batch| (sum.0 + batch.0, sum.1 + batch.1));
            prop_assert_eq!(refusal("", asked, missing, most), None);
        }

        /// Who may lose so many of a batch, may lose fewer; and nothing missing is never refused.
        #[test]
        fn fewer_are_never_worse(asked in 1u64.., missing: u64, most in 0..=WHOLE) {
            let missing = missing % (asked + 1);
            if missing > 0 && refusal("records", asked, missing, Some(Share(most))).is_none() {
                prop_assert_eq!(refusal("records", asked, missing - 1, Some(Share(most))), None);
            }
            prop_assert_eq!(refusal("records", asked, 0, Some(Share(most))), None);
        }
    }
}

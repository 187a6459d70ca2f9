//! Which versions purge_versions takes: never the latest. Pure; semantics of seed 003 and DESIGN §3.

/// At most this many versions may be listed in `ids`.
pub const MOST_IDS: usize = 50;

/// What the caller asked for; at least one of the three.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// This version and older ones.
    pub from: Option<i64>,
    /// That many: the oldest, or with `from` the newest that `from` reaches.
    pub lim: Option<i32>,
    /// Exactly these; wins over the other two.
    pub ids: Option<Vec<i64>>,
}

/// Why a request cannot be met, in the order in which it is checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    OnlyVersion,
    TooManyIds(usize),
    NoIds,
    LatestAmongIds(i64),
    UnknownIds(Vec<i64>),
    LimOutOfRange { lim: i32, most: usize },
    UnknownFrom(i64),
    LimBeyondFrom { lim: i32, from: i64, most: usize },
}

impl Request {
    pub fn is_empty(&self) -> bool {
        self.from.is_none() && self.lim.is_none() && self.ids.is_none()
    }

    /// The versions to purge, ascending, of a record that has `versions`, ascending and not empty.
    pub fn choose(&self, versions: &[i64]) -> Result<Vec<i64>, Refusal> {
        let Some((latest, older)) = versions.split_last().filter(|(_, older)| !older.is_empty()) else {
            return Err(Refusal::OnlyVersion);
        };
        if let Some(ids) = &self.ids {
            return listed(ids, *latest, older);
        }
        if let Some(lim) = self.lim
            && !(1..=older.len()).contains(&usize::try_from(lim).unwrap_or(0))
        {
            return Err(Refusal::LimOutOfRange { lim, most: older.len() });
        }
        let reach = match self.from {
            Some(from) if !versions.contains(&from) => return Err(Refusal::UnknownFrom(from)),
            Some(from) => older.partition_point(|version| *version <= from),
            None => older.len(),
        };
        match (self.lim, self.from) {
            (None, _) => Ok(older[..reach].to_vec()),
            (Some(lim), None) => Ok(older[..lim as usize].to_vec()),
            (Some(lim), Some(from)) if lim as usize > reach => Err(Refusal::LimBeyondFrom { lim, from, most: reach }),
            (Some(lim), Some(_)) => Ok(older[reach - lim as usize..reach].to_vec()),
        }
    }
}

fn listed(ids: &[i64], latest: i64, older: &[i64]) -> Result<Vec<i64>, Refusal> {
    if ids.len() > MOST_IDS {
        return Err(Refusal::TooManyIds(ids.len()));
    }
    if ids.is_empty() {
        return Err(Refusal::NoIds);
    }
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    if ids.contains(&latest) {
        return Err(Refusal::LatestAmongIds(latest));
    }
    let unknown: Vec<i64> = ids.iter().copied().filter(|id| older.binary_search(id).is_err()).collect();
    if !unknown.is_empty() {
        return Err(Refusal::UnknownIds(unknown));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(lim: Option<i32>, from: Option<i64>) -> Request {
        Request { from, lim, ids: None }
    }

    fn ids(ids: &[i64]) -> Request {
        Request { ids: Some(ids.to_vec()), ..Request::default() }
    }

    #[test]
    fn the_table_of_the_design() {
        let four = [1, 2, 3, 4];
        let five = [1, 2, 3, 4, 5];
        assert_eq!(request(Some(2), None).choose(&four), Ok(vec![1, 2]));
        assert_eq!(request(None, Some(2)).choose(&four), Ok(vec![1, 2]));
        assert_eq!(request(None, Some(4)).choose(&four), Ok(vec![1, 2, 3]));
        assert_eq!(request(Some(2), Some(3)).choose(&four), Ok(vec![2, 3]));
        assert_eq!(request(Some(2), Some(5)).choose(&five), Ok(vec![3, 4]));
    }

    #[test]
    fn ids_win_over_lim_and_from() {
        let all = Request { from: Some(99), lim: Some(-1), ids: Some(vec![3, 1]) };
        assert_eq!(all.choose(&[1, 2, 3, 4]), Ok(vec![1, 3]));
    }

    #[test]
    fn every_refusal() {
        let four = [1, 2, 3, 4];
        assert_eq!(ids(&[1]).choose(&[1]), Err(Refusal::OnlyVersion));
        assert_eq!(ids(&(1..=51).collect::<Vec<_>>()).choose(&four), Err(Refusal::TooManyIds(51)));
        assert_eq!(ids(&[]).choose(&four), Err(Refusal::NoIds));
        assert_eq!(ids(&[4, 9]).choose(&four), Err(Refusal::LatestAmongIds(4)));
        assert_eq!(ids(&[9, 1, 7]).choose(&four), Err(Refusal::UnknownIds(vec![7, 9])));
        assert_eq!(request(Some(0), None).choose(&four), Err(Refusal::LimOutOfRange { lim: 0, most: 3 }));
        assert_eq!(request(Some(-1), Some(9)).choose(&four), Err(Refusal::LimOutOfRange { lim: -1, most: 3 }));
        assert_eq!(request(Some(4), None).choose(&four), Err(Refusal::LimOutOfRange { lim: 4, most: 3 }));
        assert_eq!(request(None, Some(9)).choose(&four), Err(Refusal::UnknownFrom(9)));
        assert_eq!(request(Some(3), Some(2)).choose(&four), Err(Refusal::LimBeyondFrom { lim: 3, from: 2, most: 2 }));
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(request(Some(1), None).choose(&[9, 10]), Ok(vec![9]));
    }

    proptest! {
        #[test]
        fn the_latest_stays_and_what_goes_exists(
            versions in proptest::collection::btree_set(0i64..60, 1..40),
            lim in proptest::option::of(-2i32..60),
            from in proptest::option::of(-2i64..62),
            ids in proptest::option::of(proptest::collection::vec(-2i64..62, 0..60)),
        ) {
            let versions: Vec<i64> = versions.into_iter().collect();
            if let Ok(chosen) = (Request { from, lim, ids }).choose(&versions) {
                prop_assert!(!chosen.is_empty());
                prop_assert!(!chosen.contains(versions.last().unwrap()));
                prop_assert!(chosen.iter().all(|version| versions.contains(version)));
                prop_assert!(chosen.is_sorted());
            }
        }
    }
}

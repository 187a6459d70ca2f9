//! Work that comes up again and again, on one table: expiry and purge (`taking.rs`), a watcher's passes (`watching/`).

use std::time::{Duration, Instant};

use super::host::Host;
use crate::error::Error;
use crate::log::run::Failures;
use crate::settings;

/// A table that fails is tried again after the naptime, then after twice as long, and so on up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

/// How often a session is told how far it has come.
pub const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A table's number, and what is done to it.
pub type ChoreId = (i32, &'static str);

pub trait Chore {
    fn key(&self) -> ChoreId;
    /// When it is to be worked on next.
    fn next(&self) -> Instant;
    /// Works on it until `until`; says what came of it once it is done for now.
    fn work(&mut self, until: Instant) -> Option<ChoreEnd>;
    /// Ends what is under way, if anything is, because of `why`.
    fn break_off(&mut self, outcome: &str, why: &str);
}

/// What came of a chore that is done for now.
pub enum ChoreEnd {
    Rests,
    Failed(Error),
}

/// When a chore that was taken up now is to be worked on first. Whoever asks for maintenance wants it now; a worker goes on resting
/// where it rested before it was started anew.
pub fn first(host: Host, failures: Failures) -> Instant {
    let rest = if host == Host::Worker { backoff(failures.in_a_row).saturating_sub(failures.since) } else { Duration::ZERO };
    Instant::now() + rest
}

/// How long to leave a table alone that has failed so many times in a row.
pub fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        failures => {
            settings::naptime().saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_BACKOFF.max(settings::naptime()))
        }
    }
}

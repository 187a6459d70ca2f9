//! What a worker does in a pass.

use std::time::Duration;

use crate::settings;

pub struct Maintenance;

impl Maintenance {
    pub fn new() -> Self {
        Maintenance
    }

    /// One slice of work; returns how long to sleep.
    pub fn slice(&mut self) -> Duration {
        settings::naptime()
    }
}

//! Where the tombstones of a managed table are: in the table itself, or in a table beside it.

use super::{Column, Table};

/// Where the tombstones of a managed table are. Whoever depends on it has to say what holds for each.
#[derive(Debug, Clone)]
pub enum Tombstones {
    /// Layout in_place: in the table. This column is NULL while a record is live.
    InPlace { deleted_at: Column },
}

impl Table {
    /// That the row of `alias` is a live record, as an SQL condition.
    pub fn is_live(&self, alias: &str) -> String {
        match &self.tombstones {
            Tombstones::InPlace { deleted_at } => format!("{alias}.{} IS NULL", deleted_at.sql()),
        }
    }
}

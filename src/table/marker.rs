//! The column that marks tombstones with layout in_place: a timestamptz, or a timestamp that is meant in UTC; of any precision. Here, and
//! nowhere else, its values become stamps and stamps its values. All other code knows stamps alone: microseconds, a timestamptz in SQL.

use pgrx::pg_sys;

use super::{Column, ColumnType};

/// What such a column may be, for messages.
pub const MARKER_TYPES: &str = "timestamptz or timestamp";

#[derive(Debug, Clone)]
pub struct Marker {
    column: Column,
}

impl Marker {
    /// `None` where that column cannot mark tombstones.
    pub fn new(column: Column) -> Option<Marker> {
        fits(&column.type_of).then_some(Marker { column })
    }

    pub fn column(&self) -> &Column {
        &self.column
    }

    pub fn sql(&self) -> String {
        self.column.sql()
    }

    /// The stamp of the row `alias`, a timestamptz; NULL of a live one.
    pub fn stamp(&self, alias: &str) -> String {
        let value = format!("{alias}.{}", self.sql());
        if self.is_utc() { in_utc(&value) } else { value }
    }

    /// `stamp`, an expression of type timestamptz, as the column holds it.
    pub fn holding(&self, stamp: &str) -> String {
        let value = if self.is_utc() { in_utc(stamp) } else { stamp.to_string() };
        match self.column.type_of.modifier() {
            -1 => value,
            _ => format!("{value}::{}", self.column.type_of.sql()),
        }
    }

    /// That the row `alias` is a tombstone of this stamp, an expression of type timestamptz. An index on the column answers it.
    pub fn bears(&self, alias: &str, stamp: &str) -> String {
        format!("{alias}.{} OPERATOR(pg_catalog.=) {}", self.sql(), self.holding(stamp))
    }

    /// This moment, as a person would write it into the column.
    pub fn now(&self) -> &'static str {
        if self.is_utc() { "timezone('UTC', now())" } else { "now()" }
    }

    /// What the column holds of a stamp.
    pub fn held(&self, stamp: i64) -> i64 {
        match u32::try_from(self.column.type_of.modifier()) {
            Ok(digits) => rounded(stamp, digits),
            Err(_) => stamp,
        }
    }

    fn is_utc(&self) -> bool {
        self.column.type_of.base() == pg_sys::TIMESTAMPOID
    }
}

/// Whether values of this type can mark tombstones.
pub fn fits(type_of: &ColumnType) -> bool {
    [pg_sys::TIMESTAMPTZOID, pg_sys::TIMESTAMPOID].contains(&type_of.declared())
}

/// Whether `held` can be what is left of `stamp`, where the column may once have had fewer digits than now.
pub fn may_be_held(held: i64, stamp: i64) -> bool {
    (0..=MICROSECONDS).any(|digits| rounded(stamp, digits) == held)
}

/// A timestamptz as the timestamp that is meant in UTC, and that as a timestamptz.
fn in_utc(value: &str) -> String {
    format!("pg_catalog.timezone('UTC', {value})")
}

/// So many digits of a second does Postgres keep.
const MICROSECONDS: u32 = 6;

/// `stamp` rounded to so many digits of a second, as Postgres rounds what is assigned: half away from zero.
fn rounded(stamp: i64, digits: u32) -> i64 {
    if digits >= MICROSECONDS || stamp == i64::MAX || stamp == i64::MIN {
        return stamp; // and infinity stays what it is
    }
    let unit = 10_i64.pow(MICROSECONDS - digits);
    let magnitude = stamp.abs().saturating_add(unit / 2) / unit * unit;
    if stamp < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_rounded_as_postgres_rounds_them() {
        for (stamp, digits, expected) in [
            (1_499_999, 0, 1_000_000),
            (1_500_000, 0, 2_000_000),
            (-1_499_999, 0, -1_000_000),
            (-1_500_000, 0, -2_000_000),
            (1_234_567, 3, 1_235_000),
            (1_234_567, 6, 1_234_567),
            (i64::MAX, 0, i64::MAX),
            (i64::MIN, 0, i64::MIN),
        ] {
            assert_eq!(rounded(stamp, digits), expected, "{stamp} to {digits} digits");
        }
    }

    #[test]
    fn what_is_left_of_a_stamp_is_known_at_any_precision() {
        let held = [1_234_567, 1_234_570, 1_234_600, 1_235_000, 1_230_000, 1_200_000, 1_000_000];
        assert!(held.iter().all(|held| may_be_held(*held, 1_234_567)));
        assert!(!may_be_held(1_234_568, 1_234_567));
        assert!(!may_be_held(2_000_000, 1_234_567));
    }
}

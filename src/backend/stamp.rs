//! Stamps: the moment of a deletion, in Postgres' microseconds.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

/// A stamp as a timestamptz parameter.
pub fn stamp_argument<'a>(stamp: Option<i64>) -> DatumWithOid<'a> {
    match stamp {
        // SAFETY: a timestamptz is its microseconds.
        Some(stamp) => unsafe { DatumWithOid::new(pg_sys::Datum::from(stamp), pg_sys::TIMESTAMPTZOID) },
        None => DatumWithOid::null_oid(pg_sys::TIMESTAMPTZOID),
    }
}

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

/// Stamps as an array of timestamptz.
pub fn stamps_argument<'a>(stamps: &[i64]) -> DatumWithOid<'a> {
    let mut stamps: Vec<pg_sys::Datum> = stamps.iter().map(|stamp| pg_sys::Datum::from(*stamp)).collect();
    // SAFETY: builds an array of timestamptz: 64 bits each, by value, aligned as doubles are.
    unsafe {
        let count = stamps.len() as i32;
        let array = pg_sys::construct_array(
            stamps.as_mut_ptr(),
            count,
            pg_sys::TIMESTAMPTZOID,
            8,
            true,
            pg_sys::TYPALIGN_DOUBLE as core::ffi::c_char,
        );
        DatumWithOid::new(pg_sys::Datum::from(array), pg_sys::TIMESTAMPTZARRAYOID)
    }
}

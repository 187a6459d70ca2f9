//! SQL with a cached plan.

use std::cell::{Cell, OnceCell};
use std::ptr;

use pgrx::datum::DatumWithOid;
use pgrx::spi::{OwnedPreparedStatement, SpiHeapTupleData};
use pgrx::{PgOid, Spi, pg_sys};

use crate::error::Result;

/// One statement, planned at first use and kept for the session.
pub struct Statement {
    sql: String,
    arguments: Vec<pg_sys::Oid>,
    plan: OnceCell<OwnedPreparedStatement>,
}

impl Statement {
    pub fn new(sql: impl Into<String>, arguments: impl Into<Vec<pg_sys::Oid>>) -> Self {
        Statement { sql: sql.into(), arguments: arguments.into(), plan: OnceCell::new() }
    }

    /// Runs it; returns how many rows it wrote or found.
    pub fn execute(&self, arguments: &[DatumWithOid]) -> Result<u64> {
        Spi::connect_mut(|client| {
            client.update(self.plan()?, None, arguments)?;
            // SAFETY: set by the execution just finished.
            Ok(unsafe { pg_sys::SPI_processed })
        })
    }

    /// Runs it; reads each row with `read`.
    pub fn rows<T>(&self, arguments: &[DatumWithOid], mut read: impl FnMut(&SpiHeapTupleData) -> Result<T>) -> Result<Vec<T>> {
        Spi::connect_mut(|client| {
            let table = client.update(self.plan()?, None, arguments)?;
            table.into_iter().map(|row| read(&row)).collect()
        })
    }

    fn plan(&self) -> Result<&OwnedPreparedStatement> {
        if let Some(plan) = self.plan.get() {
            return Ok(plan);
        }
        let types: Vec<PgOid> = self.arguments.iter().copied().map(PgOid::from).collect();
        let plan = Spi::connect(|client| client.prepare_mut(self.sql.as_str(), &types).map(|plan| plan.keep()))?;
        Ok(self.plan.get_or_init(|| plan))
    }
}

/// A question whose answer must hold now: it sees what is committed at this moment, whatever snapshot the transaction
/// keeps (REPEATABLE READ), and what this transaction itself wrote. Postgres asks its foreign keys in the same way.
pub struct Probe {
    sql: &'static std::ffi::CStr,
    arguments: &'static [pg_sys::Oid],
    plan: Cell<pg_sys::SPIPlanPtr>,
}

impl Probe {
    pub const fn new(sql: &'static std::ffi::CStr, arguments: &'static [pg_sys::Oid]) -> Self {
        Probe { sql, arguments, plan: Cell::new(ptr::null_mut()) }
    }

    /// The first column, text, of the first row it finds.
    pub fn first(&self, arguments: &[DatumWithOid]) -> Result<Option<String>> {
        let (mut values, nulls): (Vec<pg_sys::Datum>, Vec<core::ffi::c_char>) = arguments
            .iter()
            .map(|argument| match argument.datum() {
                Some(datum) => (datum.sans_lifetime(), b' ' as core::ffi::c_char),
                None => (pg_sys::Datum::from(0), b'n' as core::ffi::c_char),
            })
            .unzip();
        Spi::connect_mut(|_| {
            let plan = self.plan()?;
            // SAFETY: the plan takes exactly `self.arguments`, which the callers pass; SPI registers the snapshot.
            let status = unsafe {
                pg_sys::SPI_execute_snapshot(
                    plan,
                    values.as_mut_ptr(),
                    nulls.as_ptr(),
                    pg_sys::GetLatestSnapshot(),
                    ptr::null_mut(),
                    true,
                    false,
                    1,
                )
            };
            Spi::check_status(status)?;
            // SAFETY: SPI_tuptable belongs to this connection until it closes; the string is copied out.
            Ok(unsafe {
                let table = pg_sys::SPI_tuptable;
                if pg_sys::SPI_processed == 0 || table.is_null() {
                    return Ok(None);
                }
                let text = pg_sys::SPI_getvalue(*(*table).vals, (*table).tupdesc, 1);
                (!text.is_null()).then(|| std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned())
            })
        })
    }

    fn plan(&self) -> Result<pg_sys::SPIPlanPtr> {
        if self.plan.get().is_null() {
            // SAFETY: SPI is connected; a kept plan lives as long as the session.
            unsafe {
                let count = self.arguments.len() as i32;
                let plan = pg_sys::SPI_prepare(self.sql.as_ptr(), count, self.arguments.as_ptr().cast_mut());
                if plan.is_null() {
                    Spi::check_status(pg_sys::SPI_result)?;
                }
                pg_sys::SPI_keepplan(plan); // refuses none but NULL and kept plans
                self.plan.set(plan);
            }
        }
        Ok(self.plan.get())
    }
}

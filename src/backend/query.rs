//! SQL with a cached plan. Straight on SPI: pgrx's own client draws a transaction number for every statement it cannot tell
//! to be a read, which writes WAL and forbids a standby.

use std::cell::Cell;
use std::ffi::CString;
use std::ops::ControlFlow;
use std::ptr;

use pgrx::datum::DatumWithOid;
use pgrx::spi::{SpiError, SpiHeapTupleData};
use pgrx::{PgMemoryContexts, Spi, pg_sys};

use crate::backend::identity::c_string;
use crate::backend::transaction::keeps_snapshot;
use crate::error::Result;

/// One statement, planned at first use and kept for as long as this value lives.
pub struct Statement {
    sql: CString,
    arguments: Vec<pg_sys::Oid>,
    plan: Cell<pg_sys::SPIPlanPtr>,
    options: u32,
}

/// What a statement sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sees {
    /// What any statement of this transaction would see now.
    Transaction,
    /// What is committed at this moment, whatever snapshot the transaction keeps (REPEATABLE READ), and what this
    /// transaction itself wrote. Postgres asks its foreign keys in the same way.
    Latest,
    /// Of a write: the same, but where the transaction keeps a snapshot that would have missed a row, 40001.
    LatestOrFail,
}

/// A row of a result, while SPI is connected.
struct ResultRow {
    shape: pg_sys::TupleDesc,
    tuple: pg_sys::HeapTuple,
}

impl ResultRow {
    fn data(&self) -> Result<SpiHeapTupleData<'_>> {
        // SAFETY: a row and its descriptor, as SPI returned them.
        let data = unsafe { SpiHeapTupleData::new(self.shape, self.tuple) }?;
        Ok(data.ok_or(SpiError::NoTupleTable)?)
    }

    /// The values as they stand in the row.
    fn raw(&self) -> Vec<Option<pg_sys::Datum>> {
        // SAFETY: a row and its descriptor, as SPI returned them.
        unsafe {
            let width = (*self.shape).natts as usize;
            let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); width], vec![false; width]);
            pg_sys::heap_deform_tuple(self.tuple, self.shape, values.as_mut_ptr(), nulls.as_mut_ptr());
            values.into_iter().zip(nulls).map(|(value, is_null)| (!is_null).then_some(value)).collect()
        }
    }

    fn values(&self) -> Vec<pg_sys::Datum> {
        // SAFETY: reads each column and copies it, as its type has it, to where SPI's caller allocates.
        unsafe {
            let value = |i| {
                let (mut length, mut by_value, mut is_null) = (0, false, false);
                pg_sys::get_typlenbyval(pg_sys::SPI_gettypeid(self.shape, i), &mut length, &mut by_value);
                let value = pg_sys::SPI_getbinval(self.tuple, self.shape, i, &mut is_null);
                if is_null { pg_sys::Datum::from(0) } else { pg_sys::SPI_datumTransfer(value, by_value, length as i32) }
            };
            (1..=(*self.shape).natts).map(value).collect()
        }
    }
}

impl Statement {
    pub fn new(sql: impl AsRef<str>, arguments: impl Into<Vec<pg_sys::Oid>>) -> Self {
        Statement { sql: c_string(sql.as_ref()), arguments: arguments.into(), plan: Cell::new(ptr::null_mut()), options: 0 }
    }

    /// One that is planned for its arguments each time: where a plan for any arguments would read the whole table for few rows.
    pub fn planned_each_time(mut self) -> Self {
        self.options = pg_sys::CURSOR_OPT_CUSTOM_PLAN;
        self
    }

    /// Runs it; returns how many rows it wrote or found.
    pub fn execute(&self, arguments: &[DatumWithOid]) -> Result<u64> {
        self.run(arguments, Sees::Transaction, |processed, _| Ok(processed))
    }

    /// The same for a write that must miss no row committed by now: 40001 where the transaction's snapshot would.
    pub fn execute_on_latest(&self, arguments: &[DatumWithOid]) -> Result<u64> {
        self.run(arguments, Sees::LatestOrFail, |processed, _| Ok(processed))
    }

    /// Runs it; reads each row with `read`.
    pub fn rows<T>(&self, arguments: &[DatumWithOid], mut read: impl FnMut(&SpiHeapTupleData) -> Result<T>) -> Result<Vec<T>> {
        self.run(arguments, Sees::Transaction, |_, rows| rows.iter().map(|row| read(&row.data()?)).collect())
    }

    /// The same for the values of each row, as they stand in it: at a fraction of the price.
    pub fn each_row(&self, arguments: &[DatumWithOid], mut read: impl FnMut(&[Option<pg_sys::Datum>])) -> Result<()> {
        self.run(arguments, Sees::Transaction, |_, rows| {
            rows.iter().for_each(|row| read(&row.raw()));
            Ok(())
        })
    }

    /// Runs it; the values of the first row it finds, none of them NULL, copied into the caller's memory context.
    pub fn first_row(&self, arguments: &[DatumWithOid]) -> Result<Option<Vec<pg_sys::Datum>>> {
        self.run(arguments, Sees::Transaction, |_, rows| Ok(rows.first().map(ResultRow::values)))
    }

    /// The same of every row.
    pub fn value_rows(&self, arguments: &[DatumWithOid]) -> Result<Vec<Vec<pg_sys::Datum>>> {
        self.run(arguments, Sees::Transaction, |_, rows| Ok(rows.iter().map(ResultRow::values).collect()))
    }

    /// The first column of the first row it finds in what is committed now. Reads only.
    pub fn latest(&self, arguments: &[DatumWithOid]) -> Result<Option<String>> {
        self.run(arguments, Sees::Latest, |_, rows| rows.first().map_or(Ok(None), |row| Ok(row.data()?.get::<String>(1)?)))
    }

    /// Reads rows, fetched `at_once` together, until `read` breaks off or they end; whether they ended. Sees what the statement that is
    /// running sees. Reads only.
    pub fn scan_rows(
        &self,
        arguments: &[DatumWithOid],
        at_once: i64,
        mut read: impl FnMut(&SpiHeapTupleData) -> Result<ControlFlow<()>>,
    ) -> Result<bool> {
        self.portal(arguments, at_once, true, |row| read(&row.data()?))
    }

    /// Hands over all rows, as they stand, with their shape.
    pub fn each_tuple(
        &self,
        arguments: &[DatumWithOid],
        at_once: i64,
        mut take: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc),
    ) -> Result<()> {
        let hand_over = |row: &ResultRow| {
            take(row.tuple, row.shape);
            Ok(ControlFlow::Continue(()))
        };
        self.portal(arguments, at_once, true, hand_over).map(drop)
    }

    /// The same of the rows that a write returns.
    pub fn each_written_tuple(
        &self,
        arguments: &[DatumWithOid],
        at_once: i64,
        mut take: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc),
    ) -> Result<()> {
        let hand_over = |row: &ResultRow| {
            take(row.tuple, row.shape);
            Ok(ControlFlow::Continue(()))
        };
        self.portal(arguments, at_once, false, hand_over).map(drop)
    }

    /// The same in what is committed now, whatever the running statement sees.
    pub fn scan_latest(
        &self,
        arguments: &[DatumWithOid],
        at_once: i64,
        mut read: impl FnMut(&[Option<pg_sys::Datum>]) -> Result<()>,
    ) -> Result<()> {
        // SAFETY: pushed and popped here; an error's abort pops by itself.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
        let outcome = self.portal(arguments, at_once, true, |row| read(&row.raw()).map(ControlFlow::Continue));
        // SAFETY: as above.
        unsafe { pg_sys::PopActiveSnapshot() };
        outcome.map(drop)
    }

    fn portal(
        &self,
        arguments: &[DatumWithOid],
        at_once: i64,
        only_reads: bool,
        mut read: impl FnMut(&ResultRow) -> Result<ControlFlow<()>>,
    ) -> Result<bool> {
        let (mut values, nulls) = self.values_and_nulls(arguments);
        Spi::connect_mut(|_| {
            let plan = self.plan()?;
            // SAFETY: SPI is connected; as many values and null flags as the plan has parameters. The portal is closed below,
            // or by the abort of an error.
            let portal = unsafe { pg_sys::SPI_cursor_open(ptr::null(), plan, values.as_mut_ptr(), nulls.as_ptr(), only_reads) };
            let mut memory = PgMemoryContexts::new("pg_tombstone rows");
            let outcome = loop {
                // SAFETY: an open portal; the rows are read before they are freed.
                let read_all = unsafe {
                    pg_sys::SPI_cursor_fetch(portal, true, at_once as _);
                    let (found, table) = (pg_sys::SPI_processed as usize, pg_sys::SPI_tuptable);
                    if found == 0 {
                        break Ok(true);
                    }
                    let row = |i| ResultRow { shape: (*table).tupdesc, tuple: *(*table).vals.add(i) };
                    let read_all = memory.switch_to(|_| (0..found).try_for_each(|i| flow(read(&row(i)))));
                    memory.reset(); // what reading a row leaves behind goes with it
                    pg_sys::SPI_freetuptable(table);
                    read_all
                };
                match read_all {
                    ControlFlow::Continue(()) => (),
                    ControlFlow::Break(Ok(())) => break Ok(false),
                    ControlFlow::Break(Err(error)) => break Err(error),
                }
            };
            // SAFETY: opened above.
            unsafe { pg_sys::SPI_cursor_close(portal) };
            outcome
        })
    }

    fn values_and_nulls(&self, arguments: &[DatumWithOid]) -> (Vec<pg_sys::Datum>, Vec<core::ffi::c_char>) {
        debug_assert_eq!(arguments.len(), self.arguments.len());
        let value_and_null = |argument: &DatumWithOid| match argument.datum() {
            Some(datum) => (datum.sans_lifetime(), b' ' as core::ffi::c_char),
            None => (pg_sys::Datum::from(0), b'n' as core::ffi::c_char),
        };
        arguments.iter().map(value_and_null).unzip()
    }

    fn run<T>(&self, arguments: &[DatumWithOid], sees: Sees, read: impl FnOnce(u64, &[ResultRow]) -> Result<T>) -> Result<T> {
        let (mut values, nulls) = self.values_and_nulls(arguments);
        Spi::connect_mut(|_| {
            let plan = self.plan()?;
            // SAFETY: SPI is connected; as many values and null flags as the plan has parameters, of their types.
            let status = unsafe {
                let (values, nulls) = (values.as_mut_ptr(), nulls.as_ptr());
                match sees {
                    Sees::Transaction => pg_sys::SPI_execute_plan(plan, values, nulls, false, 0),
                    Sees::Latest => {
                        let (now, none) = (pg_sys::GetLatestSnapshot(), ptr::null_mut());
                        pg_sys::SPI_execute_snapshot(plan, values, nulls, now, none, true, false, 0)
                    }
                    Sees::LatestOrFail if keeps_snapshot() => {
                        let (now, kept) = (pg_sys::GetLatestSnapshot(), pg_sys::GetTransactionSnapshot());
                        pg_sys::SPI_execute_snapshot(plan, values, nulls, now, kept, false, true, 0)
                    }
                    Sees::LatestOrFail => pg_sys::SPI_execute_plan(plan, values, nulls, false, 0),
                }
            };
            Spi::check_status(status)?;
            // SAFETY: both were set by the execution just finished, and live until SPI disconnects.
            let (processed, table) = unsafe { (pg_sys::SPI_processed, pg_sys::SPI_tuptable) };
            let found = if table.is_null() { 0 } else { processed as usize };
            // SAFETY: the table has that many rows.
            let row = |i| unsafe { ResultRow { shape: (*table).tupdesc, tuple: *(*table).vals.add(i) } };
            read(processed, &(0..found).map(row).collect::<Vec<_>>())
        })
    }

    fn plan(&self) -> Result<pg_sys::SPIPlanPtr> {
        if self.plan.get().is_null() {
            // SAFETY: SPI is connected; the plan is ours until `drop`.
            unsafe {
                let count = self.arguments.len() as i32;
                let types = self.arguments.as_ptr().cast_mut();
                let plan = pg_sys::SPI_prepare_cursor(self.sql.as_ptr(), count, types, self.options as i32);
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

/// The same, to be stopped by a wish as by an error.
fn flow(outcome: Result<ControlFlow<()>>) -> ControlFlow<Result<()>> {
    match outcome {
        Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
        Ok(ControlFlow::Break(())) => ControlFlow::Break(Ok(())),
        Err(error) => ControlFlow::Break(Err(error)),
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        if !self.plan.get().is_null() {
            // SAFETY: ours, and used by nobody else.
            unsafe { pg_sys::SPI_freeplan(self.plan.get()) };
        }
    }
}

//! SQL with a cached plan. Straight on SPI: pgrx's own client draws a transaction number for every statement it cannot tell
//! to be a read, which writes WAL and forbids a standby.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::ptr;

use pgrx::datum::DatumWithOid;
use pgrx::spi::{SpiError, SpiHeapTupleData};
use pgrx::{PgList, PgMemoryContexts, Spi, pg_sys};

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

    /// How values of each column are copied: whether they stand in the row itself, and their length.
    fn kinds(&self) -> Vec<(bool, i16)> {
        // SAFETY: a descriptor, as SPI returned it; catalog look-ups.
        let kind = |i| unsafe {
            let (mut length, mut by_value) = (0, false);
            pg_sys::get_typlenbyval(pg_sys::SPI_gettypeid(self.shape, i), &mut length, &mut by_value);
            (by_value, length)
        };
        // SAFETY: as above.
        (1..=unsafe { (*self.shape).natts }).map(kind).collect()
    }

    /// The values, copied to where SPI's caller allocates. `kinds` are those of the rows of this shape.
    fn values(&self, kinds: &[(bool, i16)]) -> Vec<pg_sys::Datum> {
        let copy = |(value, (by_value, length)): (Option<pg_sys::Datum>, &(bool, i16))| match value {
            // SAFETY: a value of that kind, as it stands in the row.
            Some(value) if !by_value => unsafe { pg_sys::SPI_datumTransfer(value, false, i32::from(*length)) },
            value => value.unwrap_or(pg_sys::Datum::from(0)),
        };
        self.raw().into_iter().zip(kinds).map(copy).collect()
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

    /// As `rows`, in what is committed now, whatever the running statement sees. Reads only.
    pub fn rows_latest<T>(
        &self,
        arguments: &[DatumWithOid],
        mut read: impl FnMut(&SpiHeapTupleData) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.run(arguments, Sees::Latest, |_, rows| rows.iter().map(|row| read(&row.data()?)).collect())
    }

    /// Runs it; the values of the first row it finds, none of them NULL, copied into the caller's memory context.
    pub fn first_row(&self, arguments: &[DatumWithOid]) -> Result<Option<Vec<pg_sys::Datum>>> {
        self.run(arguments, Sees::Transaction, |_, rows| Ok(rows.first().map(|row| row.values(&row.kinds()))))
    }

    /// The same of every row.
    pub fn value_rows(&self, arguments: &[DatumWithOid]) -> Result<Vec<Vec<pg_sys::Datum>>> {
        self.run(arguments, Sees::Transaction, |_, rows| {
            let kinds = rows.first().map(ResultRow::kinds).unwrap_or_default();
            Ok(rows.iter().map(|row| row.values(&kinds)).collect())
        })
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
        self.portal(arguments, at_once, |row| read(&row.data()?))
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
        self.portal(arguments, at_once, hand_over).map(drop)
    }

    /// Runs it; what it returns goes to `store` at once, and values kept apart from their row are fetched: that may be gone. Returns the
    /// shape of the rows, a copy in `memory`, and how many they are.
    ///
    /// # Safety
    /// The store is open.
    pub unsafe fn store(
        &self,
        arguments: &[DatumWithOid],
        store: *mut pg_sys::Tuplestorestate,
        memory: &mut PgMemoryContexts,
    ) -> Result<(pg_sys::TupleDesc, u64)> {
        Spi::connect_mut(|_| {
            let plan = self.plan()?;
            // SAFETY: SPI is connected, which frees parameters and receiver when it ends; the store is open by contract of this function.
            // The plan has one statement.
            unsafe {
                let receiver = pg_sys::CreateTuplestoreDestReceiver();
                let (context, none) = (memory.value(), ptr::null_mut());
                pg_sys::SetTuplestoreDestReceiverParams(receiver, store, context, true, none, ptr::null());
                let options = pg_sys::SPIExecuteOptions {
                    params: self.parameters(arguments),
                    dest: receiver,
                    ..pg_sys::SPIExecuteOptions::default()
                };
                Spi::check_status(pg_sys::SPI_execute_plan_extended(plan, &raw const options))?;
                let sources = PgList::<pg_sys::CachedPlanSource>::from_pg(pg_sys::SPI_plan_get_plan_sources(plan));
                let source = sources.get_ptr(0).ok_or(SpiError::NoTupleTable)?;
                let shape = memory.switch_to(|_| pg_sys::CreateTupleDescCopy((*source).resultDesc));
                Ok((shape, pg_sys::SPI_processed))
            }
        })
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
        let outcome = self.portal(arguments, at_once, |row| read(&row.raw()).map(ControlFlow::Continue));
        // SAFETY: as above.
        unsafe { pg_sys::PopActiveSnapshot() };
        outcome.map(drop)
    }

    fn portal(
        &self,
        arguments: &[DatumWithOid],
        at_once: i64,
        mut read: impl FnMut(&ResultRow) -> Result<ControlFlow<()>>,
    ) -> Result<bool> {
        let (mut values, nulls) = self.values_and_nulls(arguments);
        Spi::connect_mut(|_| {
            let plan = self.plan()?;
            // SAFETY: SPI is connected; as many values and null flags as the plan has parameters. The portal is closed below,
            // or by the abort of an error.
            let portal = unsafe { pg_sys::SPI_cursor_open(ptr::null(), plan, values.as_mut_ptr(), nulls.as_ptr(), true) };
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

    pub(super) fn sql(&self) -> &CStr {
        &self.sql
    }

    pub(super) fn argument_types(&self) -> &[pg_sys::Oid] {
        &self.arguments
    }

    fn values_and_nulls(&self, arguments: &[DatumWithOid]) -> (Vec<pg_sys::Datum>, Vec<core::ffi::c_char>) {
        debug_assert_eq!(arguments.len(), self.arguments.len());
        let value_and_null = |argument: &DatumWithOid| match argument.datum() {
            Some(datum) => (datum.sans_lifetime(), b' ' as core::ffi::c_char),
            None => (pg_sys::Datum::from(0), b'n' as core::ffi::c_char),
        };
        arguments.iter().map(value_and_null).unzip()
    }

    /// The same as the executor takes them.
    pub(super) fn parameters(&self, arguments: &[DatumWithOid]) -> pg_sys::ParamListInfo {
        let (values, nulls) = self.values_and_nulls(arguments);
        // SAFETY: the list has room for as many.
        unsafe {
            let list = pg_sys::makeParamList(values.len() as i32);
            for (i, (value, null)) in values.into_iter().zip(nulls).enumerate() {
                let (isnull, pflags, ptype) =
                    (null == b'n' as core::ffi::c_char, pg_sys::PARAM_FLAG_CONST as u16, self.arguments[i]);
                *(*list).params.as_mut_ptr().add(i) = pg_sys::ParamExternData { value, isnull, pflags, ptype };
            }
            list
        }
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

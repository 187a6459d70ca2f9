//! An UPDATE that counts as one that reads no column of its table, as `UPDATE … WHERE CURRENT OF` is.
//!
//! Where row security binds whoever updates, Postgres asks two kinds of policies: those FOR UPDATE, by their USING which rows may be
//! written and by their WITH CHECK what may become of them; and, where the statement reads a column, those FOR SELECT as well, about
//! the old rows and about the new ones. So no statement that names its rows by a key can turn them into rows that a SELECT policy
//! hides. CURRENT OF can, one row and one statement at a time. This can for a set.
//!
//! The caller has to see to it that the role may see the rows: SELECT policies, and the SELECT privilege, are not asked here.

use pgrx::datum::DatumWithOid;
use pgrx::{PgList, Spi, pg_sys};

use super::analysis::{analysed, rights};
use super::query::Statement;
use crate::error::{Error, Result};

impl Statement {
    /// Runs it, an UPDATE, as one that reads no column; returns how many rows it wrote. It is planned each time, as a plan that is kept
    /// is made anew from its text, with the columns it reads.
    pub fn execute_unread(&self, arguments: &[DatumWithOid]) -> Result<u64> {
        Spi::connect_mut(|_| {
            let parameters = self.parameters(arguments);
            let mut written = 0;
            // SAFETY: what SPI does with a statement. Its memory is SPI's, which frees it at the end and where an error is caught; that
            // also puts back the snapshots.
            unsafe {
                with_new_snapshot(|| {
                    for plan in self.unread_plans(parameters).iter_ptr() {
                        if !(*plan).utilityStmt.is_null() {
                            return Err(Error::unsupported("a rule makes the UPDATE a command of another kind")
                                .hint("Drop the rule, or exempt the role from row security (BYPASSRLS)."));
                        }
                        let processed = with_new_snapshot(|| self.run_plan(plan, parameters));
                        written += if (*plan).canSetTag { processed } else { 0 };
                    }
                    Ok(written)
                })
            }
        })
    }

    /// # Safety
    /// SPI is connected, and a snapshot is active.
    unsafe fn unread_plans(&self, parameters: pg_sys::ParamListInfo) -> PgList<pg_sys::PlannedStmt> {
        const READ: pg_sys::AclMode = pg_sys::ACL_SELECT as pg_sys::AclMode;
        // SAFETY: one UPDATE of a table, and as many types as it has parameters.
        unsafe {
            let query = analysed(self.sql(), self.argument_types());
            // Whether it asks for the right to read its table is what row security goes by.
            (*rights(query, (*query).resultRelation)).requiredPerms &= !READ;
            let rewritten = pg_sys::QueryRewrite(query);
            PgList::from_pg(pg_sys::pg_plan_queries(rewritten, self.sql().as_ptr(), 0, parameters))
        }
    }

    /// # Safety
    /// A plan of this statement, no utility; the active snapshot is the plan's own.
    unsafe fn run_plan(&self, plan: *mut pg_sys::PlannedStmt, parameters: pg_sys::ParamListInfo) -> u64 {
        // SAFETY: by contract of this function.
        unsafe {
            let (snapshot, none) = (pg_sys::GetActiveSnapshot(), std::ptr::null_mut());
            let nowhere = pg_sys::None_Receiver;
            let query = pg_sys::CreateQueryDesc(plan, self.sql().as_ptr(), snapshot, none, nowhere, parameters, none.cast(), 0);
            pg_sys::ExecutorStart(query, 0);
            #[cfg(feature = "pg18")]
            pg_sys::ExecutorRun(query, pg_sys::ScanDirection::ForwardScanDirection, 0);
            #[cfg(not(feature = "pg18"))]
            pg_sys::ExecutorRun(query, pg_sys::ScanDirection::ForwardScanDirection, 0, true);
            let processed = (*(*query).estate).es_processed;
            pg_sys::ExecutorFinish(query);
            pg_sys::ExecutorEnd(query);
            pg_sys::FreeQueryDesc(query);
            processed
        }
    }
}

/// Runs `act` with a snapshot of its own, which sees what the transaction has done so far. What `act` does is seen afterwards.
///
/// # Safety
/// In a transaction.
unsafe fn with_new_snapshot<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: pushed and popped here; an error's abort pops by itself.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let value = act();
        pg_sys::PopActiveSnapshot();
        pg_sys::CommandCounterIncrement();
        value
    }
}

//! Constraints that may wait for the end of the transaction, asked before it: what comes back may violate one, and undo is to say so.
//! Changes nothing, not even when they are checked next.

use pgrx::{Spi, pg_sys};

use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
use crate::backend::subtransaction::rehearse;
use crate::error::Result;

thread_local! {
    static OF: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT DISTINCT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.conname)
         FROM pg_catalog.pg_constraint c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
         WHERE c.conrelid = ANY ($1) AND c.condeferrable AND c.contype IN ('f', 'u', 'p', 'x')",
        [pg_sys::OIDARRAYOID],
    )));
}

/// The deferrable constraints of some tables.
pub struct Deferred {
    names: Vec<String>,
}

impl Deferred {
    /// Those of `tables`. None where the transaction violates one already: then there is no telling what does, and Postgres has the
    /// last word.
    pub fn of(tables: Vec<pg_sys::Oid>) -> Result<Deferred> {
        let name = |row: &pgrx::spi::SpiHeapTupleData| Ok(row.get::<String>(1)?);
        let names = acting_as(keeper(), || OF.with(|statement| statement.rows(&[tables.into()], name)))?;
        let deferred = Deferred { names: names.into_iter().flatten().collect() };
        Ok(if deferred.check().is_ok() { deferred } else { Deferred { names: vec![] } })
    }

    /// An error, in Postgres' words, where one of them is violated now.
    pub fn check(&self) -> Result<()> {
        if self.names.is_empty() {
            return Ok(());
        }
        // What was fired in a subtransaction that is rolled back fires again at the end.
        rehearse(|| Ok(Spi::run(&format!("SET CONSTRAINTS {} IMMEDIATE", self.names.join(", ")))?))
    }
}

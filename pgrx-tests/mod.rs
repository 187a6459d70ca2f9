//! Tests inside the server, by subject: what needs both Postgres and our own modules. Each test runs in a transaction that is
//! rolled back, so whatever needs a commit, a second session or a worker is tested elsewhere (`tests/`).

mod capture;
mod expressions;
mod identity;
mod keys;
mod options;
mod pages;
mod replay;
mod subtransactions;
mod timeouts;

/// Shorthand for tests: a statement that must succeed, and a value that must be there.
mod sql {
    use pgrx::prelude::*;
    use pgrx::{FromDatum, IntoDatum};

    pub fn run(sql: &str) {
        Spi::run(sql).expect(sql);
    }

    pub fn value<T: FromDatum + IntoDatum>(sql: &str) -> T {
        Spi::get_one(sql).expect(sql).expect(sql)
    }

    /// SQLSTATE and message of a statement that must fail; what it did is rolled back.
    pub fn refusal(sql: &str) -> (PgSqlErrorCode, String) {
        let error = crate::backend::subtransaction::attempt(|| Ok(Spi::run(sql)?)).expect_err(sql);
        (error.code(), error.summary())
    }
}

//! SQL as these tests ask it: mostly one value, and often the error a client would have to handle.

use tokio_postgres::error::DbError;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Error, GenericClient};

/// The one value of the one row the statement returns.
pub async fn value<T: FromSqlOwned>(
    client: &impl GenericClient,
    statement: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<T, Error> {
    client.query_one(statement, params).await?.try_get(0)
}

/// What the server said when it refused. A lost connection is no refusal: that would be a crash.
pub fn refusal<T: std::fmt::Debug>(outcome: Result<T, Error>) -> DbError {
    let error = outcome.expect_err("the server should have refused");
    match error.as_db_error() {
        Some(refusal) => refusal.clone(),
        None => panic!("the server broke instead of refusing: {error:?}"),
    }
}

//! Tests inside the server, by subject. Each runs in a transaction that is rolled back.

#[pgrx::pg_schema]
mod tests {}

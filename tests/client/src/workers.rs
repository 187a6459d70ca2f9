//! The background processes as an administrator sees them: in pg_stat_activity and in the server's log. Tests wait here for what
//! is to become so, never for a time.

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::server::Server;
use crate::states::{until, until_so};

/// Waits until the log says `what` at least so often.
pub async fn until_logged(server: &Server, what: &str, times: usize) -> Result<()> {
    until_so(&format!("{times} times in the log: {what}"), async || Ok(logged(server, what) >= times)).await
}

/// How often the log says `what`.
pub fn logged(server: &Server, what: &str) -> usize {
    server.log().matches(what).count()
}

/// The workers of the database of that name.
pub async fn workers(client: &Client, database: &str) -> Result<Vec<i32>> {
    processes(client, "pg_tombstone worker", Some(database)).await
}

/// The processes of that kind, in a database or in all.
pub async fn processes(client: &Client, backend_type: &str, database: Option<&str>) -> Result<Vec<i32>> {
    let question = "SELECT pid FROM pg_stat_activity WHERE backend_type = $1 AND ($2::text IS NULL OR datname = $2) ORDER BY 1";
    let rows = client.query(question, &[&backend_type, &database]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Waits until the database has a worker that has looked through it and rests; says which.
pub async fn until_at_rest(client: &Client, database: &str) -> Result<i32> {
    until_in_state(client, database, "state = 'idle'").await
}

/// Waits until it has one that is in the midst of pg_sleep(): `SLOW` makes it so.
pub async fn until_asleep(client: &Client, database: &str) -> Result<i32> {
    until_in_state(client, database, "wait_event = 'PgSleep'").await
}

async fn until_in_state(client: &Client, database: &str, state: &str) -> Result<i32> {
    let question = format!(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tombstone worker' AND datname = '{database}' AND {state}"
    );
    let mut found = None;
    until_so(&question, async || {
        found = client.query_opt(&question, &[]).await?.map(|row| row.get(0));
        Ok(found.is_some())
    })
    .await?;
    found.context("a worker was found")
}

/// Waits until the database has no worker.
pub async fn until_without(client: &Client, database: &str) -> Result<()> {
    until_so(&format!("no worker in {database}"), async || Ok(workers(client, database).await?.is_empty())).await
}

/// Waits until that process is no more.
pub async fn until_gone(client: &Client, pid: i32) -> Result<()> {
    until(client, &format!("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")).await
}

/// A table that keeps its worker in one statement for as long as a test may take.
pub const SLOW: &str = "
    CREATE FUNCTION slow(at timestamptz) RETURNS timestamptz LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_sleep(600); RETURN at; END';
    CREATE TABLE slow (id int PRIMARY KEY, at timestamptz DEFAULT '2000-01-01', deleted_at timestamptz);
    INSERT INTO slow VALUES (1);
    SELECT tombstone.manage('slow', expire_after => '1 day', expire_from => 'public.slow(at)');";

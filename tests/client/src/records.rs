//! A table that mirrors an outside source, and what watching it must come to: deleted are the records that the source has not, and
//! no others. The source is another table, whose probe can be stopped at any question, or a `Source` over HTTP.

use std::collections::BTreeSet;

use anyhow::Result;
use tokio_postgres::Client;

use crate::server::Server;
use crate::sql::value;
use crate::states::until;
use crate::watcher::{Report, report};

/// The id of a record.
pub fn id(number: usize) -> String {
    format!("r{number:06}")
}

pub fn ids(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    numbers.into_iter().map(id).collect()
}

/// Table record, managed, with the records 1 to `records`, in a database of its own.
pub async fn mirror(server: &Server, database: &str, records: usize) -> Result<Client> {
    let client = server.database(database).await?;
    client.batch_execute(&record_table(records)).await?;
    Ok(client)
}

/// What makes such a table.
pub fn record_table(records: usize) -> String {
    format!(
        "CREATE TABLE record (id text PRIMARY KEY, data text DEFAULT '', deleted_at timestamptz);
         INSERT INTO record (id) SELECT 'r' || lpad(n::text, 6, '0') FROM generate_series(1, {records}) n;
         SELECT tombstone.manage('record');"
    )
}

/// Its source as a table in the same database, which has all that is live. Question number k waits for whoever holds the advisory
/// lock k.
pub const CATALOGUE: &str = "
    CREATE TABLE catalogue AS SELECT id FROM record WHERE deleted_at IS NULL;
    CREATE SEQUENCE question;
    CREATE FUNCTION probe(ids text[]) RETURNS bigint LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(nextval('question'));
        RETURN (SELECT count(*) FROM catalogue WHERE id = ANY (ids));
    END
    $$;";

/// A server where such questions may wait for as long as they like, and workers look around often.
pub const PATIENT: &str = "tombstone.naptime = 1\n tombstone.lock_timeout = 1h";
/// The same without workers.
pub const PATIENT_ALONE: &str = "tombstone.enabled = off\n tombstone.lock_timeout = 1h";

/// Keeps a question from being answered.
pub struct Gate {
    holder: Client,
    question: i64,
}

impl Gate {
    /// Before the `question`th question that is put to the catalogue.
    pub async fn before(server: &Server, database: &str, question: i64) -> Result<Self> {
        let holder = server.connect(database).await?;
        holder.execute("SELECT pg_advisory_lock($1)", &[&question]).await?;
        Ok(Self { holder, question })
    }

    /// Waits until somebody waits here.
    pub async fn reached(&self) -> Result<()> {
        until(&self.holder, IS_REACHED).await
    }

    pub async fn is_reached(&self) -> Result<bool> {
        Ok(value(&self.holder, &format!("SELECT {IS_REACHED}"), &[]).await?)
    }

    pub async fn open(self) -> Result<()> {
        self.holder.execute("SELECT pg_advisory_unlock($1)", &[&self.question]).await?;
        Ok(())
    }
}

const IS_REACHED: &str = "EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                                  WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)";

/// The records that are live.
pub async fn live(client: &Client) -> Result<BTreeSet<String>> {
    set(client, "SELECT id FROM record WHERE deleted_at IS NULL").await
}

/// The records that are deleted.
pub async fn deleted(client: &Client) -> Result<BTreeSet<String>> {
    set(client, "SELECT id FROM record WHERE deleted_at IS NOT NULL").await
}

pub async fn set(client: &Client, question: &str) -> Result<BTreeSet<String>> {
    Ok(client.query(question, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// The only run there is.
pub async fn only_run(client: &Client) -> Result<Report> {
    let runs: i64 = value(client, "SELECT count(*) FROM tombstone.runs", &[]).await?;
    assert_eq!(runs, 1, "runs");
    last_run(client).await
}

pub async fn last_run(client: &Client) -> Result<Report> {
    report(client, value(client, "SELECT max(run) FROM tombstone.runs", &[]).await?).await
}

/// Waits until the last run has that outcome, and returns it.
pub async fn until_run(client: &Client, outcome: &str) -> Result<Report> {
    until(client, &format!("(SELECT outcome = '{outcome}' FROM tombstone.runs ORDER BY run DESC LIMIT 1)")).await?;
    last_run(client).await
}

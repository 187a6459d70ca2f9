//! Long lists of ids, named by several sessions at once in opposite orders, beside a plain UPDATE of the same rows: nobody ends in a
//! deadlock, and each record is deleted once.

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;

const RECORDS: i64 = 20_000;
const TABLES: &str = "
    CREATE TABLE parent (id bigint PRIMARY KEY, touched int NOT NULL DEFAULT 0);
    CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES parent ON DELETE CASCADE, touched int NOT NULL DEFAULT 0);
    CREATE INDEX ON child (parent);
    INSERT INTO parent SELECT generate_series(1, 20000);
    INSERT INTO child SELECT i, (i + 1) / 2 FROM generate_series(1, 40000) i;";

#[tokio::test]
async fn opposite_orders_make_no_deadlock_in_place() -> Result<()> {
    rivals("many_in_place", "in_place").await
}

#[tokio::test]
async fn opposite_orders_make_no_deadlock_in_an_archive() -> Result<()> {
    rivals("many_archived", "archive").await
}

async fn rivals(database: &str, layout: &str) -> Result<()> {
    let server = Server::shared()?;
    let client = server.database(database).await?;
    client.batch_execute(TABLES).await?;
    client
        .batch_execute(&format!(
            "SELECT tombstone.manage('child', '{layout}', notify => 'none'), tombstone.manage('parent', '{layout}', notify => 'none')"
        ))
        .await?;

    let mut rivals = JoinSet::new();
    for order in ["id", "id DESC", "id % 7, id"] {
        rivals.spawn(delete_all(server.connect(database).await?, order));
    }
    // In the order of their scans, over parents and over children that would fall.
    for table in ["parent", "child"] {
        let client = server.connect(database).await?;
        rivals.spawn(
            async move { Ok(client.execute(&format!("UPDATE {table} SET touched = touched + 1"), &[]).await.map(|_| 0)?) },
        );
    }
    let mut deleted = 0;
    while let Some(rival) = rivals.join_next().await {
        deleted += rival.context("a rival has panicked")??;
    }

    assert_eq!(deleted, RECORDS, "each is deleted by one of them, and deleted already for the others");
    let taken: i64 = value(&client, "SELECT sum(records)::bigint FROM tombstone.deletions", &[]).await?;
    assert_eq!(taken, 3 * RECORDS, "with their children");
    Ok(())
}

/// Deletes all parents in this order; returns how many of them.
async fn delete_all(client: Client, order: &str) -> Result<i64> {
    // Whoever waited for somebody that waits for them would hear of it at once.
    client.batch_execute("SET deadlock_timeout = '10ms'").await?;
    let ids: Vec<i64> =
        value(&client, &format!("SELECT array_agg(id::bigint ORDER BY {order}) FROM generate_series(1, {RECORDS}) id"), &[])
            .await?;
    let outcomes = client
        .query("SELECT outcome, count(*) FROM tombstone.soft_delete_many($1::bigint[], 'parent') GROUP BY outcome", &[&ids])
        .await?;
    let mut deleted = 0;
    for row in outcomes {
        let (outcome, records): (&str, i64) = (row.get(0), row.get(1));
        ensure!(["deleted", "already_deleted", "not_found"].contains(&outcome), "{records} {outcome}");
        deleted += if outcome == "deleted" { records } else { 0 };
    }
    Ok(deleted)
}

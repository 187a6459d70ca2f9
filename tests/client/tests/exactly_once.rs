//! Replay against a crowd: every committed event reaches a consumer once, in the order of its record, without waiting for
//! transactions that stay open. And on the same data, that the two usual ways of following a log do not manage that.

use std::collections::BTreeSet;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Error};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;
use tombstone_client_tests::stream::{Reader, assert_complete, truth};
use tombstone_client_tests::workload::{TABLES, Writer, seed};

const WRITERS: u64 = 32;
const TRANSACTIONS: usize = 40;

#[tokio::test]
async fn every_event_arrives_once() -> Result<()> {
    let server = Server::shared()?;
    let observer = server.database("exactly_once").await?;
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);

    // One transaction elsewhere, and one here that has written early: both stay open while all others come and go.
    let elsewhere = server.connect("postgres").await?;
    elsewhere.batch_execute("BEGIN; SELECT pg_current_xact_id()").await?;
    observer.batch_execute(TABLES).await?;
    let (long, its_entries) = long_transaction(&server).await?;

    let load = tokio::spawn(load(server.clone(), seed));
    let (fresh, aged) = (server.connect("exactly_once").await?, server.connect("exactly_once").await?);
    let (mut reader, mut by_number, mut by_horizon) = (Reader::default(), ByNumber::default(), ByHorizon::default());
    while !load.is_finished() {
        match random.u8(0..10) {
            // Now and then a page is read under a snapshot that is older than the cursor.
            0 => aged.batch_execute("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM note LIMIT 1").await?,
            1 | 2 => drop(reader.page(&aged, random.i32(1..=50)).await?),
            _ => drop(reader.page(&fresh, random.i32(1..=50)).await?),
        }
        by_number.read(&observer).await?;
        by_horizon.read(&observer).await?;
    }
    let committed = load.await??;
    println!("{committed} transactions committed, {} events were read meanwhile", reader.got.len());

    // The long ones are open still, and all that others committed is delivered.
    reader.to_end(&fresh, random.i32(1..=50)).await?;
    by_number.read(&observer).await?;
    by_horizon.read(&observer).await?;
    let so_far = truth(&observer).await?;
    assert!(so_far.len() > committed, "or the load is none");
    assert_complete(&reader.got, &so_far);
    assert_eq!(by_horizon.got.len(), 0, "a horizon waits for the oldest transaction, wherever it is");

    long.batch_execute("INSERT INTO note (body) VALUES ('last'); COMMIT").await?;
    let before = reader.got.len();
    reader.to_end(&fresh, random.i32(1..=50)).await?;
    by_number.read(&observer).await?;
    by_horizon.read(&observer).await?;
    assert!(reader.got.len() > before);
    let everything = truth(&observer).await?;
    assert_complete(&reader.got, &everything);
    assert!(!reader.page(&fresh, 50).await?, "there is no more");

    // Whoever remembers the last number has passed those that were drawn first and committed last.
    let entries = entries(&observer).await?;
    let lost: BTreeSet<i64> = entries.difference(&by_number.got).copied().collect();
    assert!(lost.is_superset(&its_entries) && !its_entries.is_empty(), "lost {lost:?}, not {its_entries:?}");
    // And the horizon has not moved, for the sake of a transaction in another database.
    assert_eq!(by_horizon.got.len(), 0);
    elsewhere.batch_execute("COMMIT").await?;
    by_horizon.read(&observer).await?;
    assert_eq!(by_horizon.got, entries);

    // From the beginning in one go it is the same story, but for what purges have taken out of it since.
    let mut late = Reader::default();
    late.to_end(&fresh, 1000).await?;
    assert_complete(&late.got, &everything);
    Ok(())
}

/// Returns how many transactions committed.
async fn load(server: std::sync::Arc<Server>, seed: u64) -> Result<usize> {
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let mut writer = Writer::connect(&server, "exactly_once", number, seed).await?;
        writers.spawn(async move {
            let mut committed = 0;
            for _ in 0..TRANSACTIONS {
                committed += usize::from(writer.transaction().await?);
            }
            Ok::<_, Error>(committed)
        });
    }
    Ok(writers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().sum())
}

/// An open transaction, and the entries it has written so far. Its records are its own, so nobody waits for it.
async fn long_transaction(server: &Server) -> Result<(Client, BTreeSet<i64>)> {
    let client = server.connect("exactly_once").await?;
    client
        .batch_execute(
            "BEGIN;
             INSERT INTO note (id, body) OVERRIDING SYSTEM VALUE SELECT n, 'long' FROM generate_series(1000001, 1000009) n;
             SELECT tombstone.soft_delete('1000001', 'note');
             SAVEPOINT kept; SELECT tombstone.soft_delete('1000002', 'note'); RELEASE kept;
             SAVEPOINT taken_back; SELECT tombstone.soft_delete('1000003', 'note'); ROLLBACK TO taken_back;
             INSERT INTO draft (id) OVERRIDING SYSTEM VALUE VALUES (1000001);
             DELETE FROM draft WHERE id = 1000001",
        )
        .await?;
    let own = "SELECT seq FROM tombstone.event WHERE xid = pg_current_xact_id()";
    let entries = client.query(own, &[]).await?.iter().map(|row| row.get(0)).collect();
    Ok((client, entries))
}

async fn entries(client: &Client) -> Result<BTreeSet<i64>, Error> {
    Ok(client.query("SELECT seq FROM tombstone.event", &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// The first usual way: what has a higher number than the last one seen.
#[derive(Default)]
struct ByNumber {
    last: i64,
    got: BTreeSet<i64>,
}

impl ByNumber {
    async fn read(&mut self, client: &Client) -> Result<(), Error> {
        let page = client.query("SELECT seq FROM tombstone.event WHERE seq > $1 ORDER BY seq", &[&self.last]).await?;
        self.got.extend(page.iter().map(|row| row.get::<_, i64>(0)));
        self.last = self.got.last().copied().unwrap_or_default();
        Ok(())
    }
}

/// The second: only transactions older than every open one.
#[derive(Default)]
struct ByHorizon {
    got: BTreeSet<i64>,
}

impl ByHorizon {
    async fn read(&mut self, client: &Client) -> Result<(), Error> {
        let settled = "SELECT seq FROM tombstone.event WHERE xid < pg_snapshot_xmin(pg_current_snapshot())";
        self.got.extend(client.query(settled, &[]).await?.iter().map(|row| row.get::<_, i64>(0)));
        Ok(())
    }
}

/// A page may end in the midst of what one statement did, also where its transaction was open when the reader began.
#[tokio::test]
async fn a_page_ends_anywhere() -> Result<()> {
    let server = Server::shared()?;
    let observer = server.database("any_page").await?;
    observer.batch_execute(TABLES).await?;
    let mut slow = server.connect("any_page").await?;
    let open = slow.transaction().await?;
    open.batch_execute("UPDATE note SET deleted_at = now() WHERE id <= 50").await?;
    let mut reader = Reader::from_now(&observer).await?;
    let already: i64 = value(&observer, "SELECT sum(cardinality(ids))::bigint FROM tombstone.event", &[]).await?;

    observer.batch_execute("UPDATE note SET deleted_at = now() WHERE id > 50").await?;
    assert!(reader.page(&observer, 7).await?);
    open.commit().await?;
    observer.batch_execute("UPDATE note SET deleted_at = NULL WHERE id BETWEEN 20 AND 80").await?;
    reader.to_end(&observer, 7).await?;

    let everything = truth(&observer).await?;
    assert_complete(&reader.got, &everything[already as usize..]);
    assert_eq!(reader.got.len(), 161);
    Ok(())
}

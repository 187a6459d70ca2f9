//! The consumer's recipe keeps its promises: snapshot and stream are complete and have nothing in common, whoever was away
//! ends with the same picture, and what no notification tells of is found all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Error};
use tombstone_client_tests::consumer::{Consumer, Copy, snapshot};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::refusal;
use tombstone_client_tests::stream::Reader;
use tombstone_client_tests::workload::seed;

/// Longer than any test takes: whoever waits so long waits for a notification.
const EVER: Duration = Duration::from_secs(3600);

const WRITERS: usize = 8;
const TRANSACTIONS: usize = 100;
const CONSUMERS: usize = 16;

/// Every event of a record adds one to its `events`, so each row says how many of them it includes.
const COUNTING: &str = "
    CREATE TABLE counted (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, events int NOT NULL, deleted_at timestamptz);
    SELECT tombstone.manage('counted', events => 'all');
    INSERT INTO counted (events) SELECT 1 FROM generate_series(1, 50);";

#[tokio::test]
async fn snapshot_and_stream_are_complete_and_disjoint() -> Result<()> {
    let server = Server::shared()?;
    let client = server.database("disjoint").await?;
    client.batch_execute(COUNTING).await?;
    let (config, seed) = (server.config("disjoint"), seed());
    let written = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let (writer, random) = (server.connect("disjoint").await?, fastrand::Rng::with_seed(seed.wrapping_add(number as u64)));
        writers.spawn(write(writer, random, Arc::clone(&written)));
    }

    // Consumers come all the while, and every third one follows at once.
    let mut consumers = Vec::new();
    for number in 0..CONSUMERS {
        while written.load(Ordering::Relaxed) < number * WRITERS * TRANSACTIONS / CONSUMERS {
            tokio::task::yield_now().await;
        }
        let start = snapshot(&mut server.connect("disjoint").await?, "counted").await?;
        consumers.push((start.clone(), Consumer::resume(&config, "counted", start).await?));
        for (_, consumer) in consumers.iter_mut().step_by(3) {
            consumer.catch_up().await?;
        }
    }
    writers.join_all().await.into_iter().collect::<Result<(), Error>>()?;

    let table = rows(&client, "counted").await?;
    let (mut before, mut after) = (0, 0);
    for (start, mut consumer) in consumers {
        consumer.catch_up().await?;
        assert_eq!(consumer.copy.records, table);

        let mut stream = Reader { cursor: Some(start.cursor), got: Vec::new() };
        stream.to_end(&client, 50).await?;
        let mut counted: BTreeMap<String, i64> = start.records.iter().map(|(id, row)| (id.clone(), events(row))).collect();
        before += counted.values().sum::<i64>();
        after += stream.got.len();
        for event in stream.got {
            *counted.entry(event.id).or_default() += 1;
        }
        let wanted: BTreeMap<String, i64> = table.iter().map(|(id, row)| (id.clone(), events(row))).collect();
        assert_eq!(counted, wanted, "an event was in both, or in neither");
    }
    assert!(before > 1000 && after > 1000, "{before} events in snapshots, {after} in streams: or the test is void");
    Ok(())
}

/// Transactions of some statements each; in each the records in order, so that nobody waits for each other.
async fn write(client: Client, mut random: fastrand::Rng, written: Arc<AtomicUsize>) -> Result<(), Error> {
    for _ in 0..TRANSACTIONS {
        client.batch_execute("BEGIN").await?;
        let mut id = 0;
        for _ in 0..random.u8(1..4) {
            id += random.u32(1..20);
            let statement = match random.u8(0..5) {
                0 => "INSERT INTO counted (events) VALUES (1)".to_string(),
                1 => format!("UPDATE counted SET events = events + 1 WHERE id = {id} AND deleted_at IS NULL"),
                2 => {
                    format!("UPDATE counted SET events = events + 1, deleted_at = now() WHERE id = {id} AND deleted_at IS NULL")
                }
                _ => format!("UPDATE counted SET events = events + 1, deleted_at = NULL WHERE id = {id}"),
            };
            client.batch_execute(&statement).await?;
        }
        client.batch_execute(if random.u8(0..6) == 0 { "ROLLBACK" } else { "COMMIT" }).await?;
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn events(row: &Value) -> i64 {
    row["events"].as_i64().expect("a counted row")
}

#[tokio::test]
async fn who_was_away_ends_with_the_same_picture() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "away").await?;
    let config = server.config("away");
    let mut connected = Consumer::start(&config, "note").await?;
    let left_behind: Copy = Consumer::start(&config, "note").await?.copy;

    for statement in [
        "INSERT INTO note VALUES (10, 'comes and goes')",
        "SELECT tombstone.soft_delete('10')",
        "SELECT tombstone.purge('10')",
        "SELECT tombstone.soft_delete('1')",
        "INSERT INTO note VALUES (11, 'stays'), (12, 'is deleted')",
        "SELECT tombstone.soft_delete('12')",
        "UPDATE note SET body = 'other' WHERE id = 2",
        "DELETE FROM note WHERE id = 3",
    ] {
        client.batch_execute(statement).await?;
        connected.follow(EVER).await?;
    }
    let mut stream = Reader { cursor: Some(left_behind.cursor.clone()), got: Vec::new() };
    stream.to_end(&client, 10).await?;
    let of_ten: Vec<_> = stream.got.iter().filter(|event| event.id == "10").collect();
    assert!(of_ten.len() == 1 && of_ten[0].is_hard(), "of a whole life missed its end is told: {of_ten:?}");

    let back = Consumer::resume(&config, "note", left_behind).await?;
    connected.catch_up().await?;
    assert_eq!(back.copy.records, connected.copy.records);
    assert_eq!(back.copy.records, rows(&client, "note").await?);
    assert_eq!(back.copy.records.keys().collect::<Vec<_>>(), ["1", "11", "12", "2"]);
    assert_eq!(back.copy.records["1"]["body"], "", "redacted here as there");
    Ok(())
}

#[tokio::test]
async fn silence_is_no_proof() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "silent").await?;
    let mut consumer = Consumer::start(&server.config("silent"), "note").await?;

    let unsaid = "BEGIN; SELECT tombstone.soft_delete('1'); PREPARE TRANSACTION 'silent'; COMMIT PREPARED 'silent'";
    for statement in unsaid.split_inclusive(';') {
        client.batch_execute(statement).await?;
    }
    assert_eq!(consumer.follow(Duration::ZERO).await?, 1, "time is up, and nobody has said a word");

    client.batch_execute("SELECT tombstone.purge('2')").await?;
    assert_eq!(consumer.follow(EVER).await?, 1, "word came");
    assert_eq!(consumer.copy.records, rows(&client, "note").await?);
    Ok(())
}

#[tokio::test]
async fn who_was_away_too_long_begins_anew() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "too_long").await?;
    let config = server.config("too_long");
    let left_behind = Consumer::start(&config, "note").await?.copy;

    client.batch_execute("SELECT tombstone.purge('1'); SELECT tombstone.soft_delete('2')").await?;
    client.batch_execute("SELECT tombstone.configure('note', 'event_retention', '1 microsecond')").await?;
    // The first stores the moment that the second finds old enough.
    client.batch_execute("CALL tombstone.maintain()").await?;
    client.batch_execute("CALL tombstone.maintain()").await?;
    let mut stream = Reader { cursor: Some(left_behind.cursor.clone()), got: Vec::new() };
    let refusal = refusal(stream.page(&client, 10).await);
    assert!(refusal.message().contains("too old"), "{refusal:?}");

    let mut back = Consumer::resume(&config, "note", left_behind).await?;
    assert_eq!(back.copy.records, rows(&client, "note").await?);
    client.batch_execute("SELECT tombstone.restore('2')").await?;
    assert_eq!(back.follow(EVER).await?, 1);
    assert_eq!(back.copy.records, rows(&client, "note").await?);
    Ok(())
}

async fn notes(server: &Server, database: &str) -> Result<Client> {
    let client = server.database(database).await?;
    client
        .batch_execute(
            r#"CREATE TABLE note (id bigint PRIMARY KEY, body text, deleted_at timestamptz);
               INSERT INTO note VALUES (1, 'first'), (2, 'second'), (3, 'third');
               SELECT tombstone.manage('note', redact => '{"body": ""}', events => 'all')"#,
        )
        .await?;
    Ok(client)
}

async fn rows(client: &Client, table: &str) -> Result<BTreeMap<String, Value>> {
    let rows = client.query(&format!("SELECT id::text, to_jsonb(t) FROM {table} t"), &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

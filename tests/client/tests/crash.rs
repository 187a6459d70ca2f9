//! The server dies in the midst of everything. What a consumer had got is so still, what it had not comes after its cursor,
//! and log and tables agree. A row of a table with an archive is in the table or in the archive, never in both or in neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Error};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;
use tombstone_client_tests::stream::{Event, Reader, assert_complete, truth};
use tombstone_client_tests::workload::{TABLES, Writer, seed};

const WRITERS: u64 = 16;
const COMMITS: usize = 200;

/// Nobody but sessions and readers takes care of what is to survive.
const CARELESS: &str = "
    wal_writer_delay = 10s
    bgwriter_lru_maxpages = 0
    checkpoint_timeout = 1h
    autovacuum = off";

#[tokio::test]
async fn a_consumer_goes_on_after_a_crash() -> Result<()> {
    let server = Arc::new(Server::private(CARELESS)?);
    let client = server.database("crash").await?;
    client.batch_execute(TABLES).await?;

    let committed = Arc::new(AtomicUsize::new(0));
    let mut writers = load(&server, &committed, seed()).await?;
    let mut reader = Reader::default();
    while committed.load(Ordering::Relaxed) < COMMITS {
        reader.page(&client, 20).await?;
    }
    server.kill()?;
    while let Some(end) = writers.join_next().await {
        let error = end?;
        assert!(error.as_db_error().is_none(), "a writer ended before the server did: {error:?}");
    }
    assert!(!reader.got.is_empty(), "or the test is void");
    let before = reader.got.len();

    server.start()?;
    let client = server.connect("crash").await?;
    commit_what_was_prepared(&client).await?;
    reader.to_end(&client, 20).await?;

    println!("{before} events before the crash, {} after it", reader.got.len() - before);
    let truth = truth(&client).await?;
    assert_complete(&reader.got, &truth);
    assert_tables_agree(&client, &truth).await?;

    // And life goes on.
    client.batch_execute("INSERT INTO note (body) VALUES ('after')").await?;
    assert!(reader.page(&client, 20).await?);
    assert_complete(&reader.got, &self::truth(&client).await?);
    Ok(())
}

/// Writers who go on until the server is gone: every second one does not wait for its commits to be safe.
async fn load(server: &Arc<Server>, committed: &Arc<AtomicUsize>, seed: u64) -> Result<JoinSet<Error>> {
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let mut writer = Writer::connect(server, "crash", number, seed).await?;
        writer.set(if number % 2 == 0 { "synchronous_commit = off" } else { "synchronous_commit = on" }).await?;
        let committed = Arc::clone(committed);
        writers.spawn(async move {
            loop {
                match writer.transaction().await {
                    Ok(it_did) => committed.fetch_add(usize::from(it_did), Ordering::Relaxed),
                    Err(error) => return error,
                };
            }
        });
    }
    Ok(writers)
}

/// A prepared transaction outlives the server; its end is somebody's to decide.
async fn commit_what_was_prepared(client: &Client) -> Result<(), Error> {
    for row in client.query("SELECT gid FROM pg_prepared_xacts", &[]).await? {
        client.batch_execute(&format!("COMMIT PREPARED '{}'", row.get::<_, String>(0))).await?;
    }
    Ok(())
}

/// What last happened to a record is how it stands.
async fn assert_tables_agree(client: &Client, truth: &[Event]) -> Result<()> {
    let mut wanted = std::collections::BTreeMap::new();
    for event in truth {
        let standing = match event.deletion_type.as_deref() {
            Some("hard") => None,
            deletion_type => Some(deletion_type.is_some()),
        };
        wanted.insert((event.relation.clone(), event.id.clone()), standing);
    }
    wanted.retain(|_, standing| standing.is_some());
    let standings = "SELECT 'note', id::text, deleted_at IS NOT NULL FROM note
                     UNION ALL SELECT 'draft', id::text, deleted_at IS NOT NULL FROM draft";
    let rows = client.query(standings, &[]).await?;
    let standing = rows.iter().map(|row| ((row.get(0), row.get(1)), Some(row.get::<_, bool>(2)))).collect();
    assert_eq!(wanted, standing);
    Ok(())
}

/// Nothing makes an asynchronous commit safe here but the reader who is told of it.
#[tokio::test]
async fn what_a_reader_was_told_survives() -> Result<()> {
    let server = Server::private(CARELESS)?;
    let client = server.database("told").await?;
    client.batch_execute(TABLES).await?;
    client.batch_execute("CHECKPOINT; SET synchronous_commit = off").await?;
    let mut reader = Reader::from_now(&client).await?;
    let wal_writer: i32 = value(&client, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'", &[]).await?;
    server.freeze(wal_writer)?;

    client.batch_execute("SELECT tombstone.soft_delete('1', 'note')").await?;
    assert!(reader.page(&client, 1).await?);
    client.batch_execute("SELECT tombstone.soft_delete('2', 'note')").await?;
    let end: String = value(&client, "SELECT tombstone.cursor()", &[]).await?;
    client.batch_execute("SELECT tombstone.soft_delete('3', 'note')").await?;
    server.kill()?;
    server.start()?;

    let client = server.connect("told").await?;
    for (id, wanted) in [("1", "deleted"), ("2", "deleted"), ("3", "live")] {
        let state: String = value(&client, "SELECT tombstone.state($1, 'note')", &[&id]).await?;
        assert_eq!(state, wanted, "of note {id}; the third was told to nobody, or the test is void");
    }
    assert!(reader.page(&client, 10).await?);
    assert_eq!(reader.got.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    // The third one's number is given anew: its cursor must not pass that.
    client.batch_execute("SELECT tombstone.soft_delete('4', 'note')").await?;
    let mut later = Reader { cursor: Some(end), got: vec![] };
    later.to_end(&client, 10).await?;
    reader.to_end(&client, 10).await?;
    assert_eq!(later.got.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["4"]);
    assert_eq!(reader.got.len(), 3);
    Ok(())
}

/// Rows 1 to `RECORDS` and two children of each, which fall with them.
const ARCHIVED: &str = "
    CREATE TABLE customer (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE ticket (id bigint PRIMARY KEY, customer bigint NOT NULL REFERENCES customer ON DELETE CASCADE);
    CREATE INDEX ON ticket (customer);
    SELECT tombstone.manage('customer', tree => true, retention => '1 day');
    INSERT INTO customer SELECT i, 'name ' || i FROM generate_series(1, 200) i;
    INSERT INTO ticket SELECT i, (i + 1) / 2 FROM generate_series(1, 400) i;";

/// Sessions delete and undo, maintenance is at it, and the server dies again and again.
#[tokio::test]
async fn no_row_is_lost_or_doubled_by_a_crash() -> Result<()> {
    let server = Arc::new(Server::private(&format!("{CARELESS}\ntombstone.enabled = off"))?);
    let client = server.database("archived").await?;
    client.batch_execute(ARCHIVED).await?;

    let seed = seed();
    for crash in 0..CRASHES {
        let done = Arc::new(AtomicUsize::new(0));
        let mut sessions = JoinSet::new();
        for number in 0..SESSIONS {
            sessions.spawn(delete_and_undo(server.connect("archived").await?, number, seed ^ crash, Arc::clone(&done)));
        }
        sessions.spawn(maintain(server.connect("archived").await?, Arc::clone(&done)));
        while done.load(Ordering::Relaxed) < ENOUGH {
            tokio::task::yield_now().await;
            assert!(sessions.try_join_next().is_none(), "a session ended before the server did");
        }
        server.kill()?;
        while let Some(end) = sessions.join_next().await {
            let error = end?;
            assert!(error.as_db_error().is_none(), "a session ended before the server did: {error:?}");
        }
        server.start()?;
        assert_each_once(&server.connect("archived").await?).await?;
    }

    let client = server.connect("archived").await?;
    let left = "SELECT array_agg(DISTINCT deletion) FROM customer_tombstone";
    for deletion in value::<Option<Vec<i64>>>(&client, left, &[]).await?.unwrap_or_default() {
        client.execute("SELECT * FROM tombstone.undo($1)", &[&deletion]).await?;
    }
    let live = "SELECT concat_ws(' ', (SELECT count(*) FROM customer), (SELECT count(*) FROM ticket))";
    assert_eq!(value::<String>(&client, live, &[]).await?, "200 400");
    Ok(())
}

const CRASHES: u64 = 3;
const SESSIONS: u64 = 4;
/// So many transactions before each crash.
const ENOUGH: usize = 60;

/// A session's own customers are deleted, some at a time, and most of it is undone. Until the server is gone.
async fn delete_and_undo(client: Client, number: u64, seed: u64, done: Arc<AtomicUsize>) -> Error {
    let mut random = fastrand::Rng::with_seed(seed ^ (number << 32));
    loop {
        let first = i64::try_from(number).unwrap_or_default() * 50 + random.i64(1..=40);
        let deleted = client.execute("DELETE FROM customer WHERE id BETWEEN $1 AND $1 + 9", &[&first]).await;
        let undone = match deleted {
            Ok(_) if random.u8(0..4) > 0 => {
                let last = "SELECT u.* FROM tombstone.undo((SELECT max(deletion) FROM customer_tombstone WHERE id BETWEEN $1 AND $1 + 9)) u";
                client.execute(last, &[&first]).await
            }
            other => other,
        };
        match undone {
            Ok(_) => done.fetch_add(1, Ordering::Relaxed),
            // There was nothing left to delete, and so nothing to undo.
            Err(error) if error.as_db_error().is_some_and(|error| error.message().contains("no deletion")) => 0,
            Err(error) => return error,
        };
    }
}

/// Until the server is gone.
async fn maintain(client: Client, done: Arc<AtomicUsize>) -> Error {
    loop {
        match client.batch_execute("CALL tombstone.maintain('customer')").await {
            Ok(()) => done.fetch_add(1, Ordering::Relaxed),
            Err(error) => return error,
        };
    }
}

/// Each row is somewhere, once.
async fn assert_each_once(client: &Client) -> Result<()> {
    for (table, rows) in [("customer", 200), ("ticket", 400)] {
        let all = format!("SELECT id FROM {table} UNION ALL SELECT id FROM {table}_tombstone");
        let counts = format!("SELECT concat_ws(' of ', count(*), count(DISTINCT id)) FROM ({all}) AS a");
        assert_eq!(value::<String>(client, &counts, &[]).await?, format!("{rows} of {rows}"), "{table}");
    }
    Ok(())
}

/// A partition that is being closed is for a moment no partition at all.
#[tokio::test]
async fn a_crash_leaves_a_partition_open_or_closed() -> Result<()> {
    let server = Server::private(&format!("{CARELESS}\ntombstone.enabled = off"))?;
    let client = server.database("closing").await?;
    client.batch_execute(ARCHIVED).await?;
    client.batch_execute("DELETE FROM customer").await?;
    client.batch_execute("UPDATE customer_tombstone SET deleted_at = deleted_at - interval '2 hours'").await?;
    client
        .batch_execute(
            "CREATE FUNCTION linger() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); END';
             CREATE EVENT TRIGGER linger ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION linger()",
        )
        .await?;

    let closing = server.connect("closing").await?;
    let closes = tokio::spawn(async move { closing.batch_execute("CALL tombstone.maintain('customer')").await });
    let lingers = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')";
    while !value::<bool>(&client, lingers, &[]).await? {
        assert!(!closes.is_finished(), "nothing was closed: {:?}", closes.await?);
    }
    server.kill()?;
    assert!(closes.await?.is_err());
    server.start()?;

    let client = server.connect("closing").await?;
    assert_each_once(&client).await?;
    client.batch_execute("DROP EVENT TRIGGER linger").await?;
    client.batch_execute("CALL tombstone.maintain('customer')").await?;
    let parts: i64 =
        value(&client, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'customer_tombstone'::regclass", &[]).await?;
    assert_eq!(parts, 2, "it is closed by now");
    client.batch_execute("SELECT * FROM tombstone.undo((SELECT max(deletion) FROM customer_tombstone))").await?;
    assert_eq!(value::<i64>(&client, "SELECT count(*) FROM customer", &[]).await?, 200);
    assert_each_once(&client).await
}

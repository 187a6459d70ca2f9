//! The server dies in the midst of everything. What a consumer had got is so still, what it had not comes after its cursor,
//! and log and tables agree.

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

//! The log on a streaming replica: read there as on the primary, by cursors that go from one to the other, that outlive a
//! promotion, and that are refused where they know more than the new primary ever will.

use std::sync::Arc;

use anyhow::Result;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::{refusal, value};
use tombstone_client_tests::stream::{Reader, assert_complete, truth};
use tombstone_client_tests::workload::{TABLES, Writer, seed};

#[tokio::test]
async fn events_arrive_at_a_standby() -> Result<()> {
    let pair = Pair::start("arrive").await?;
    let mut reader = Reader::from_now(&pair.standby).await?;

    pair.primary.batch_execute("SELECT tombstone.soft_delete('1', 'note'); DELETE FROM draft WHERE id = 2").await?;
    pair.catch_up().await?;
    reader.to_end(&pair.standby, 10).await?;

    assert_eq!(told(&reader), ["note 1", "draft 2"]);
    for (table, id, wanted) in
        [("note", "1", "deleted"), ("draft", "2", "purged"), ("note", "3", "live"), ("note", "999", "unknown")]
    {
        let state: String = value(&pair.standby, "SELECT tombstone.state($1, $2::text::regclass)", &[&id, &table]).await?;
        assert_eq!(state, wanted, "of {table} {id}");
    }
    let bodies =
        "SELECT array_agg(DISTINCT data ->> 'body') FROM tombstone.replay(NULL, relations => '{note}', with_data => true)
                  WHERE id IN ('1', '3')";
    let bodies: Vec<String> = value(&pair.standby, bodies, &[]).await?;
    assert_eq!(bodies, ["", "body"], "one redacted");
    Ok(())
}

#[tokio::test]
async fn a_standby_delivers_an_open_transaction_when_it_commits() -> Result<()> {
    let pair = Pair::start("open").await?;
    let open = pair.server.connect("open").await?;
    // With more subtransactions than the primary would keep in mind for each session.
    open.batch_execute("BEGIN; UPDATE note SET deleted_at = now() WHERE id = 1").await?;
    for id in 2..=80 {
        let statement = format!("SAVEPOINT s; UPDATE note SET deleted_at = now() WHERE id = {id}; RELEASE s");
        open.batch_execute(&statement).await?;
    }
    pair.catch_up().await?;
    let mut reader = Reader::from_now(&pair.standby).await?;

    pair.primary.batch_execute("SELECT tombstone.soft_delete('90', 'note')").await?;
    pair.catch_up().await?;
    reader.to_end(&pair.standby, 3).await?;
    assert_eq!(told(&reader), ["note 90"], "without waiting for the one that is open");

    open.batch_execute("COMMIT").await?;
    pair.catch_up().await?;
    reader.to_end(&pair.standby, 3).await?;
    assert_eq!(told(&reader)[1..], (1..=80).map(|id| format!("note {id}")).collect::<Vec<_>>());
    assert!(!reader.page(&pair.primary, 10).await?, "the primary has nothing to add");
    Ok(())
}

/// A reader that takes each page from another server, of which one is always behind.
#[tokio::test]
async fn a_cursor_goes_back_and_forth() -> Result<()> {
    let pair = Pair::start("back_and_forth").await?;
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut writers = Vec::new();
    for number in 0..4 {
        writers.push(Writer::connect(&pair.server, "back_and_forth", number, seed).await?);
    }
    let open = pair.server.connect("back_and_forth").await?;
    open.batch_execute("BEGIN; INSERT INTO note (body) VALUES ('open all the time')").await?;

    let (mut reader, mut here, mut there) = (Reader::default(), 0, 0);
    for _ in 0..25 {
        if random.bool() {
            pair.standby.batch_execute("SELECT pg_wal_replay_pause()").await?;
        }
        for writer in &mut writers {
            writer.transaction().await?;
        }
        for _ in 0..4 {
            let lim = random.i32(1..12);
            if random.bool() {
                here += usize::from(reader.page(&pair.primary, lim).await?);
            } else {
                there += usize::from(reader.page(&pair.standby, lim).await?);
            }
        }
        pair.standby.batch_execute("SELECT pg_wal_replay_resume()").await?;
    }
    assert!(here > 5 && there > 5, "{here} pages from the primary, {there} from the standby");
    reader.to_end(&pair.primary, 10).await?;
    assert_complete(&reader.got, &truth(&pair.primary).await?);
    open.batch_execute("COMMIT").await?;
    pair.catch_up().await?;
    reader.to_end(&pair.standby, 10).await?;
    assert_complete(&reader.got, &truth(&pair.primary).await?);
    Ok(())
}

#[tokio::test]
async fn a_standby_that_lags_has_nothing_for_a_cursor_ahead_of_it() -> Result<()> {
    let pair = Pair::start("lags").await?;
    pair.standby.batch_execute("SELECT pg_wal_replay_pause()").await?;
    wait_for(&pair.standby, "SELECT pg_get_wal_replay_pause_state() = 'paused'").await?;
    let mut reader = Reader::from_now(&pair.primary).await?;
    pair.primary.batch_execute("UPDATE note SET deleted_at = now() WHERE id <= 10").await?;

    assert!(!reader.page(&pair.standby, 4).await?, "which it does not have yet");
    assert!(reader.page(&pair.primary, 4).await?);
    assert!(!reader.page(&pair.standby, 4).await?, "also in the midst of a statement's records");
    pair.standby.batch_execute("SELECT pg_wal_replay_resume()").await?;
    pair.catch_up().await?;
    reader.to_end(&pair.standby, 4).await?;

    assert_eq!(told(&reader), (1..=10).map(|id| format!("note {id}")).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn cursors_outlive_a_promotion_but_for_those_of_another_future() -> Result<()> {
    let pair = Pair::start("promotion").await?;
    let mut from_primary = Reader::from_now(&pair.primary).await?;
    let mut from_standby = Reader::from_now(&pair.standby).await?;
    let mut in_midst = Reader::from_now(&pair.primary).await?;
    let open = pair.server.connect("promotion").await?;
    open.batch_execute("BEGIN; SELECT tombstone.soft_delete('40', 'note')").await?;
    pair.primary.batch_execute("UPDATE note SET deleted_at = now() WHERE id <= 3").await?;
    assert!(in_midst.page(&pair.primary, 2).await?);
    pair.catch_up().await?;

    let promoted: bool = value(&pair.standby, "SELECT pg_promote()", &[]).await?;
    assert!(promoted);
    // The old primary does not know, and goes on alone.
    open.batch_execute("COMMIT").await?;
    pair.primary.batch_execute("SELECT tombstone.soft_delete('50', 'note')").await?;
    let mut from_another_future = from_primary.clone();
    from_another_future.to_end(&pair.primary, 10).await?;
    assert_eq!(told(&from_another_future), ["note 40", "note 1", "note 2", "note 3", "note 50"]);
    let its_end = Reader::from_now(&pair.primary).await?;

    pair.standby.batch_execute("SELECT tombstone.soft_delete('60', 'note')").await?;
    for reader in [&mut from_primary, &mut from_standby, &mut in_midst] {
        reader.to_end(&pair.standby, 2).await?;
        assert_eq!(told(reader), ["note 1", "note 2", "note 3", "note 60"]);
    }
    for reader in [from_another_future, its_end] {
        assert_too_old(&pair.standby, reader).await;
    }
    assert_too_old(&pair.primary, from_primary.clone()).await;

    // Nor does the promoted server's coming further make that future its own.
    pair.standby.batch_execute("UPDATE draft SET deleted_at = now(); UPDATE draft SET deleted_at = NULL").await?;
    let end = Reader::from_now(&pair.standby).await?;
    assert!(!end.clone().page(&pair.standby, 10).await?);
    assert_too_old(&pair.primary, end).await;
    Ok(())
}

async fn assert_too_old(server: &Client, mut reader: Reader) {
    let refusal = refusal(reader.page(server, 10).await);
    assert_eq!(*refusal.code(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "{refusal:?}");
    assert!(refusal.hint().is_some_and(|hint| hint.contains("snapshot")), "{refusal:?}");
}

/// A primary and its standby, with a client each of the same database.
struct Pair {
    // Clients first, the servers after them, the follower before the one it follows.
    primary: Client,
    standby: Client,
    _standby_server: Server,
    server: Arc<Server>,
}

impl Pair {
    async fn start(database: &str) -> Result<Self> {
        let server = Arc::new(Server::private("")?);
        let primary = server.database(database).await?;
        primary.batch_execute(TABLES).await?;
        let standby_server = server.standby()?;
        let standby = standby_server.connect(database).await?;
        let pair = Self { primary, standby, _standby_server: standby_server, server };
        pair.catch_up().await?;
        Ok(pair)
    }

    /// Waits until the standby has all that the primary has committed.
    async fn catch_up(&self) -> Result<(), Error> {
        let end: String = value(&self.primary, "SELECT pg_current_wal_flush_lsn()::text", &[]).await?;
        wait_for(&self.standby, &format!("SELECT pg_last_wal_replay_lsn() >= '{end}'")).await
    }
}

async fn wait_for(client: &Client, question: &str) -> Result<(), Error> {
    while !value::<bool>(client, question, &[]).await? {}
    Ok(())
}

fn told(reader: &Reader) -> Vec<String> {
    reader.got.iter().map(|event| format!("{} {}", event.relation, event.id)).collect()
}

//! The relay: what listeners hear from it, and that they hear each event once, whatever becomes of it, of its server and of the
//! transactions that leave events to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::{Client, Error};
use tombstone_client_tests::listener::Listener;
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;
use tombstone_client_tests::states::{until, until_so};
use tombstone_client_tests::stream::{Event, Reader, in_full, truth};
use tombstone_client_tests::workload::{TABLES, Writer, seed};

const FOR_EVER: Duration = Duration::from_secs(60);

/// Workers look around often.
const SETTINGS: &str = "
    tombstone.relay = on
    tombstone.naptime = 1s";

const SOFT: &str =
    r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"delete","deletionType":"soft"}"#;
const HARD: &str =
    r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"delete","deletionType":"hard"}"#;
const RESTORED: &str =
    r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"update","restored":true}"#;

const IS_READY: &str = "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                AND backend_type = 'pg_tombstone relay' AND query = 'announcing events')";
const IS_GONE: &str = "NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                   AND backend_type = 'pg_tombstone relay')";
const PLACE_IS_WAITED_FOR: &str = "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                           AND backend_type LIKE 'pg_tombstone %' AND wait_event_type = 'Lock')";

// --- What is said ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn functions_say_what_seed_004_says_and_where_that_is() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_words", "").await?;
    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    client.batch_execute("SELECT tombstone.restore('opendes:Wellbore:id1')").await?;
    client.batch_execute("SELECT * FROM tombstone.soft_delete_many('{opendes:Wellbore:id1,no such}')").await?;
    client.batch_execute("SELECT tombstone.purge('opendes:Wellbore:id1')").await?;
    let heard = ears.heard().await?;
    assert_eq!(words(&heard), [SOFT, RESTORED, SOFT, HARD]);

    // What comes after the cursor of each is what was said after it; but for the purge, all has left the stream by then.
    client.batch_execute("SELECT tombstone.configure('record', 'notify', 'none')").await?;
    for (i, payload) in heard.iter().enumerate() {
        let mut reader = Reader { cursor: Some(cursor_of(payload)?), got: vec![] };
        reader.to_end(&client, 1).await?;
        reader.got.retain(|event| event.relation == "record");
        assert_eq!(reader.got.len(), usize::from(i < 3), "after {payload}");
        assert!(reader.got.iter().all(Event::is_hard));
    }
    Ok(())
}

#[tokio::test]
async fn replay_goes_on_after_each_word() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_cursor", ", events => 'all'").await?;
    client.batch_execute("INSERT INTO record SELECT 'id ' || n, NULL, '' FROM generate_series(1, 20) n").await?;
    client.batch_execute("UPDATE record SET deleted_at = now() WHERE id LIKE 'id _'").await?;
    client.batch_execute("BEGIN; SELECT tombstone.soft_delete('id 10'); SELECT tombstone.restore('id 10'); COMMIT").await?;
    let heard = ears.heard().await?;
    assert_eq!(heard.len(), 20 + 9 + 2);
    for (i, payload) in heard.iter().enumerate() {
        let mut reader = Reader { cursor: Some(cursor_of(payload)?), got: vec![] };
        reader.to_end(&client, 7).await?;
        reader.got.retain(|event| event.relation == "record");
        let rest: Vec<Value> = heard[i + 1..].iter().map(|payload| object(payload)).collect::<Result<_>>()?;
        assert_eq!(reader.got.iter().map(said_of).collect::<Vec<_>>(), rest, "after {payload}");
    }
    Ok(())
}

#[tokio::test]
async fn every_road_is_heard() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_roads", ", events => 'all'").await?;
    client
        .batch_execute(
            "CREATE TABLE bore (id int PRIMARY KEY, record text REFERENCES record ON DELETE CASCADE, deleted_at timestamptz);
             INSERT INTO bore VALUES (7, 'opendes:Wellbore:id1');
             SELECT tombstone.manage('bore', kind => '''bore''');
             COPY record (id, kind) FROM PROGRAM 'echo copied,k' (FORMAT csv)",
        )
        .await?;
    client.batch_execute("UPDATE record SET deleted_at = now() WHERE id = 'opendes:Wellbore:id1'").await?;
    client.batch_execute("UPDATE record SET deleted_at = NULL WHERE id = 'opendes:Wellbore:id1'").await?;
    client.batch_execute("DELETE FROM record WHERE id = 'opendes:Wellbore:id1'").await?;
    client.batch_execute("TRUNCATE record CASCADE").await?;
    assert_eq!(
        words(&ears.heard().await?),
        [
            r#"{"id":"copied","kind":"k","op":"create"}"#,
            SOFT,
            r#"{"id":"7","kind":"bore","op":"delete","deletionType":"soft"}"#,
            RESTORED,
            r#"{"id":"7","kind":"bore","op":"update","restored":true}"#,
            HARD,
            r#"{"id":"7","kind":"bore","op":"delete","deletionType":"hard"}"#,
            r#"{"id":"copied","kind":"k","op":"delete","deletionType":"hard"}"#,
        ]
    );
    Ok(())
}

#[tokio::test]
async fn versions_are_named() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_versions", "").await?;
    client
        .batch_execute(
            "CREATE TABLE part (id text, version bigint, deleted_at timestamptz, PRIMARY KEY (id, version));
             INSERT INTO part SELECT 'a', v FROM generate_series(1, 4) v;
             SELECT tombstone.manage('part', version => 'version');
             SELECT tombstone.purge_versions('a', lim => 2, relation => 'part')",
        )
        .await?;
    let said = |version| format!(r#"{{"id":"a","kind":null,"op":"delete","deletionType":"hard","version":{version}}}"#);
    assert_eq!(words(&ears.heard().await?), [said(1), said(2)]);
    Ok(())
}

#[tokio::test]
async fn a_batch_is_arrays_that_fit_of_many_transactions() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_batch", ", notify => 'batch'").await?;
    client.batch_execute("INSERT INTO record SELECT 'ä ' || n, 'kind', '' FROM generate_series(1, 3000) n").await?;
    hold_place(&client).await?;
    client.batch_execute("UPDATE record SET deleted_at = now() WHERE kind = 'kind'").await?;
    client.batch_execute("SELECT tombstone.purge('opendes:Wellbore:id1')").await?;
    release_place(&client).await?;

    let heard = ears.heard().await?;
    assert!(heard.iter().all(|payload| payload.len() < 8000), "or Postgres itself would have refused");
    assert!(heard.len() < 120, "{} arrays of what would fit in about 80", heard.len());
    let objects: Vec<Value> =
        heard.iter().map(|payload| serde_json::from_str::<Vec<Value>>(payload)).collect::<Result<Vec<_>, _>>()?.concat();
    assert_eq!(objects.len(), 3001);
    for (n, object) in objects[..3000].iter().enumerate() {
        assert_eq!(object["id"], format!("ä {}", n + 1));
        assert!(object["cursor"].as_str().is_some_and(|cursor| cursor.starts_with("ts1.")));
    }
    assert_eq!(objects[3000]["deletionType"], "hard");
    Ok(())
}

/// The same as the writers would say, and as replay does.
#[tokio::test]
async fn a_full_payload_says_why_and_when_and_for_whom() -> Result<()> {
    let server = shared()?;
    let options = ", payload => 'full', expire_after => '1 day', expire_from => 'nullif(body, ''drilled'')::timestamptz'";
    let (client, mut ears) = wellbores(&server, "relay_full", options).await?;
    let place: String = value(&client, "SELECT tombstone.cursor()", &[]).await?;

    client
        .batch_execute(
            "BEGIN; SET LOCAL tombstone.actor = 'user \"42\"'; SET LOCAL TimeZone = 'Asia/Tokyo';
             UPDATE record SET deleted_at = now() WHERE id = 'opendes:Wellbore:id1'; COMMIT",
        )
        .await?;
    client.batch_execute("SELECT tombstone.restore('opendes:Wellbore:id1')").await?;
    client.batch_execute("INSERT INTO record VALUES ('old', NULL, '2000-01-01')").await?;
    client.batch_execute("CALL tombstone.maintain('record')").await?;

    let heard = ears.heard().await?;
    let objects = heard.iter().map(|payload| object(payload)).collect::<Result<Vec<_>>>()?;
    assert_eq!(objects, in_full(&client, &place, "record").await?);
    assert_eq!((&objects[0]["actor"], &objects[2]["cause"]), (&json!("user \"42\""), &json!("expiry")));
    assert!(heard.iter().all(|payload| cursor_of(payload).is_ok()));

    // What a prepared transaction did was worded by nobody yet.
    client
        .batch_execute("BEGIN; SET LOCAL tombstone.actor = 'later'; SELECT tombstone.soft_delete('opendes:Wellbore:id1')")
        .await?;
    client.batch_execute("PREPARE TRANSACTION 'full'").await?;
    client.batch_execute("COMMIT PREPARED 'full'").await?;
    let heard = ears.heard().await?;
    assert_eq!(object(&heard[0])?["actor"], "later");

    client.batch_execute("SELECT tombstone.configure('record', 'notify', 'batch')").await?;
    let place: String = value(&client, "SELECT tombstone.cursor()", &[]).await?;
    client.batch_execute("INSERT INTO record SELECT 'n' || n FROM generate_series(1, 500) n").await?;
    client.batch_execute("SELECT count(*) FROM tombstone.soft_delete_many(ARRAY(SELECT id FROM record))").await?;
    let mut said = Vec::new();
    for payload in ears.heard().await? {
        said.extend(serde_json::from_str::<Vec<Value>>(&payload)?);
    }
    said.iter_mut().filter_map(Value::as_object_mut).for_each(|object| drop(object.remove("cursor")));
    assert_eq!(said, in_full(&client, &place, "record").await?);
    Ok(())
}

#[tokio::test]
async fn an_id_too_long_to_be_said_is_where_the_cursor_says() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_too_long", "").await?;
    client.batch_execute("INSERT INTO record VALUES (repeat('x', 9000), 'kind', ''), ('before', 'kind', '')").await?;
    client.batch_execute("SELECT tombstone.soft_delete('before')").await?;
    client.batch_execute("SELECT tombstone.soft_delete(repeat('x', 9000))").await?;
    let heard = ears.heard().await?;
    assert_eq!(words(&heard)[1], r#"{"op":"delete","deletionType":"soft","truncated":true}"#);
    let mut reader = Reader { cursor: Some(cursor_of(&heard[0])?), got: vec![] };
    assert!(reader.page(&client, 1).await?);
    assert_eq!(reader.got[0].id.len(), 9000);
    let mut reader = Reader { cursor: Some(cursor_of(&heard[1])?), got: vec![] };
    reader.to_end(&client, 10).await?;
    assert!(reader.got.iter().all(|event| event.relation == "word"), "it has been said");
    Ok(())
}

/// A writer says nothing that is to be announced: so it may be announced under other options, or none.
#[tokio::test]
async fn what_was_left_is_announced_as_it_was_left() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_options", "").await?;
    hold_place(&client).await?;
    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    client
        .batch_execute(
            "SELECT tombstone.configure('record', 'channel', 'other'), tombstone.configure('record', 'notify', 'batch')",
        )
        .await?;
    client.batch_execute("SELECT tombstone.restore('opendes:Wellbore:id1')").await?;
    client.batch_execute("SELECT tombstone.configure('record', 'channel', 'tombstone')").await?;
    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    client.batch_execute("SELECT tombstone.unmanage('record', discard => true)").await?;
    release_place(&client).await?;
    let heard = ears.heard().await?;
    assert_eq!(words(&heard[..1]), [SOFT]);
    let arrays: Vec<Value> = heard[1..].iter().map(|payload| Ok(serde_json::from_str(payload)?)).collect::<Result<_>>()?;
    let types: Vec<&Value> =
        arrays.iter().flat_map(|array| array.as_array()).flatten().map(|said| &said["deletionType"]).collect();
    assert_eq!(types, ["soft", "hard"]);
    Ok(())
}

// --- Which transactions are heard ------------------------------------------------------------------------------------------

#[tokio::test]
async fn transaction_rolled_back() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_rolled_back", "").await?;
    client.batch_execute("INSERT INTO record VALUES ('a', 'k', ''), ('b', 'k', ''), ('c', 'k', '')").await?;
    client.batch_execute("BEGIN; SELECT tombstone.soft_delete('opendes:Wellbore:id1'); ROLLBACK").await?;
    client
        .batch_execute(
            "BEGIN;
             SELECT tombstone.soft_delete('a');
             SAVEPOINT one; SELECT tombstone.soft_delete('b');
             SAVEPOINT two; SELECT tombstone.soft_delete('opendes:Wellbore:id1'); RELEASE two;
             ROLLBACK TO one;
             SELECT tombstone.soft_delete('c');
             COMMIT",
        )
        .await?;
    // Only a savepoint that was rolled back had anything to tell; then the transaction had.
    client.batch_execute("BEGIN; SAVEPOINT one; SELECT tombstone.soft_delete('b'); ROLLBACK TO one; COMMIT").await?;
    client.batch_execute("BEGIN; SAVEPOINT one; SELECT tombstone.soft_delete('b'); RELEASE one; COMMIT").await?;
    assert_eq!(words(&ears.heard().await?), [said_soft("a"), said_soft("c"), said_soft("b")]);
    Ok(())
}

/// Within a transaction Postgres sends equal payloads once. Here the cursor tells them apart.
#[tokio::test]
async fn what_happens_again_is_said_again() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_again", "").await?;
    client
        .batch_execute(
            "BEGIN;
             SELECT tombstone.soft_delete('opendes:Wellbore:id1'); SELECT tombstone.restore('opendes:Wellbore:id1');
             SELECT tombstone.soft_delete('opendes:Wellbore:id1'); SELECT tombstone.restore('opendes:Wellbore:id1');
             SELECT tombstone.purge('opendes:Wellbore:id1');
             COMMIT",
        )
        .await?;
    assert_eq!(words(&ears.heard().await?), [SOFT, RESTORED, SOFT, RESTORED, HARD]);
    Ok(())
}

#[tokio::test]
async fn transaction_prepared() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_prepared", "").await?;
    client.batch_execute("INSERT INTO record VALUES ('a', 'k', '')").await?;
    client.batch_execute("BEGIN; SELECT tombstone.soft_delete('opendes:Wellbore:id1'); PREPARE TRANSACTION 'rp1'").await?;
    client.batch_execute("BEGIN; SELECT tombstone.soft_delete('a'); PREPARE TRANSACTION 'rp2'").await?;
    assert!(ears.heard().await?.is_empty());
    client.batch_execute("ROLLBACK PREPARED 'rp2'").await?;
    client.batch_execute("COMMIT PREPARED 'rp1'").await?;
    assert_eq!(words(&[ears.next().await?]), [SOFT], "without anybody else's commit");
    Ok(())
}

/// Where the library is not preloaded there is nobody but maintain().
#[tokio::test]
async fn maintain_announces_what_was_left() -> Result<()> {
    let server = Server::private("shared_preload_libraries = ''")?;
    let client = server.database("bare").await?;
    client.batch_execute(RECORDS).await?;
    let mut listener = Listener::connect(&server.config("bare"), "tombstone").await?;
    client.batch_execute("BEGIN; SELECT tombstone.soft_delete('opendes:Wellbore:id1'); PREPARE TRANSACTION 'bare'").await?;
    client.batch_execute("CALL tombstone.maintain()").await?;
    client.batch_execute("COMMIT PREPARED 'bare'").await?;
    client.batch_execute("SELECT tombstone.purge('opendes:Wellbore:id1')").await?;
    assert_eq!(listener.heard().await?, [HARD]);
    client.batch_execute("CALL tombstone.maintain()").await?;
    client.batch_execute("CALL tombstone.maintain()").await?;
    assert_eq!(words(&listener.heard().await?), [SOFT]);

    // And where there is nothing to announce, nothing is written.
    let place: String = value(&client, "SELECT xmin::text FROM tombstone.relayed", &[]).await?;
    client.batch_execute("CALL tombstone.maintain()").await?;
    assert_eq!(value::<String>(&client, "SELECT xmin::text FROM tombstone.relayed", &[]).await?, place);
    Ok(())
}

// --- Comings and goings ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn relay_starts_while_a_writer_is_open() -> Result<()> {
    let server = Server::private(SETTINGS)?;
    let (client, mut ears) = wellbores(&server, "starts", "").await?;
    client.batch_execute("INSERT INTO record VALUES ('1', 'k', ''), ('2', 'k', '')").await?;
    set_relay(&client, "off").await?;
    until(&client, IS_GONE).await?;
    let writer = writer(&server, "starts").await?;
    writer.batch_execute("BEGIN; SELECT tombstone.soft_delete('1')").await?;
    set_relay(&client, "on").await?;
    until(&client, IS_READY).await?;
    writer.batch_execute("SELECT tombstone.soft_delete('2'); COMMIT").await?;
    // What it wrote before it says itself, as it commits; the relay has the rest, and comes after.
    let heard = ears.heard().await?;
    assert_eq!(words(&heard), [said_soft("1"), said_soft("2")]);
    assert!(cursor_of(&heard[0]).is_err() && cursor_of(&heard[1]).is_ok());
    Ok(())
}

#[tokio::test]
async fn relay_stops_while_a_writer_is_open() -> Result<()> {
    let server = Server::private(SETTINGS)?;
    let (client, mut ears) = wellbores(&server, "stops", "").await?;
    client.batch_execute("INSERT INTO record VALUES ('1', 'k', ''), ('2', 'k', '')").await?;
    let writer = writer(&server, "stops").await?;
    writer.batch_execute("BEGIN; SELECT tombstone.soft_delete('1')").await?;
    set_relay(&client, "off").await?;
    until(&client, IS_GONE).await?;
    writer.batch_execute("SELECT tombstone.soft_delete('2'); COMMIT").await?;
    // The worker hears of the commit, and announces in the place of the relay, also what was written when there was none.
    let heard = [ears.next().await?, ears.next().await?];
    assert_eq!(words(&heard), [said_soft("1"), said_soft("2")]);
    assert!(cursor_of(&heard[0]).is_ok() && cursor_of(&heard[1]).is_ok());
    Ok(())
}

#[tokio::test]
async fn relay_ended_between_tick_and_commit() -> Result<()> {
    let server = Server::private(SETTINGS)?;
    let (client, mut ears) = wellbores(&server, "ended", "").await?;
    hold_place(&client).await?;
    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    until(&client, PLACE_IS_WAITED_FOR).await?;
    end_relay(&client).await?;
    until(&client, PLACE_IS_WAITED_FOR).await?;
    release_place(&client).await?;
    assert_eq!(words(&ears.heard().await?), [SOFT]);
    Ok(())
}

/// A deletion of many records is announced in many transactions; whoever comes next goes on in its midst.
#[tokio::test]
async fn relay_ended_in_the_midst_of_a_deletion() -> Result<()> {
    const RECORDS: usize = 200_000;
    const PLACE: &str = "SELECT coalesce(cursor, '') FROM tombstone.relayed";
    let server = Server::private(SETTINGS)?;
    let (client, mut ears) = wellbores(&server, "midst", ", notify => 'batch'").await?;
    client.batch_execute(&format!("INSERT INTO record SELECT n::text FROM generate_series(1, {RECORDS}) n")).await?;
    client.batch_execute("DELETE FROM record WHERE kind IS NULL").await?;
    for _ in 0..3 {
        let place: String = value(&client, PLACE, &[]).await?;
        until(&client, &format!("({PLACE}) <> '{place}'")).await?;
        // The relay and, in its place, the worker.
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND backend_type LIKE 'pg_tombstone %'";
        client.batch_execute(end).await?;
        let place: String = value(&client, PLACE, &[]).await?;
        assert_eq!(place.split('.').count(), 9, "{place} is in the midst of a tick, or the test is void");
    }
    // Words of a writer who has no relay would be heard before what others had left to one.
    until(&client, IS_READY).await?;
    let mut next = 1;
    for payload in ears.heard().await? {
        for object in serde_json::from_str::<Vec<Value>>(&payload)? {
            assert_eq!(object["id"], next.to_string());
            next += 1;
        }
    }
    assert_eq!(next, RECORDS + 1);
    Ok(())
}

/// Whoever kills a process of a server makes all of it start anew. What had been announced was; what had not, is then.
#[tokio::test]
async fn server_killed() -> Result<()> {
    let server = Arc::new(Server::private(SETTINGS)?);
    let (client, mut first) = noisy(&server, "killed").await?;
    let mut writers = load(&server, "killed", 1000).await?;
    until(&client, "(SELECT count(*) > 300 FROM tombstone.event)").await?;
    hold_place(&client).await?;
    until(&client, PLACE_IS_WAITED_FOR).await?;
    until(&client, "(SELECT count(*) > 600 FROM tombstone.event)").await?;
    let before = first.listener.heard().await?;
    server.kill()?;
    while writers.join_next().await.is_some() {}

    server.start()?;
    let client = server.connect("killed").await?;
    for row in client.query("SELECT gid FROM pg_prepared_xacts WHERE gid NOT LIKE 'place%'", &[]).await? {
        client.batch_execute(&format!("COMMIT PREPARED '{}'", row.get::<_, String>(0))).await?;
    }
    let mut second = Ears::open(&server, "killed").await?;
    until(&client, PLACE_IS_WAITED_FOR).await?;
    release_place(&client).await?;
    until(&client, IS_READY).await?;
    let after = second.heard().await?;
    println!("{} events heard before, {} after", before.len(), after.len());
    assert!(!before.is_empty() && !after.is_empty(), "or the test is void");
    let (heard, truth) = ([before, after].concat(), truth(&client).await?);
    assert_heard_once(&heard, &truth)?;
    assert_in_order(&heard, &truth)
}

/// Many write while the relay comes and goes, by an administrator's hand and by the settings.
#[tokio::test]
async fn every_event_is_heard_once() -> Result<()> {
    let server = Arc::new(Server::private(SETTINGS)?);
    let (client, mut ears) = noisy(&server, "once").await?;
    let mut writers = load(&server, "once", 60).await?;
    let mut changes = 0;
    while !writers.is_empty() {
        match changes % 3 {
            0 => drop(end_relay(&client).await?),
            1 => set_relay(&client, "off").await?,
            _ => set_relay(&client, "on").await?,
        }
        until(&client, if changes % 3 == 1 { IS_GONE } else { IS_READY }).await?;
        changes += 1;
        while let Some(ended) = writers.try_join_next() {
            ended??;
        }
    }
    ensure!(changes > 3, "or the test is void");
    set_relay(&client, "on").await?;
    until(&client, IS_READY).await?;
    let heard = ears.heard().await?;
    let left = heard.iter().filter(|payload| cursor_of(payload).is_ok()).count();
    println!("{changes} changes, {} events heard, {left} of them from the relay", heard.len());
    assert!(left > 0 && left < heard.len(), "or the test is void");
    assert_heard_once(&heard, &truth(&client).await?)
}

/// Writers do not notice that Postgres has no room for more notifications, as one that notifies itself would. It is said later.
#[tokio::test]
async fn queue_full() -> Result<()> {
    const RECORDS: usize = 30_000;
    let server = Server::private(&format!("{SETTINGS}\nmax_notify_queue_pages = 512"));
    let Ok(server) = server else { return Ok(()) }; // before version 17 the queue takes 8 GB
    let (client, mut ears) = wellbores(&server, "queue_full", "").await?;
    client.batch_execute(&format!("INSERT INTO record SELECT n::text FROM generate_series(1, {RECORDS}) n")).await?;
    // Whoever is in a transaction hears nothing, and what it has not heard stays in the queue.
    let deaf = server.connect("queue_full").await?;
    deaf.batch_execute("LISTEN tombstone").await?;
    deaf.batch_execute("BEGIN; SELECT 1").await?;
    client.batch_execute("DELETE FROM record WHERE kind IS NULL").await?;
    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    until_logged(&server, "could not announce events, and will try again: too many notifications in the NOTIFY queue").await?;
    deaf.batch_execute("COMMIT").await?;
    let heard = ears.heard().await?;
    assert_eq!(heard.len(), RECORDS + 1);
    for (n, payload) in heard[..RECORDS].iter().enumerate() {
        assert_eq!(object(payload)?["id"], (n + 1).to_string());
    }
    assert_eq!(words(&heard[RECORDS..]), [SOFT]);
    Ok(())
}

/// Who has nothing to do does nothing: while its worker looks around again and again the relay sleeps, and nothing is written.
#[tokio::test]
async fn asleep_when_there_is_nothing_to_do() -> Result<()> {
    const QUIET: &str = "autovacuum = off\nwal_level = minimal\nmax_wal_senders = 0";
    const LOOKED_AT: &str = "SELECT query_start::text FROM pg_stat_activity WHERE datname = 'idle' AND backend_type = ";
    const WAL: &str = "SELECT pg_current_wal_insert_lsn()::text";
    let server = Server::private(&format!("{SETTINGS}\n{QUIET}"))?;
    let (client, mut ears) = wellbores(&server, "idle", "").await?;
    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    assert_eq!(ears.heard().await?.len(), 1);
    until(&client, "(SELECT state = 'idle' FROM pg_stat_activity WHERE backend_type = 'pg_tombstone relay')").await?;
    // What is dead is cleared away now, and not by whoever reads the page next.
    client.batch_execute("VACUUM").await?;

    let looked_at = |kind: &str| format!("{LOOKED_AT}'pg_tombstone {kind}'");
    let relay: String = value(&client, &looked_at("relay"), &[]).await?;
    // The worker takes note once of what was committed.
    let mut quiet = false;
    for _ in 0..5 {
        let before: String = value(&client, WAL, &[]).await?;
        for _ in 0..10 {
            let worker: String = value(&client, &looked_at("worker"), &[]).await?;
            until(&client, &format!("({}) > '{worker}'", looked_at("worker"))).await?;
        }
        quiet = before == value::<String>(&client, WAL, &[]).await?;
        if quiet {
            break;
        }
    }
    assert!(quiet, "somebody writes");
    assert_eq!(value::<String>(&client, &looked_at("relay"), &[]).await?, relay, "the relay has slept");
    Ok(())
}

#[tokio::test]
async fn no_slot() -> Result<()> {
    // One for Postgres' own logical replication launcher, one for ours, one for the worker.
    let server = Server::private(&format!("{SETTINGS}\nmax_worker_processes = 3"))?;
    let client = server.database("no_slot").await?;
    client.batch_execute(RECORDS).await?;
    let mut listener = Listener::connect(&server.config("no_slot"), "tombstone").await?;
    until_logged(&server, "no slot is free for the pg_tombstone relay of database \"no_slot\"").await?;
    until_logged(&server, "max_worker_processes is 3").await?;
    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    assert_eq!(listener.heard().await?, [SOFT], "announced by its own transaction");
    Ok(())
}

#[tokio::test]
async fn no_relay_where_nothing_is_announced() -> Result<()> {
    let server = shared()?;
    let (client, mut ears) = wellbores(&server, "relay_unwanted", "").await?;
    client.batch_execute("SELECT tombstone.configure('record', 'notify', 'none')").await?;
    client.batch_execute("SELECT tombstone.configure('word', 'notify', 'none')").await?;
    until(&client, IS_GONE).await?;
    client.batch_execute("SELECT tombstone.configure('word', 'notify', 'record')").await?;
    until(&client, IS_READY).await?;
    assert!(ears.heard().await?.is_empty());
    Ok(())
}

// --- What these tests share ------------------------------------------------------------------------------------------------

fn shared() -> Result<Arc<Server>> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return Ok(server);
    }
    let server = Arc::new(Server::private(SETTINGS)?);
    *shared = Arc::downgrade(&server);
    Ok(server)
}

/// Seed 004's record in a managed table.
const RECORDS: &str = r#"
    CREATE TABLE record (id text PRIMARY KEY, kind text, body text, deleted_at timestamptz);
    INSERT INTO record VALUES ('opendes:Wellbore:id1', 'opendes:wks:master-data--Wellbore:1.0.0', 'drilled');
    SELECT tombstone.manage('record', kind => 'kind', redact => '{"body": null}');"#;

/// The same with options, a listener, and a relay that is ready.
async fn wellbores(server: &Server, database: &str, options: &str) -> Result<(Client, Ears)> {
    let client = server.database(database).await?;
    client.batch_execute(&RECORDS.replace("'{\"body\": null}')", &format!("'{{\"body\": null}}'{options})"))).await?;
    client.batch_execute("SET tombstone.default_table = record").await?;
    with_relay(server, database, client).await
}

/// What `workload` writes to, with kinds that name the table.
async fn noisy(server: &Server, database: &str) -> Result<(Client, Ears)> {
    let client = server.database(database).await?;
    client.batch_execute(TABLES).await?;
    for table in ["note", "draft"] {
        let options = format!(
            "SELECT tombstone.configure('{table}', 'notify', 'record'),
                    tombstone.configure('{table}', 'kind', $$'{table} ' || coalesce(kind, '')$$)"
        );
        client.batch_execute(&options).await?;
    }
    with_relay(server, database, client).await
}

/// Another session.
async fn writer(server: &Server, database: &str) -> Result<Client> {
    let writer = server.connect(database).await?;
    writer.batch_execute("SET tombstone.default_table = record").await?;
    Ok(writer)
}

async fn with_relay(server: &Server, database: &str, client: Client) -> Result<(Client, Ears)> {
    client
        .batch_execute("CREATE TABLE word (id text PRIMARY KEY, deleted_at timestamptz); SELECT tombstone.manage('word')")
        .await?;
    let ears = Ears::open(server, database).await?;
    until(&client, IS_READY).await?;
    Ok((client, ears))
}

/// A listener that knows when it has heard all: an event of its own is announced after those of all who committed before.
struct Ears {
    listener: Listener,
    speaker: Client,
    words: u32,
}

impl Ears {
    async fn open(server: &Server, database: &str) -> Result<Self> {
        let listener = Listener::connect(&server.config(database), "tombstone").await?;
        let speaker = server.connect(database).await?;
        let words = value::<i64>(&speaker, "SELECT count(*) FROM word", &[]).await?.try_into()?;
        Ok(Self { listener, speaker, words })
    }

    async fn next(&mut self) -> Result<String> {
        let word = timeout(FOR_EVER, self.listener.next()).await.context("waited in vain for a word")?;
        Ok(word?.payload().to_string())
    }

    /// What has been announced of all that was committed before this call.
    async fn heard(&mut self) -> Result<Vec<String>> {
        self.words += 1;
        let word = format!("word {}", self.words);
        self.speaker.execute("INSERT INTO word VALUES ($1)", &[&word]).await?;
        self.speaker.execute("DELETE FROM word WHERE id = $1", &[&word]).await?;
        let mut heard = Vec::new();
        loop {
            let payload = self.next().await?;
            if payload.starts_with(&format!(r#"{{"id":"{word}""#)) {
                return Ok(heard);
            }
            heard.push(payload);
        }
    }
}

/// While a transaction is prepared that has locked it, whoever would announce what was left to the relay waits; also after a crash.
async fn hold_place(client: &Client) -> Result<(), Error> {
    let hold = "BEGIN; SELECT FROM tombstone.relayed FOR UPDATE; PREPARE TRANSACTION";
    client.batch_execute(&format!("{hold} '{}'", place_of(client).await?)).await
}

async fn release_place(client: &Client) -> Result<(), Error> {
    client.batch_execute(&format!("COMMIT PREPARED '{}'", place_of(client).await?)).await
}

async fn place_of(client: &Client) -> Result<String, Error> {
    value(client, "SELECT 'place in ' || current_database()", &[]).await
}

async fn set_relay(client: &Client, on_or_off: &str) -> Result<(), Error> {
    client.batch_execute(&format!("ALTER SYSTEM SET tombstone.relay = {on_or_off}")).await?;
    client.batch_execute("SELECT pg_reload_conf()").await
}

/// As an administrator would; and waits until it is gone.
async fn end_relay(client: &Client) -> Result<()> {
    let its_pid = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'pg_tombstone relay'";
    let pid: i32 = value(client, its_pid, &[]).await?;
    client.execute("SELECT pg_terminate_backend($1)", &[&pid]).await?;
    until(client, &format!("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")).await
}

async fn until_logged(server: &Server, what: &str) -> Result<()> {
    until_so(what, async || Ok(server.log().contains(what))).await
}

/// Writers at random, of so many transactions each.
async fn load(server: &Arc<Server>, database: &'static str, transactions: usize) -> Result<JoinSet<Result<(), Error>>> {
    const WRITERS: u64 = 16;
    let (mut writers, seed) = (JoinSet::new(), seed());
    for number in 0..WRITERS {
        let mut writer = Writer::connect(server, database, number, seed).await?;
        writers.spawn(async move {
            for _ in 0..transactions {
                writer.transaction().await?;
            }
            Ok(())
        });
    }
    Ok(writers)
}

/// The payloads as a transaction would have worded them itself: without cursors, and the white space that tells equal ones apart.
fn words(payloads: &[String]) -> Vec<String> {
    let word = |payload: &String| match payload.split_once(r#","cursor":""#) {
        Some((word, _)) => format!("{word}}}"),
        None => payload.trim_end().to_string(),
    };
    payloads.iter().map(word).collect()
}

fn said_soft(id: &str) -> String {
    format!(r#"{{"id":"{id}","kind":"k","op":"delete","deletionType":"soft"}}"#)
}

fn cursor_of(payload: &str) -> Result<String> {
    let object: Value = serde_json::from_str(payload)?;
    Ok(object["cursor"].as_str().with_context(|| format!("no cursor: {payload}"))?.to_string())
}

/// What was said, without the cursor.
fn object(payload: &str) -> Result<Value> {
    let mut object: Value = serde_json::from_str(payload)?;
    object.as_object_mut().context("an object")?.remove("cursor");
    Ok(object)
}

/// What is to be said of an event.
fn said_of(event: &Event) -> Value {
    let mut said = json!({"id": event.id, "kind": event.kind, "op": event.op});
    if let Some(deletion_type) = &event.deletion_type {
        said["deletionType"] = json!(deletion_type);
    }
    if event.restored {
        said["restored"] = json!(true);
    }
    said
}

/// The workload's events since its tables announce them.
fn to_be_said(truth: &[Event]) -> impl Iterator<Item = &Event> {
    truth.iter().filter(|event| event.kind.as_ref().is_some_and(|kind| kind.starts_with(&event.relation)))
}

/// Each as often as it happened. Of a transaction that updates a record twice, and notifies itself, Postgres sends but one.
fn assert_heard_once(heard: &[String], truth: &[Event]) -> Result<()> {
    let mut happened: BTreeMap<String, Vec<SystemTime>> = BTreeMap::new();
    for event in to_be_said(truth) {
        happened.entry(said_of(event).to_string()).or_default().push(event.at);
    }
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for payload in heard {
        *times.entry(object(payload)?.to_string()).or_default() += 1;
    }
    for (said, at) in &mut happened {
        let (events, heard) = (at.len(), times.remove(said).unwrap_or_default());
        at.dedup();
        assert!((at.len()..=events).contains(&heard), "{said} happened {events} times, and was heard {heard} times");
    }
    assert!(times.is_empty(), "never happened: {times:#?}");
    Ok(())
}

/// Of each record.
fn assert_in_order(heard: &[String], truth: &[Event]) -> Result<()> {
    let histories = |said: Vec<Value>| {
        let mut histories: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for said in said {
            let table = said["kind"].as_str().and_then(|kind| kind.split(' ').next()).unwrap_or_default();
            histories.entry(format!("{table} {}", said["id"])).or_default().push(said);
        }
        histories
    };
    let heard = heard.iter().map(|payload| object(payload)).collect::<Result<_>>()?;
    assert_eq!(histories(heard), histories(to_be_said(truth).map(said_of).collect()));
    Ok(())
}

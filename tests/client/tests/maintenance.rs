//! Maintenance under way, seen and disturbed from other sessions: in CALL and in the worker, through cancellations and crashes.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::Result;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::{refusal, value};
use tombstone_client_tests::states::until;

/// A worker that looks often, and takes its time so that something can happen in between: it takes 10 rows at a time.
const SLOWLY: &str = "tombstone.naptime = 1\n tombstone.rate = 200\n tombstone.batch_time = 50ms";

/// A run is under way, and some records are gone.
const MIDWAY: &str =
    "(SELECT count(*) = 1 AND bool_and(done > 0 AND done < total) FROM tombstone.activity WHERE relation IS NOT NULL)";

/// What the run says it has purged is what is gone, and what the log says.
const AGREES: &str = "
    (SELECT sum(records) FROM tombstone.run) = $1 - (SELECT count(*) FROM note WHERE deleted_at IS NOT NULL)
    AND (SELECT sum(records) FROM tombstone.run)
        = (SELECT coalesce(sum(cardinality(ids)), 0) FROM tombstone.event WHERE deletion_type = 'hard')";

#[tokio::test]
async fn progress_is_seen_and_a_cancellation_keeps_it() -> Result<()> {
    let server = Server::private("tombstone.enabled = off")?;
    let client = tombstones(&server, "progress", 2000).await?;
    let (call, session) = maintain(&server, "progress", "SET tombstone.rate = 500; SET tombstone.batch_time = '20ms'").await?;
    until(&client, MIDWAY).await?;
    let total: i64 = value(&client, "SELECT total FROM tombstone.activity WHERE relation IS NOT NULL", &[]).await?;
    assert_eq!(total, 2000);
    session.cancel_token().cancel_query(tokio_postgres::NoTls).await?;

    let refusal = refusal(call.await?);
    assert_eq!(*refusal.code(), SqlState::QUERY_CANCELED, "{refusal:?}");
    assert!(agrees(&client, 2000).await?);
    let run = "SELECT outcome || ' ' || (records BETWEEN 1 AND 1999) FROM tombstone.runs";
    assert_eq!(value::<String>(&client, run, &[]).await?, "interrupted true");
    assert!(value::<bool>(&client, "SELECT count(*) = 0 FROM tombstone.activity WHERE relation IS NOT NULL", &[]).await?);

    // The session lives on, and so does what is left to do.
    session.batch_execute("SET tombstone.rate = 0").await?;
    session.batch_execute("CALL tombstone.maintain()").await?;
    assert!(value::<bool>(&client, "SELECT count(*) = 0 FROM note WHERE deleted_at IS NOT NULL", &[]).await?);
    Ok(())
}

#[tokio::test]
async fn time_that_is_up_keeps_what_was_done() -> Result<()> {
    let server = Server::private("tombstone.enabled = off")?;
    let client = tombstones(&server, "runtime", 1000).await?;
    client.batch_execute("SET tombstone.rate = 100").await?;
    client.batch_execute("CALL tombstone.maintain(max_runtime => '300 ms')").await?;
    assert!(agrees(&client, 1000).await?);
    let run = "SELECT concat_ws(' ', outcome, detail, records BETWEEN 1 AND 999) FROM tombstone.runs";
    assert_eq!(value::<String>(&client, run, &[]).await?, "ended max_runtime is over t");
    Ok(())
}

#[tokio::test]
async fn worker_killed_midway() -> Result<()> {
    let server = Server::private(SLOWLY)?;
    let client = tombstones(&server, "worker", 400).await?;
    until(&client, MIDWAY).await?;
    let worker: i32 = value(&client, "SELECT pid FROM tombstone.activity WHERE relation IS NOT NULL", &[]).await?;
    server.kill_process(worker)?;

    // Postgres takes every session along, and recovers.
    let client = server.reconnect(client, "worker").await?;
    finishes(&client, 400).await
}

#[tokio::test]
async fn server_killed_midway() -> Result<()> {
    let server = Server::private(SLOWLY)?;
    let client = tombstones(&server, "server", 400).await?;
    until(&client, MIDWAY).await?;
    server.kill()?;
    server.start()?;
    let client = server.connect("server").await?;
    finishes(&client, 400).await
}

#[tokio::test]
async fn worker_terminated_midway() -> Result<()> {
    let server = Server::private(SLOWLY)?;
    let client = tombstones(&server, "terminated", 400).await?;
    until(&client, MIDWAY).await?;
    client.batch_execute("SELECT pg_terminate_backend(pid) FROM tombstone.activity WHERE relation IS NOT NULL").await?;
    finishes(&client, 400).await
}

#[tokio::test]
async fn what_changes_meanwhile_is_left_alone() -> Result<()> {
    let server = Server::private(SLOWLY)?;
    let client = tombstones(&server, "meanwhile", 300).await?;
    client
        .batch_execute(
            "CREATE TABLE job (id int PRIMARY KEY, touched timestamptz, deleted_at timestamptz);
             INSERT INTO job SELECT g, now() - interval '2 days' FROM generate_series(1, 300) g;
             SELECT tombstone.manage('job', expire_after => '1 day', expire_from => 'touched')",
        )
        .await?;
    until(&client, "(SELECT count(*) = 2 FROM tombstone.runs WHERE outcome = 'running' AND records > 0)").await?;
    // The last of each table come last.
    client
        .batch_execute(
            "SELECT tombstone.restore('300', 'note'), tombstone.hold('299', 'note');
             UPDATE job SET touched = now() WHERE id = 300;
             SELECT tombstone.hold('299', 'job')",
        )
        .await?;
    until(&client, "(SELECT count(*) = 2 AND bool_and(outcome = 'done') FROM tombstone.runs)").await?;
    let left = "SELECT string_agg(id || ' ' || (deleted_at IS NULL), ', ' ORDER BY id) FROM note WHERE id < 1000";
    assert_eq!(value::<String>(&client, left, &[]).await?, "299 false, 300 true");
    let live = "SELECT string_agg(id::text, ', ' ORDER BY id) FROM job WHERE deleted_at IS NULL";
    assert_eq!(value::<String>(&client, live, &[]).await?, "299, 300");
    let records = "SELECT string_agg(records::text, ', ') FROM tombstone.runs";
    assert_eq!(value::<String>(&client, records, &[]).await?, "298, 298");
    Ok(())
}

#[tokio::test]
async fn one_table_fails_the_others_go_on() -> Result<()> {
    let server = Server::private("tombstone.naptime = 1")?;
    let client = tombstones(&server, "fails", 100).await?;
    client
        .batch_execute(
            "CREATE TABLE broken (id int PRIMARY KEY, n int, deleted_at timestamptz);
             INSERT INTO broken VALUES (1, 0);
             SELECT tombstone.manage('broken', expire_after => '1 day', expire_from => 'now() - interval ''1 day'' * (1 / n)')",
        )
        .await?;
    until(&client, "(SELECT count(*) >= 2 FROM tombstone.runs WHERE relation = 'broken'::regclass AND outcome = 'failed')")
        .await?;
    until(&client, "(SELECT count(*) = 0 FROM note WHERE deleted_at IS NOT NULL)").await?;
    let detail: String = value(&client, "SELECT max(detail) FROM tombstone.runs WHERE outcome = 'failed'", &[]).await?;
    assert_eq!(detail, "division by zero");
    assert!(server.log().contains("public.broken: nothing can be expired: division by zero"));
    // What is mended works at the next try.
    client.batch_execute("UPDATE broken SET n = 2").await?;
    until(&client, "(SELECT max(deleted_at) IS NULL FROM broken)").await?;
    let apart = "SELECT bool_and(apart > interval '0.9 s') FROM (
                     SELECT at - lag(at) OVER (ORDER BY run) AS apart FROM tombstone.run WHERE outcome = 'failed') run";
    assert!(value::<bool>(&client, apart, &[]).await?, "a table that fails is left alone for a while");
    Ok(())
}

#[tokio::test]
async fn table_dropped_midway() -> Result<()> {
    let server = Server::private(SLOWLY)?;
    let client = tombstones(&server, "dropped", 400).await?;
    until(&client, MIDWAY).await?;
    client.batch_execute("DROP TABLE note").await?;
    until(&client, "(SELECT outcome = 'ended' FROM tombstone.run)").await?;
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    Ok(())
}

#[tokio::test]
async fn key_changed_midway() -> Result<()> {
    let server = Server::private(SLOWLY)?;
    let client = tombstones(&server, "changed", 400).await?;
    until(&client, MIDWAY).await?;
    client.batch_execute("ALTER TABLE note ALTER id TYPE text USING 'x' || id").await?;
    until(&client, "(SELECT outcome = 'ended' FROM tombstone.runs ORDER BY run LIMIT 1)").await?;
    until(&client, "(SELECT count(*) = 0 FROM note WHERE deleted_at IS NOT NULL)").await
}

#[tokio::test]
async fn paused_midway() -> Result<()> {
    let server = Server::private(SLOWLY)?;
    let client = tombstones(&server, "paused", 400).await?;
    until(&client, MIDWAY).await?;
    client.batch_execute("SELECT tombstone.pause('note')").await?;
    until(&client, "(SELECT outcome = 'ended' FROM tombstone.runs)").await?;
    assert!(agrees(&client, 400).await?);
    client.batch_execute("SELECT tombstone.resume('note')").await?;
    until(&client, "(SELECT count(*) = 0 FROM note WHERE deleted_at IS NOT NULL)").await
}

#[tokio::test]
async fn restored_then_paused() -> Result<()> {
    let server = Server::private("tombstone.naptime = 1")?;
    let client = tombstones(&server, "original", 0).await?;
    client
        .batch_execute(
            "SELECT tombstone.pause(); INSERT INTO note SELECT g, now() - interval '2 days' FROM generate_series(1, 10) g",
        )
        .await?;
    client.batch_execute("SELECT tombstone.hold('1', 'note')").await?;
    let copy = server.empty_database("copy").await?;
    let mut dump = server.command("pg_dump").arg("original").stdout(Stdio::piped()).spawn()?;
    let output = dump.stdout.take().map(Stdio::from).unwrap_or_else(Stdio::null);
    let restored = server.command("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "copy"]).stdin(output).output()?;
    assert!(dump.wait()?.success() && restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let said = String::from_utf8(restored.stderr)?;
    assert!(said.contains("WARNING:  the managed tables of this dump are paused"), "{said}");
    assert!(said.contains("SELECT tombstone.resume()"), "{said}");

    // By then the worker has looked, and said what it has seen.
    until(&copy, "(SELECT bool_and(paused) FROM tombstone.tables)").await?;
    until_log(&server, "paused: they were restored from a dump").await?;
    assert!(value::<bool>(&copy, "SELECT count(*) = 11 FROM note", &[]).await?);
    copy.batch_execute("CALL tombstone.maintain()").await?;
    assert!(value::<bool>(&copy, "SELECT count(*) = 11 FROM note", &[]).await?);
    let due: i64 = value(&copy, "SELECT records FROM tombstone.preview()", &[]).await?;
    assert_eq!(due, 9, "the hold came along");

    copy.batch_execute("SELECT tombstone.resume()").await?;
    until(&copy, "(SELECT count(*) = 2 FROM note)").await
}

/// Table note with some live records and tombstones that are due, in a database of their own.
async fn tombstones(server: &Server, database: &str, tombstones: i32) -> Result<Client> {
    let client = server.database(database).await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE note (id int PRIMARY KEY, deleted_at timestamptz);
             INSERT INTO note SELECT g, now() - interval '2 days' FROM generate_series(1, {tombstones}) g;
             INSERT INTO note VALUES (1000000);
             SELECT tombstone.manage('note', retention => '1 day')"
        ))
        .await?;
    Ok(client)
}

/// CALL maintain(), under way in a session of its own.
async fn maintain(server: &Server, database: &str, settings: &str) -> Result<(JoinHandle<Result<(), Error>>, Arc<Client>)> {
    let session = Arc::new(server.connect(database).await?);
    session.batch_execute(settings).await?;
    let caller = Arc::clone(&session);
    Ok((tokio::spawn(async move { caller.batch_execute("CALL tombstone.maintain()").await }), session))
}

async fn agrees(client: &Client, of: i64) -> Result<bool> {
    Ok(client.query_one(&format!("SELECT {AGREES}"), &[&of]).await?.try_get(0)?)
}

/// After an interruption: nothing is half done, the run says so, and the next one does the rest.
async fn finishes(client: &Client, of: i64) -> Result<()> {
    assert!(agrees(client, of).await?);
    until(client, "(SELECT count(*) = 0 FROM note WHERE deleted_at IS NOT NULL)").await?;
    until(client, "(SELECT array_agg(outcome ORDER BY run) = '{interrupted,done}' FROM tombstone.runs)").await?;
    assert!(agrees(client, of).await?);
    assert!(value::<bool>(client, "SELECT count(*) = 1 FROM note", &[]).await?, "what is live stays");
    Ok(())
}

async fn until_log(server: &Server, line: &str) -> Result<()> {
    let began = std::time::Instant::now();
    while !server.log().contains(line) {
        anyhow::ensure!(began.elapsed().as_secs() < 60, "the log never said \"{line}\": {}", server.log());
        tokio::task::yield_now().await;
    }
    Ok(())
}

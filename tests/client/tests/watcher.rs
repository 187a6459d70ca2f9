//! A watcher's passes, by the worker and in CALL maintain(): what the source has not is deleted, and nothing else, whatever happens here
//! and there while it is asked; and they take no more memory where there are more records.

use anyhow::Result;
use tokio_postgres::Client;
use tombstone_client_tests::records::*;
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;
use tombstone_client_tests::states::{until, until_so};

// --- What happens meanwhile -------------------------------------------------------------------------------------------------

/// Between its being asked after first and its deletion; up to the moment when the last question is under way.
#[tokio::test]
async fn what_changes_here_meanwhile_is_left() -> Result<()> {
    leaves_what_changes("meanwhile", "read committed").await
}

#[tokio::test]
async fn what_changes_here_meanwhile_is_left_in_repeatable_read() -> Result<()> {
    leaves_what_changes("repeatable", "repeatable read").await
}

async fn leaves_what_changes(database: &str, isolation: &str) -> Result<()> {
    let server = Server::private(PATIENT)?;
    let client = mirror(&server, database, 40).await?;
    client.batch_execute(&format!("ALTER DATABASE {database} SET default_transaction_isolation = '{isolation}'")).await?;
    client.batch_execute(CATALOGUE).await?;
    client.batch_execute("DELETE FROM catalogue WHERE id IN ('r000003', 'r000004', 'r000005')").await?;
    // Asked by a function that lists, there are two: which are there, and once more about those that are not.
    client.batch_execute(LISTS).await?;
    for question in [2, 4] {
        let gate = Gate::before(&server, database, question).await?;
        client.batch_execute("SELECT tombstone.watch('record', 'lists(text[])')").await?;
        gate.reached().await?;
        client
            .batch_execute(
                "UPDATE record SET data = data || 'new here, and soon there' WHERE id = 'r000003';
                 SELECT tombstone.hold('r000004', 'record')",
            )
            .await?;
        gate.open().await?;

        let run = until_run(&client, "done").await?;
        assert_eq!(deleted(&client).await?, ids([5]));
        assert_eq!((run.asked, run.missing, run.deleted), (40, 3, 1));
        let detail = run.detail.unwrap_or_default();
        assert!(detail.contains(r#""r000003" was changed since it was asked after"#), "{detail}");
        assert!(detail.contains(r#""r000004" is on hold"#), "{detail}");
        client
            .batch_execute("SELECT tombstone.release('r000004', 'record'); SELECT tombstone.restore('r000005', 'record')")
            .await?;
    }
    Ok(())
}

const LISTS: &str = "
    CREATE FUNCTION lists(ids text[]) RETURNS SETOF text LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(nextval('question'));
        RETURN QUERY SELECT id FROM catalogue WHERE id = ANY (ids);
    END
    $$;";

/// At each question of a pass in turn, some records vanish from the source, and those that were missing are back.
#[tokio::test]
async fn a_source_that_changes_midway_misleads_nobody() -> Result<()> {
    let server = Server::private(PATIENT_ALONE)?;
    let client = mirror(&server, "changing", 40).await?;
    client.batch_execute(CATALOGUE).await?;
    for question in 1.. {
        client
            .batch_execute(
                "UPDATE record SET deleted_at = NULL WHERE deleted_at IS NOT NULL;
                 TRUNCATE catalogue;
                 INSERT INTO catalogue SELECT id FROM record WHERE id NOT IN ('r000003', 'r000018', 'r000031');
                 ALTER SEQUENCE question RESTART;
                 SELECT tombstone.watch('record', 'probe(text[])', restore => false)",
            )
            .await?;
        let gate = Gate::before(&server, "changing", question).await?;
        let session = server.connect("changing").await?;
        let pass = tokio::spawn(async move { session.batch_execute("CALL tombstone.maintain('record')").await });
        until_so("a question waits, or the pass is over", async || Ok(pass.is_finished() || gate.is_reached().await?)).await?;
        let is_over = pass.is_finished();
        client
            .batch_execute(
                "DELETE FROM catalogue WHERE id IN ('r000001', 'r000019', 'r000040');
                 INSERT INTO catalogue VALUES ('r000003'), ('r000018'), ('r000031')",
            )
            .await?;
        gate.open().await?;
        pass.await??;
        if is_over {
            assert!(question > 10, "only {question} questions, or the test is void");
            return Ok(());
        }
        let there = set(&client, "SELECT id FROM catalogue").await?;
        let wrongly: Vec<_> = deleted(&client).await?.intersection(&there).cloned().collect();
        assert!(wrongly.is_empty(), "after a change before question {question} these were deleted, and are there: {wrongly:?}");

        // When it is quiet again, the next pass finds all.
        client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])')").await?;
        client.batch_execute("CALL tombstone.maintain('record')").await?;
        assert_eq!(live(&client).await?, there, "after a change before question {question}");
    }
    Ok(())
}

/// The last question must not be answered as expected because one record went as another one came.
#[tokio::test]
async fn a_suspect_and_its_witness_that_change_places_are_told_apart() -> Result<()> {
    let server = Server::private(PATIENT)?;
    let client = mirror(&server, "places", 40).await?;
    client.batch_execute(CATALOGUE).await?;
    client.batch_execute("DELETE FROM catalogue WHERE id = 'r000020'").await?;
    // The search ends with whichever question; the witness is the first record that is there.
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])')").await?;
    until_run(&client, "done").await?;
    let questions: i64 = value(&client, "SELECT last_value FROM question", &[]).await?;
    client.batch_execute("UPDATE record SET deleted_at = NULL WHERE id = 'r000020'; ALTER SEQUENCE question RESTART").await?;

    let gate = Gate::before(&server, "places", questions).await?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', restore => false)").await?;
    gate.reached().await?;
    client.batch_execute("DELETE FROM catalogue WHERE id = 'r000001'; INSERT INTO catalogue VALUES ('r000020')").await?;
    gate.open().await?;
    until(&client, "(SELECT count(*) = 2 AND bool_and(outcome IN ('done', 'failed')) FROM tombstone.runs)").await?;
    let deleted = deleted(&client).await?;
    assert!(!deleted.contains(&id(20)), "it is there again: {deleted:?}");
    Ok(())
}

#[tokio::test]
async fn progress_is_seen() -> Result<()> {
    let server = Server::private(PATIENT)?;
    let client = mirror(&server, "progress", 100).await?;
    client.batch_execute(CATALOGUE).await?;
    let gate = Gate::before(&server, "progress", 6).await?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', batch => 10)").await?;
    gate.reached().await?;
    let seen = "SELECT concat_ws(', ', relation, phase, done, total) FROM tombstone.activity WHERE relation IS NOT NULL";
    assert_eq!(value::<String>(&client, seen, &[]).await?, "record, watch: missing, 50, 100");
    let shown = "SELECT query FROM pg_stat_activity WHERE backend_type = 'pg_tombstone worker' AND datname = 'progress'";
    assert_eq!(value::<String>(&client, shown, &[]).await?, "public.record: asking its source, 50 of 100 records");
    gate.open().await?;

    let run = until_run(&client, "done").await?;
    assert_eq!((run.asked, run.missing), (100, 0));
    assert!(value::<bool>(&client, "SELECT count(*) = 0 FROM tombstone.activity WHERE relation IS NOT NULL", &[]).await?);
    Ok(())
}

#[tokio::test]
async fn time_that_is_up_leaves_the_pass_to_the_next_call() -> Result<()> {
    let server = Server::private(PATIENT_ALONE)?;
    let client = mirror(&server, "runtime", 100).await?;
    client.batch_execute(CATALOGUE).await?;
    client.batch_execute("DELETE FROM catalogue WHERE id = 'r000042'").await?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', batch => 10)").await?;
    let gate = Gate::before(&server, "runtime", 3).await?;
    let session = server.connect("runtime").await?;
    let call = "CALL tombstone.maintain('record', max_runtime => '100 ms')";
    let call = tokio::spawn(async move { session.batch_execute(call).await });
    gate.reached().await?;
    // The call's time is over, and so is the second that a table has its turn for.
    until(&client, "(SELECT clock_timestamp() - at > '2 s' FROM tombstone.run)").await?;
    gate.open().await?;
    call.await??;
    let run = only_run(&client).await?;
    assert_eq!((run.outcome.as_str(), run.deleted), ("waiting", 0));
    assert!((20..=30).contains(&run.asked), "{run:?}");

    client.batch_execute("CALL tombstone.maintain('record')").await?;
    let run = only_run(&client).await?;
    assert_eq!((run.outcome.as_str(), run.asked, run.deleted), ("done", 100, 1));
    assert_eq!(deleted(&client).await?, ids([42]));
    Ok(())
}

#[tokio::test]
async fn unwatched_midway() -> Result<()> {
    let server = Server::private(PATIENT)?;
    let (client, gate) = midway(&server, "unwatched").await?;
    client.batch_execute("SELECT tombstone.unwatch('record')").await?;
    let run = only_run(&client).await?;
    assert_eq!((run.outcome.as_str(), run.detail.as_deref()), ("ended", Some("watched no more")));
    gate.open().await?;

    until(&client, WORKER_RESTS).await?;
    assert_eq!(live(&client).await?, ids(1..=100));
    assert_eq!(only_run(&client).await?.outcome, "ended");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    Ok(())
}

#[tokio::test]
async fn watched_otherwise_midway() -> Result<()> {
    let server = Server::private(PATIENT)?;
    let (client, gate) = midway(&server, "otherwise").await?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', batch => 20)").await?;
    gate.open().await?;
    let run = until_run(&client, "done").await?;
    assert_eq!((run.asked, run.deleted), (100, 1), "from the beginning");
    let outcomes = "SELECT string_agg(concat_ws(' ', outcome, detail), ', ' ORDER BY run) FROM tombstone.runs";
    assert_eq!(value::<String>(&client, outcomes, &[]).await?, "ended watched otherwise from now on, done");
    Ok(())
}

#[tokio::test]
async fn paused_midway() -> Result<()> {
    let server = Server::private(PATIENT)?;
    let (client, gate) = midway(&server, "paused").await?;
    client.batch_execute("SELECT tombstone.pause('record')").await?;
    gate.open().await?;
    let run = until_run(&client, "waiting").await?;
    until(&client, WORKER_RESTS).await?;
    assert_eq!((run.deleted, live(&client).await?), (0, ids(1..=100)));

    client.batch_execute("SELECT tombstone.resume('record')").await?;
    until_run(&client, "done").await?;
    let run = only_run(&client).await?;
    assert_eq!((run.asked, run.deleted), (100, 1));
    assert_eq!(deleted(&client).await?, ids([95]));
    Ok(())
}

const WORKER_RESTS: &str = "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pg_tombstone worker'
                                    AND datname = current_database() AND state = 'idle')";

/// A pass over 100 records, one of them missing, that waits for its fourth answer.
async fn midway(server: &Server, database: &str) -> Result<(Client, Gate)> {
    let client = mirror(server, database, 100).await?;
    client.batch_execute(CATALOGUE).await?;
    client.batch_execute("DELETE FROM catalogue WHERE id = 'r000095'").await?;
    let gate = Gate::before(server, database, 4).await?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', batch => 10)").await?;
    gate.reached().await?;
    Ok((client, gate))
}

// --- Size -------------------------------------------------------------------------------------------------------------------

/// A pass keeps a batch in memory, not the table: the ids of 300,000 records alone would be some 17 MB, with what tells whether they
/// were changed twice as much.
#[tokio::test]
async fn ten_times_the_records_take_no_more_memory() -> Result<()> {
    const MORE_AT_MOST: u64 = 8 << 10;
    let server = Server::private("tombstone.naptime = 1")?;
    let client = server.database("memory").await?;
    client
        .batch_execute(
            "CREATE FUNCTION probe(ids text[]) RETURNS bigint LANGUAGE sql
                 RETURN (SELECT count(*) FROM unnest(ids) id WHERE right(id, 6)::int % 50000 <> 1)",
        )
        .await?;
    let few = most_memory_of_a_pass(&client, "few", 30_000).await?;
    let many = most_memory_of_a_pass(&client, "many", 300_000).await?;
    println!("{few} kB for 30,000 records, {many} kB for 300,000");
    let runs = "SELECT string_agg(concat_ws(' ', asked, missing, records, outcome), ', ' ORDER BY run) FROM tombstone.runs";
    assert_eq!(value::<String>(&client, runs, &[]).await?, "30000 1 1 done, 300000 6 6 done");
    assert!(many < few + MORE_AT_MOST, "{few} kB for 30,000 records, {many} kB for 300,000");
    Ok(())
}

/// How many kB the worker has at most, while it asks after so many records.
async fn most_memory_of_a_pass(client: &Client, table: &str, records: usize) -> Result<u64> {
    client
        .batch_execute(&format!(
            "CREATE TABLE {table} (id text PRIMARY KEY, deleted_at timestamptz);
             INSERT INTO {table} SELECT 'record number ' || lpad(n::text, 6, '0') FROM generate_series(1, {records}) n;
             SELECT tombstone.manage('{table}');
             SELECT tombstone.watch('{table}', 'probe(text[])')"
        ))
        .await?;
    let worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tombstone worker' AND datname = current_database()";
    let is_done = format!(
        "SELECT EXISTS (SELECT FROM tombstone.runs WHERE relation = '{table}'::regclass AND outcome NOT IN ('running', 'waiting'))"
    );
    let mut most = 0;
    until_so(&is_done, async || {
        if let Some(worker) = client.query_opt(worker, &[]).await? {
            most = most.max(anonymous_memory(worker.get(0))?);
        }
        Ok(value(client, &is_done, &[]).await?)
    })
    .await?;
    Ok(most)
}

/// In kB; what is shared, like the server's buffers, is not counted.
fn anonymous_memory(process: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

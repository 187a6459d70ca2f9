//! A watcher whose probe asks over HTTP, in PL/Python as one would write it: what becomes of a source that is down, that errs, that
//! looks empty; and of a worker and a server that end in the midst of asking.

use std::collections::BTreeSet;

use anyhow::Result;
use tokio_postgres::Client;
use tombstone_client_tests::records::*;
use tombstone_client_tests::server::Server;
use tombstone_client_tests::source::Source;
use tombstone_client_tests::sql::value;
use tombstone_client_tests::states::{until, until_so};
use tombstone_client_tests::workers::until_logged;

const OFTEN: &str = "tombstone.naptime = 1";

#[tokio::test]
async fn a_source_that_counts() -> Result<()> {
    follows("bigint").await
}

#[tokio::test]
async fn a_source_that_lists() -> Result<()> {
    follows("SETOF text").await
}

async fn follows(returns: &str) -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = mirror_of_source(&server, "follows", 100, returns).await?;
    source.takes_at_most(30);
    source.delete(&ids([3, 50, 51, 99]));
    watch(&client, "batch => 30").await?;
    let run = until_run(&client, "done").await?;
    assert_eq!(deleted(&client).await?, ids([3, 50, 51, 99]));
    assert_eq!((run.asked, run.missing, run.deleted), (100, 4, 4));
    let questions: i64 = value(&client, "SELECT questions FROM tombstone.runs", &[]).await?;
    assert_eq!(questions, source.requests() as i64);

    source.put(&id(51));
    watch(&client, "batch => 30").await?;
    until(&client, "(SELECT count(*) = 2 AND bool_and(outcome = 'done') FROM tombstone.runs)").await?;
    assert_eq!(last_run(&client).await?.restored, 1);
    assert_eq!(live(&client).await?, source.ids());
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_down() -> Result<()> {
    down_and_up("down", "batch => 10").await
}

/// However few questions there are to be asked.
#[tokio::test]
async fn a_source_that_is_down_of_few_records() -> Result<()> {
    down_and_up("down_of_few", "batch => 1000").await
}

/// Nothing is deleted; it is asked again and again, each time after a longer while.
async fn down_and_up(database: &str, batch: &str) -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = mirror_of_source(&server, database, 50, "bigint").await?;
    source.delete(&ids([7]));
    source.goes_down();
    watch(&client, batch).await?;
    until(&client, "(SELECT count(*) = 3 AND bool_and(outcome = 'failed') FROM tombstone.runs)").await?;
    let run = last_run(&client).await?;
    let detail = run.detail.unwrap_or_default();
    assert!(detail.contains("HTTP Error 503: Service Unavailable"), "{detail}");
    assert_eq!(live(&client).await?, ids(1..=50));
    let apart = "SELECT array_agg(trunc(extract(epoch FROM apart) + 0.1)::int ORDER BY run) FROM (
                     SELECT run, at - lag(ended) OVER (ORDER BY run) AS apart FROM tombstone.run) r WHERE apart IS NOT NULL";
    let apart: Vec<i32> = value(&client, apart, &[]).await?;
    assert!(apart[0] >= 1 && apart[1] >= 2, "seconds between failures: {apart:?}");

    source.recovers();
    let run = until_run(&client, "done").await?;
    assert_eq!((run.asked, run.deleted), (50, 1));
    assert_eq!(live(&client).await?, source.ids());
    Ok(())
}

#[tokio::test]
async fn a_source_that_looks_empty() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = mirror_of_source(&server, "empty", 50, "bigint").await?;
    source.looks_empty();
    watch(&client, "batch => 10").await?;
    let run = until_run(&client, "refused").await?;
    assert_eq!((run.deleted, live(&client).await?), (0, ids(1..=50)));
    let detail = run.detail.unwrap_or_default();
    assert!(detail.contains("the source has none of 10, which is what an outage looks like"), "{detail}");
    until_logged(&server, "pg_tombstone: public.record: nothing is deleted: records \"r000001\" to \"r000010\"", 1).await?;
    let suspects = set(&client, "SELECT id FROM tombstone.suspects").await?;
    assert_eq!(suspects, ids(1..=10), "for somebody to look at");
    Ok(())
}

/// Between asking after all and the last question.
#[tokio::test]
async fn a_source_that_looks_empty_at_the_end() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = mirror_of_source(&server, "empty_at_the_end", 50, "SETOF text").await?;
    source.delete(&ids([7]));
    source.answers_only(5);
    watch(&client, "batch => 10").await?;
    until_so("the last question waits", async || Ok(source.requests() == 6)).await?;
    source.looks_empty();
    source.answers_all();
    let run = until_run(&client, "done").await?;
    assert_eq!((run.missing, run.deleted, live(&client).await?), (1, 0, ids(1..=50)));
    let detail = run.detail.unwrap_or_default();
    assert!(detail.contains("r000007"), "{detail}");
    Ok(())
}

#[tokio::test]
async fn one_batch_fails_always() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = mirror_of_source(&server, "fails", 40, "bigint").await?;
    source.delete(&ids([2, 12, 39]));
    source.fails_about(&id(15));
    watch(&client, "batch => 10").await?;
    let run = until_run(&client, "done").await?;
    assert_eq!((run.asked, run.deleted), (30, 2));
    assert_eq!(deleted(&client).await?, ids([2, 39]));
    let detail = run.detail.unwrap_or_default();
    assert!(detail.contains(r#"records "r000011" to "r000020" could not be asked about"#), "{detail}");
    assert!(detail.contains("HTTP Error 500"), "{detail}");
    Ok(())
}

/// The same of a question that is asked once more: the others are deleted, and the pass comes to its end, or there would be no other.
#[tokio::test]
async fn one_last_question_fails_always() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = mirror_of_source(&server, "last_fails", 30, "bigint").await?;
    source.delete(&ids([5, 25]));
    watch_until_deleting(&client, &source, "batch => 10").await?;
    source.fails_about(&id(5));
    source.answers_all();
    let run = until_run(&client, "done").await?;
    assert_eq!((run.asked, run.missing, run.deleted), (30, 2, 1));
    assert_eq!(deleted(&client).await?, ids([25]));
    let detail = run.detail.unwrap_or_default();
    assert!(detail.contains("r000005") && detail.contains("HTTP Error 500"), "{detail}");
    Ok(())
}

/// More than may wait at once for another try.
#[tokio::test]
async fn some_requests_fail() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = mirror_of_source(&server, "some_fail", 120, "bigint").await?;
    source.delete(&ids([2, 12, 119]));
    source.fails_next(20);
    watch(&client, "batch => 10").await?;
    let run = until_run(&client, "done").await?;
    assert_eq!((run.asked, run.deleted, run.detail), (120, 3, None));
    assert_eq!(deleted(&client).await?, ids([2, 12, 119]));
    Ok(())
}

#[tokio::test]
async fn worker_killed_midway() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = midway(&server, "worker").await?;
    let asking: i32 = value(&client, "SELECT pid FROM tombstone.activity WHERE relation IS NOT NULL", &[]).await?;
    server.kill_process(asking)?;
    // Postgres takes every session along, and recovers.
    let client = server.reconnect(client, "worker").await?;
    goes_on(&client, &source).await
}

#[tokio::test]
async fn server_killed_midway() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (_client, source) = midway(&server, "server").await?;
    server.kill()?;
    server.start()?;
    goes_on(&server.connect("server").await?, &source).await
}

/// While what is missing is being deleted.
#[tokio::test]
async fn server_killed_near_the_end() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = midway(&server, "near_the_end").await?;
    // Question by question, up to the first deletion.
    while deleted(&client).await?.is_empty() {
        next_question(&source).await?;
    }
    assert_eq!(deleted(&client).await?, ids([5]));
    server.kill()?;
    server.start()?;
    goes_on(&server.connect("near_the_end").await?, &source).await
}

/// A batch that has failed and is to be asked about again is not forgotten.
#[tokio::test]
async fn server_killed_while_a_batch_waits_for_another_try() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = mirror_of_source(&server, "another_try", 100, "bigint").await?;
    source.fails_about(&id(5));
    source.answers_only(4);
    watch(&client, "batch => 10").await?;
    until_so("a question waits", async || Ok(source.requests() == 5)).await?;
    server.kill()?;
    source.recovers();
    source.answers_all();
    server.start()?;
    let client = server.connect("another_try").await?;
    until_run(&client, "done").await?;
    let run = only_run(&client).await?;
    assert_eq!((run.asked, run.detail), (100, None));
    Ok(())
}

/// What was kept before is counted once.
#[tokio::test]
async fn server_killed_after_a_record_was_kept() -> Result<()> {
    let server = Server::private(OFTEN)?;
    let (client, source) = mirror_of_source(&server, "kept", 30, "bigint").await?;
    source.delete(&ids([5, 25]));
    watch_until_deleting(&client, &source, "batch => 10").await?;
    source.put(&id(5));
    while value::<i64>(&client, "SELECT kept FROM tombstone.inquiry", &[]).await? == 0 {
        next_question(&source).await?;
    }
    server.kill()?;
    source.answers_all();
    server.start()?;
    let client = server.connect("kept").await?;
    until_run(&client, "done").await?;
    let run = only_run(&client).await?;
    assert_eq!((run.asked, run.missing, run.deleted), (30, 2, 1));
    assert_eq!(deleted(&client).await?, ids([25]));
    assert_eq!(value::<i64>(&client, "SELECT kept FROM tombstone.inquiry", &[]).await?, 1);
    Ok(())
}

// --- Others who use the table -----------------------------------------------------------------------------------------------

const IMPATIENT: &str = "tombstone.naptime = 1\n tombstone.lock_timeout = 100ms";

/// A pass may have taken days by then, and somebody's transaction a minute.
#[tokio::test]
async fn somebody_has_a_record_locked() -> Result<()> {
    let server = Server::private(IMPATIENT)?;
    let (client, source) = mirror_of_source(&server, "locked", 40, "SETOF text").await?;
    source.delete(&ids([5, 35]));
    let other = server.connect("locked").await?;
    other.batch_execute("BEGIN; SELECT FROM record WHERE id = 'r000005' FOR UPDATE").await?;
    watch(&client, "batch => 10").await?;
    until(&client, "(SELECT deleted_at IS NOT NULL FROM record WHERE id = 'r000035')").await?;
    other.batch_execute("ROLLBACK").await?;
    until_run(&client, "done").await?;
    only_run(&client).await?;
    Ok(())
}

/// Whoever else gets on after a deadlock, the pass does, too.
#[tokio::test]
async fn somebody_locks_records_in_another_order() -> Result<()> {
    let server = Server::private("tombstone.naptime = 1\n tombstone.lock_timeout = 1h\n deadlock_timeout = 2s")?;
    let (client, source) = mirror_of_source(&server, "deadlock", 40, "SETOF text").await?;
    source.delete(&ids([5, 6]));
    let other = server.connect("deadlock").await?;
    other.batch_execute("SET deadlock_timeout = '1h'; BEGIN; SELECT FROM record WHERE id = 'r000006' FOR UPDATE").await?;
    watch(&client, "batch => 20").await?;
    until(&client, "EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)").await?;
    // The pass has the other one, and is the one that gives way.
    other.batch_execute("SELECT FROM record WHERE id = 'r000005' FOR UPDATE; COMMIT").await?;
    until(&client, "EXISTS (SELECT FROM tombstone.runs WHERE outcome = 'done')").await?;
    let run = only_run(&client).await?;
    assert_eq!((run.asked, run.deleted), (40, 2));
    Ok(())
}

#[tokio::test]
async fn somebody_has_the_table_locked() -> Result<()> {
    let server = Server::private(IMPATIENT)?;
    let (client, source) = mirror_of_source(&server, "table_locked", 100, "bigint").await?;
    source.delete(&ids([95]));
    source.answers_only(3);
    watch(&client, "batch => 10").await?;
    until_so("a question waits", async || Ok(source.requests() == 4)).await?;
    let other = server.connect("table_locked").await?;
    let lock = tokio::spawn(async move { other.batch_execute("BEGIN; LOCK TABLE record").await.map(|()| other) });
    until(&client, "EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock')").await?;
    source.answers_all();
    let other = lock.await??;
    until_logged(&server, "canceling statement due to lock timeout", 1).await?;
    other.batch_execute("ROLLBACK").await?;
    until(&client, "EXISTS (SELECT FROM tombstone.runs WHERE outcome = 'done')").await?;
    let passes = "SELECT string_agg(concat_ws(' ', asked, records, outcome), ', ') FROM tombstone.runs WHERE asked IS NOT NULL";
    assert_eq!(value::<String>(&client, passes, &[]).await?, "100 1 done");
    Ok(())
}

const BATCHES: usize = 20;
/// That it takes to find one of ten, at most.
const MOST_QUESTIONS: usize = 6;
const MISSING: [usize; 3] = [5, 105, 195];
/// The batches that are settled before anything happens.
const SETTLED: std::ops::RangeInclusive<usize> = 1..=80;

/// A pass over many batches, of which some lack a record. It waits for an answer.
async fn midway(server: &Server, database: &str) -> Result<(Client, Source)> {
    let (client, source) = mirror_of_source(server, database, BATCHES * 10, "bigint").await?;
    source.delete(&ids(MISSING));
    source.answers_only(8 + MOST_QUESTIONS);
    watch(&client, "batch => 10").await?;
    until_so("a question waits", async || Ok(source.in_flight() == 1)).await?;
    let asked: i64 = value(&client, "SELECT asked FROM tombstone.runs", &[]).await?;
    assert!(asked >= *SETTLED.end() as i64, "{asked}");
    Ok((client, source))
}

/// Has a pass begun, and led question by question to where the last ones are asked: the first of them waits.
async fn watch_until_deleting(client: &Client, source: &Source, options: &str) -> Result<()> {
    source.answers_only(0);
    watch(client, options).await?;
    until_so("the first question waits", async || Ok(source.requests() == 1)).await?;
    while !is_deleting(client).await? {
        next_question(source).await?;
    }
    Ok(())
}

async fn is_deleting(client: &Client) -> Result<bool> {
    Ok(value(client, "SELECT phase = 'deleting' FROM tombstone.inquiry", &[]).await?)
}

/// Has a question that waits answered, and waits until the next one does.
async fn next_question(source: &Source) -> Result<()> {
    let asked = source.requests();
    source.answers_only(0);
    until_so("the next question waits", async || Ok(source.requests() == asked + 1)).await
}

/// The same run comes to the right end, and asks after nothing again that was settled.
async fn goes_on(client: &Client, source: &Source) -> Result<()> {
    let before = source.requests();
    source.answers_all();
    until_run(client, "done").await?;
    let run = only_run(client).await?;
    assert_eq!((run.asked, run.missing, run.deleted), (BATCHES as i64 * 10, 3, 3));
    assert_eq!(deleted(client).await?, ids(MISSING));
    let again: BTreeSet<String> = source.asked().into_iter().skip(before).flatten().collect();
    // What is missing is asked after once more, and one record with it that is not.
    let settled = ids(SETTLED.filter(|number| *number > 10));
    assert!(!again.is_empty() && again.is_disjoint(&settled), "{again:?}");
    Ok(())
}

/// Table record with so many records, and a source that has them all, asked by PL/Python.
async fn mirror_of_source(server: &Server, database: &str, records: usize, returns: &str) -> Result<(Client, Source)> {
    let client = mirror(server, database, records).await?;
    let source = Source::start(ids(1..=records)).await?;
    let (question, answer) = if returns == "bigint" { ("count", "['count']") } else { ("present", "") };
    client
        .batch_execute(&format!(
            "CREATE EXTENSION plpython3u;
             CREATE FUNCTION probe(ids text[]) RETURNS {returns} LANGUAGE plpython3u AS $$
import json
from urllib.request import ProxyHandler, Request, build_opener
request = Request('{}/{question}', json.dumps(ids).encode(), {{'Content-Type': 'application/json'}})
with build_opener(ProxyHandler({{}})).open(request, timeout=60) as answer:
    return json.load(answer){answer}
$$",
            source.url()
        ))
        .await?;
    Ok((client, source))
}

/// Has it watched; a pass is due at once.
async fn watch(client: &Client, options: &str) -> Result<()> {
    Ok(client.batch_execute(&format!("SELECT tombstone.watch('record', 'probe(text[])', {options})")).await?)
}

//! Outside clients ask the source, alone or many at once: they find exactly what is missing, whoever of them stops, comes back, is
//! late or is wrong.

use std::collections::BTreeSet;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tombstone_client_tests::records::*;
use tombstone_client_tests::server::Server;
use tombstone_client_tests::source::Source;
use tombstone_client_tests::sql::{refusal, value};
use tombstone_client_tests::states::until_so;
use tombstone_client_tests::watcher::{Catalogue, go_on, open, report, watch_once, work};

const RECORDS: usize = 200;
const BATCH: i32 = 20;
/// None in most batches, one, two, and as many as may be.
const MISSING: [usize; 6] = [1, 55, 60, 161, 162, 180];

#[tokio::test]
async fn one_worker() -> Result<()> {
    finds_what_is_missing("one_worker", 1).await
}

#[tokio::test]
async fn eight_workers() -> Result<()> {
    finds_what_is_missing("eight_workers", 8).await
}

async fn finds_what_is_missing(database: &str, workers: usize) -> Result<()> {
    let server = Server::shared()?;
    let (client, source) = mirror_of_source(&server, database).await?;
    source.answers_only(0);
    let (config, url) = (server.config(database), source.url());
    let watching = tokio::spawn(async move { watch_once(&config, "record", &url, BATCH, workers).await });
    until_so("all workers ask", async || Ok(source.in_flight() == workers)).await?;
    source.answers_all();
    let report = watching.await??;
    assert_eq!((report.outcome.as_str(), report.detail), ("done", None));
    assert_eq!((report.asked, report.missing, report.deleted), (RECORDS as i64, 6, 6));
    assert_eq!(deleted(&client).await?, ids(MISSING));
    assert_eq!(source.most_in_flight(), workers);
    assert!(source.largest() <= BATCH as usize, "{}", source.largest());

    // Each batch is a deletion, which can be undone by itself.
    let deletions = "SELECT string_agg(records || ' ' || cause, ', ' ORDER BY records) FROM tombstone.deletions";
    assert_eq!(value::<String>(&client, deletions, &[]).await?, "1 reconcile, 2 reconcile, 3 reconcile");
    client.batch_execute("SELECT tombstone.undo(deletion) FROM tombstone.deletions WHERE records = 2").await?;
    assert_eq!(deleted(&client).await?, ids([1, 161, 162, 180]));
    Ok(())
}

#[tokio::test]
async fn another_worker_goes_on_where_one_was_killed() -> Result<()> {
    let server = Server::shared()?;
    let (client, source) = mirror_of_source(&server, "killed").await?;
    let run = open(&client, "record", BATCH).await?;
    for requests in [5, 9, 4] {
        source.answers_only(requests);
        let (config, url) = (server.config("killed"), source.url());
        let worker = tokio::spawn(async move { go_on(&config, run, &url, 1).await });
        until_so("the worker waits for an answer", async || Ok(source.in_flight() == 1)).await?;
        worker.abort();
        until_so("the worker is gone", async || Ok(source.in_flight() == 0)).await?;
        assert_eq!(report(&client, run).await?.outcome, "waiting");
    }
    source.answers_all();
    let report = go_on(&server.config("killed"), run, &source.url(), 2).await?;
    assert_eq!((report.outcome.as_str(), report.asked, report.deleted), ("done", RECORDS as i64, 6));
    assert_eq!(deleted(&client).await?, ids(MISSING));
    only_run(&client).await?;
    Ok(())
}

#[tokio::test]
async fn server_killed_midway() -> Result<()> {
    let server = Server::private("")?;
    let (client, source) = mirror_of_source(&server, "server").await?;
    let run = open(&client, "record", BATCH).await?;
    source.answers_only(15);
    let (config, url) = (server.config("server"), source.url());
    let worker = tokio::spawn(async move { go_on(&config, run, &url, 3).await });
    until_so("the workers wait for answers", async || Ok(source.in_flight() == 3)).await?;
    server.kill()?;
    source.answers_all();
    assert!(worker.await?.is_err(), "its connections are gone");

    server.start()?;
    let report = go_on(&server.config("server"), run, &source.url(), 3).await?;
    assert_eq!((report.outcome.as_str(), report.asked, report.deleted), ("done", RECORDS as i64, 6));
    let client = server.connect("server").await?;
    assert_eq!(deleted(&client).await?, ids(MISSING));
    only_run(&client).await?;
    Ok(())
}

/// A pass and two runs from outside, all about the same records: each is deleted once.
#[tokio::test]
async fn several_runs_at_once() -> Result<()> {
    let server = Server::private("tombstone.enabled = off")?;
    let (client, source) = mirror_of_source(&server, "several").await?;
    client.batch_execute(CATALOGUE).await?;
    client.batch_execute("DELETE FROM catalogue WHERE id = ANY ('{r000001,r000055,r000060,r000161,r000162,r000180}')").await?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', batch => 20)").await?;
    source.answers_only(0);
    let mut watching = JoinSet::new();
    for _ in 0..2 {
        let (config, url) = (server.config("several"), source.url());
        watching.spawn(async move { watch_once(&config, "record", &url, BATCH, 2).await });
    }
    until_so("all ask", async || Ok(source.in_flight() == 4)).await?;
    let session = server.connect("several").await?;
    let pass = tokio::spawn(async move { session.batch_execute("CALL tombstone.maintain('record')").await });
    source.answers_all();
    watching.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    pass.await??;
    assert_eq!(deleted(&client).await?, ids(MISSING));
    let runs = "SELECT count(*) FILTER (WHERE outcome = 'done') || ' done, ' || sum(records) || ' deleted' FROM tombstone.runs";
    assert_eq!(value::<String>(&client, runs, &[]).await?, "3 done, 6 deleted");
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_down_is_given_up_until_later() -> Result<()> {
    let server = Server::shared()?;
    let (client, source) = mirror_of_source(&server, "given_up").await?;
    let run = open(&client, "record", BATCH).await?;
    source.goes_down();
    let error = go_on(&server.config("given_up"), run, &source.url(), 2).await.expect_err("a worker gives up");
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!((report(&client, run).await?.outcome.as_str(), deleted(&client).await?.len()), ("waiting", 0));

    source.recovers();
    source.fails_next(3);
    let report = go_on(&server.config("given_up"), run, &source.url(), 2).await?;
    assert_eq!(report.outcome, "done");
    assert_eq!(deleted(&client).await?, ids(MISSING));
    Ok(())
}

#[tokio::test]
async fn a_source_that_looks_empty() -> Result<()> {
    let server = Server::shared()?;
    let (client, source) = mirror_of_source(&server, "looks_empty").await?;
    source.looks_empty();
    let report = watch_once(&server.config("looks_empty"), "record", &source.url(), BATCH, 4).await?;
    assert_eq!((report.outcome.as_str(), report.deleted), ("refused", 0));
    let detail = report.detail.unwrap_or_default();
    assert!(detail.contains("the source has none of 20, which is what an outage looks like"), "{detail}");
    assert_eq!(live(&client).await?, ids(1..=RECORDS));
    Ok(())
}

/// One client's source looks empty, the other's is well. Whichever of the two answers which question: nothing is deleted that is there.
#[tokio::test]
async fn two_who_answer_differently() -> Result<()> {
    const PATTERN: u32 = 6;
    let server = Server::shared()?;
    let client = mirror(&server, "two", 10).await?;
    let (mut exact, mut wrong) = (0, Vec::new());
    for (missing, pattern) in (1..=10).flat_map(|missing| (0u32..1 << PATTERN).map(move |pattern| (id(missing), pattern))) {
        client.batch_execute("UPDATE record SET deleted_at = NULL WHERE deleted_at IS NOT NULL").await?;
        let run = open(&client, "record", 10).await?;
        let mut answers = 0;
        while let Some((question, ids)) = next_question(&client, run).await? {
            let is_well = pattern >> (answers % PATTERN) & 1 == 0;
            let present = if is_well { ids.iter().filter(|id| **id != missing).count() } else { 0 };
            answer(&client, run, question, present as i64).await?;
            answers += 1;
        }
        match deleted(&client).await?.into_iter().collect::<Vec<_>>().as_slice() {
            [] => (),
            [only] if *only == missing => exact += 1,
            others => wrong.push(format!("{others:?} in place of {missing}, by {pattern:06b}")),
        }
    }
    assert!(exact >= 10, "or the test is void");
    assert!(wrong.is_empty(), "deleted, and there: {wrong:#?}");
    Ok(())
}

/// Two answers to one question: the batch begins anew, and what one of them has found alone is forgotten.
#[tokio::test]
async fn two_answers_to_one_question() -> Result<()> {
    let server = Server::shared()?;
    let client = mirror(&server, "two_answers", 20).await?;
    let run = open(&client, "record", 20).await?;
    let Some((first, _)) = next_question(&client, run).await? else { panic!("there is a question") };
    assert!(answer(&client, run, first, 19).await?);
    assert!(answer(&client, run, first, 20).await?, "taken: it changes what is known");
    let Some((anew, ids)) = next_question(&client, run).await? else { panic!("there is a question") };
    assert_eq!(ids.len(), 20);
    assert!(!answer(&client, run, first, 19).await?, "that was another attempt");
    assert!(answer(&client, run, anew, 20).await?);
    assert!(!answer(&client, run, anew, 20).await?);
    let report = report(&client, run).await?;
    assert_eq!((report.outcome.as_str(), report.asked, report.missing, report.deleted), ("done", 20, 0, 0));
    Ok(())
}

#[tokio::test]
async fn who_comes_too_late_does_no_harm() -> Result<()> {
    let server = Server::shared()?;
    let (client, source) = mirror_of_source(&server, "late").await?;
    let run = open(&client, "record", BATCH).await?;
    let questions = client.query("SELECT question FROM tombstone.reconcile_questions($1)", &[&run]).await?;
    assert_eq!(questions.len(), RECORDS / BATCH as usize);
    go_on(&server.config("late"), run, &source.url(), 1).await?;

    for question in questions {
        assert!(!answer(&client, run, question.get(0), 0).await?);
    }
    assert!(next_question(&client, run).await?.is_none());
    let report = report(&client, run).await?;
    assert_eq!((report.outcome.as_str(), report.deleted), ("done", 6));
    assert_eq!(deleted(&client).await?, ids(MISSING));
    Ok(())
}

#[tokio::test]
async fn strangers_are_refused_at_each_door() -> Result<()> {
    let server = Server::shared()?;
    let (client, _source) = mirror_of_source(&server, "strangers").await?;
    client.batch_execute("CREATE ROLE stranger LOGIN; GRANT ALL ON record TO stranger").await?;
    let run = open(&client, "record", BATCH).await?;
    let stranger = server.connect_as("stranger", "strangers").await?;
    let Some((question, _)) = next_question(&client, run).await? else { panic!("there is a question") };
    for door in [
        "tombstone.reconcile_open('record')".to_string(),
        format!("tombstone.reconcile_questions({run})"),
        format!("tombstone.reconcile_answer({run}, {question}, 20)"),
    ] {
        let refusal = refusal(stranger.batch_execute(&format!("SELECT {door}")).await);
        assert_eq!(*refusal.code(), SqlState::INSUFFICIENT_PRIVILEGE, "{refusal:?}");
    }
    assert!(value::<bool>(&stranger, "SELECT count(*) = 0 FROM tombstone.runs", &[]).await?);
    assert!(answer(&client, run, question, 20).await?, "nobody has answered it");
    Ok(())
}

// --- REPEATABLE READ --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn workers_in_repeatable_read() -> Result<()> {
    let server = Server::shared()?;
    let (client, source) = mirror_of_source(&server, "repeatable").await?;
    let run = open(&client, "record", BATCH).await?;
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let (client, source) = (server.connect("repeatable").await?, Catalogue::at(&source.url())?);
        client.batch_execute("SET default_transaction_isolation = 'repeatable read'").await?;
        workers.spawn(async move {
            // Bad luck, as everywhere in this isolation level: another try.
            while let Err(error) = work(&client, run, &source).await {
                let code = error.downcast_ref::<tokio_postgres::Error>().and_then(|error| error.code().cloned());
                anyhow::ensure!(code == Some(SqlState::T_R_SERIALIZATION_FAILURE), "{error:?}");
            }
            Ok(())
        });
    }
    workers.join_all().await.into_iter().collect::<Result<()>>()?;
    let report = report(&client, run).await?;
    assert_eq!((report.outcome.as_str(), report.asked, report.deleted), ("done", RECORDS as i64, 6));
    assert_eq!(deleted(&client).await?, ids(MISSING));
    Ok(())
}

#[tokio::test]
async fn a_change_that_the_snapshot_does_not_have() -> Result<()> {
    let change = "UPDATE record SET data = 'changed' WHERE id = 'r000006'";
    respects("change", change, "changed since it was asked after").await
}

#[tokio::test]
async fn a_hold_that_the_snapshot_does_not_have() -> Result<()> {
    respects("hold", "SELECT tombstone.hold('r000006', 'record')", "on hold").await
}

/// What comes meanwhile keeps a record from being deleted, although the answering transaction cannot see it.
async fn respects(database: &str, meanwhile: &str, remark: &str) -> Result<()> {
    let server = Server::shared()?;
    let client = mirror(&server, database, 20).await?;
    let there = ids((1..=20).filter(|number| *number != 6));
    let count = |ids: &[String]| ids.iter().filter(|id| there.contains(*id)).count() as i64;
    let run = open(&client, "record", 20).await?;
    let (last, ids) = loop {
        let Some((question, ids)) = next_question(&client, run).await? else { panic!("there is a last question") };
        if value::<bool>(&client, "SELECT phase = 'deleting' FROM tombstone.inquiry", &[]).await? {
            break (question, ids);
        }
        answer(&client, run, question, count(&ids)).await?;
    };

    let late = server.connect(database).await?;
    late.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert!(next_question(&late, run).await?.is_some(), "now it has its snapshot");
    client.batch_execute(meanwhile).await?;
    match answer(&late, run, last, count(&ids)).await {
        Err(error) => assert_eq!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE), "{error:?}"),
        Ok(_) => late.batch_execute("COMMIT").await?,
    }
    drop(late);
    assert_eq!(deleted(&client).await?, BTreeSet::new());

    while let Some((question, ids)) = next_question(&client, run).await? {
        answer(&client, run, question, count(&ids)).await?;
    }
    let report = report(&client, run).await?;
    assert_eq!((report.outcome.as_str(), report.missing, report.deleted), ("done", 1, 0));
    let detail = report.detail.unwrap_or_default();
    assert!(detail.contains("r000006") && detail.contains(remark), "{detail}");
    Ok(())
}

async fn next_question(client: &Client, run: i64) -> Result<Option<(i64, Vec<String>)>> {
    let question = client.query_opt("SELECT * FROM tombstone.reconcile_questions($1, 1)", &[&run]).await?;
    question.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

async fn answer(client: &Client, run: i64, question: i64, present: i64) -> Result<bool, tokio_postgres::Error> {
    value(client, "SELECT tombstone.reconcile_answer($1, $2, $3)", &[&run, &question, &present]).await
}

/// Table record, and a source that has all its records but those missing.
async fn mirror_of_source(server: &Server, database: &str) -> Result<(Client, Source)> {
    let client = mirror(server, database, RECORDS).await?;
    let source = Source::start(ids(1..=RECORDS)).await?;
    source.delete(&ids(MISSING));
    Ok((client, source))
}

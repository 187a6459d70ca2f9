//! A watcher whose source is another PostgreSQL server, asked through a foreign table (postgres_fdw) by a table owner who is nobody
//! special: the worker follows it on its own; it may be away, and it may be slow.

use anyhow::Result;
use serde_json::Value;
use tokio_postgres::Client;
use tombstone_client_tests::listener::Listener;
use tombstone_client_tests::records::*;
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;
use tombstone_client_tests::states::{until, until_so};

#[tokio::test]
async fn another_server_is_asked_how_many() -> Result<()> {
    follows_another_server(
        "tombstone.relay = off",
        "RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM catalogue WHERE id = ANY (ids))",
    )
    .await
}

#[tokio::test]
async fn another_server_is_asked_which() -> Result<()> {
    follows_another_server(
        "tombstone.relay = on",
        "RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC SELECT id FROM catalogue WHERE id = ANY (ids); END",
    )
    .await
}

/// Nobody calls anything here: the worker follows the other server on its own, in the name of the table's owner, who is nobody
/// special.
async fn follows_another_server(relay: &str, probe: &str) -> Result<()> {
    let (there, server) = (Server::private("")?, Server::private(&format!("tombstone.naptime = 1\n {relay}"))?);
    let catalogue = there.empty_database("catalogue").await?;
    catalogue.batch_execute(&catalogue_of(40)).await?;
    let client = librarian(&server, &there).await?;
    client.batch_execute(&record_table(40)).await?;
    let mut ears = Listener::connect(&server.config("mirror"), "tombstone").await?;
    let start: String = value(&client, "SELECT tombstone.cursor()", &[]).await?;
    client
        .batch_execute(&format!(
            "CREATE FUNCTION probe(ids text[]) {probe};
             SELECT tombstone.watch('record', 'probe(text[])', every => '1 second', batch => 10)"
        ))
        .await?;
    until_run(&client, "done").await?;
    assert_eq!(live(&client).await?, ids(1..=40));

    catalogue.batch_execute("DELETE FROM catalogue WHERE id IN ('r000007', 'r000033')").await?;
    for gone in ["r000007", "r000033"] {
        let word: Value = serde_json::from_str(ears.next().await?.payload())?;
        assert_eq!([&word["id"], &word["op"], &word["deletionType"]], [gone, "delete", "soft"]);
    }
    assert_eq!(deleted(&client).await?, ids([7, 33]));

    catalogue.batch_execute("INSERT INTO catalogue VALUES ('r000033')").await?;
    let word: Value = serde_json::from_str(ears.next().await?.payload())?;
    assert_eq!([&word["id"], &word["op"]], ["r000033", "update"]);
    assert_eq!(deleted(&client).await?, ids([7]));

    let told = "SELECT array_agg(concat_ws(' ', id, op, cause)) FROM tombstone.replay($1)";
    let told: Vec<String> = value(&client, told, &[&start]).await?;
    assert_eq!(told, ["r000007 delete reconcile", "r000033 delete reconcile", "r000033 update reconcile"]);
    Ok(())
}

#[tokio::test]
async fn another_server_that_is_away() -> Result<()> {
    let (there, server) = (Server::private("")?, Server::private("tombstone.naptime = 1")?);
    let (client, catalogue) = mirror_of_another(&server, &there, 40).await?;
    drop(catalogue);
    there.stop("fast")?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', batch => 10)").await?;
    let run = until_run(&client, "failed").await?;
    let detail = run.detail.unwrap_or_default();
    assert!(detail.contains("could not connect to server"), "{detail}");
    there.start()?;
    until_run(&client, "done").await?;
    assert_eq!(deleted(&client).await?, ids([40]));

    // And with the connection that the worker has had since.
    there.stop("fast")?;
    there.start()?;
    there.connect("catalogue").await?.batch_execute("INSERT INTO catalogue VALUES ('r000040')").await?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', batch => 10)").await?;
    until(&client, "(SELECT outcome = 'done' AND restored = 1 FROM tombstone.runs ORDER BY run DESC LIMIT 1)").await?;
    assert_eq!(live(&client).await?, ids(1..=40));
    Ok(())
}

#[tokio::test]
async fn what_takes_too_long_is_given_up() -> Result<()> {
    let (there, server) = (Server::private("")?, Server::private("tombstone.naptime = 1")?);
    let (client, _) = mirror_of_another(&server, &there, 10).await?;

    let slow = there.connect("catalogue").await?;
    slow.batch_execute("BEGIN; LOCK TABLE catalogue").await?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', timeout => '200 ms')").await?;
    let run = until_run(&client, "failed").await?;
    let detail = run.detail.unwrap_or_default();
    assert!(detail.contains("the probe did not answer within 0.2 s"), "{detail}");
    assert_eq!(live(&client).await?, ids(1..=10));

    slow.batch_execute("ROLLBACK").await?;
    until_run(&client, "done").await?;
    assert_eq!(deleted(&client).await?, ids([10]));
    Ok(())
}

#[tokio::test]
async fn a_question_under_way_can_be_cancelled() -> Result<()> {
    ends_a_question("pg_cancel_backend").await
}

#[tokio::test]
async fn a_worker_that_asks_can_be_terminated() -> Result<()> {
    ends_a_question("pg_terminate_backend").await
}

/// At once: the question itself has five minutes.
async fn ends_a_question(how: &str) -> Result<()> {
    let (there, server) = (Server::private("")?, Server::private("tombstone.naptime = 1")?);
    let (client, _) = mirror_of_another(&server, &there, 10).await?;
    let slow = there.connect("catalogue").await?;
    slow.batch_execute("BEGIN; LOCK TABLE catalogue").await?;
    client.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', timeout => '5 minutes')").await?;
    until(&slow, A_QUESTION_WAITS).await?;

    let began = std::time::Instant::now();
    let end = format!("SELECT {how}(pid) FROM tombstone.activity WHERE relation IS NOT NULL");
    server.connect("mirror").await?.execute(&end, &[]).await?;
    until_so("the question has ended", async || Ok(!value::<bool>(&slow, &format!("SELECT {A_QUESTION_WAITS}"), &[]).await?))
        .await?;
    println!("ended after {} ms", began.elapsed().as_millis());
    slow.batch_execute("ROLLBACK").await?;

    // The next worker, or the same one, goes on.
    until_run(&client, "done").await?;
    assert_eq!(deleted(&client).await?, ids([10]));
    only_run(&client).await?;
    Ok(())
}

/// Table record with so many records, and a catalogue on the server `there` that lacks the last one.
async fn mirror_of_another(server: &Server, there: &Server, records: usize) -> Result<(Client, Client)> {
    let catalogue = there.empty_database("catalogue").await?;
    catalogue.batch_execute(&catalogue_of(records - 1)).await?;
    let client = librarian(server, there).await?;
    client.batch_execute(&record_table(records)).await?;
    client
        .batch_execute(
            "CREATE FUNCTION probe(ids text[]) RETURNS bigint LANGUAGE sql
                 RETURN (SELECT count(*) FROM catalogue WHERE id = ANY (ids))",
        )
        .await?;
    Ok((client, catalogue))
}

const A_QUESTION_WAITS: &str = "EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND NOT granted)";

fn catalogue_of(records: usize) -> String {
    format!(
        "CREATE TABLE catalogue (id text PRIMARY KEY);
         INSERT INTO catalogue SELECT 'r' || lpad(n::text, 6, '0') FROM generate_series(1, {records}) n"
    )
}

/// A session of a user without any special rights, in a database where table catalogue is that of the server `there`.
async fn librarian(server: &Server, there: &Server) -> Result<Client> {
    let administrator = server.database("mirror").await?;
    let host = there.conninfo("catalogue");
    let host = host.trim_start_matches("host=").split(' ').next().unwrap_or_default();
    administrator
        .batch_execute(&format!(
            "CREATE ROLE librarian LOGIN;
             GRANT CREATE ON SCHEMA public TO librarian;
             CREATE EXTENSION postgres_fdw;
             CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', dbname 'catalogue');
             GRANT USAGE ON FOREIGN SERVER there TO librarian;
             CREATE USER MAPPING FOR librarian SERVER there OPTIONS (user 'postgres', password_required 'false')"
        ))
        .await?;
    let client = server.connect_as("librarian", "mirror").await?;
    client.batch_execute("CREATE FOREIGN TABLE catalogue (id text) SERVER there").await?;
    Ok(client)
}

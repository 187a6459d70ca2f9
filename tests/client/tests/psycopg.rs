//! A listener in another ecosystem: psycopg, in Python, hears the words of seed 004 as well.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tombstone_client_tests::python::python;
use tombstone_client_tests::server::Server;

const END: &str = "the end";

#[tokio::test]
async fn psycopg_hears_what_seed_004_says() -> Result<()> {
    let server = Server::shared()?;
    let client = server.database("psycopg").await?;
    client
        .batch_execute(
            "CREATE TABLE record (id text PRIMARY KEY, kind text, deleted_at timestamptz);
             INSERT INTO record VALUES ('opendes:Wellbore:id1', 'opendes:wks:master-data--Wellbore:1.0.0'), ('ü \"1\"', NULL);
             SELECT tombstone.manage('record', kind => 'kind', channel => 'Well bores')",
        )
        .await?;
    let mut python = python("listen")?
        .args([&server.conninfo("psycopg"), "Well bores", END])
        .stdout(Stdio::piped())
        .spawn()
        .context("starting python3")?;
    let mut said = BufReader::new(python.stdout.take().context("python3 has no output")?);
    let mut first = String::new();
    said.read_line(&mut first)?;
    ensure!(first == "listening\n", "it said {first:?}, and ended with {}", python.wait()?);

    client.batch_execute("UPDATE record SET deleted_at = now() WHERE id LIKE 'opendes%'").await?;
    client.batch_execute("SELECT tombstone.restore('opendes:Wellbore:id1')").await?;
    client.batch_execute("SELECT tombstone.purge('opendes:Wellbore:id1')").await?;
    client.batch_execute("SELECT tombstone.soft_delete('ü \"1\"')").await?;
    client.execute("SELECT pg_notify('Well bores', $1)", &[&END]).await?;
    let mut payloads = String::new();
    said.read_to_string(&mut payloads)?;

    assert!(python.wait()?.success());
    assert_eq!(
        payloads.lines().collect::<Vec<_>>(),
        [
            r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"delete","deletionType":"soft"}"#,
            r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"update","restored":true}"#,
            r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"delete","deletionType":"hard"}"#,
            r#"{"id":"ü \"1\"","kind":null,"op":"delete","deletionType":"soft"}"#,
        ]
    );
    Ok(())
}

//! What listeners hear: the object of seed 004 to the letter, by whichever road the deletion came, when its transaction
//! commits and never otherwise.

use anyhow::Result;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tombstone_client_tests::listener::Listener;
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;
use tombstone_client_tests::stream::{Reader, in_full};

const SOFT: &str =
    r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"delete","deletionType":"soft"}"#;
const HARD: &str =
    r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"delete","deletionType":"hard"}"#;
const RESTORED: &str =
    r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"update","restored":true}"#;

/// Postgres takes payloads below this.
const TOO_LONG: usize = 8000;

#[tokio::test]
async fn functions_say_what_seed_004_says() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "functions", "").await?;

    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    client.batch_execute("SELECT tombstone.restore('opendes:Wellbore:id1')").await?;
    client.batch_execute("SELECT * FROM tombstone.soft_delete_many('{opendes:Wellbore:id1,no such}')").await?;
    client.batch_execute("SELECT tombstone.purge('opendes:Wellbore:id1')").await?;

    assert_eq!(listener.heard().await?, [SOFT, RESTORED, SOFT, HARD]);
    Ok(())
}

#[tokio::test]
async fn plain_sql_says_the_same() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "plain", "").await?;

    let is_it = "WHERE id = 'opendes:Wellbore:id1'";
    client.batch_execute(&format!("UPDATE record SET deleted_at = now() {is_it}")).await?;
    client.batch_execute(&format!("UPDATE record SET deleted_at = NULL {is_it}")).await?;
    client.batch_execute(&format!("UPDATE record SET body = 'still live' {is_it}")).await?;
    client.batch_execute(&format!("DELETE FROM record {is_it}")).await?;

    assert_eq!(listener.heard().await?, [SOFT, RESTORED, HARD]);
    Ok(())
}

#[tokio::test]
async fn undo_and_truncate_are_heard() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "others", "").await?;

    let deletion: i64 = value(&client, "SELECT tombstone.soft_delete('opendes:Wellbore:id1')", &[]).await?;
    client.execute("SELECT * FROM tombstone.undo($1)", &[&deletion]).await?;
    client.batch_execute("TRUNCATE record").await?;

    assert_eq!(listener.heard().await?, [SOFT, RESTORED, HARD]);
    Ok(())
}

#[tokio::test]
async fn all_events_are_more_words_of_the_same_kind() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "all_events", ", events => 'all'").await?;

    client.batch_execute("INSERT INTO record VALUES ('id2', 'well', '')").await?;
    client.batch_execute("UPDATE record SET body = 'more' WHERE id = 'id2'").await?;

    assert_eq!(
        listener.heard().await?,
        [r#"{"id":"id2","kind":"well","op":"create"}"#, r#"{"id":"id2","kind":"well","op":"update"}"#]
    );
    Ok(())
}

#[tokio::test]
async fn versions_are_named() -> Result<()> {
    let server = Server::shared()?;
    let client = server.database("versions").await?;
    client
        .batch_execute(
            "CREATE TABLE record (id text, version bigint, deleted_at timestamptz, PRIMARY KEY (id, version));
             INSERT INTO record SELECT 'a', v FROM generate_series(1, 4) v;
             SELECT tombstone.manage('record', version => 'version')",
        )
        .await?;
    let mut listener = Listener::connect(&server.config("versions"), "tombstone").await?;

    client.batch_execute("SELECT tombstone.purge_versions('a', lim => 2)").await?;
    client.batch_execute("SELECT tombstone.tombstone_value_states('a', 3)").await?;
    client.batch_execute("UPDATE record SET deleted_at = NULL WHERE version = 3").await?;

    let said = |rest: &str| format!(r#"{{"id":"a","kind":null,{rest}}}"#);
    assert_eq!(
        listener.heard().await?,
        [
            said(r#""op":"delete","deletionType":"hard","version":1"#),
            said(r#""op":"delete","deletionType":"hard","version":2"#),
            said(r#""op":"delete","deletionType":"soft","version":3"#),
            said(r#""op":"update","version":3,"restored":true"#),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_batch_is_arrays_that_fit() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "batch", ", notify => 'batch', channel => 'Well bores'").await?;
    let mut elsewhere = std::mem::replace(&mut listener, Listener::connect(&server.config("batch"), "Well bores").await?);

    client.batch_execute("INSERT INTO record SELECT 'ä ' || n, 'kind', '' FROM generate_series(1, 3000) n").await?;
    client.batch_execute("UPDATE record SET deleted_at = now() WHERE kind = 'kind'").await?;
    client.batch_execute("SELECT tombstone.purge('opendes:Wellbore:id1')").await?;

    let heard = listener.heard().await?;
    assert!(heard.iter().all(|payload| payload.len() < TOO_LONG), "or Postgres itself would have refused");
    assert!(heard.len() < 60, "{} arrays of what would fit in about 30", heard.len());
    assert_eq!(heard.last().map(String::as_str), Some(format!("[{HARD}]").as_str()));
    let objects: Vec<Value> =
        heard.iter().map(|payload| serde_json::from_str::<Vec<Value>>(payload)).collect::<Result<Vec<_>, _>>()?.concat();
    let wanted = |n| json!({"id": format!("ä {n}"), "kind": "kind", "op": "delete", "deletionType": "soft"});
    assert_eq!(objects[..3000], (1..=3000).map(wanted).collect::<Vec<_>>());
    assert_eq!(objects.len(), 3001);
    assert!(elsewhere.heard().await?.is_empty(), "another channel");
    Ok(())
}

#[tokio::test]
async fn none_is_silence() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "silence", ", notify => 'none'").await?;

    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    assert!(listener.heard().await?.is_empty());

    client.batch_execute("SELECT tombstone.configure('record', 'notify', 'record')").await?;
    client.batch_execute("SELECT tombstone.restore('opendes:Wellbore:id1')").await?;
    assert_eq!(listener.heard().await?, [RESTORED], "from here on, without a word of what was before");
    Ok(())
}

#[tokio::test]
async fn an_id_too_long_to_be_said_fails_nothing() -> Result<()> {
    let server = Server::shared()?;
    let client = server.database("too_long").await?;
    // Text of this length fits an index of its own kind only compressed: so the same letter again and again.
    client
        .batch_execute(
            "CREATE TABLE record (id text PRIMARY KEY, kind text, deleted_at timestamptz);
             INSERT INTO record VALUES (repeat('x', 9000), 'kind'), ('short', repeat('k', 9000)), ('after', 'kind');
             SELECT tombstone.manage('record', kind => 'kind')",
        )
        .await?;
    let mut listener = Listener::connect(&server.config("too_long"), "tombstone").await?;
    let mut reader = Reader::from_now(&client).await?;

    client.batch_execute("SELECT tombstone.soft_delete(repeat('x', 9000))").await?;
    client.batch_execute("UPDATE record SET deleted_at = now() WHERE id IN ('short', 'after')").await?;
    client.batch_execute("SELECT tombstone.restore(repeat('x', 9000))").await?;
    client.batch_execute("SELECT tombstone.configure('record', 'notify', 'batch'); DELETE FROM record").await?;

    let heard = listener.heard().await?;
    let soft = r#"{"op":"delete","deletionType":"soft","truncated":true}"#;
    assert_eq!(heard[0], soft);
    assert_eq!(heard[1], soft);
    assert_eq!(heard[2], r#"{"id":"after","kind":"kind","op":"delete","deletionType":"soft"}"#);
    assert_eq!(heard[3], r#"{"op":"update","truncated":true}"#);
    let batch: Vec<Value> = serde_json::from_str(&heard[4])?;
    let hard = json!({"op": "delete", "deletionType": "hard", "truncated": true});
    assert_eq!(batch.len(), 3);
    assert_eq!(batch.iter().filter(|object| **object == hard).count(), 2);
    assert_eq!(heard.len(), 5);

    // Whoever hears that something is too long finds it in the log.
    reader.to_end(&client, 10).await?;
    assert!(reader.got.iter().any(|event| event.id.len() == 9000 && event.is_hard()));
    Ok(())
}

#[tokio::test]
async fn any_text_arrives() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "any_text", "").await?;
    let ids = ["ü 井 🕳", "\"quoted\" 'twice' \\", "two\nlines\tand a tab", "\u{1}\u{7f}", ""];
    client.execute("INSERT INTO record SELECT unnest($1::text[]), NULL, ''", &[&ids.as_slice()]).await?;

    for id in ids {
        client.execute("SELECT tombstone.soft_delete($1)", &[&id]).await?;
    }

    let heard = listener.heard().await?;
    let objects = heard.iter().map(|payload| serde_json::from_str(payload)).collect::<Result<Vec<Value>, _>>()?;
    let wanted = ids.map(|id| json!({"id": id, "kind": null, "op": "delete", "deletionType": "soft"}));
    assert_eq!(objects, wanted);
    assert!(heard[0].starts_with("{\"id\":\"ü 井 🕳\",\"kind\":null,"), "as it is, not escaped: {}", heard[0]);
    assert!(heard[2].starts_with(r#"{"id":"two\nlines\tand a tab""#), "{}", heard[2]);
    Ok(())
}

#[tokio::test]
async fn what_was_rolled_back_is_not_said() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "rolled_back", "").await?;
    client.batch_execute("INSERT INTO record VALUES ('a', 'k', ''), ('b', 'k', ''), ('c', 'k', '')").await?;

    client.batch_execute("BEGIN; SELECT tombstone.soft_delete('opendes:Wellbore:id1'); ROLLBACK").await?;
    client
        .batch_execute(
            "BEGIN;
             SELECT tombstone.soft_delete('a');
             SAVEPOINT one;
             SELECT tombstone.soft_delete('b');
             SAVEPOINT two;
             SELECT tombstone.soft_delete('opendes:Wellbore:id1');
             RELEASE two;
             ROLLBACK TO one;
             SELECT tombstone.soft_delete('c');
             COMMIT",
        )
        .await?;

    let said = |id| format!(r#"{{"id":"{id}","kind":"k","op":"delete","deletionType":"soft"}}"#);
    assert_eq!(listener.heard().await?, [said("a"), said("c")]);
    Ok(())
}

/// Within a transaction Postgres sends equal payloads once; of what happens twice, both are wanted.
#[tokio::test]
async fn what_happens_again_is_said_again() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "again", "").await?;

    client
        .batch_execute(
            "BEGIN;
             SELECT tombstone.soft_delete('opendes:Wellbore:id1');
             SELECT tombstone.restore('opendes:Wellbore:id1');
             SELECT tombstone.soft_delete('opendes:Wellbore:id1');
             SELECT tombstone.restore('opendes:Wellbore:id1');
             SELECT tombstone.purge('opendes:Wellbore:id1');
             COMMIT",
        )
        .await?;

    let heard = listener.heard().await?;
    let said: Vec<&str> = heard.iter().map(|payload| payload.trim_end()).collect();
    assert_eq!(said, [SOFT, RESTORED, SOFT, RESTORED, HARD]);
    assert_eq!(heard[0], SOFT, "the first one to the letter");
    Ok(())
}

/// With payload => 'full' a consumer can leave out what retention and expiry do, and knows for whom the rest was done.
#[tokio::test]
async fn a_full_payload_says_why_and_when_and_for_whom() -> Result<()> {
    let server = Server::shared()?;
    let options = ", payload => 'full', expire_after => '1 day', expire_from => 'nullif(body, ''drilled'')::timestamptz'";
    let (client, mut listener) = wellbores(&server, "in_full", options).await?;
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

    let heard = listener.heard().await?;
    let objects = heard.iter().map(|payload| serde_json::from_str(payload)).collect::<Result<Vec<Value>, _>>()?;
    assert_eq!(objects, in_full(&client, &place, "record").await?);
    let causes: Vec<&Value> = objects.iter().map(|object| &object["cause"]).collect();
    assert_eq!(causes, ["user", "user", "expiry"]);
    assert_eq!((&objects[0]["actor"], &objects[1]["actor"]), (&json!("user \"42\""), &Value::Null));
    // The four fields of seed 004 are the first, as they always were.
    let start = format!(r#"{},"cause":"user","deletion":"#, SOFT.trim_end_matches('}'));
    assert!(heard[0].starts_with(&start), "{}", heard[0]);
    assert!(heard[0].ends_with(r#"Z","actor":"user \"42\""}"#), "{}", heard[0]);

    // In arrays likewise; and short again, it is seed 004's to the letter.
    client.batch_execute("SELECT tombstone.configure('record', 'notify', 'batch'), tombstone.cursor()").await?;
    let place: String = value(&client, "SELECT tombstone.cursor()", &[]).await?;
    client.batch_execute("INSERT INTO record SELECT 'n' || n FROM generate_series(1, 500) n").await?;
    client.batch_execute("SELECT count(*) FROM tombstone.soft_delete_many(ARRAY(SELECT id FROM record))").await?;
    let heard = listener.heard().await?;
    assert!(heard.iter().all(|payload| payload.len() < TOO_LONG), "or Postgres itself would have refused");
    let objects: Vec<Vec<Value>> = heard.iter().map(|payload| serde_json::from_str(payload)).collect::<Result<_, _>>()?;
    assert_eq!(objects.concat(), in_full(&client, &place, "record").await?);
    client
        .batch_execute("SELECT tombstone.configure('record', 'payload', NULL), tombstone.configure('record', 'notify', NULL)")
        .await?;
    client.batch_execute("SELECT tombstone.restore('opendes:Wellbore:id1')").await?;
    assert_eq!(listener.heard().await?, [RESTORED]);
    Ok(())
}

#[tokio::test]
async fn a_record_that_comes_and_goes_is_said_as_often() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "comes_and_goes", ", events => 'all'").await?;

    client
        .batch_execute(
            "BEGIN;
             INSERT INTO record VALUES ('a', 'k', '');
             UPDATE record SET body = 'one' WHERE id = 'a';
             DELETE FROM record WHERE id = 'a';
             INSERT INTO record VALUES ('a', 'k', '');
             DELETE FROM record WHERE id = 'a';
             COMMIT",
        )
        .await?;

    let heard = listener.heard().await?;
    let ops =
        heard.iter().map(|payload| Ok(serde_json::from_str::<Value>(payload)?["op"].as_str().unwrap_or_default().to_string()));
    assert_eq!(ops.collect::<Result<Vec<_>>>()?, ["create", "update", "delete", "create", "delete"]);
    Ok(())
}

#[tokio::test]
async fn a_prepared_transaction_is_heard_by_and_by() -> Result<()> {
    let server = Server::shared()?;
    let (client, mut listener) = wellbores(&server, "prepared", "").await?;
    let mut reader = Reader::from_now(&client).await?;

    let prepared = "BEGIN; SELECT tombstone.soft_delete('opendes:Wellbore:id1'); PREPARE TRANSACTION 'listened'";
    client.batch_execute(prepared).await?;
    assert!(!reader.page(&client, 10).await?);
    client.batch_execute("COMMIT PREPARED 'listened'").await?;

    assert!(reader.page(&client, 10).await?);
    assert_eq!(reader.got[0].id, "opendes:Wellbore:id1");

    // Postgres lets no prepared transaction notify: the next worker's pass does, with the place in the log; once.
    let heard: Value = serde_json::from_str(listener.next().await?.payload())?;
    assert_eq!(
        (&heard["op"], &heard["deletionType"], &heard["id"]),
        (&json!("delete"), &json!("soft"), &json!("opendes:Wellbore:id1"))
    );
    assert!(heard["cursor"].is_string(), "{heard}");
    client.batch_execute("SELECT tombstone.purge('opendes:Wellbore:id1')").await?;
    assert_eq!(listener.heard().await?, [HARD]);
    Ok(())
}

/// Seed 004's record in a managed table, and a listener.
async fn wellbores(server: &Server, database: &str, options: &str) -> Result<(Client, Listener)> {
    let client = server.database(database).await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE record (id text PRIMARY KEY, kind text, body text, deleted_at timestamptz);
             INSERT INTO record VALUES ('opendes:Wellbore:id1', 'opendes:wks:master-data--Wellbore:1.0.0', 'drilled');
             SELECT tombstone.manage('record', kind => 'kind', redact => '{{\"body\": null}}'{options})"
        ))
        .await?;
    let listener = Listener::connect(&server.config(database), "tombstone").await?;
    Ok((client, listener))
}

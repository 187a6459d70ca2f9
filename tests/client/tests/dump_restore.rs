//! pg_dump into psql: a restored copy, where every table has another OID, keeps its managed tables, their triggers,
//! their tombstones and their holds; but not the log, so no place in it either.

use std::io;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use tombstone_client_tests::records::{CATALOGUE, deleted, ids, mirror, only_run, set};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::{refusal, value};
use tombstone_client_tests::stream::Reader;

/// One table that redacts and one that keeps what it deletes, in another schema.
const TABLES: [&str; 2] = ["\"Post\".letter", "note"];

#[tokio::test]
async fn a_restored_copy_is_managed_like_the_original() -> Result<()> {
    let server = Server::shared()?;
    let (original, copy) = original_and_copy(&server, "managed").await?;

    let managed = "SELECT array_agg(concat_ws(' ', relation, layout) ORDER BY relation::text) FROM tombstone.tables";
    let tables: Vec<String> = value(&copy, managed, &[]).await?;
    assert_eq!(tables, ["\"Post\".letter in_place", "note in_place", "visit in_place"]);
    for table in TABLES {
        assert_ne!(oid(&copy, table).await?, oid(&original, table).await?, "or the test is void");
    }
    Ok(())
}

#[tokio::test]
async fn tombstones_are_restored_as_tombstones() -> Result<()> {
    let server = Server::shared()?;
    let (_original, copy) = original_and_copy(&server, "tombstones").await?;

    for table in TABLES {
        assert_eq!(state(&copy, "2", table).await?, "deleted");
        let restore = format!("SELECT tombstone.restore('2', '{table}'::regclass)");
        assert_eq!(value::<i64>(&copy, &restore, &[]).await?, 1);
        assert_eq!(state(&copy, "2", table).await?, "live");
    }
    let body: String = value(&copy, "SELECT body FROM \"Post\".letter WHERE id = 2", &[]).await?;
    assert_eq!(body, "second", "kept, as nothing said to redact it");
    Ok(())
}

#[tokio::test]
async fn holds_still_hold() -> Result<()> {
    let server = Server::shared()?;
    let (_original, copy) = original_and_copy(&server, "holds").await?;

    for table in TABLES {
        let refusal = refusal(soft_delete(&copy, "3", table).await);
        assert_eq!(*refusal.code(), SqlState::OBJECT_IN_USE, "{refusal:?}");
        copy.batch_execute(&format!("SELECT tombstone.release('3', '{table}'::regclass)")).await?;
        soft_delete(&copy, "3", table).await?;
        assert_eq!(state(&copy, "3", table).await?, "deleted");
    }
    Ok(())
}

#[tokio::test]
async fn plain_sql_still_meets_the_triggers() -> Result<()> {
    let server = Server::shared()?;
    let (_original, copy) = original_and_copy(&server, "triggers").await?;

    copy.batch_execute("UPDATE note SET deleted_at = now() WHERE id = 1").await?;
    copy.batch_execute("UPDATE \"Post\".letter SET deleted_at = now() WHERE id = 1").await?;

    let body: String = value(&copy, "SELECT body FROM note WHERE id = 1", &[]).await?;
    assert_eq!(body, "");
    for table in TABLES {
        assert_eq!(state(&copy, "1", table).await?, "deleted");
    }
    Ok(())
}

/// A log tells one database's past: a place in it means nothing in a copy, where the same numbers will name other events.
#[tokio::test]
async fn the_copys_log_is_another() -> Result<()> {
    let server = Server::shared()?;
    let (original, copy) = original_and_copy(&server, "another_log").await?;
    let of_original = [from_beginning(&original).await?, Reader::from_now(&original).await?];
    assert_eq!(of_original[0].got.len(), 2, "or the original has no log either");

    let events: i64 = value(&copy, "SELECT count(*) FROM tombstone.event", &[]).await?;
    assert_eq!(events, 0);
    assert!(from_beginning(&copy).await?.got.is_empty());
    for reader in of_original {
        assert_of_another_log(&copy, reader.clone()).await;
        assert!(!reader.clone().page(&original, 10).await?, "it is good where it comes from");
    }

    let mut reader = Reader::from_now(&copy).await?;
    soft_delete(&copy, "1", "note").await?;
    assert!(reader.page(&copy, 10).await?, "and the copy has cursors of its own");
    assert_of_another_log(&original, reader).await;
    Ok(())
}

/// A database made from a template has all its rows, the log's among them; what comes after is its own.
#[tokio::test]
async fn a_templates_log_is_another_as_well() -> Result<()> {
    let server = Server::shared()?;
    let template = server.database("template").await?;
    populate(&template).await?;
    let of_template = [from_beginning(&template).await?, Reader::from_now(&template).await?];
    // A template must have no sessions.
    drop(template);
    let administrator = server.connect("postgres").await?;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'template' AND backend_type = 'client backend'";
    while value::<i64>(&administrator, sessions, &[]).await? > 0 {}
    administrator.batch_execute("CREATE DATABASE from_template TEMPLATE template").await?;
    let copy = server.connect("from_template").await?;

    for reader in of_template {
        assert_of_another_log(&copy, reader).await;
    }
    let mut reader = from_beginning(&copy).await?;
    assert_eq!(reader.got.len(), 2, "the past that it shares");
    soft_delete(&copy, "1", "note").await?;
    assert!(reader.page(&copy, 10).await?);
    assert_of_another_log(&server.connect("template").await?, reader).await;
    Ok(())
}

const ARCHIVED: &str = "
    CREATE TABLE customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, size int GENERATED ALWAYS AS (length(name)) STORED);
    CREATE TABLE ticket (id bigint PRIMARY KEY, customer bigint REFERENCES customer ON DELETE CASCADE);
    CREATE TABLE visit (id bigint, place text, customer bigint REFERENCES customer ON DELETE SET NULL, PRIMARY KEY (id, place))
        PARTITION BY LIST (place);
    CREATE TABLE visit_here PARTITION OF visit FOR VALUES IN ('here');
    SELECT tombstone.manage('customer', tree => true);
    INSERT INTO customer (name) VALUES ('ada'), ('bob'), ('eve');
    INSERT INTO ticket VALUES (11, 1), (22, 2);
    INSERT INTO visit VALUES (1, 'here', 1), (2, 'here', 3);
    DELETE FROM customer WHERE id = 1;";

/// The archive needs no log: a deletion that was dumped can be undone in the copy, with all that hung on it.
#[tokio::test]
async fn a_deletion_is_undone_in_the_copy() -> Result<()> {
    let server = Server::shared()?;
    let original = server.database("archived").await?;
    original.batch_execute(ARCHIVED).await?;
    original.batch_execute("DELETE FROM customer WHERE id = 2; SELECT tombstone.hold('2', 'customer')").await?;
    let copy = server.empty_database("archived_copy").await?;
    dump_and_restore(&server, "archived", "archived_copy")?;

    let archives = "SELECT array_agg(archive ORDER BY archive::text)::text[] FROM tombstone.tables";
    assert_eq!(
        value::<Vec<String>>(&copy, archives, &[]).await?,
        ["customer_tombstone", "ticket_tombstone", "visit_tombstone"]
    );
    assert_eq!(triggers(&copy).await?, triggers(&original).await?);
    let deletion: i64 = value(&copy, "SELECT deletion FROM customer_tombstone WHERE id = 1", &[]).await?;
    let undone = "SELECT array_agg(relation || ' ' || id || ' ' || outcome ORDER BY relation::text) FROM tombstone.undo($1)";
    assert_eq!(
        value::<Vec<String>>(&copy, undone, &[&deletion]).await?,
        ["customer 1 restored", "ticket 11 restored"],
        "and the visit points to its customer again"
    );
    let whole =
        "SELECT array_agg(c.name || c.size || ' ' || v.place ORDER BY c.id) FROM customer c JOIN visit v ON v.customer = c.id";
    assert_eq!(value::<Vec<String>>(&copy, whole, &[]).await?, ["ada3 here", "eve3 here"]);

    let refusal = refusal(value::<i64>(&copy, "SELECT tombstone.restore('2', 'customer')", &[]).await);
    assert_eq!(*refusal.code(), SqlState::OBJECT_IN_USE, "{refusal:?}");
    copy.batch_execute("DELETE FROM customer WHERE id = 3").await?;
    let later: i64 = value(&copy, "SELECT deletion FROM customer_tombstone WHERE id = 3", &[]).await?;
    assert!(later > deletion + 1, "no number is given twice");
    copy.batch_execute("SELECT * FROM tombstone.undo((SELECT deletion FROM customer_tombstone WHERE id = 3))").await?;
    Ok(())
}

/// A copy of the schema alone (structure.sql, a database for CI) has no rows, those of the extension among them. One call, which
/// the triggers name, manages its tables as the original's.
#[tokio::test]
async fn a_copy_of_the_schema_alone_is_adopted() -> Result<()> {
    let server = Server::shared()?;
    let original = server.database("schema_only").await?;
    original.batch_execute(ARCHIVED).await?;
    populate_notes(&original).await?;
    original
        .batch_execute(
            "SELECT tombstone.configure('customer', 'redact', '{\"name\": null}'), tombstone.configure('note', 'payload', 'full'),
                    tombstone.configure('ticket', 'retention', 'forever')",
        )
        .await?;
    let copy = server.empty_database("schema_only_copy").await?;
    restore(&server, server.command("pg_dump").args(["--schema-only", "schema_only"]), "schema_only_copy")?;

    copy.batch_execute("INSERT INTO customer (name) VALUES ('ada'); INSERT INTO ticket VALUES (11, 1)").await?;
    let refusal = refusal(copy.batch_execute("DELETE FROM customer").await);
    assert_eq!(*refusal.code(), SqlState::UNDEFINED_OBJECT, "{refusal:?}");
    assert!(refusal.hint().is_some_and(|hint| hint.starts_with("SELECT tombstone.adopt();")), "{refusal:?}");
    assert_eq!(value::<i64>(&copy, "SELECT count(*) FROM tombstone.adopt()", &[]).await?, 5);

    let options = "SELECT array_agg(to_jsonb(t)::text ORDER BY relation::text) FROM tombstone.tables t";
    assert_eq!(value::<Vec<String>>(&copy, options, &[]).await?, value::<Vec<String>>(&original, options, &[]).await?);
    assert_eq!(triggers(&copy).await?.len(), triggers(&original).await?.len());
    copy.batch_execute("DELETE FROM customer").await?;
    let undone = "SELECT array_agg(relation || ' ' || outcome ORDER BY relation::text)
                  FROM tombstone.undo((SELECT deletion FROM customer_tombstone))";
    assert_eq!(value::<Vec<String>>(&copy, undone, &[]).await?, ["customer restored_redacted", "ticket restored"]);
    Ok(())
}

/// The triggers of managed tables and archives, and when they fire.
async fn triggers(client: &Client) -> Result<Vec<String>, Error> {
    let triggers = "SELECT array_agg(tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text) FROM pg_trigger WHERE tgname ~ 'tombstone'";
    let mut triggers: Vec<String> = value(client, triggers, &[]).await?;
    triggers.sort();
    Ok(triggers)
}

/// What is watched comes along, and what a watcher has deleted; once the copy is resumed, what is there again is restored in it.
#[tokio::test]
async fn watchers_come_along() -> Result<()> {
    let server = Server::private("tombstone.enabled = off")?;
    let original = mirror(&server, "watched", 20).await?;
    original.batch_execute(CATALOGUE).await?;
    original.batch_execute("DELETE FROM catalogue WHERE id IN ('r000002', 'r000003')").await?;
    original.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', every => '1 day', batch => 20)").await?;
    original.batch_execute("CALL tombstone.maintain()").await?;
    assert_eq!(deleted(&original).await?, ids([2, 3]));

    let copy = server.empty_database("watched_copy").await?;
    dump_and_restore(&server, "watched", "watched_copy")?;
    let watch = "SELECT concat_ws(', ', relation, probe, every, batch) FROM tombstone.watches";
    assert_eq!(value::<String>(&copy, watch, &[]).await?, "record, public.probe, 1 day, 20");
    assert_eq!(set(&copy, "SELECT id FROM tombstone.vanished").await?, ids([2, 3]));
    assert_eq!(deleted(&copy).await?, ids([2, 3]));

    copy.batch_execute("INSERT INTO catalogue VALUES ('r000002')").await?;
    copy.batch_execute("SELECT tombstone.watch('record', 'probe(text[])', batch => 20)").await?;
    copy.batch_execute("CALL tombstone.maintain()").await?;
    assert_eq!(deleted(&copy).await?, ids([2, 3]), "paused");
    copy.batch_execute("SELECT tombstone.resume()").await?;
    copy.batch_execute("CALL tombstone.maintain()").await?;
    assert_eq!(deleted(&copy).await?, ids([3]));
    assert_eq!(only_run(&copy).await?.restored, 1);
    Ok(())
}

async fn from_beginning(client: &Client) -> Result<Reader, Error> {
    let mut reader = Reader::default();
    reader.to_end(client, 10).await?;
    Ok(reader)
}

async fn assert_of_another_log(client: &Client, mut reader: Reader) {
    let refusal = refusal(reader.page(client, 10).await);
    assert_eq!(*refusal.code(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "{refusal:?}");
    assert!(refusal.message().contains("another log"), "{refusal:?}");
    let hint = refusal.hint().unwrap_or_default();
    assert!(hint.contains("tombstone.cursor()") && hint.contains("REPEATABLE READ"), "the way out: {refusal:?}");
}

async fn original_and_copy(server: &Server, name: &str) -> Result<(Client, Client)> {
    let original = server.database(name).await?;
    populate(&original).await?;
    let copied = format!("{name}_copy");
    let copy = server.empty_database(&copied).await?;
    dump_and_restore(server, name, &copied)?;
    Ok((original, copy))
}

/// In each of `TABLES` a live record, a tombstone and a held record; and a partitioned table, whose partitions have triggers
/// of their own.
async fn populate(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(
            "CREATE TABLE visit (id bigint, place text, PRIMARY KEY (id, place)) PARTITION BY LIST (place);
             CREATE TABLE visit_here PARTITION OF visit FOR VALUES IN ('here');
             SELECT tombstone.manage('visit', layout => 'in_place')",
        )
        .await?;
    populate_notes(client).await
}

async fn populate_notes(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(
            r#"CREATE TABLE note (id bigint PRIMARY KEY, body text NOT NULL, deleted_at timestamptz);
               CREATE SCHEMA "Post";
               CREATE TABLE "Post".letter (id bigint PRIMARY KEY, body text NOT NULL);
               INSERT INTO note VALUES (1, 'first'), (2, 'second'), (3, 'third');
               INSERT INTO "Post".letter VALUES (1, 'first'), (2, 'second'), (3, 'third');
               SELECT tombstone.manage('note', redact => '{"body": ""}');
               SELECT tombstone.manage('"Post".letter', layout => 'in_place');
               UPDATE note SET deleted_at = now() WHERE id = 2;
               UPDATE "Post".letter SET deleted_at = now() WHERE id = 2;
               SELECT tombstone.hold('3', 'note'::regclass, 'case 7');
               SELECT tombstone.hold('3', '"Post".letter'::regclass, 'case 7')"#,
        )
        .await
}

fn dump_and_restore(server: &Server, from: &str, to: &str) -> Result<()> {
    restore(server, server.command("pg_dump").arg(from), to)
}

fn restore(server: &Server, dump: &mut Command, to: &str) -> Result<()> {
    let mut dump = dump.stdout(Stdio::piped()).spawn()?;
    let script = dump.stdout.take().ok_or_else(|| io::Error::other("pg_dump has no output"))?;
    let restored = succeeds(server.command("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", to]).stdin(script));
    ensure!(dump.wait()?.success(), "pg_dump failed");
    restored
}

fn succeeds(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn soft_delete(client: &Client, id: &str, table: &str) -> Result<i64, Error> {
    let call = format!("SELECT tombstone.soft_delete($1, '{table}'::regclass)");
    value(client, &call, &[&id]).await
}

async fn state(client: &Client, id: &str, table: &str) -> Result<String, Error> {
    let call = format!("SELECT tombstone.state($1, '{table}'::regclass)::text");
    value(client, &call, &[&id]).await
}

async fn oid(client: &Client, table: &str) -> Result<u32, Error> {
    value(client, &format!("SELECT '{table}'::regclass::oid"), &[]).await
}

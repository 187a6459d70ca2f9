//! A logical subscriber that manages the same tables: rows arrive as the publisher has them, and the apply worker, which runs
//! no statements but writes rows, is unharmed by our triggers, asleep as they are there by default, or awake. What a publication
//! of all tables tells of the publisher's own log, holds and options is not taken for the subscriber's. With layout archive the apply
//! worker archives what it deletes, like everybody.

use anyhow::{Result, ensure};
use tokio_postgres::Client;
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;

const TABLES: &str = r#"
    CREATE TABLE author (id bigint PRIMARY KEY, name text, deleted_at timestamptz);
    CREATE TABLE post (id bigint PRIMARY KEY, author bigint REFERENCES author ON DELETE CASCADE, body text, deleted_at timestamptz);
    SELECT tombstone.manage('author', redact => '{"name": ""}');
    SELECT tombstone.manage('post');"#;

#[tokio::test]
async fn triggers_sleep_on_a_subscriber() -> Result<()> {
    let server = Server::shared()?;
    let (publisher, subscriber) = publisher_and_subscriber(&server, "asleep").await?;

    delete_an_author(&publisher).await?;
    arrived(&server, &subscriber, "SELECT deleted_at IS NOT NULL AND name = '' FROM author WHERE id = 1").await?;
    arrived(&server, &subscriber, "SELECT deleted_at IS NOT NULL FROM post WHERE id = 1").await?;

    let events: i64 = value(&subscriber, "SELECT count(*) FROM tombstone.event", &[]).await?;
    assert_eq!(events, 0, "the publisher's log has them");
    Ok(())
}

#[tokio::test]
async fn triggers_awake_on_a_subscriber_do_their_work() -> Result<()> {
    let server = Server::shared()?;
    let (publisher, subscriber) = publisher_and_subscriber(&server, "awake").await?;
    subscriber.batch_execute("ALTER TABLE author ENABLE ALWAYS TRIGGER zz_tombstone_update").await?;

    delete_an_author(&publisher).await?;
    arrived(&server, &subscriber, "SELECT deleted_at IS NOT NULL FROM author WHERE id = 1").await?;
    let logged: Vec<String> =
        value(&subscriber, "SELECT array_agg(ids::text) FROM tombstone.event WHERE cause = 'user'", &[]).await?;
    assert_eq!(logged, ["{1}"]);

    publisher.batch_execute("INSERT INTO author VALUES (2, 'after')").await?;
    arrived(&server, &subscriber, "SELECT EXISTS (SELECT FROM author WHERE id = 2)").await?;
    Ok(())
}

/// A publication of all tables sends the extension's own as well: what describes the publisher's database is left out.
#[tokio::test]
async fn all_tables_bring_no_foreign_events() -> Result<()> {
    let server = Server::shared()?;
    let (publisher, subscriber) = publisher_and_subscriber_of(&server, "all_tables", "ALL TABLES").await?;
    for database in [&subscriber, &publisher] {
        database.batch_execute("CREATE TABLE third (id bigint PRIMARY KEY, deleted_at timestamptz)").await?;
    }
    let before = contents(&subscriber).await?;

    // Rows come, change and go in each of the extension's tables that has any.
    delete_an_author(&publisher).await?;
    publisher
        .batch_execute(
            "SELECT tombstone.hold('1', 'post', reason => 'case 7');
             SELECT tombstone.configure('author', 'channel', 'elsewhere');
             SELECT tombstone.release('1', 'post');
             SELECT * FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions));
             SELECT tombstone.manage('third');
             SELECT tombstone.hold('1', 'author', reason => 'case 8')",
        )
        .await?;
    publisher.batch_execute("CALL tombstone.maintain()").await?;
    publisher.batch_execute("INSERT INTO author VALUES (2, 'after')").await?;
    arrived(&server, &subscriber, "SELECT EXISTS (SELECT FROM author WHERE id = 2)").await?;

    assert_eq!(contents(&subscriber).await?, before);
    let applied: i64 =
        value(&subscriber, "SELECT apply_error_count FROM pg_stat_subscription_stats WHERE subname = 'all_tables'", &[])
            .await?;
    assert_eq!(applied, 0);
    // It manages its tables as before: what is done here is logged here, and nobody holds anything.
    subscriber.batch_execute("SELECT tombstone.soft_delete('1', 'author')").await?;
    let told: Vec<String> =
        value(&subscriber, "SELECT array_agg(relation || ' ' || id) FROM tombstone.replay(NULL)", &[]).await?;
    assert_eq!(told, ["author 1", "post 1"]);
    Ok(())
}

/// What was there before the subscription is copied, by other workers.
#[tokio::test]
async fn the_first_copy_brings_no_foreign_events() -> Result<()> {
    let server = Server::private("")?;
    let publisher = server.database("copied_from").await?;
    publisher.batch_execute(TABLES).await?;
    delete_an_author(&publisher).await?;
    publisher.batch_execute("SELECT tombstone.hold('1', 'post', reason => 'case 7')").await?;
    publisher.batch_execute("CALL tombstone.maintain()").await?;
    publisher.batch_execute("CREATE PUBLICATION copied FOR ALL TABLES").await?;
    let subscriber = server.database("copied_to").await?;
    subscriber.batch_execute(TABLES).await?;
    let before = contents(&subscriber).await?;

    subscribe(&server, &publisher, &subscriber, "copied", "copy_data = true").await?;
    arrived(&server, &subscriber, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel").await?;

    assert_eq!(contents(&subscriber).await?, before);
    let state: String = value(&subscriber, "SELECT tombstone.state('1', 'author')", &[]).await?;
    assert_eq!(state, "deleted", "the row itself is here");
    Ok(())
}

/// Publishing a table's deletes takes a replica identity, of the log as of any other.
#[tokio::test]
async fn a_publisher_of_all_tables_trims_its_log() -> Result<()> {
    let server = Server::shared()?;
    let (publisher, subscriber) = publisher_and_subscriber_of(&server, "trimming", "ALL TABLES").await?;
    subscriber.batch_execute("INSERT INTO author VALUES (7, 'here'); SELECT tombstone.soft_delete('7', 'author')").await?;
    let before = contents(&subscriber).await?;

    delete_an_author(&publisher).await?;
    // A deletion stays in the log as a whole.
    let briefly = "SELECT tombstone.configure(table_name, 'event_retention', '1 microsecond') FROM unnest('{author, post}'::regclass[]) AS t (table_name)";
    publisher.batch_execute(briefly).await?;
    // The first stores the tick that the second finds old enough.
    publisher.batch_execute("CALL tombstone.maintain()").await?;
    publisher.batch_execute("CALL tombstone.maintain()").await?;
    let left: i64 = value(&publisher, "SELECT count(*) FROM tombstone.replay(NULL, relations => '{author}')", &[]).await?;
    assert_eq!(left, 0);

    publisher.batch_execute("INSERT INTO author VALUES (2, 'after')").await?;
    arrived(&server, &subscriber, "SELECT EXISTS (SELECT FROM author WHERE id = 2)").await?;
    assert_eq!(contents(&subscriber).await?, before);
    Ok(())
}

const ARCHIVED: &str = "
    CREATE TABLE customer (id bigint PRIMARY KEY, name text);
    CREATE TABLE visit (id bigint, place text, customer bigint, PRIMARY KEY (id, place)) PARTITION BY LIST (place);
    CREATE TABLE visit_here PARTITION OF visit FOR VALUES IN ('here');";

/// The publisher knows nothing of tombstones: whoever keeps them subscribes.
#[tokio::test]
async fn what_a_subscription_deletes_is_archived() -> Result<()> {
    let server = Server::shared()?;
    let (publisher, subscriber) = pair(&server, "archived", ARCHIVED, "TABLE customer, visit").await?;
    subscriber.batch_execute("SELECT tombstone.manage('customer'), tombstone.manage('visit')").await?;

    publisher
        .batch_execute("INSERT INTO customer VALUES (1, 'ada'), (2, 'bob'); INSERT INTO visit VALUES (1, 'here', 1)")
        .await?;
    publisher.batch_execute("DELETE FROM customer WHERE id = 1").await?;
    arrived(&server, &subscriber, "SELECT count(*) = 1 FROM customer_tombstone").await?;
    publisher.batch_execute("TRUNCATE customer, visit").await?;
    arrived(&server, &subscriber, "SELECT count(*) = 1 FROM visit_tombstone").await?;

    let names: Vec<String> =
        value(&subscriber, "SELECT array_agg(name ORDER BY deletion) FROM customer_tombstone", &[]).await?;
    assert_eq!(names, ["ada", "bob"]);
    let told: Vec<String> =
        value(&subscriber, "SELECT array_agg(relation || ' ' || id) FROM tombstone.replay(NULL)", &[]).await?;
    assert_eq!(told, ["customer 1", "customer 2", r#"visit {"id":1,"place":"here"}"#]);
    subscriber.batch_execute("SELECT * FROM tombstone.undo((SELECT min(deletion) FROM customer_tombstone))").await?;
    subscriber.batch_execute("SELECT * FROM tombstone.undo((SELECT max(deletion) FROM customer_tombstone))").await?;
    let live: i64 = value(&subscriber, "SELECT (SELECT count(*) FROM customer) + (SELECT count(*) FROM visit)", &[]).await?;
    assert_eq!(live, 3);
    Ok(())
}

/// Both have an archive, and all tables are published, the publisher's archive among them: it can still be undone and purged, and
/// the subscriber has one tombstone of each deletion, its own.
#[tokio::test]
async fn archives_of_both_keep_apart() -> Result<()> {
    let server = Server::shared()?;
    let (publisher, subscriber) = pair(&server, "apart", ARCHIVED, "ALL TABLES").await?;
    // The subscriber first: what the publisher says of its tables names its archives, too.
    for database in [&subscriber, &publisher] {
        database.batch_execute("SELECT tombstone.manage('customer'), tombstone.manage('visit')").await?;
    }

    publisher.batch_execute("INSERT INTO customer SELECT i, 'name ' || i FROM generate_series(1, 5) i").await?;
    publisher.batch_execute("INSERT INTO visit VALUES (1, 'here', 1)").await?;
    publisher.batch_execute("DELETE FROM customer").await?;
    publisher.batch_execute("TRUNCATE visit").await?;
    arrived(&server, &subscriber, "SELECT count(*) = 1 FROM visit_tombstone").await?;
    assert_eq!(value::<i64>(&subscriber, "SELECT count(*) FROM customer_tombstone", &[]).await?, 5);

    publisher.batch_execute("SELECT tombstone.restore('1', 'customer'), tombstone.purge('2', 'customer')").await?;
    publisher.batch_execute("SELECT * FROM tombstone.undo((SELECT max(deletion) FROM visit_tombstone))").await?;
    publisher.batch_execute("DELETE FROM customer WHERE id = 1").await?;
    arrived(&server, &subscriber, "SELECT count(*) = 2 FROM customer_tombstone WHERE id = 1").await?;
    assert_eq!(value::<i64>(&subscriber, "SELECT count(*) FROM customer_tombstone", &[]).await?, 6);
    assert_eq!(value::<i64>(&subscriber, "SELECT count(*) FROM visit", &[]).await?, 1);
    let failed: i64 =
        value(&subscriber, "SELECT apply_error_count FROM pg_stat_subscription_stats WHERE subname = 'apart'", &[]).await?;
    assert_eq!(failed, 0);
    Ok(())
}

/// Whoever moves to another server by a subscription takes the tombstones along.
#[tokio::test]
async fn the_first_copy_brings_the_archive() -> Result<()> {
    let server = Server::private("")?;
    let publisher = server.database("moving_from").await?;
    let subscriber = server.database("moving_to").await?;
    for database in [&publisher, &subscriber] {
        database.batch_execute(ARCHIVED).await?;
        database.batch_execute("SELECT tombstone.manage('customer')").await?;
    }
    publisher.batch_execute("INSERT INTO customer VALUES (1, 'ada'), (2, 'bob'); DELETE FROM customer WHERE id = 1").await?;
    publisher.batch_execute("CREATE PUBLICATION moving FOR ALL TABLES").await?;

    subscribe(&server, &publisher, &subscriber, "moving", "copy_data = true").await?;
    arrived(&server, &subscriber, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel").await?;

    assert_eq!(value::<i64>(&subscriber, "SELECT tombstone.restore('1', 'customer')", &[]).await?, 1);
    assert_eq!(value::<i64>(&subscriber, "SELECT count(*) FROM customer", &[]).await?, 2);
    Ok(())
}

/// All that the extension has of its own.
const OWN_TABLES: [&str; 7] = ["event", "held", "managed", "undone", "log", "tick", "floor"];

async fn contents(subscriber: &Client) -> Result<Vec<String>> {
    let mut contents = Vec::new();
    for table in OWN_TABLES {
        let rows = format!("SELECT COALESCE(string_agg(t::text, ' ' ORDER BY t::text), '') FROM tombstone.{table} t");
        contents.push(format!("{table}: {}", value::<String>(subscriber, &rows, &[]).await?));
    }
    Ok(contents)
}

async fn publisher_and_subscriber(server: &Server, name: &str) -> Result<(Client, Client)> {
    publisher_and_subscriber_of(server, name, "TABLE author, post").await
}

async fn publisher_and_subscriber_of(server: &Server, name: &str, published: &str) -> Result<(Client, Client)> {
    pair(server, name, TABLES, published).await
}

async fn pair(server: &Server, name: &str, tables: &str, published: &str) -> Result<(Client, Client)> {
    let publisher = server.database(&format!("{name}_from")).await?;
    publisher.batch_execute(tables).await?;
    publisher.batch_execute(&format!("CREATE PUBLICATION {name} FOR {published}")).await?;
    let subscriber = server.database(&format!("{name}_to")).await?;
    subscriber.batch_execute(tables).await?;
    subscribe(server, &publisher, &subscriber, name, "copy_data = false").await?;
    Ok((publisher, subscriber))
}

async fn subscribe(server: &Server, publisher: &Client, subscriber: &Client, name: &str, options: &str) -> Result<()> {
    // On one server, a subscription that made its own slot would wait for itself.
    publisher.batch_execute(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")).await?;
    let from = server.conninfo(&format!("{name}_from"));
    let subscribe =
        format!("CREATE SUBSCRIPTION {name} CONNECTION '{from}' PUBLICATION {name} WITH (create_slot = false, {options})");
    Ok(subscriber.batch_execute(&subscribe).await?)
}

async fn delete_an_author(publisher: &Client) -> Result<()> {
    publisher.batch_execute("INSERT INTO author VALUES (1, 'ada'); INSERT INTO post VALUES (1, 1, 'on engines')").await?;
    let taken: i64 = value(publisher, "SELECT tombstone.soft_delete('1', 'author')", &[]).await?;
    assert!(taken > 0);
    Ok(())
}

/// Waits until the question is answered with true, or an apply worker has failed.
async fn arrived(server: &Server, subscriber: &Client, question: &str) -> Result<()> {
    let question = format!("SELECT COALESCE(({question}), false)");
    let failed = |line: &str| line.contains("logical replication") && line.contains("exited with exit code 1");
    while !value::<bool>(subscriber, &question, &[]).await? {
        let log = server.log();
        ensure!(!log.lines().any(failed), "an apply worker failed: {log}");
    }
    Ok(())
}

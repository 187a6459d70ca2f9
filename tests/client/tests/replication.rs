//! A logical subscriber that manages the same tables: rows arrive as the publisher has them, and the apply worker, which runs
//! no statements but writes rows, is unharmed by our triggers, asleep as they are there by default, or awake.

use anyhow::Result;
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
    arrived(&subscriber, "SELECT deleted_at IS NOT NULL AND name = '' FROM author WHERE id = 1").await?;
    arrived(&subscriber, "SELECT deleted_at IS NOT NULL FROM post WHERE id = 1").await?;

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
    arrived(&subscriber, "SELECT deleted_at IS NOT NULL FROM author WHERE id = 1").await?;
    let logged: Vec<String> =
        value(&subscriber, "SELECT array_agg(ids::text) FROM tombstone.event WHERE cause = 'user'", &[]).await?;
    assert_eq!(logged, ["{1}"]);

    publisher.batch_execute("INSERT INTO author VALUES (2, 'after')").await?;
    arrived(&subscriber, "SELECT EXISTS (SELECT FROM author WHERE id = 2)").await?;
    Ok(())
}

async fn publisher_and_subscriber(server: &Server, name: &str) -> Result<(Client, Client)> {
    let publisher = server.database(&format!("{name}_from")).await?;
    publisher.batch_execute(TABLES).await?;
    publisher.batch_execute(&format!("CREATE PUBLICATION {name} FOR TABLE author, post")).await?;
    // On one server, a subscription that made its own slot would wait for itself.
    publisher.batch_execute(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")).await?;

    let subscriber = server.database(&format!("{name}_to")).await?;
    subscriber.batch_execute(TABLES).await?;
    let from = server.conninfo(&format!("{name}_from"));
    let options = "create_slot = false, copy_data = false";
    let subscribe = format!("CREATE SUBSCRIPTION {name} CONNECTION '{from}' PUBLICATION {name} WITH ({options})");
    subscriber.batch_execute(&subscribe).await?;
    Ok((publisher, subscriber))
}

async fn delete_an_author(publisher: &Client) -> Result<()> {
    publisher.batch_execute("INSERT INTO author VALUES (1, 'ada'); INSERT INTO post VALUES (1, 1, 'on engines')").await?;
    let taken: i64 = value(publisher, "SELECT tombstone.soft_delete('1', 'author')", &[]).await?;
    assert!(taken > 0);
    Ok(())
}

/// Waits until the question is answered with true; the test's own time limit ends it otherwise.
async fn arrived(subscriber: &Client, question: &str) -> Result<()> {
    let question = format!("SELECT COALESCE(({question}), false)");
    while !value::<bool>(subscriber, &question, &[]).await? {
        tokio::task::yield_now().await;
    }
    Ok(())
}

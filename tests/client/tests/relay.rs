//! The relay: what listeners hear from it, and that they hear each event once, whatever becomes of it, of its server and of the
//! transactions that leave events to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::time::sleep;
use tokio_postgres::Client;
use tombstone_client_tests::listener::Listener;
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;
use tombstone_client_tests::stream::Reader;

/// Workers look around often; and there is room for a worker and a relay in each test's database.
const SETTINGS: &str = "
    tombstone.relay = on
    tombstone.naptime = 1s
    max_worker_processes = 64";

const SOFT: &str = r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"delete","deletionType":"soft","cursor":""#;

#[tokio::test]
async fn says_what_seed_004_says_and_where_to_go_on() -> Result<()> {
    let server = shared()?;
    let (client, mut listener) = wellbores(&server, "words", "").await?;
    client.batch_execute("SELECT tombstone.soft_delete('opendes:Wellbore:id1')").await?;
    let payload = listener.next().await?.payload().to_string();
    assert!(payload.starts_with(SOFT), "{payload}");
    println!("{payload}");
    Ok(())
}

fn shared() -> Result<Arc<Server>> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return Ok(server);
    }
    let server = Arc::new(Server::private(SETTINGS)?);
    *shared = Arc::downgrade(&server);
    Ok(server)
}

/// Seed 004's record in a managed table, a listener, and a relay that is ready.
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
    relay_is_ready(&client).await?;
    Ok((client, listener))
}

async fn relay_is_ready(client: &Client) -> Result<()> {
    until(
        client,
        "SELECT count(*) = 1 FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'pg_tombstone relay' AND query = 'announcing events'",
    )
    .await
}

/// Waits until the question is answered with yes.
async fn until(client: &Client, question: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !value::<bool>(client, question, &[]).await? {
        ensure!(Instant::now() < deadline, "still not: {question}");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

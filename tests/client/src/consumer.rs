//! The recipe for whoever keeps a copy of a managed table (with `events => 'all'`) elsewhere: a search index, a cache, another
//! service. Take a snapshot of the table together with the cursor; LISTEN; then replay, and whenever there is word or time has
//! passed, again.
//!
//! A notification is only a nudge: it may be lost with the connection, or sent by nobody, as for a prepared transaction. What
//! counts is the cursor. Whoever stores it together with the copy can go on after any interruption, as long as
//! `event_retention` lasts; after that, replay says so (55000), and it takes a new snapshot.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, IsolationLevel, NoTls, Row};

use crate::listener::Listener;

/// How many events to ask for at once.
const PAGE: usize = 100;

/// What must survive the consumer: here in memory, in life wherever the copy is.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// The place in the log that `records` is true to.
    pub cursor: String,
    /// By id: the row as it is, tombstones included.
    pub records: BTreeMap<String, Value>,
}

pub struct Consumer {
    client: Client,
    listener: Listener,
    /// The managed table, with the column `id` as its id.
    table: String,
    pub copy: Copy,
}

impl Consumer {
    pub async fn start(config: &Config, table: &str) -> Result<Self> {
        let mut client = connect(config).await?;
        let copy = snapshot(&mut client, table).await?;
        Self::with(config, client, table, copy).await
    }

    /// Goes on where an earlier consumer left off.
    pub async fn resume(config: &Config, table: &str, copy: Copy) -> Result<Self> {
        Self::with(config, connect(config).await?, table, copy).await
    }

    /// What came between the copy and the listening has nobody heard: so the first thing to do is to catch up.
    async fn with(config: &Config, client: Client, table: &str, copy: Copy) -> Result<Self> {
        let listener = Listener::connect(config, "tombstone").await?;
        let mut consumer = Self { client, listener, table: table.to_string(), copy };
        consumer.catch_up().await?;
        Ok(consumer)
    }

    /// Waits until there may be news, and takes them; returns how many.
    pub async fn follow(&mut self, at_least_every: Duration) -> Result<usize> {
        // Word came, or time is up: the next step is the same. A lost connection is an error.
        if let Ok(word) = timeout(at_least_every, self.listener.next()).await {
            word?;
        }
        self.catch_up().await
    }

    /// Takes all news there are; returns how many.
    pub async fn catch_up(&mut self) -> Result<usize> {
        let mut taken = 0;
        loop {
            let page = match self.page().await {
                Ok(page) => page,
                // Away for longer than the log remembers, or the database is not the one that it was.
                Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                    self.copy = snapshot(&mut self.client, &self.table).await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for event in &page {
                self.copy.apply(event)?;
            }
            taken += page.len();
            // A page that is not full was the last. To wait for an empty one might take for ever where others go on writing.
            if page.len() < PAGE {
                return Ok(taken);
            }
        }
    }

    async fn page(&self) -> Result<Vec<Row>, Error> {
        const REPLAY: &str = "
            SELECT cursor, id, deletion_type, data
              FROM tombstone.replay($1, lim => $2, relations => ARRAY[$3::text::regclass], with_data => true)";
        self.client.query(REPLAY, &[&self.copy.cursor, &(PAGE as i32), &self.table]).await
    }
}

async fn connect(config: &Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // When the connection breaks, the client's next call says so.
    tokio::spawn(connection);
    Ok(client)
}

/// The table and the log's end, of one moment: replay from there brings what came after, and nothing of what was read.
pub async fn snapshot(client: &mut Client, table: &str) -> Result<Copy> {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let cursor = transaction.query_one("SELECT tombstone.cursor()", &[]).await?.try_get(0)?;
    let rows = transaction.query(&format!("SELECT id::text, to_jsonb(t) FROM {table} t"), &[]).await?;
    transaction.commit().await?;
    let records = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_>>()?;
    Ok(Copy { cursor, records })
}

impl Copy {
    /// Applying an event again changes nothing, so the cursor may be stored after the copy, or with it.
    fn apply(&mut self, event: &Row) -> Result<()> {
        let id: String = event.try_get("id")?;
        let is_gone = event.try_get::<_, Option<&str>>("deletion_type")? == Some("hard");
        match event.try_get::<_, Option<Value>>("data")? {
            Some(data) if !is_gone => self.records.insert(id, data),
            _ => self.records.remove(&id),
        };
        self.cursor = event.try_get("cursor")?;
        Ok(())
    }
}

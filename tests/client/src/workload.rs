//! Writers who do at random what applications do: short transactions over records that others want as well, by functions and
//! by plain SQL, with savepoints, changes of mind, and two-phase commit.

use anyhow::Result;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::server::Server;

/// Notes are never purged, drafts are. No id is used twice.
pub const TABLES: &str = r#"
    CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, body text, deleted_at timestamptz);
    CREATE TABLE draft (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, body text, deleted_at timestamptz);
    SELECT tombstone.manage('note', kind => 'kind', redact => '{"body": ""}', events => 'all', notify => 'none'),
           tombstone.manage('draft', kind => 'kind', events => 'all', notify => 'none');
    INSERT INTO note (kind, body) SELECT 'first', 'body' FROM generate_series(1, 100);
    INSERT INTO draft (kind, body) SELECT 'first', 'body' FROM generate_series(1, 100);"#;

/// From TOMBSTONE_SEED, or another one each time. Rivals' timing is never the same twice, but what they want to do is.
pub fn seed() -> u64 {
    let seed = std::env::var("TOMBSTONE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("TOMBSTONE_SEED={seed}");
    seed
}

pub struct Writer {
    client: Client,
    random: fastrand::Rng,
    name: String,
    /// Whether it uses two-phase commit: the server has room for only so many such transactions.
    prepares: bool,
    transactions: u32,
}

impl Writer {
    /// The `number`th of several writers, who all have the same `seed`.
    pub async fn connect(server: &Server, database: &str, number: u64, seed: u64) -> Result<Self> {
        let client = server.connect(database).await?;
        // Two who wait for each other are part of the picture, and need not do so for a second.
        client.batch_execute("SET deadlock_timeout = '10ms'").await?;
        let name = format!("{database}_{number}");
        let random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        Ok(Self { client, random, name, prepares: number < 8, transactions: 0 })
    }

    pub async fn set(&self, setting: &str) -> Result<(), Error> {
        self.client.batch_execute(&format!("SET {setting}")).await
    }

    /// One transaction; whether it committed.
    pub async fn transaction(&mut self) -> Result<bool, Error> {
        self.transactions += 1;
        self.client.batch_execute("BEGIN").await?;
        for _ in 0..self.random.u8(1..6) {
            let statement = self.statement();
            let goes_on = if self.random.u8(0..3) == 0 {
                self.in_a_savepoint(&statement).await?
            } else {
                self.accepted(&statement).await?
            };
            if !goes_on {
                self.client.batch_execute("ROLLBACK").await?;
                return Ok(false);
            }
        }
        match self.random.u8(0..8) {
            0 => self.end("ROLLBACK", false).await,
            1..4 if self.prepares => self.in_two_phases().await,
            _ => self.end("COMMIT", true).await,
        }
    }

    async fn end(&self, how: &str, commits: bool) -> Result<bool, Error> {
        self.client.batch_execute(how).await?;
        Ok(commits)
    }

    async fn in_two_phases(&mut self) -> Result<bool, Error> {
        let name = format!("{}_{}", self.name, self.transactions);
        self.client.batch_execute(&format!("PREPARE TRANSACTION '{name}'")).await?;
        match self.random.u8(0..4) {
            0 => self.end(&format!("ROLLBACK PREPARED '{name}'"), false).await,
            _ => self.end(&format!("COMMIT PREPARED '{name}'"), true).await,
        }
    }

    /// A refusal is taken back, and now and then a success as well.
    async fn in_a_savepoint(&mut self, statement: &str) -> Result<bool, Error> {
        self.client.batch_execute("SAVEPOINT point").await?;
        let stays = self.accepted(statement).await? && self.random.bool();
        let end = if stays { "RELEASE point" } else { "ROLLBACK TO point" };
        self.client.batch_execute(end).await?;
        Ok(true)
    }

    /// False where the record is not there, or is no (or already a) tombstone, or where two waited for each other: what
    /// rivals must expect. Any other refusal is an error.
    async fn accepted(&self, statement: &str) -> Result<bool, Error> {
        match self.client.batch_execute(statement).await {
            Ok(()) => Ok(true),
            Err(error) => match error.code() {
                Some(code) if [SqlState::NO_DATA_FOUND, SqlState::T_R_DEADLOCK_DETECTED].contains(code) => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn statement(&mut self) -> String {
        let purges = self.random.bool();
        let table = if purges { "draft" } else { "note" };
        // All writers move on through the records at about the same pace, so they meet.
        let id = self.transactions * 4 + self.random.u32(1..40);
        let several = format!("id BETWEEN {id} AND {id} + {}", self.random.u8(0..6));
        match self.random.u8(0..if purges { 11 } else { 9 }) {
            0 | 1 => {
                let (kind, records) = (self.random.u8(0..3), self.random.u8(1..6));
                format!(
                    "INSERT INTO {table} (kind, body) SELECT nullif({kind}, 0)::text, 'body' FROM generate_series(1, {records})"
                )
            }
            2 | 3 => format!("SELECT tombstone.soft_delete('{id}', '{table}')"),
            4 => format!("SELECT tombstone.restore('{id}', '{table}')"),
            5 => format!("UPDATE {table} SET body = body || '.' WHERE {several}"),
            6 => format!("UPDATE {table} SET deleted_at = now() WHERE {several} AND deleted_at IS NULL"),
            7 => format!("UPDATE {table} SET deleted_at = NULL WHERE {several}"),
            8 => format!("SELECT * FROM tombstone.soft_delete_many('{{{id},{}}}', '{table}')", id + 7),
            9 => format!("SELECT tombstone.purge('{id}', '{table}')"),
            _ => format!("DELETE FROM {table} WHERE {several}"),
        }
    }
}

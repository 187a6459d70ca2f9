//! The recipe for whoever watches a source that only an application can reach: an API behind a login, a partner's catalogue. Open a
//! run; then ask the source what `reconcile_questions` wants to know, and hand the answers to `reconcile_answer`, until there are no
//! more questions. What is missing is found, looked at once more and soft-deleted in the database.
//!
//! Several workers share a run: each gets other questions, mostly, and a question that two of them have answered does no harm. All
//! that is known is in the database, so a worker may end at any time: whatever it was about is a question again, for the others or
//! for whoever goes on with the run later.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

/// So many questions a worker takes at once: those that it does not come to are left to others.
const QUESTIONS: i32 = 4;

/// So often in a row the source may fail before a worker gives up, and after the first time it is left alone for so long, then for
/// twice as long, and so on.
const FAILURES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// How a run has ended.
#[derive(Debug, Clone)]
pub struct Report {
    pub run: i64,
    pub asked: i64,
    pub missing: i64,
    pub deleted: i64,
    pub restored: i64,
    /// done; refused, as too much is missing; failed, as nothing could be asked.
    pub outcome: String,
    pub detail: Option<String>,
}

/// Asks the source at `url` after all records of `table`, at most `batch` at once, with so many workers; and has deleted what it has
/// not.
pub async fn watch_once(config: &Config, table: &str, url: &str, batch: i32, workers: usize) -> Result<Report> {
    let run = open(&connect(config).await?, table, batch).await?;
    go_on(config, run, url, workers).await
}

/// Begins a run.
pub async fn open(client: &Client, table: &str, batch: i32) -> Result<i64> {
    const OPEN: &str = "SELECT tombstone.reconcile_open($1::text::regclass, batch => $2)";
    Ok(client.query_one(OPEN, &[&table, &batch]).await?.try_get(0)?)
}

/// Goes on with a run, wherever earlier workers have left it, to its end.
pub async fn go_on(config: &Config, run: i64, url: &str, workers: usize) -> Result<Report> {
    let mut working = JoinSet::new();
    for _ in 0..workers {
        let (client, source) = (connect(config).await?, Catalogue::at(url)?);
        working.spawn(async move { work(&client, run, &source).await });
    }
    while let Some(worker) = working.join_next().await {
        worker??;
    }
    report(&connect(config).await?, run).await
}

/// What one worker does: it asks until there is nothing more to be asked. Any number of them may, at once.
pub async fn work(client: &Client, run: i64, source: &Catalogue) -> Result<()> {
    let mut failures = 0;
    loop {
        let questions = client.query("SELECT * FROM tombstone.reconcile_questions($1, $2)", &[&run, &QUESTIONS]).await?;
        if questions.is_empty() {
            return Ok(());
        }
        for question in questions {
            let (number, ids): (i64, Vec<String>) = (question.try_get("question")?, question.try_get("ids")?);
            match source.count(&ids).await {
                Ok(present) => {
                    client.execute("SELECT tombstone.reconcile_answer($1, $2, $3)", &[&run, &number, &present]).await?;
                    failures = 0;
                }
                // It will be asked again, by us or by somebody else.
                Err(error) if failures + 1 == FAILURES => return Err(error),
                Err(_) => {
                    tokio::time::sleep(PAUSE * 2u32.pow(failures)).await;
                    failures += 1;
                }
            }
        }
    }
}

/// How a run stands.
pub async fn report(client: &Client, run: i64) -> Result<Report> {
    const RUN: &str = "SELECT asked, missing, records, restored, outcome, detail FROM tombstone.runs WHERE run = $1";
    let row = client.query_one(RUN, &[&run]).await?;
    Ok(Report {
        run,
        asked: row.try_get("asked")?,
        missing: row.try_get("missing")?,
        deleted: row.try_get("records")?,
        restored: row.try_get("restored")?,
        outcome: row.try_get("outcome")?,
        detail: row.try_get("detail")?,
    })
}

/// The outside source, as this application knows how to ask it.
pub struct Catalogue {
    http: reqwest::Client,
    count: String,
}

impl Catalogue {
    pub fn at(url: &str) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).no_proxy().build()?;
        Ok(Self { http, count: format!("{url}/count") })
    }

    /// How many of these ids it has.
    pub async fn count(&self, ids: &[String]) -> Result<i64> {
        let answer = self.http.post(&self.count).json(ids).send().await?.error_for_status()?;
        let answer: Value = answer.json().await?;
        answer["count"].as_i64().with_context(|| format!("no count: {answer}"))
    }
}

async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    // When the connection breaks, the client's next call says so.
    tokio::spawn(connection);
    Ok(client)
}

//! Asks an outside source after the records of a managed table, and has deleted what it has not: see src/watcher.rs for how.
//!
//! cargo run -p tombstone-client-tests --example watcher -- 'host=/path/to/socket user=me dbname=mine' my_table http://source
//!
//! With the number of a run after that, it goes on with that one.

use std::env;

use anyhow::{Context, Result};
use tombstone_client_tests::watcher::{go_on, watch_once};

/// So many ids are in one question at most.
const BATCH: i32 = 1000;
/// So many questions are under way at once.
const WORKERS: usize = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    const USAGE: &str = "usage: watcher CONNINFO TABLE URL [RUN]";
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (conninfo, table, url) = match arguments.as_slice() {
        [conninfo, table, url] | [conninfo, table, url, _] => (conninfo, table, url),
        _ => anyhow::bail!(USAGE),
    };
    let config = conninfo.parse()?;
    let report = match arguments.get(3) {
        Some(run) => go_on(&config, run.parse().context(USAGE)?, url, WORKERS).await?,
        None => watch_once(&config, table, url, BATCH, WORKERS).await?,
    };
    println!("run {}: {} of {} records deleted, {}", report.run, report.deleted, report.asked, report.outcome);
    if let Some(detail) = report.detail {
        println!("{detail}");
    }
    Ok(())
}

//! Keeps a copy of a managed table in memory, and says what it has: see src/consumer.rs for how.
//!
//! cargo run -p tombstone-client-tests --example consumer -- 'host=/path/to/socket user=me dbname=mine' my_table

use std::env;
use std::time::Duration;

use anyhow::{Context, Result};
use tombstone_client_tests::consumer::Consumer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let (config, table) = arguments.next().zip(arguments.next()).context("usage: consumer CONNINFO TABLE")?;
    let mut consumer = Consumer::start(&config.parse()?, &table).await?;
    println!("{} records", consumer.copy.records.len());
    loop {
        let events = consumer.follow(Duration::from_secs(30)).await?;
        if events > 0 {
            println!("{events} events, {} records", consumer.copy.records.len());
        }
    }
}

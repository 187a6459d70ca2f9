//! Waiting for a state, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::GenericClient;

/// Nothing that is to come takes longer, however slow the machine; what has not come by then never will.
const FOR_EVER: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Waits until `condition`, an SQL expression, is true.
pub async fn until(client: &impl GenericClient, condition: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let holds: Option<bool> = client.query_one(&format!("SELECT {condition}"), &[]).await?.try_get(0)?;
        if holds == Some(true) {
            return Ok(());
        }
        if began.elapsed() > FOR_EVER {
            bail!("in vain waited for: {condition}");
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

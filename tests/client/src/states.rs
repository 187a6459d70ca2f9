//! Waiting for a state, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::GenericClient;

/// Nothing that is to come takes longer, however slow the machine; what has not come by then never will.
const FOR_EVER: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Waits until `condition`, an SQL expression, is true.
pub async fn until(client: &impl GenericClient, condition: &str) -> Result<()> {
    let question = format!("SELECT {condition}");
    until_so(condition, async || Ok(client.query_one(&question, &[]).await?.try_get::<_, Option<bool>>(0)? == Some(true))).await
}

/// Waits until `is_so`; `what` that is, for whoever reads of the failure.
pub async fn until_so(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !is_so().await? {
        if began.elapsed() > FOR_EVER {
            bail!("in vain waited for: {what}");
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Ok(())
}

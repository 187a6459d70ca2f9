//! akd's own conformance suite for a storage, over tables under management: whatever a key directory asks of its
//! database, the extension does not get in its way.

use akd::storage::tests::run_test_cases_for_storage_impl;
use anyhow::Result;
use tombstone_client_tests::akd_storage::{MANAGE, PostgresStorage, SCHEMA};
use tombstone_client_tests::server::Server;

#[tokio::test]
async fn a_managed_table_passes_akds_own_suite() -> Result<()> {
    let server = Server::shared()?;
    let client = server.database("akd_conformance").await?;
    client.batch_execute(SCHEMA).await?;
    client.batch_execute(MANAGE).await?;

    // It panics where the storage falls short.
    run_test_cases_for_storage_impl(PostgresStorage::open(client).await?).await;
    Ok(())
}

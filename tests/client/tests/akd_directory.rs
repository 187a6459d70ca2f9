//! A real key directory whose operator removes one user's old values with a single SQL call (seed 000): the
//! directory still proves every version, and nobody else's history changes.

use akd::directory::Directory;
use akd::ecvrf::HardCodedAkdVRF;
use akd::errors::{AkdError, DirectoryError};
use akd::storage::StorageManager;
use akd::{
    AkdLabel, AkdValue, AzksParallelismConfig, EpochHash, ExampleLabel, ExperimentalConfiguration, HistoryParams,
    HistoryVerificationParams, TOMBSTONE, VerifyResult,
};
use anyhow::Result;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tombstone_client_tests::akd_storage::{MANAGE, PostgresStorage, SCHEMA};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::{refusal, value};

type Tree = ExperimentalConfiguration<ExampleLabel>;
type KeyDirectory = Directory<Tree, PostgresStorage, HardCodedAkdVRF>;

const EPOCHS: u64 = 5;
const ALLOW_TOMBSTONES: HistoryVerificationParams =
    HistoryVerificationParams::AllowMissingValues { history_params: HistoryParams::Complete };

#[tokio::test]
async fn a_tombstoned_history_still_proves_every_version() -> Result<()> {
    let server = Server::shared()?;
    let (directory, operator) = published(&server, "akd_history").await?;
    let root = directory.get_epoch_hash().await?;
    assert_eq!(epochs(&history(&directory, "alice", strict()).await?), [5, 4, 3, 2, 1]);

    assert_eq!(tombstone(&operator, "alice", 3).await?, 3);

    let strictly = history(&directory, "alice", strict()).await;
    assert!(matches!(strictly, Err(AkdError::Directory(DirectoryError::Verification(_)))), "{strictly:?}");
    let results = history(&directory, "alice", ALLOW_TOMBSTONES).await?;
    assert_eq!(epochs(&results), [5, 4, 3, 2, 1]);
    assert_eq!(values(&results), [&b"alice-5"[..], b"alice-4", TOMBSTONE, TOMBSTONE, TOMBSTONE]);
    assert_eq!(directory.get_epoch_hash().await?.hash(), root.hash());
    Ok(())
}

#[tokio::test]
async fn another_user_is_untouched() -> Result<()> {
    let server = Server::shared()?;
    let (directory, operator) = published(&server, "akd_other_user").await?;
    let before = rows(&operator, "bob").await?;
    assert_eq!(before.len(), 5);

    tombstone(&operator, "alice", 3).await?;

    assert_eq!(rows(&operator, "bob").await?, before);
    let results = history(&directory, "bob", strict()).await?;
    assert_eq!(values(&results), [&b"bob-5"[..], b"bob-4", b"bob-3", b"bob-2", b"bob-1"]);
    Ok(())
}

#[tokio::test]
async fn a_second_call_writes_no_row() -> Result<()> {
    let server = Server::shared()?;
    let (_directory, operator) = published(&server, "akd_second_call").await?;
    assert_eq!(tombstone(&operator, "alice", 3).await?, 3);
    let tombstoned = rows(&operator, "alice").await?;

    assert_eq!(tombstone(&operator, "alice", 3).await?, 0);
    assert_eq!(tombstone(&operator, "alice", 0).await?, 0);
    assert_eq!(rows(&operator, "alice").await?, tombstoned);

    // A later bound takes only what is new, the latest version included.
    assert_eq!(tombstone(&operator, "alice", 100).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_user_may_be_named_by_bytes() -> Result<()> {
    let server = Server::shared()?;
    let (_directory, operator) = published(&server, "akd_bytes").await?;
    let call = "SELECT tombstone.tombstone_value_states($1::bytea, $2, 'value_state')";

    assert_eq!(value::<i64>(&operator, call, &[&&b"alice"[..], &2i64]).await?, 2);
    assert_eq!(tombstone(&operator, "alice", 2).await?, 0);
    Ok(())
}

#[tokio::test]
async fn an_unknown_user_is_no_error_and_a_negative_epoch_is() -> Result<()> {
    let server = Server::shared()?;
    let (_directory, operator) = published(&server, "akd_arguments").await?;
    let before = rows(&operator, "alice").await?;

    assert_eq!(tombstone(&operator, "nobody", 3).await?, 0);
    let refusal = refusal(tombstone(&operator, "alice", -1).await);
    assert_eq!(*refusal.code(), SqlState::INVALID_PARAMETER_VALUE);
    assert_eq!(rows(&operator, "alice").await?, before);
    Ok(())
}

#[tokio::test]
async fn the_directory_goes_on_and_stays_auditable() -> Result<()> {
    let server = Server::shared()?;
    let (directory, operator) = published(&server, "akd_goes_on").await?;
    let before = directory.get_epoch_hash().await?;
    tombstone(&operator, "alice", 3).await?;

    publish(&directory, EPOCHS + 1).await?;

    let results = history(&directory, "alice", ALLOW_TOMBSTONES).await?;
    assert_eq!(epochs(&results), [6, 5, 4, 3, 2, 1]);
    assert_eq!(values(&results)[..3], [&b"alice-6"[..], b"alice-5", b"alice-4"]);
    assert_eq!(values(&history(&directory, "bob", strict()).await?)[0], b"bob-6");
    audit(&directory, &before).await
}

/// Two users with a value in every epoch, and the operator's own connection. The directory has no cache: akd's would
/// go on serving the values it has seen.
async fn published(server: &Server, database: &str) -> Result<(KeyDirectory, Client)> {
    let client = server.database(database).await?;
    client.batch_execute(SCHEMA).await?;
    client.batch_execute(MANAGE).await?;
    let storage = StorageManager::new_no_cache(PostgresStorage::open(client).await?);
    let directory = Directory::new(storage, HardCodedAkdVRF {}, AzksParallelismConfig::default()).await?;
    for epoch in 1..=EPOCHS {
        publish(&directory, epoch).await?;
    }
    Ok((directory, server.connect(database).await?))
}

async fn publish(directory: &KeyDirectory, epoch: u64) -> Result<()> {
    let updates = ["alice", "bob"].map(|user| (AkdLabel::from(user), AkdValue::from(format!("{user}-{epoch}").as_str())));
    assert_eq!(directory.publish(updates.to_vec()).await?.epoch(), epoch);
    Ok(())
}

async fn tombstone(operator: &Client, user: &str, epoch: i64) -> Result<i64, tokio_postgres::Error> {
    let call = "SELECT tombstone.tombstone_value_states($1::text, $2, 'value_state')";
    value(operator, call, &[&user, &epoch]).await
}

/// What a client of the directory does: ask for the proof, and believe only the mathematics.
async fn history(
    directory: &KeyDirectory,
    user: &str,
    params: HistoryVerificationParams,
) -> Result<Vec<VerifyResult>, AkdError> {
    let user = AkdLabel::from(user);
    let (proof, root) = directory.key_history(&user, HistoryParams::Complete).await?;
    let key = directory.get_public_key().await?;
    Ok(akd::client::key_history_verify::<Tree>(key.as_bytes(), root.hash(), root.epoch(), user, proof, params)?)
}

/// What an auditor does: from the tree of `before` to the tree of now, nothing was changed or taken away.
async fn audit(directory: &KeyDirectory, before: &EpochHash) -> Result<()> {
    let now = directory.get_epoch_hash().await?;
    let proof = directory.audit(before.epoch(), now.epoch()).await?;
    Ok(akd::auditor::audit_verify::<Tree>(vec![before.hash(), now.hash()], proof).await?)
}

fn strict() -> HistoryVerificationParams {
    HistoryVerificationParams::default()
}

fn epochs(results: &[VerifyResult]) -> Vec<u64> {
    results.iter().map(|result| result.epoch).collect()
}

fn values(results: &[VerifyResult]) -> Vec<&[u8]> {
    results.iter().map(|result| result.value.0.as_slice()).collect()
}

/// Every column and `xmin`, which tells even a rewrite with equal values.
async fn rows(client: &Client, user: &str) -> Result<Vec<String>> {
    let rows = client
        .query("SELECT concat(xmin, ' ', v) FROM value_state v WHERE username = $1 ORDER BY epoch", &[&user.as_bytes()])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

//! The deletion lifecycle as an application sees it through its driver: prepared calls, an ORM's plain UPDATE,
//! transactions that end badly, rivals, and every refusal a service would have to turn into an HTTP status.

use anyhow::Result;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Error, GenericClient};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::{refusal, value};

const SOFT_DELETE: &str = "SELECT tombstone.soft_delete($1, 'note'::regclass)";

#[tokio::test]
async fn a_record_goes_and_comes_back() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "restore").await?;
    let soft_delete = client.prepare(SOFT_DELETE).await?;

    let first: i64 = client.query_one(&soft_delete, &[&"101"]).await?.try_get(0)?;
    let second: i64 = client.query_one(&soft_delete, &[&"102"]).await?.try_get(0)?;
    assert_ne!(first, second, "each transaction's deletes are a deletion of their own");
    assert_eq!(state(&client, "101").await?, "deleted");
    assert_eq!(state(&client, "103").await?, "live");
    assert_eq!(state(&client, "404").await?, "unknown");

    let restored: i64 = value(&client, "SELECT tombstone.restore($1, 'note'::regclass)", &[&"101"]).await?;
    assert_eq!(restored, 1);
    assert_eq!(state(&client, "101").await?, "live");
    assert_eq!(state(&client, "102").await?, "deleted");
    Ok(())
}

#[tokio::test]
async fn undo_brings_back_what_one_deletion_took() -> Result<()> {
    let server = Server::shared()?;
    let mut client = notes(&server, "undo").await?;
    soft_delete(&client, "101").await?;
    let deletion = soft_delete_in_one_transaction(&mut client, ["102", "103"]).await?;

    let undone = undo(&client, deletion).await?;

    let redacted = |id: &str| ["note", id, "restored_redacted"].map(String::from);
    assert_eq!(undone, [redacted("102"), redacted("103")]);
    assert_eq!(state(&client, "101").await?, "deleted", "another deletion took this one");
    assert_eq!(state(&client, "102").await?, "live");
    assert_eq!(state(&client, "103").await?, "live");
    Ok(())
}

#[tokio::test]
async fn an_orms_update_is_the_soft_delete() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "orm").await?;

    let updated = client.execute("UPDATE note SET deleted_at = now() WHERE id = $1", &[&101i64]).await?;

    assert_eq!(updated, 1);
    assert_eq!(state(&client, "101").await?, "deleted");
    assert_eq!(body(&client, 101).await?, "", "redacted as by the function");
    assert_eq!(deletions(&client).await?, 1);
    Ok(())
}

#[tokio::test]
async fn no_such_record_is_not_found() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "not_found").await?;
    soft_delete(&client, "101").await?;

    for id in ["404", "101"] {
        let refusal = refusal(soft_delete(&client, id).await);
        assert_explained(&refusal, SqlState::NO_DATA_FOUND, &["note", id]);
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_argument_is_a_bad_request() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "bad_argument").await?;

    let manage = "SELECT tombstone.manage('unmanaged', layout => 'sideways')";
    let refusal = refusal(client.execute(manage, &[]).await);

    assert_explained(&refusal, SqlState::INVALID_PARAMETER_VALUE, &["sideways"]);
    Ok(())
}

#[tokio::test]
async fn purge_is_for_those_it_was_granted_to() -> Result<()> {
    let server = Server::shared()?;
    let owner = notes(&server, "forbidden").await?;
    owner.batch_execute("CREATE ROLE clerk LOGIN; GRANT SELECT, UPDATE, DELETE ON note TO clerk").await?;
    let clerk = server.connect_as("clerk", "forbidden").await?;

    let refusal = refusal(clerk.query("SELECT tombstone.purge('101', 'note'::regclass)", &[]).await);

    // PostgreSQL's own words: the function is never entered.
    assert_eq!(*refusal.code(), SqlState::INSUFFICIENT_PRIVILEGE);
    assert!(refusal.message().contains("function purge"), "{}", refusal.message());
    assert_eq!(state(&owner, "101").await?, "live");
    Ok(())
}

#[tokio::test]
async fn soft_delete_needs_the_right_to_change_the_table() -> Result<()> {
    let server = Server::shared()?;
    let owner = notes(&server, "reader").await?;
    owner.batch_execute("CREATE ROLE reader LOGIN; GRANT SELECT ON note TO reader").await?;
    let reader = server.connect_as("reader", "reader").await?;

    let refusal = refusal(soft_delete(&reader, "101").await);

    assert_eq!(*refusal.code(), SqlState::INSUFFICIENT_PRIVILEGE);
    assert!(refusal.message().contains("note"), "{}", refusal.message());
    assert_eq!(state(&owner, "101").await?, "live");
    Ok(())
}

#[tokio::test]
async fn a_held_record_is_locked() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "held").await?;
    client.execute("SELECT tombstone.hold('101', 'note'::regclass, 'case 7')", &[]).await?;

    let refusal = refusal(soft_delete(&client, "101").await);
    assert_explained(&refusal, SqlState::OBJECT_IN_USE, &["note", "101"]);
    assert_eq!(state(&client, "101").await?, "live");

    client.execute("SELECT tombstone.release('101', 'note'::regclass)", &[]).await?;
    soft_delete(&client, "101").await?;
    Ok(())
}

#[tokio::test]
async fn an_unmanaged_table_is_undefined() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "unmanaged").await?;

    let call = "SELECT tombstone.soft_delete('101', 'unmanaged'::regclass)";
    let refusal = refusal(client.execute(call, &[]).await);

    assert_explained(&refusal, SqlState::UNDEFINED_OBJECT, &["unmanaged"]);
    Ok(())
}

#[tokio::test]
async fn a_live_child_is_a_conflict() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "children").await?;
    client
        .batch_execute(
            "CREATE TABLE comment (id bigint PRIMARY KEY, note bigint NOT NULL REFERENCES note ON DELETE RESTRICT,
                                   deleted_at timestamptz);
             INSERT INTO comment VALUES (7, 101);
             SELECT tombstone.manage('comment')",
        )
        .await?;

    let refusal = refusal(soft_delete(&client, "101").await);

    assert_explained(&refusal, SqlState::FOREIGN_KEY_VIOLATION, &["note", "comment"]);
    assert_eq!(state(&client, "101").await?, "live");
    Ok(())
}

#[tokio::test]
async fn a_place_taken_meanwhile_is_a_conflict() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "taken").await?;
    client.batch_execute("CREATE UNIQUE INDEX ON note (title) WHERE deleted_at IS NULL").await?;
    soft_delete(&client, "101").await?;
    client.batch_execute("INSERT INTO note VALUES (104, 'one', 'in its place')").await?;

    let restore = "SELECT tombstone.restore('101', 'note'::regclass)";
    let refusal = refusal(client.execute(restore, &[]).await);

    assert_eq!(*refusal.code(), SqlState::UNIQUE_VIOLATION);
    assert_eq!(state(&client, "101").await?, "deleted");
    Ok(())
}

#[tokio::test]
async fn the_second_of_two_rivals_finds_nothing() -> Result<()> {
    let server = Server::shared()?;
    let observer = notes(&server, "rivals").await?;
    let mut first = server.connect("rivals").await?;
    let transaction = first.transaction().await?;
    soft_delete(&transaction, "101").await?;

    let second = rival(server.connect("rivals").await?, &observer).await?;
    transaction.commit().await?;

    let refusal = refusal(second.await?);
    assert_explained(&refusal, SqlState::NO_DATA_FOUND, &["note", "101"]);
    assert_eq!(deletions(&observer).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_rival_wins_when_the_first_gives_up() -> Result<()> {
    let server = Server::shared()?;
    let observer = notes(&server, "giving_up").await?;
    let mut first = server.connect("giving_up").await?;
    let transaction = first.transaction().await?;
    soft_delete(&transaction, "101").await?;

    let second = rival(server.connect("giving_up").await?, &observer).await?;
    transaction.rollback().await?;

    second.await??;
    assert_eq!(state(&observer, "101").await?, "deleted");
    assert_eq!(deletions(&observer).await?, 1);
    Ok(())
}

#[tokio::test]
async fn of_many_rivals_one_wins() -> Result<()> {
    let server = Server::shared()?;
    let observer = notes(&server, "many_rivals").await?;
    let mut rivals = JoinSet::new();
    for _ in 0..8 {
        let client = server.connect("many_rivals").await?;
        rivals.spawn(async move { soft_delete(&client, "101").await });
    }

    let (won, lost): (Vec<_>, Vec<_>) = rivals.join_all().await.into_iter().partition(Result::is_ok);

    assert_eq!(won.len(), 1);
    for outcome in lost {
        assert_eq!(*refusal(outcome).code(), SqlState::NO_DATA_FOUND);
    }
    assert_eq!(deletions(&observer).await?, 1);
    Ok(())
}

/// One record, wanted live by some and deleted by others: who comes too late is told so, and nothing else.
#[tokio::test]
async fn rivals_who_take_turns_are_told_the_truth() -> Result<()> {
    let server = Server::shared()?;
    let _owner = notes(&server, "turns").await?;
    let mut rivals = JoinSet::new();
    for call in [SOFT_DELETE, "SELECT tombstone.restore($1, 'note'::regclass)"].repeat(4) {
        let client = server.connect("turns").await?;
        rivals.spawn(async move {
            let mut refusals = Vec::new();
            for _ in 0..250 {
                let outcome = value::<i64>(&client, call, &[&"101"]).await;
                if outcome.is_err() {
                    refusals.push(refusal(outcome));
                }
            }
            refusals
        });
    }
    for refusal in rivals.join_all().await.into_iter().flatten() {
        assert_explained(&refusal, SqlState::NO_DATA_FOUND, &["note", "101"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_transaction_rolled_back_leaves_no_trace() -> Result<()> {
    let server = Server::shared()?;
    let mut client = notes(&server, "rollback").await?;

    let transaction = client.transaction().await?;
    soft_delete(&transaction, "101").await?;
    assert_eq!(state(&transaction, "101").await?, "deleted");
    transaction.rollback().await?;

    assert_eq!(state(&client, "101").await?, "live");
    assert_eq!(body(&client, 101).await?, "first");
    assert_eq!(deletions(&client).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_savepoint_rolled_back_leaves_no_trace() -> Result<()> {
    let server = Server::shared()?;
    let mut client = notes(&server, "savepoint").await?;

    let mut transaction = client.transaction().await?;
    let savepoint = transaction.savepoint("change_of_mind").await?;
    soft_delete(&savepoint, "101").await?;
    savepoint.rollback().await?;
    transaction.commit().await?;

    assert_eq!(state(&client, "101").await?, "live");
    assert_eq!(body(&client, 101).await?, "first");
    assert_eq!(deletions(&client).await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_follows_a_rolled_back_savepoint_stands_alone() -> Result<()> {
    let server = Server::shared()?;
    let mut client = notes(&server, "after_savepoint").await?;

    let mut transaction = client.transaction().await?;
    let savepoint = transaction.savepoint("change_of_mind").await?;
    soft_delete(&savepoint, "101").await?;
    savepoint.rollback().await?;
    let deletion = soft_delete(&transaction, "102").await?;
    transaction.commit().await?;

    assert_eq!(state(&client, "101").await?, "live");
    let records = "SELECT records::bigint FROM tombstone.deletions WHERE deletion = $1";
    assert_eq!(value::<i64>(&client, records, &[&deletion]).await?, 1);
    assert_eq!(deletions(&client).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_soft_delete_survives_two_phase_commit() -> Result<()> {
    let server = Server::shared()?;
    let client = notes(&server, "two_phase").await?;

    prepare_soft_delete(&client, "101", "to_commit").await?;
    prepare_soft_delete(&client, "102", "to_roll_back").await?;
    assert_eq!(state(&client, "101").await?, "live");
    client.batch_execute("COMMIT PREPARED 'to_commit'").await?;
    client.batch_execute("ROLLBACK PREPARED 'to_roll_back'").await?;

    assert_eq!(state(&client, "101").await?, "deleted");
    assert_eq!(state(&client, "102").await?, "live");
    assert_eq!(deletions(&client).await?, 1);
    Ok(())
}

/// A database with a managed table of three notes, and a table that is not managed.
async fn notes(server: &Server, database: &str) -> Result<Client> {
    let client = server.database(database).await?;
    client
        .batch_execute(
            r#"CREATE TABLE note (id bigint PRIMARY KEY, title text NOT NULL, body text NOT NULL,
                                  deleted_at timestamptz);
               INSERT INTO note VALUES (101, 'one', 'first'), (102, 'two', 'second'), (103, 'three', 'third');
               SELECT tombstone.manage('note', redact => '{"body": ""}');
               CREATE TABLE unmanaged (id bigint PRIMARY KEY)"#,
        )
        .await?;
    Ok(client)
}

async fn soft_delete(client: &impl GenericClient, id: &str) -> Result<i64, Error> {
    value(client, SOFT_DELETE, &[&id]).await
}

async fn soft_delete_in_one_transaction(client: &mut Client, ids: [&str; 2]) -> Result<i64> {
    let transaction = client.transaction().await?;
    let first = soft_delete(&transaction, ids[0]).await?;
    let second = soft_delete(&transaction, ids[1]).await?;
    transaction.commit().await?;
    assert_eq!(first, second, "a deletion is one transaction's deletes");
    Ok(first)
}

async fn prepare_soft_delete(client: &Client, id: &str, transaction: &str) -> Result<()> {
    client.batch_execute("BEGIN").await?;
    soft_delete(client, id).await?;
    Ok(client.batch_execute(&format!("PREPARE TRANSACTION '{transaction}'")).await?)
}

async fn undo(client: &Client, deletion: i64) -> Result<Vec<[String; 3]>> {
    let undo = "SELECT relation::text, id, outcome::text FROM tombstone.undo($1) ORDER BY 1, 2";
    let rows = client.query(undo, &[&deletion]).await?;
    Ok(rows.iter().map(|row| [row.get(0), row.get(1), row.get(2)]).collect())
}

async fn state(client: &impl GenericClient, id: &str) -> Result<String, Error> {
    value(client, "SELECT tombstone.state($1, 'note'::regclass)::text", &[&id]).await
}

async fn body(client: &Client, id: i64) -> Result<String, Error> {
    value(client, "SELECT body FROM note WHERE id = $1", &[&id]).await
}

async fn deletions(client: &Client) -> Result<i64, Error> {
    value(client, "SELECT count(*) FROM tombstone.deletions", &[]).await
}

/// Another connection's soft delete of record 101, once it waits for a lock (or did not have to).
async fn rival(client: Client, observer: &Client) -> Result<JoinHandle<Result<i64, Error>>> {
    let pid: i32 = value(&client, "SELECT pg_backend_pid()", &[]).await?;
    let rival = tokio::spawn(async move { soft_delete(&client, "101").await });
    let blocked = "SELECT cardinality(pg_blocking_pids($1)) > 0";
    while !rival.is_finished() && !value::<bool>(observer, blocked, &[&pid]).await? {}
    Ok(rival)
}

/// Our own refusals say which table and which record, and what to do about it.
fn assert_explained(refusal: &DbError, code: SqlState, mentioned: &[&str]) {
    assert_eq!(*refusal.code(), code, "{refusal:?}");
    let detail = refusal.detail().unwrap_or_else(|| panic!("no DETAIL: {refusal:?}"));
    for word in mentioned {
        assert!(refusal.message().contains(word) || detail.contains(word), "no {word}: {refusal:?}");
    }
    assert!(refusal.hint().is_some(), "no HINT: {refusal:?}");
}

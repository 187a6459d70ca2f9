//! The server dies in the midst of a conversion, again and again. Until the end nothing has changed but copies; the next CALL goes on, and
//! when one comes to its end no tombstone is lost or doubled, none has changed its deletion, and what was deleted can be undone.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};
use tombstone_client_tests::server::Server;
use tombstone_client_tests::sql::value;

/// Two tied tables that have lived with deleted_at: some tombstones are older than the log, some it knows.
const TABLES: &str = "
    CREATE TABLE post (id int PRIMARY KEY, body text, deleted_at timestamptz);
    CREATE TABLE comment (id int PRIMARY KEY, post int REFERENCES post ON DELETE CASCADE, deleted_at timestamptz);
    INSERT INTO post SELECT i, 'post ' || i FROM generate_series(1, 20000) i;
    INSERT INTO comment SELECT i, (i + 1) / 2 FROM generate_series(1, 40000) i;
    UPDATE post SET deleted_at = timestamptz '2024-01-01' + id % 7 * interval '1 day' WHERE id <= 8000;
    UPDATE comment c SET deleted_at = p.deleted_at FROM post p WHERE p.id = c.post;
    SELECT tombstone.manage('post', retention => NULL, notify => 'none'), tombstone.manage('comment', retention => NULL, notify => 'none')";

/// Every row of both tables and when it was deleted, wherever it is.
const IN_PLACE: &str = "
    SELECT md5(string_agg(r, ',' ORDER BY r))
    FROM (SELECT concat_ws(' ', 'post', id, body, extract(epoch FROM deleted_at)) AS r FROM post
          UNION ALL SELECT concat_ws(' ', 'comment', id, post, extract(epoch FROM deleted_at)) FROM comment) AS rows";
const ARCHIVED: &str = "
    SELECT md5(string_agg(r, ',' ORDER BY r))
    FROM (SELECT concat_ws(' ', 'post', id, body, extract(epoch FROM deleted_at)) AS r FROM post
          UNION ALL SELECT concat_ws(' ', 'comment', id, post, extract(epoch FROM deleted_at)) FROM comment
          UNION ALL SELECT concat_ws(' ', 'post', id, body, extract(epoch FROM tombstone_deleted_at)) FROM post_tombstone
          UNION ALL SELECT concat_ws(' ', 'comment', id, post, extract(epoch FROM tombstone_deleted_at)) FROM comment_tombstone) AS rows";

#[tokio::test]
async fn a_conversion_survives_crashes() -> Result<()> {
    let server = Server::private("autovacuum = off")?;
    let mut client = server.database("convert").await?;
    client.batch_execute(TABLES).await?;
    for from in [8000, 10000, 12000] {
        client.execute("UPDATE post SET deleted_at = now() WHERE id > $1 AND id <= $1 + 2000", &[&from]).await?;
    }
    let before: String = value(&client, IN_PLACE, &[]).await?;
    let deletions: i64 = value(&client, "SELECT count(*) FROM tombstone.deletions", &[]).await?;
    assert_eq!(deletions, 3);

    // Somebody reads a table all the while: so no conversion comes to its end.
    for copies in [1, 20_000, 40_000, 42_000] {
        let reader = server.connect("convert").await?;
        reader.batch_execute("BEGIN; SELECT FROM post LIMIT 1").await?;
        let conversion = begin(&server).await?;
        while copied(&client).await? < copies {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill()?;
        let outcome = conversion.await?;
        assert!(outcome.is_err_and(|error| error.as_db_error().is_none()), "it ended before the server did");
        server.start()?;
        client = server.connect("convert").await?;
        assert_eq!(value::<String>(&client, IN_PLACE, &[]).await?, before, "killed after {copies} copies");
        let state: String = value(&client, "SELECT tombstone.state('1', 'post')", &[]).await?;
        assert_eq!(state, "deleted");
    }

    begin(&server).await?.await??;
    assert_eq!(value::<String>(&client, ARCHIVED, &[]).await?, before);
    let layouts: i64 =
        value(&client, "SELECT count(*) FROM tombstone.tables WHERE layout = 'archive' AND deleted_at IS NULL", &[]).await?;
    assert_eq!(layouts, 2);
    let deleted: i64 =
        value(&client, "SELECT count(deleted_at) + (SELECT count(deleted_at) FROM comment) FROM post", &[]).await?;
    assert_eq!(deleted, 0, "tombstones are left in the tables");
    // One deletion for each stamp that the log does not know, in both tables and whatever was broken off; the log's own besides.
    let one_each = "SELECT count(DISTINCT deletion) = 10 AND count(DISTINCT tombstone_deleted_at) = 10
                    FROM (SELECT deletion, tombstone_deleted_at FROM post_tombstone UNION SELECT deletion, tombstone_deleted_at FROM comment_tombstone) AS d";
    assert!(value::<bool>(&client, one_each, &[]).await?);
    let undone: i64 =
        value(&client, "SELECT count(*) FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions))", &[]).await?;
    assert_eq!(undone, 6000);
    let restored: i64 = value(&client, "SELECT tombstone.restore('7', 'post')", &[]).await?;
    assert_eq!(restored, 3);
    Ok(())
}

/// CALLs convert() in a session of its own, which waits for its tables for ever.
async fn begin(server: &Server) -> Result<JoinHandle<Result<(), Error>>> {
    let client = server.connect("convert").await?;
    client.batch_execute("SET tombstone.lock_timeout = 0; SET client_min_messages = warning").await?;
    Ok(tokio::spawn(async move { client.batch_execute("CALL tombstone.convert('post', 'archive')").await }))
}

/// How many copies there are by now.
async fn copied(client: &Client) -> Result<i64> {
    let exists: bool = value(client, "SELECT to_regclass('comment_tombstone') IS NOT NULL", &[]).await?;
    if !exists {
        return Ok(0);
    }
    Ok(value(client, "SELECT count(*) + (SELECT count(*) FROM comment_tombstone) FROM post_tombstone", &[]).await?)
}

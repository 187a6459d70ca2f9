//! The processes come and go as the cases in src/worker/README.md say, and whoever wants a database to itself gets it.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tombstone_client_tests::server::{Server, cpu_time};
use tombstone_client_tests::sql::{refusal, value};
use tombstone_client_tests::states::{until, until_so};
use tombstone_client_tests::workers::{
    SLOW, logged, processes, until_asleep, until_at_rest, until_gone, until_logged, until_without, workers,
};

/// Workers look every second, not every minute.
const EAGER: &str = "tombstone.naptime = 1s";
/// The postmaster, too, logs each process that it starts.
const TELLING: &str = "log_min_messages = debug1\ntombstone.naptime = 1s";

/// A server with a database `shop` that has the extension, and two connections: to that database, and to another one.
struct Shop {
    shop: Client,
    outside: Client,
    server: Server,
}

impl Shop {
    async fn open(settings: &str) -> Result<Self> {
        let server = Server::private(settings)?;
        let outside = server.connect("postgres").await?;
        let shop = server.database("shop").await?;
        Ok(Self { shop, outside, server })
    }

    /// One whose worker is in the midst of a long statement.
    async fn busy(settings: &str) -> Result<(Self, i32)> {
        let shop = Self::open(settings).await?;
        shop.shop.batch_execute(SLOW).await?;
        let worker = until_asleep(&shop.outside, "shop").await?;
        Ok((shop, worker))
    }

    /// With nobody connected to it any more.
    async fn left(self) -> Result<(Client, Server)> {
        let Self { shop, outside, server } = self;
        drop(shop);
        until(
            &outside,
            "(SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'shop' AND backend_type = 'client backend')",
        )
        .await?;
        Ok((outside, server))
    }
}

/// How many workers were ever started for that database, on a server that is `TELLING`.
async fn started(server: &Server, outside: &Client, database: &str) -> Result<usize> {
    let oid: u32 = value(outside, "SELECT oid FROM pg_database WHERE datname = $1", &[&database]).await?;
    Ok(logged(server, &format!("starting background worker process \"pg_tombstone worker of database {oid}\"")))
}

/// Waits until the launcher has done all that it had to do before now: another database gets its worker.
async fn until_launcher_is_through(server: &Server, outside: &Client, another: &str) -> Result<()> {
    drop(server.database(another).await?);
    until_at_rest(outside, another).await.map(drop)
}

#[tokio::test]
async fn create_aborted() -> Result<()> {
    let server = Server::private(TELLING)?;
    let outside = server.connect("postgres").await?;
    let empty = server.empty_database("empty").await?;
    until_so("a worker looks", async || Ok(started(&server, &outside, "empty").await? == 1)).await?;
    until_without(&outside, "empty").await?;

    empty.batch_execute("BEGIN; CREATE EXTENSION pg_tombstone; ROLLBACK").await?;
    empty.batch_execute("BEGIN; SAVEPOINT s; CREATE EXTENSION pg_tombstone; ROLLBACK TO s; COMMIT").await?;
    until_launcher_is_through(&server, &outside, "other").await?;
    until_without(&outside, "empty").await?;
    let looks = started(&server, &outside, "empty").await?;
    assert!(looks <= 2, "at most one more look, for the transaction that committed, not {looks}");
    Ok(())
}

#[tokio::test]
async fn create_prepared() -> Result<()> {
    let server = Server::private("")?;
    let outside = server.connect("postgres").await?;
    let shop = server.empty_database("shop").await?;
    shop.batch_execute("BEGIN; CREATE EXTENSION pg_tombstone; PREPARE TRANSACTION 'create'").await?;
    until_launcher_is_through(&server, &outside, "other").await?;
    until_without(&outside, "shop").await?;

    shop.batch_execute("COMMIT PREPARED 'create'").await?;
    until_at_rest(&outside, "shop").await?;
    Ok(())
}

#[tokio::test]
async fn drop_and_create() -> Result<()> {
    let (shop, first) = Shop::busy(EAGER).await?;
    shop.shop.batch_execute("BEGIN; DROP EXTENSION pg_tombstone CASCADE; CREATE EXTENSION pg_tombstone").await?;
    assert!(workers(&shop.outside, "shop").await?.is_empty(), "while the transaction is open");

    shop.shop.batch_execute("COMMIT").await?;
    let second = until_at_rest(&shop.outside, "shop").await?;
    assert_ne!(first, second);
    assert_eq!(workers(&shop.outside, "shop").await?, [second]);
    Ok(())
}

#[tokio::test]
async fn drop_extension() -> Result<()> {
    let (shop, worker) = Shop::busy(TELLING).await?;
    let looks = started(&shop.server, &shop.outside, "shop").await?;
    shop.shop.batch_execute("DROP EXTENSION pg_tombstone CASCADE").await?;
    until_gone(&shop.outside, worker).await?;
    until_so("another worker looks", async || Ok(started(&shop.server, &shop.outside, "shop").await? > looks)).await?;
    until_launcher_is_through(&shop.server, &shop.outside, "other").await?;
    until_without(&shop.outside, "shop").await?;
    assert_eq!(started(&shop.server, &shop.outside, "shop").await?, looks + 1);
    Ok(())
}

#[tokio::test]
async fn drop_rolled_back() -> Result<()> {
    let (shop, first) = Shop::busy(EAGER).await?;
    shop.shop.batch_execute("BEGIN; DROP EXTENSION pg_tombstone CASCADE").await?;
    assert!(workers(&shop.outside, "shop").await?.is_empty());

    shop.shop.batch_execute("ROLLBACK").await?;
    let second = until_asleep(&shop.outside, "shop").await?;
    assert_ne!(first, second, "back at work");

    shop.shop.batch_execute("BEGIN; DROP EXTENSION pg_tombstone CASCADE").await?;
    drop(shop.shop);
    let third = until_asleep(&shop.outside, "shop").await?;
    assert_ne!(second, third, "also where the session ended before its transaction");
    Ok(())
}

#[tokio::test]
async fn drop_database() -> Result<()> {
    let (shop, worker) = Shop::busy(TELLING).await?;
    let (outside, server) = shop.left().await?;
    outside.batch_execute("DROP DATABASE shop").await?;
    until_gone(&outside, worker).await?;
    until_launcher_is_through(&server, &outside, "other").await?;
    assert_eq!(logged(&server, "FATAL:  database"), 0, "nobody tried to connect to it:\n{}", server.log());
    Ok(())
}

#[tokio::test]
async fn drop_database_failed() -> Result<()> {
    let (shop, first) = Shop::busy(EAGER).await?;
    let (outside, _server) = shop.left().await?;
    outside.batch_execute("ALTER DATABASE shop IS_TEMPLATE true").await?;
    refusal(outside.batch_execute("DROP DATABASE shop").await);
    until_gone(&outside, first).await?;
    let second = until_asleep(&outside, "shop").await?;
    assert_ne!(first, second, "back at work");
    Ok(())
}

#[tokio::test]
async fn rename_database() -> Result<()> {
    let (shop, _) = Shop::busy(EAGER).await?;
    let (outside, _server) = shop.left().await?;
    outside.batch_execute("ALTER DATABASE shop RENAME TO store").await?;
    until_asleep(&outside, "store").await?;
    Ok(())
}

#[tokio::test]
async fn database_from_template() -> Result<()> {
    let (shop, _) = Shop::busy(EAGER).await?;
    let (outside, _server) = shop.left().await?;
    outside.batch_execute("CREATE DATABASE copy TEMPLATE shop").await?;
    until_asleep(&outside, "shop").await?;
    until_asleep(&outside, "copy").await?;
    Ok(())
}

/// Who drops a database waits for all processes of the server to let go of its files.
#[tokio::test]
async fn drop_another_database() -> Result<()> {
    let (shop, worker) = Shop::busy(EAGER).await?;
    drop(shop.server.database("other").await?);
    until_at_rest(&shop.outside, "other").await?;
    shop.outside.batch_execute("CREATE DATABASE third").await?;
    shop.outside.batch_execute("DROP DATABASE third").await?;
    assert_eq!(workers(&shop.outside, "shop").await?, [worker]);
    Ok(())
}

#[tokio::test]
async fn database_closed_and_opened() -> Result<()> {
    let (shop, worker) = Shop::busy(EAGER).await?;
    shop.outside.batch_execute("ALTER DATABASE shop ALLOW_CONNECTIONS false").await?;
    until_gone(&shop.outside, worker).await?;
    shop.outside.batch_execute("ALTER DATABASE shop ALLOW_CONNECTIONS true").await?;
    until_asleep(&shop.outside, "shop").await?;
    Ok(())
}

/// Whoever may not drop, copy or rename a database, or drop the extension, does not keep its worker from its work by trying.
#[tokio::test]
async fn a_stranger_bars_nothing() -> Result<()> {
    let (shop, worker) = Shop::busy(EAGER).await?;
    shop.shop.batch_execute("CREATE ROLE stranger LOGIN CREATEDB").await?;
    let stranger = shop.server.connect_as("stranger", "shop").await?;
    let elsewhere = shop.server.connect_as("stranger", "postgres").await?;
    for (client, command) in [
        (&elsewhere, "DROP DATABASE shop"),
        (&elsewhere, "ALTER DATABASE shop RENAME TO mine"),
        (&elsewhere, "ALTER DATABASE shop SET TABLESPACE pg_global"),
        (&elsewhere, "CREATE DATABASE mine TEMPLATE shop"),
        (&stranger, "DROP EXTENSION pg_tombstone"),
    ] {
        let refusal = refusal(client.batch_execute(command).await);
        assert_eq!(*refusal.code(), SqlState::INSUFFICIENT_PRIVILEGE, "{command}: {refusal:?}");
    }
    assert_eq!(workers(&shop.outside, "shop").await?, [worker]);
    Ok(())
}

#[tokio::test]
async fn no_slot() -> Result<()> {
    // One for Postgres' own launcher, one for ours, one for a worker.
    let shop = Shop::open("max_worker_processes = 3").await?;
    until_at_rest(&shop.outside, "shop").await?;
    drop(shop.server.database("second").await?);
    let line = "no slot is free for the pg_tombstone worker of database";
    until_logged(&shop.server, line, 1).await?;
    assert!(shop.server.log().contains("max_worker_processes is 3"), "{}", shop.server.log());
    assert!(workers(&shop.outside, "second").await?.is_empty());

    let (outside, server) = shop.left().await?;
    outside.batch_execute("DROP DATABASE shop").await?;
    until_at_rest(&outside, "second").await?;
    assert_eq!(logged(&server, line), 1, "said once:\n{}", server.log());
    Ok(())
}

#[tokio::test]
async fn backoff_grows_and_resets() -> Result<()> {
    let shop = Shop::open("").await?;
    until_at_rest(&shop.outside, "shop").await?;
    shop.shop.batch_execute("ALTER TABLE tombstone.managed RENAME TO mislaid").await?;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_tombstone worker'";
    shop.outside.batch_execute(terminate).await?;
    let line = |seconds: u32| format!("the pg_tombstone worker of database \"shop\" is gone, another one comes in {seconds} s");
    until_logged(&shop.server, &line(4), 1).await?;
    assert_eq!([1, 2].map(|seconds| logged(&shop.server, &line(seconds))), [1, 1], "{}", shop.server.log());

    shop.shop.batch_execute("ALTER TABLE tombstone.mislaid RENAME TO managed").await?;
    until_at_rest(&shop.outside, "shop").await?;
    shop.outside.batch_execute(terminate).await?;
    until_logged(&shop.server, &line(1), 2).await?;
    until_at_rest(&shop.outside, "shop").await?;
    Ok(())
}

#[tokio::test]
async fn worker_terminated() -> Result<()> {
    let (shop, first) = Shop::busy(EAGER).await?;
    let asked = Instant::now();
    shop.outside.execute("SELECT pg_terminate_backend($1)", &[&first]).await?;
    until_gone(&shop.outside, first).await?;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let second = until_asleep(&shop.outside, "shop").await?;
    assert_ne!(first, second);
    Ok(())
}

#[tokio::test]
async fn launcher_terminated() -> Result<()> {
    let shop = Shop::open("").await?;
    let worker = until_at_rest(&shop.outside, "shop").await?;
    let launcher = processes(&shop.outside, "pg_tombstone launcher", None).await?;
    shop.outside.execute("SELECT pg_terminate_backend($1)", &[&launcher[0]]).await?;
    until_gone(&shop.outside, launcher[0]).await?;
    until_launcher_is_through(&shop.server, &shop.outside, "other").await?;
    assert_eq!(workers(&shop.outside, "shop").await?, [worker], "the next launcher finds it at its place");

    shop.outside.execute("SELECT pg_terminate_backend($1)", &[&worker]).await?;
    until_gone(&shop.outside, worker).await?;
    until_at_rest(&shop.outside, "shop").await?;
    Ok(())
}

/// A cancellation ends what a worker is doing, not the worker.
#[tokio::test]
async fn worker_cancelled() -> Result<()> {
    let shop = Shop::open(EAGER).await?;
    let worker = until_at_rest(&shop.outside, "shop").await?;
    shop.outside.execute("SELECT pg_cancel_backend($1)", &[&worker]).await?;
    shop.shop.batch_execute(SLOW).await?;
    assert_eq!(until_asleep(&shop.outside, "shop").await?, worker, "at rest it means nothing");
    shop.outside.execute("SELECT pg_cancel_backend($1)", &[&worker]).await?;
    assert_eq!(until_at_rest(&shop.outside, "shop").await?, worker);
    Ok(())
}

#[tokio::test]
async fn shutdown() -> Result<()> {
    for mode in ["smart", "fast"] {
        let (shop, _) = Shop::busy(EAGER).await?;
        let Shop { shop, outside, server } = shop;
        drop((shop, outside));
        // Connections end while it waits.
        tokio::task::spawn_blocking(move || server.stop(mode)).await??;
    }
    Ok(())
}

#[tokio::test]
async fn promote() -> Result<()> {
    let (shop, _) = Shop::busy(EAGER).await?;
    let standby = shop.server.standby()?;
    let client = standby.connect("shop").await?;
    until(&client, "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'walreceiver')").await?;
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_tombstone%'";
    assert_eq!(value::<i64>(&client, ours, &[]).await?, 0);

    assert!(value::<bool>(&client, "SELECT pg_promote()", &[]).await?);
    until_asleep(&client, "shop").await?;
    Ok(())
}

#[tokio::test]
async fn sighup() -> Result<()> {
    let shop = Shop::open("tombstone.enabled = off").await?;
    shop.shop
        .batch_execute(
            "CREATE TABLE note (id int PRIMARY KEY, deleted_at timestamptz);
             INSERT INTO note VALUES (1, '2000-01-01');
             SELECT tombstone.manage('note', retention => '1 day')",
        )
        .await?;
    let worker = until_at_rest(&shop.outside, "shop").await?;
    shop.outside.batch_execute("ALTER SYSTEM SET tombstone.enabled = on").await?;
    shop.outside.batch_execute("SELECT pg_reload_conf()").await?;
    until(&shop.shop, "(SELECT count(*) = 0 FROM note)").await?;
    assert_eq!(workers(&shop.outside, "shop").await?, [worker]);
    Ok(())
}

/// What a database's owner sets for its sessions does not reach the processes.
#[tokio::test]
async fn settings_of_a_database() -> Result<()> {
    let server = Server::private(EAGER)?;
    let outside = server.connect("postgres").await?;
    outside.batch_execute("CREATE ROLE owner").await?;
    outside.batch_execute("CREATE DATABASE shop OWNER owner").await?;
    outside.batch_execute("SET ROLE owner").await?;
    for setting in [
        "role = owner",
        "session_authorization = owner",
        "search_path = nowhere",
        "row_security = off",
        "default_transaction_read_only = on",
        "default_transaction_isolation = serializable",
        "default_transaction_deferrable = on",
        "statement_timeout = 1",
        "lock_timeout = 1",
        "exit_on_error = on",
    ] {
        outside.batch_execute(&format!("ALTER DATABASE shop SET {setting}")).await?;
    }
    outside.batch_execute("RESET ROLE; ALTER DATABASE shop SET session_replication_role = replica").await?;

    let shop = server.connect("shop").await?;
    shop.batch_execute(
        "SET SESSION AUTHORIZATION postgres; SET ROLE none; SET search_path = public; SET row_security = on;
         SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed';
         SET default_transaction_deferrable = off; SET statement_timeout = 0; SET lock_timeout = 0;
         SET exit_on_error = off; SET session_replication_role = origin",
    )
    .await?;
    shop.batch_execute(
        "CREATE EXTENSION pg_tombstone;
         CREATE TABLE note (id int PRIMARY KEY, deleted_at timestamptz);
         INSERT INTO note VALUES (1, '2000-01-01');
         CREATE TABLE witness (who text, isolation text, read_only text);
         CREATE FUNCTION testify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.witness VALUES
                 (session_user, current_setting('transaction_isolation'), current_setting('transaction_read_only'));
             RETURN NULL;
         END $$;
         CREATE TRIGGER testify AFTER DELETE ON note FOR EACH ROW EXECUTE FUNCTION testify();
         SELECT tombstone.manage('note', retention => '1 day')",
    )
    .await?;
    until(&shop, "(SELECT count(*) = 0 FROM note)").await?;
    let testimony: String = value(&shop, "SELECT string_agg(witness::text, ' ') FROM witness", &[]).await?;
    assert_eq!(testimony, "(postgres,\"read committed\",off)");
    Ok(())
}

const DATABASES: usize = 50;
const LOOKS: u32 = 3;
/// What one look may take of a processor, in a build for debugging: once a minute in 50 databases, that is a hundredth of one.
const MOST_PER_LOOK: Duration = Duration::from_millis(10);

/// With nothing to do, nothing is written, and next to no processor time is taken: here each worker looks once a second.
#[tokio::test]
async fn idle_with_50_databases() -> Result<()> {
    let shop = Shop::open("tombstone.naptime = 1s\nautovacuum = off\nmax_connections = 20").await?;
    shop.shop
        .batch_execute(
            "CREATE TABLE note (id int PRIMARY KEY, deleted_at timestamptz);
             SELECT tombstone.manage('note', expire_after => '1 day', expire_from => 'now()')",
        )
        .await?;
    let (outside, _server) = shop.left().await?;
    for number in 1..DATABASES {
        outside.batch_execute(&format!("CREATE DATABASE shop{number} TEMPLATE shop")).await?;
    }
    until_so("all are staffed", async || Ok(processes(&outside, "pg_tombstone worker", None).await?.len() == DATABASES))
        .await?;

    // The server itself writes on after the last change, for a while.
    until_so("nothing is written", async || {
        let before = position(&outside).await?;
        until_each_has_looked(&outside).await?;
        Ok(before == position(&outside).await?)
    })
    .await?;
    let (before, ticks) = (position(&outside).await?, busy(&outside).await?);
    for _ in 0..LOOKS {
        until_each_has_looked(&outside).await?;
    }
    assert_eq!(before, position(&outside).await?, "written by nobody");
    let per_look = Duration::from_millis(10 * (busy(&outside).await? - ticks)) / (LOOKS * DATABASES as u32);
    println!("a look takes {per_look:?}");
    assert!(per_look < MOST_PER_LOOK, "{per_look:?}");
    Ok(())
}

async fn position(client: &Client) -> Result<String> {
    Ok(value(client, "SELECT pg_current_wal_insert_lsn()::text", &[]).await?)
}

/// Waits until each worker has begun something since, and rests again.
async fn until_each_has_looked(client: &Client) -> Result<()> {
    let now: String = value(client, "SELECT clock_timestamp()::text", &[]).await?;
    until(
        client,
        &format!(
            "(SELECT bool_and(state = 'idle' AND query_start > '{now}') FROM pg_stat_activity
             WHERE backend_type = 'pg_tombstone worker')"
        ),
    )
    .await
}

/// Processor time of all our processes, in hundredths of a second.
async fn busy(client: &Client) -> Result<u64> {
    let mut all = processes(client, "pg_tombstone launcher", None).await?;
    all.extend(processes(client, "pg_tombstone worker", None).await?);
    Ok(all.into_iter().filter_map(cpu_time).sum())
}

//! Measures the ways to tombstone a user's value states: tombstone_value_states, the bare UPDATE an expert would write, and
//! akd's own road (read the states, pick, write them back). Each has a connection and a table of its own, all on the server
//! that the libpq environment names; the three take turns, each on users nobody has touched yet. Called by benches/value_states.

use std::env;
use std::time::Instant;

use akd::AkdLabel;
use akd::storage::StorageManager;
use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, Config, NoTls, Statement};
use tombstone_client_tests::akd_storage::{MANAGE, PostgresStorage, SCHEMA};
use tombstone_client_tests::sql::value;

/// How many states a user has, and how many users make one sample.
const CASES: [(i64, usize); 4] = [(1, 200), (100, 20), (1_000, 4), (10_000, 1)];

/// The same states in each schema, user after user.
const LOAD: &str = "
    INSERT INTO value_state (username, epoch, version, node_label_val, node_label_len, data)
    SELECT convert_to(format('user %s', u), 'UTF8'), e, e, sha256(format('%s %s', u, e)::bytea), 256, sha512(format('%s %s', u, e)::bytea)
      FROM generate_series(1, $1::bigint) u, generate_series(1, $2::bigint) e";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let rounds: usize = env::var("BENCH_ROUNDS").ok().map_or(Ok(9), |rounds| rounds.parse())?;
    println!("\ntombstone_value_states, of a user with this many states, all up to the bound: median of {rounds} rounds");
    println!(
        "{:>7} {:>11} {:>11} {:>11}   {:<22} {:<22} {:<20} second call: rows, WAL bytes",
        "states", "ours", "UPDATE", "akd", "ours / UPDATE", "ours / akd", "WAL bytes a state"
    );
    for (states, users) in CASES {
        let mut roads = Roads::open(states, users * (rounds + 1)).await?;
        let mut samples = Vec::new();
        for round in 0..=rounds {
            let sample = roads.round(round, users).await?;
            if round > 0 {
                samples.push(sample); // the first warms up
            }
        }
        let (rows, wal) = roads.second_call().await?;
        print(states, &samples, rows, &wal);
    }
    Ok(())
}

/// Of one round and one road: milliseconds a call, bytes of WAL a call.
#[derive(Clone, Copy, Default)]
struct Cost {
    time: f64,
    wal: f64,
}

struct Roads {
    states: i64,
    watcher: Client,
    ours: (Client, Statement),
    update: (Client, Statement),
    akd: StorageManager<PostgresStorage>,
}

impl Roads {
    async fn open(states: i64, users: usize) -> Result<Self> {
        let watcher = connect("public").await?;
        watcher.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_tombstone; CHECKPOINT").await?;
        let ours = table("bench_ours", states, users, MANAGE).await?;
        let update = table("bench_update", states, users, "ALTER TABLE value_state ADD deleted_at timestamptz").await?;
        let akd = table("bench_akd", states, users, "").await?;
        watcher.batch_execute("VACUUM (ANALYZE)").await?;

        let call = "SELECT tombstone.tombstone_value_states($1::bytea, $2, 'value_state')";
        let call = ours.prepare(call).await?;
        let expert = "UPDATE value_state SET data = ''::bytea, deleted_at = now()
                       WHERE username = $1 AND epoch <= $2 AND deleted_at IS NULL";
        let expert = update.prepare(expert).await?;
        let akd = StorageManager::new_no_cache(PostgresStorage::open(akd).await?);
        Ok(Self { states, watcher, ours: (ours, call), update: (update, expert), akd })
    }

    /// One sample of each road, whose turn comes earlier or later from round to round.
    async fn round(&mut self, round: usize, users: usize) -> Result<[Cost; 3]> {
        let mut costs = [Cost::default(); 3];
        for turn in 0..3 {
            let road = (round + turn) % 3;
            let before = self.wal().await?;
            let start = Instant::now();
            for user in round * users..(round + 1) * users {
                self.tombstone(road, user + 1).await?;
            }
            let time = start.elapsed().as_secs_f64() * 1000.0 / users as f64;
            costs[road] = Cost { time, wal: (self.wal().await? - before) / users as f64 };
        }
        Ok(costs)
    }

    async fn tombstone(&self, road: usize, user: usize) -> Result<()> {
        let user = format!("user {user}").into_bytes();
        match road {
            0 => {
                let (client, call) = &self.ours;
                let rows: i64 = client.query_one(call, &[&user, &self.states]).await?.try_get(0)?;
                ensure!(rows == self.states, "tombstoned {rows} of {} states", self.states);
            }
            1 => {
                let (client, update) = &self.update;
                let rows = client.execute(update, &[&user, &self.states]).await?;
                ensure!(rows == self.states as u64, "updated {rows} of {} states", self.states);
            }
            _ => self.akd.tombstone_value_states(&AkdLabel(user), self.states as u64).await?,
        }
        Ok(())
    }

    /// Rows and WAL bytes of a second call, several times over: the rows as the call and as the table's statistics have them.
    async fn second_call(&self) -> Result<(i64, Vec<f64>)> {
        self.watcher.batch_execute("VACUUM").await?;
        let (client, call) = &self.ours;
        let user = &&b"user 1"[..];
        let (mut rows, mut wal) = (0, Vec::new());
        for _ in 0..5 {
            let before = self.wal().await?;
            rows += client.query_one(call, &[user, &self.states]).await?.try_get::<_, i64>(0)?;
            wal.push(self.wal().await? - before);
        }
        // As the table statistics have it, too; they may still count earlier transactions.
        client.batch_execute("BEGIN").await?;
        let written = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_xact_user_tables";
        let before: i64 = value(client, written, &[]).await?;
        client.query_one(call, &[user, &self.states]).await?;
        rows += value::<i64>(client, written, &[]).await? - before;
        client.batch_execute("COMMIT").await?;
        Ok((rows, wal))
    }

    async fn wal(&self) -> Result<f64> {
        Ok(value(&self.watcher, "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8", &[]).await?)
    }
}

/// A new schema with a loaded table of value states, and a connection whose search_path it is.
async fn table(schema: &str, states: i64, users: usize, then: &str) -> Result<Client> {
    let client = connect(schema).await?;
    let fresh = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema};");
    client.batch_execute(&[&fresh, SCHEMA, "ALTER TABLE value_state SET (autovacuum_enabled = off);", then].concat()).await?;
    client.execute(LOAD, &[&(users as i64), &states]).await?;
    Ok(client)
}

async fn connect(schema: &str) -> Result<Client> {
    let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));
    let mut config = Config::new();
    config.host_path(variable("PGHOST")?).user(variable("PGUSER")?).dbname(variable("PGDATABASE")?);
    config.port(env::var("PGPORT").ok().map_or(Ok(5432), |port| port.parse())?);
    config.options(format!("-c search_path={schema} -c synchronous_commit=off -c client_min_messages=warning"));
    let (client, connection) = config.connect(NoTls).await?;
    // When the connection breaks, the client's next call says so.
    tokio::spawn(connection);
    Ok(client)
}

fn print(states: i64, samples: &[[Cost; 3]], rows: i64, wal: &[f64]) {
    let time = |road: usize| median(samples.iter().map(|sample| sample[road].time)).0;
    let bytes = |road: usize| median(samples.iter().map(|sample| sample[road].wal)).0 / states as f64;
    let against = |road: usize| {
        let (middle, least, most) = median(samples.iter().map(|sample| sample[0].time / sample[road].time));
        format!("{middle:.2}x ({least:.2}-{most:.2})")
    };
    println!(
        "{states:>7} {:>8.3} ms {:>8.3} ms {:>8.3} ms   {:<22} {:<22} {:<20} {rows}, {}",
        time(0),
        time(1),
        time(2),
        against(1),
        against(2),
        format!("{:.0}, {:.0}, {:.0}", bytes(0), bytes(1), bytes(2)),
        median(wal.iter().copied()).0,
    );
}

/// The median, the least and the greatest.
fn median(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let middle = if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
    (middle, values[0], values[values.len() - 1])
}

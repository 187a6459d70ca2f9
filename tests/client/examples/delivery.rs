//! Measures how long an event takes from its commit to a listener, while others do as they please: soft-deletes probes of the
//! table `bench.probe`, a fixed number a second, and LISTENs. Ends when its standard input does, and prints, in milliseconds, the
//! median, the 99th percentile and the greatest delay, then how many probes were heard and all that was. Called by benches/relay.

use std::collections::HashMap;
use std::io::{Read, stdin};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::{Client, Config, NoTls};
use tombstone_client_tests::listener::Listener;

const EVERY: Duration = Duration::from_millis(10);

/// What is not heard by then never will be: NOTIFY is off.
const PATIENCE: Duration = Duration::from_millis(500);

/// Both as one process's clock has it.
#[derive(Default)]
struct Times {
    committed: HashMap<String, Instant>,
    heard: HashMap<String, Instant>,
    all: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let config = config()?;
    let times = Arc::new(Mutex::new(Times::default()));
    let mut listener = Listener::connect(&config, "tombstone").await?;
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    let committed = tokio::spawn(delete(client, Arc::clone(&times), end_of_input()));
    let listening = async {
        loop {
            let payload = listener.next().await?.payload().to_string();
            note(&times, &payload);
        }
    };
    let result: Result<()> = tokio::select! {
        ended = committed => ended?,
        lost = listening => lost,
    };
    result?;
    while let Ok(word) = timeout(PATIENCE, listener.next()).await {
        note(&times, word?.payload());
    }
    print(&times.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

fn config() -> Result<Config> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let mut config = Config::new();
    config.host_path(variable("PGHOST")?).user(variable("PGUSER")?).dbname(variable("PGDATABASE")?);
    Ok(config)
}

fn end_of_input() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let _ = stdin().read_to_end(&mut Vec::new());
        let _ = sender.send(());
    });
    receiver
}

async fn delete(client: Client, times: Arc<Mutex<Times>>, mut end: oneshot::Receiver<()>) -> Result<()> {
    client.batch_execute("SET synchronous_commit = off").await?;
    let probe = client.prepare("UPDATE bench.probe SET deleted_at = now() WHERE id = $1").await?;
    let first: i64 = client.query_one("SELECT min(id) FROM bench.probe WHERE deleted_at IS NULL", &[]).await?.try_get(0)?;
    let mut clock = interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for id in first.. {
        if end.try_recv() != Err(TryRecvError::Empty) {
            break;
        }
        clock.tick().await;
        client.execute(&probe, &[&id]).await?;
        let now = Instant::now();
        times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .committed
            .insert(format!("{{\"id\":\"{id}\",\"kind\":\"probe\""), now);
    }
    Ok(())
}

fn note(times: &Mutex<Times>, payload: &str) {
    let now = Instant::now();
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    times.all += 1;
    if let Some((head, _)) = payload.split_once(",\"op\"").filter(|(head, _)| head.ends_with("\"probe\"")) {
        times.heard.insert(head.to_string(), now);
    }
}

fn print(times: &Times) {
    let mut delays: Vec<f64> = times
        .heard
        .iter()
        .filter_map(|(probe, heard)| Some(heard.saturating_duration_since(*times.committed.get(probe)?).as_secs_f64() * 1000.0))
        .collect();
    delays.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| delays.get(((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1))).copied();
    let [median, most, last] = [0.5, 0.99, 1.0].map(|share| at(share).unwrap_or(f64::NAN));
    println!("{median:.2} {most:.2} {last:.2} {} {}", delays.len(), times.all);
}

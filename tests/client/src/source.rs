//! An outside source over HTTP, on loopback: a catalogue that can say how many of some ids it has, or which, and never what it has
//! deleted. Like real ones it is down at times, fails, keeps people waiting and has limits: when a test says so.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub struct Source {
    address: SocketAddr,
    catalogue: Arc<Catalogue>,
    server: JoinHandle<()>,
}

struct Catalogue {
    inside: Mutex<Inside>,
    /// So many requests may be answered in all; those that came later wait.
    allowed: watch::Sender<usize>,
}

#[derive(Default)]
struct Inside {
    ids: BTreeSet<String>,
    mood: Mood,
    failures_left: usize,
    fails_about: Option<String>,
    most_ids: Option<usize>,
    in_flight: usize,
    most_in_flight: usize,
    /// What it was asked, in the order of asking.
    asked: Vec<Vec<String>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mood {
    #[default]
    Well,
    Down,
    Empty,
}

impl Source {
    /// One that has these.
    pub async fn start(ids: impl IntoIterator<Item = String>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let inside = Mutex::new(Inside { ids: ids.into_iter().collect(), ..Inside::default() });
        let catalogue = Arc::new(Catalogue { inside, allowed: watch::Sender::new(usize::MAX) });
        let router =
            Router::new().route("/count", post(count)).route("/present", post(present)).with_state(Arc::clone(&catalogue));
        let server = tokio::spawn(async move {
            // Ends with the test.
            _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, catalogue, server })
    }

    /// Below which it answers POST count and POST present, of a JSON array of ids.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    // --- What it has, and how it is ------------------------------------------------------------------------------------------

    pub fn put(&self, id: &str) {
        self.inside().ids.insert(id.to_string());
    }

    pub fn delete<'i>(&self, ids: impl IntoIterator<Item = &'i String>) {
        let ids: BTreeSet<&String> = ids.into_iter().collect();
        self.inside().ids.retain(|id| !ids.contains(id));
    }

    pub fn ids(&self) -> BTreeSet<String> {
        self.inside().ids.clone()
    }

    /// It answers as it should, whatever is asked.
    pub fn recovers(&self) {
        let mut inside = self.inside();
        (inside.mood, inside.fails_about, inside.failures_left) = (Mood::Well, None, 0);
    }

    /// It answers 503.
    pub fn goes_down(&self) {
        self.inside().mood = Mood::Down;
    }

    /// It answers that it has nothing, as one does whose storage is away.
    pub fn looks_empty(&self) {
        self.inside().mood = Mood::Empty;
    }

    /// The next requests are answered 500.
    pub fn fails_next(&self, requests: usize) {
        self.inside().failures_left = requests;
    }

    /// Requests about that id are answered 500.
    pub fn fails_about(&self, id: &str) {
        self.inside().fails_about = Some(id.to_string());
    }

    /// Requests about more ids are answered 413.
    pub fn takes_at_most(&self, ids: usize) {
        self.inside().most_ids = Some(ids);
    }

    /// Answers whoever waits and so many more requests, and keeps those that come then waiting.
    pub fn answers_only(&self, requests: usize) {
        let asked = self.requests();
        self.catalogue.allowed.send_replace(asked + requests);
    }

    /// Answers everybody, also those who wait.
    pub fn answers_all(&self) {
        self.catalogue.allowed.send_replace(usize::MAX);
    }

    // --- What it was asked ---------------------------------------------------------------------------------------------------

    pub fn requests(&self) -> usize {
        self.inside().asked.len()
    }

    pub fn asked(&self) -> Vec<Vec<String>> {
        self.inside().asked.clone()
    }

    /// How many ids the largest question was about.
    pub fn largest(&self) -> usize {
        self.inside().asked.iter().map(Vec::len).max().unwrap_or_default()
    }

    /// How many requests are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.inside().in_flight
    }

    /// How many there were at once at most.
    pub fn most_in_flight(&self) -> usize {
        self.inside().most_in_flight
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.catalogue.inside()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn count(State(catalogue): State<Arc<Catalogue>>, Json(ids): Json<Vec<String>>) -> Result<Json<Value>, StatusCode> {
    Ok(Json(json!({ "count": catalogue.present(ids).await?.len() })))
}

async fn present(
    State(catalogue): State<Arc<Catalogue>>,
    Json(ids): Json<Vec<String>>,
) -> Result<Json<Vec<String>>, StatusCode> {
    Ok(Json(catalogue.present(ids).await?))
}

impl Catalogue {
    async fn present(self: &Arc<Self>, ids: Vec<String>) -> Result<Vec<String>, StatusCode> {
        let request = Request::begin(self, ids.clone());
        // The sender is in our hands, so the gate cannot be gone.
        _ = self.allowed.subscribe().wait_for(|allowed| request.number < *allowed).await;
        self.inside().answer(ids)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn answer(&mut self, ids: Vec<String>) -> Result<Vec<String>, StatusCode> {
        if self.most_ids.is_some_and(|most| ids.len() > most) {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        if self.failures_left > 0 {
            self.failures_left -= 1;
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        if self.fails_about.as_ref().is_some_and(|id| ids.contains(id)) {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        match self.mood {
            Mood::Well => Ok(ids.into_iter().filter(|id| self.ids.contains(id)).collect()),
            Mood::Empty => Ok(Vec::new()),
            Mood::Down => Err(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

/// A request in flight: until it is answered, or whoever asked is gone.
struct Request {
    catalogue: Arc<Catalogue>,
    number: usize,
}

impl Request {
    fn begin(catalogue: &Arc<Catalogue>, ids: Vec<String>) -> Self {
        let mut inside = catalogue.inside();
        let number = inside.asked.len();
        inside.asked.push(ids);
        inside.in_flight += 1;
        inside.most_in_flight = inside.most_in_flight.max(inside.in_flight);
        Self { catalogue: Arc::clone(catalogue), number }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.catalogue.inside().in_flight -= 1;
    }
}

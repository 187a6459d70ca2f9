//! Expiry, purge, the trimming of the log and the passes of watchers: table by table in slices, batch by batch in transactions of
//! their own. The same in a worker, for ever, and in CALL tombstone.maintain(), once. Writes tables through their layout, as their
//! owners, and `tombstone.run`.

mod batch;
mod chore;
mod door;
mod host;
mod pace;
mod preview;
mod taking;
mod watching;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use self::chore::{Chore, ChoreEnd, ChoreId};
use self::host::Host;
use self::taking::Taking;
use self::watching::Watching;
use crate::backend::subtransaction::attempt;
use crate::error::{Error, Result};
use crate::lifecycle::rule::{Action, Rule};
use crate::lifecycle::unlinked;
use crate::log::{relay, retention, run};
use crate::settings::{self, in_our_settings};
use crate::table::{Terms, all_managed, by_oid, terms};
use crate::watch::{inquiry, watched};

/// How long one table is worked on before the next one has its turn.
const SLICE: Duration = Duration::from_secs(1);

/// Nobody sleeps longer than this without looking around.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// What there is to do in this database, and how far it has come.
pub struct Maintenance {
    host: Host,
    /// The tables it is about, by number; all of them unless it is only some.
    only: Option<Vec<i32>>,
    chores: Vec<Box<dyn Chore>>,
    /// When to look again which tables there are.
    look_around: Instant,
    known_restored: usize,
}

impl Maintenance {
    /// What a worker does, for as long as it lives.
    pub fn of_worker() -> Maintenance {
        Maintenance { host: Host::Worker, only: None, chores: Vec::new(), look_around: Instant::now(), known_restored: 0 }
    }

    /// A slice of work, of a worker; returns how long to sleep after it. An error means that it cannot work at all.
    pub fn slice(&mut self) -> Result<Duration> {
        if !settings::enabled() {
            self.break_all_off("ended", "tombstone.enabled is off");
            self.look_around = Instant::now();
            return Ok(LONGEST_SLEEP);
        }
        let looks_around = Instant::now() >= self.look_around;
        if looks_around {
            self.look_around = Instant::now() + settings::naptime();
            self.unless_cancelled(Maintenance::follow_tables)?;
        }
        self.work();
        if looks_around {
            self.unless_cancelled(|this| this.trim(|_| true))?;
        }
        let next = self.chores.iter().map(|chore| chore.next()).fold(self.look_around, Instant::min);
        Ok(next.saturating_duration_since(Instant::now()).min(LONGEST_SLEEP))
    }

    /// Of a worker: what somebody has cancelled comes again at the next naptime.
    fn unless_cancelled(&mut self, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        match act(self) {
            Err(error) if error.is_cancellation() => {
                self.host.tell(&error.summary(), None);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// All there is to do now for these tables, of a session; until it is done, or time is up. Returns the first failure.
    pub fn once(tables: Vec<i32>, until: Instant) -> Result<Option<Error>> {
        let now = Instant::now();
        let mut this =
            Maintenance { host: Host::Session, only: Some(tables), chores: Vec::new(), look_around: now, known_restored: 0 };
        this.follow_tables()?;
        this.announce_leftovers()?;
        let mut failure = None;
        while let Some(next) = this.chores.iter().map(|chore| chore.next()).min() {
            if Instant::now() >= until {
                this.break_all_off("ended", "max_runtime is over");
                return Ok(failure);
            }
            let outcome = match Host::sleep(next.min(until).saturating_duration_since(Instant::now())) {
                Ok(()) => this.work(),
                Err(error) => Some((0, ChoreEnd::Failed(error))),
            };
            match outcome {
                Some((_, ChoreEnd::Failed(error))) if error.is_cancellation() => {
                    this.break_all_off("interrupted", &error.summary());
                    return Err(error);
                }
                Some((done, ChoreEnd::Failed(error))) => {
                    this.chores.remove(done).break_off("failed", &error.summary());
                    failure = failure.or(Some(error));
                }
                Some((done, ChoreEnd::Rests)) => drop(this.chores.remove(done)),
                None => (),
            }
        }
        let only = this.only.take().unwrap_or_default();
        this.trim(|number| only.contains(&number))?;
        Ok(failure)
    }

    /// Works a slice on the chore that has waited longest, if it is time for one; says which one is done for now, and how.
    fn work(&mut self) -> Option<(usize, ChoreEnd)> {
        let now = Instant::now();
        let ready = (0..self.chores.len()).filter(|i| self.chores[*i].next() <= now);
        let longest = ready.min_by_key(|i| self.chores[*i].next())?;
        self.chores[longest].work(Instant::now() + SLICE).map(|outcome| (longest, outcome))
    }

    fn break_all_off(&mut self, outcome: &str, why: &str) {
        self.chores.drain(..).for_each(|mut chore| chore.break_off(outcome, why));
    }

    /// Takes up what is new, and leaves off what is not wanted any more: tables that are gone, paused or have no such rule.
    fn follow_tables(&mut self) -> Result<()> {
        let (host, only) = (self.host, &self.only);
        let (terms, passes) = host.transaction(|| {
            in_our_settings(|| {
                run::mark_interrupted()?;
                inquiry::tidy()?;
                let mut terms = terms()?;
                terms.retain(|terms| only.as_ref().is_none_or(|only| only.contains(&terms.number)));
                Ok((children_first(terms), watched::due()?))
            })
        })?;
        self.tell_restored(&terms);
        let wanted = wanted(&terms, &passes);
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut self.chores)
            .into_iter()
            .partition(|chore| wanted.iter().any(|wanted| wanted.key() == chore.key()));
        self.chores = stay;
        go.into_iter().for_each(|mut chore| chore.break_off("ended", "paused, or its options have changed"));
        self.take_up(wanted)
    }

    fn take_up(&mut self, wanted: Vec<Wanted>) -> Result<()> {
        let is_known = |wanted: &Wanted| self.chores.iter().any(|chore| chore.key() == wanted.key());
        let new: Vec<Wanted> = wanted.into_iter().filter(|wanted| !is_known(wanted)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let failures = self.host.transaction(run::recent_failures)?;
        for wanted in new {
            let (number, action) = wanted.key();
            let failures = failures.get(&(number, action.to_string())).copied().unwrap_or_default();
            self.chores.push(match wanted {
                Wanted::Taking(terms, action) => Box::new(Taking::new(self.host, terms, action, failures)),
                Wanted::Watching(terms) => Box::new(Watching::new(self.host, terms, failures)),
            });
        }
        Ok(())
    }

    /// Trims the log's events of these tables by event_retention: each table in a transaction of its own.
    fn trim(&self, is_meant: impl Fn(i32) -> bool) -> Result<()> {
        self.host.show("trimming the log");
        self.tell_untrimmed(self.host.transaction(|| in_our_settings(|| run::prune().and_then(|()| unlinked::forget_old()))))?;
        for table in self.host.transaction(all_managed)?.into_iter().filter(|table| is_meant(table.number)) {
            let Some(event_retention) = table.event_retention else { continue };
            let trimmed = self.host.transaction_of_any_length(|| {
                retention::store_tick()?;
                retention::trim(table.number, event_retention)
            });
            self.tell_untrimmed(trimmed)?;
        }
        Ok(())
    }

    /// Another time will do.
    fn tell_untrimmed(&self, trimmed: Result<()>) -> Result<()> {
        match trimmed {
            Err(error) if error.is_cancellation() => return Err(error),
            Err(error) => self.host.warn(&format!("the log could not be trimmed: {}", error.summary()), None),
            Ok(()) => (),
        }
        Ok(())
    }

    /// Announces what a relay that is gone, or a prepared transaction, has left to whoever comes. A worker does so as it keeps its
    /// relay.
    fn announce_leftovers(&self) -> Result<()> {
        loop {
            match self.host.transaction(relay::announce_leftovers) {
                Ok(true) => (),
                Ok(false) => return Ok(()),
                Err(error) if error.is_cancellation() => return Err(error),
                Err(error) => {
                    self.host.warn(&format!("events could not be announced: {}", error.summary()), None);
                    return Ok(());
                }
            }
        }
    }

    /// One line, when tables are found that a dump has brought.
    fn tell_restored(&mut self, terms: &[Terms]) {
        let restored = terms.iter().filter(|terms| terms.restored).count();
        if restored > self.known_restored {
            self.host.tell(
                &format!("{restored} managed tables are paused: they were restored from a dump"),
                Some("When they may be expired and purged: SELECT tombstone.resume();"),
            );
        }
        self.known_restored = restored;
    }
}

/// A chore that there is to do.
enum Wanted<'a> {
    Taking(&'a Terms, Action),
    Watching(&'a Terms),
}

impl Wanted<'_> {
    fn key(&self) -> ChoreId {
        match self {
            Wanted::Taking(terms, action) => (terms.number, action.name()),
            Wanted::Watching(terms) => (terms.number, watching::ACTION),
        }
    }
}

/// Expiry before purge, and both before the watchers; of each, the tables in their order.
fn wanted<'a>(terms: &'a [Terms], passes: &[i32]) -> Vec<Wanted<'a>> {
    let awake = || terms.iter().filter(|terms| !is_paused(terms));
    let taking = Action::ALL.iter().flat_map(|action| awake().map(move |terms| (terms, *action)));
    let taking = taking.filter(|(terms, action)| Rule::of(terms, *action).is_some());
    let watching = awake().filter(|terms| passes.contains(&terms.number));
    taking.map(|(terms, action)| Wanted::Taking(terms, action)).chain(watching.map(Wanted::Watching)).collect()
}

fn is_paused(terms: &Terms) -> bool {
    terms.paused || terms.restored
}

/// A table after those whose rows refer to it: their tombstones would keep its own from being purged, and what is due of
/// them on its own account counts as theirs. Tables that refer to each other come last, as they are.
fn children_first(mut terms: Vec<Terms>) -> Vec<Terms> {
    // How many tables refer to each, and to which it refers itself. One that cannot be loaded is told of when its turn comes.
    let parents: HashMap<pg_sys::Oid, HashSet<pg_sys::Oid>> =
        terms.iter().map(|terms| (terms.relation, parents_of(terms.relation))).collect();
    let mut children: HashMap<pg_sys::Oid, usize> = HashMap::new();
    parents.values().flatten().for_each(|parent| *children.entry(*parent).or_default() += 1);
    let mut order: Vec<pg_sys::Oid> =
        terms.iter().map(|terms| terms.relation).filter(|table| !children.contains_key(table)).collect();
    let mut done = 0;
    while let Some(table) = order.get(done).copied() {
        done += 1;
        for parent in parents.get(&table).into_iter().flatten() {
            if let Some(left) = children.get_mut(parent) {
                *left -= 1;
                if *left == 0 {
                    order.push(*parent);
                }
            }
        }
    }
    let place: HashMap<pg_sys::Oid, usize> = order.into_iter().zip(0..).collect();
    terms.sort_by_key(|terms| place.get(&terms.relation).copied().unwrap_or(usize::MAX));
    terms
}

/// The other managed tables that a table refers to.
fn parents_of(table: pg_sys::Oid) -> HashSet<pg_sys::Oid> {
    let parents = attempt(|| Ok(by_oid(table)?.references.iter().map(|key| key.parent).collect::<HashSet<_>>()));
    let mut parents = parents.unwrap_or_default();
    parents.remove(&table);
    parents
}

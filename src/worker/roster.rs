//! How each database stands, as the launcher knows it, and what follows: pure. README.md has the picture.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// A database, by its OID.
pub type Database = u32;

/// How a worker left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// By an error, or because somebody ended it.
    WithoutAWord,
    /// The database does not have the extension.
    NoExtension,
    /// Its database was barred.
    Asked,
}

/// What is to be known of a worker that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    pub how: Departure,
    /// Whether it had got through a pass.
    pub had_worked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A worker is to go and see.
    Unknown,
    /// It has a worker, or one is on its way.
    Staffed {
        /// There was news since: the worker may have looked too early.
        news: bool,
    },
    /// It does not have the extension.
    Without,
    /// Its worker failed.
    Resting { until: Instant },
}

#[derive(Debug)]
struct Entry {
    state: State,
    backoff: Backoff,
}

#[derive(Debug, Default)]
pub struct Roster {
    entries: BTreeMap<Database, Entry>,
}

impl Roster {
    /// These are the databases that can be connected to; what is known of others is forgotten.
    pub fn there_are(&mut self, databases: &[Database]) {
        self.entries.retain(|database, _| databases.contains(database));
        for database in databases {
            self.entries.entry(*database).or_insert(Entry { state: State::Unknown, backoff: Backoff::default() });
        }
    }

    /// `database` may have got the extension, or lost it.
    pub fn news(&mut self, database: Database) {
        if let Some(entry) = self.entries.get_mut(&database) {
            entry.news();
        }
    }

    /// Any of them may have.
    pub fn news_of_all(&mut self) {
        self.entries.values_mut().for_each(Entry::news);
    }

    /// A worker is there, or on its way.
    pub fn staff(&mut self, database: Database) {
        if let Some(entry) = self.entries.get_mut(&database)
            && !matches!(entry.state, State::Staffed { .. })
        {
            entry.state = State::Staffed { news: false };
        }
    }

    /// Those that have a worker, or one on its way.
    pub fn staffed(&self) -> impl Iterator<Item = Database> {
        self.entries.iter().filter(|(_, entry)| matches!(entry.state, State::Staffed { .. })).map(|(database, _)| *database)
    }

    /// The worker of `database` is gone. Of a failure: how long until the next one.
    pub fn lose(&mut self, database: Database, left: Departed, now: Instant) -> Option<Duration> {
        self.entries.get_mut(&database)?.lose(left, now)
    }

    /// Those that a worker is to be started for.
    pub fn wanting(&self, now: Instant) -> impl Iterator<Item = Database> {
        self.entries.iter().filter(move |(_, entry)| entry.wants(now)).map(|(database, _)| *database)
    }

    /// How long until one of them has rested.
    pub fn rest(&self, now: Instant) -> Option<Duration> {
        let ends = self.entries.values().filter_map(|entry| match entry.state {
            State::Resting { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        });
        ends.min()
    }
}

impl Entry {
    fn news(&mut self) {
        self.state = match self.state {
            State::Staffed { .. } => State::Staffed { news: true },
            _ => State::Unknown,
        };
    }

    fn lose(&mut self, left: Departed, now: Instant) -> Option<Duration> {
        if left.had_worked {
            self.backoff.reset();
        }
        let had_news = self.state == State::Staffed { news: true };
        match left.how {
            Departure::WithoutAWord => {
                let pause = self.backoff.fail();
                self.state = State::Resting { until: now + pause };
                return Some(pause);
            }
            Departure::NoExtension if !had_news => {
                self.backoff.reset();
                self.state = State::Without;
            }
            Departure::NoExtension | Departure::Asked => self.state = State::Unknown,
        }
        None
    }

    fn wants(&self, now: Instant) -> bool {
        match self.state {
            State::Unknown => true,
            State::Resting { until } => until <= now,
            State::Staffed { .. } | State::Without => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const FAILED: Departed = Departed { how: Departure::WithoutAWord, had_worked: false };
    const NO_EXTENSION: Departed = Departed { how: Departure::NoExtension, had_worked: false };

    fn wanting(roster: &Roster, now: Instant) -> Vec<Database> {
        roster.wanting(now).collect()
    }

    #[test]
    fn a_new_database_is_looked_at_once() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.there_are(&[1]);
        assert_eq!(wanting(&roster, now), [1]);
        roster.staff(1);
        assert!(wanting(&roster, now).is_empty());
        roster.lose(1, NO_EXTENSION, now);
        roster.there_are(&[1]);
        assert!(wanting(&roster, now).is_empty());
    }

    #[test]
    fn news_is_not_missed_by_a_worker_that_looked_too_early() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.there_are(&[1]);
        roster.staff(1);
        roster.news(1);
        roster.lose(1, NO_EXTENSION, now);
        assert_eq!(wanting(&roster, now), [1]);
    }

    #[test]
    fn what_fails_rests_ever_longer() {
        let (mut roster, mut now) = (Roster::default(), Instant::now());
        roster.there_are(&[1]);
        for seconds in [1, 2, 4] {
            roster.staff(1);
            let pause = Duration::from_secs(seconds);
            assert_eq!(roster.lose(1, FAILED, now), Some(pause));
            assert_eq!((wanting(&roster, now), roster.rest(now)), (vec![], Some(pause)));
            now += pause;
            assert_eq!(wanting(&roster, now), [1]);
        }
        roster.staff(1);
        let pause = roster.lose(1, Departed { had_worked: true, ..FAILED }, now);
        assert_eq!(pause, Some(Duration::from_secs(1)), "it had worked");
    }

    #[test]
    fn a_database_that_is_gone_is_forgotten() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.there_are(&[1, 2]);
        roster.staff(1);
        roster.there_are(&[2]);
        assert_eq!((roster.staffed().count(), wanting(&roster, now)), (0, vec![2]));
        assert_eq!(roster.lose(1, FAILED, now), None);
    }

    /// A server with its databases, and workers that tell what they saw when they looked, whatever is so by then.
    #[derive(Default)]
    struct World {
        databases: BTreeSet<Database>,
        with_extension: BTreeSet<Database>,
        /// What each worker has seen.
        workers: BTreeMap<Database, Option<bool>>,
        roster: Roster,
        time: Duration,
    }

    #[derive(Debug, Clone)]
    enum Event {
        Create(Database),
        Drop(Database),
        Install(Database),
        Remove(Database),
        /// The worker looks whether the extension is there.
        Look(Database),
        /// It goes by what it saw; without it, or with a worker that is at work, it fails or is asked to leave.
        Leave(Database, bool),
        Turn(u64),
    }

    impl World {
        fn happen(&mut self, event: Event, start: Instant) {
            let now = start + self.time;
            match event {
                Event::Create(database) => drop(self.databases.insert(database)),
                Event::Drop(database) => {
                    for set in [&mut self.databases, &mut self.with_extension] {
                        set.remove(&database);
                    }
                    self.workers.remove(&database);
                    self.turn(now); // an OID does not come again so soon
                }
                Event::Install(database) if self.databases.contains(&database) => {
                    self.with_extension.insert(database);
                    self.roster.news(database);
                }
                Event::Remove(database) => {
                    self.with_extension.remove(&database);
                    self.roster.news(database);
                }
                Event::Look(database) => {
                    let there = self.with_extension.contains(&database);
                    if let Some(seen) = self.workers.get_mut(&database) {
                        *seen = Some(there);
                    }
                }
                Event::Leave(database, asked) => {
                    if let Some(seen) = self.workers.remove(&database) {
                        let how = match (seen, asked) {
                            (Some(false), _) => Departure::NoExtension,
                            (_, true) => Departure::Asked,
                            (_, false) => Departure::WithoutAWord,
                        };
                        self.roster.lose(database, Departed { how, had_worked: seen == Some(true) }, now);
                    }
                }
                Event::Turn(seconds) => {
                    self.time += Duration::from_secs(seconds);
                    self.turn(start + self.time);
                }
                Event::Install(_) => (),
            }
        }

        /// What the launcher does when it wakes.
        fn turn(&mut self, now: Instant) {
            self.roster.there_are(&self.databases.iter().copied().collect::<Vec<_>>());
            for database in self.roster.wanting(now).collect::<Vec<_>>() {
                assert!(self.workers.insert(database, None).is_none(), "a second worker for {database}");
                self.roster.staff(database);
            }
        }

        /// Everybody does what is left to do.
        fn settle(&mut self, start: Instant) {
            for _ in 0..4 {
                self.happen(Event::Turn(300), start);
                for database in self.databases.clone() {
                    self.happen(Event::Look(database), start);
                    if self.workers.get(&database) == Some(&Some(false)) {
                        self.happen(Event::Leave(database, false), start);
                    }
                }
            }
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        let database = || 1..4u32;
        prop_oneof![
            database().prop_map(Event::Create),
            database().prop_map(Event::Drop),
            database().prop_map(Event::Install),
            database().prop_map(Event::Remove),
            database().prop_map(Event::Look),
            (database(), any::<bool>()).prop_map(|(database, asked)| Event::Leave(database, asked)),
            (0..20u64).prop_map(Event::Turn),
        ]
    }

    proptest! {
        #[test]
        fn in_the_end_the_right_ones_have_a_worker(events in proptest::collection::vec(event(), 0..60)) {
            let (mut world, start) = (World::default(), Instant::now());
            for event in events {
                world.happen(event, start);
            }
            world.settle(start);
            prop_assert_eq!(&world.workers.keys().copied().collect::<BTreeSet<_>>(), &world.with_extension);
            prop_assert_eq!(world.roster.staffed().collect::<BTreeSet<_>>(), world.with_extension);
        }
    }
}

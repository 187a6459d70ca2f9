//! undo of what is in bins: all of it in as few statements as foreign keys allow, or nothing. What stands in its way is found by
//! trying, in a subtransaction that is rolled back: Postgres' own words name the row, the constraint and the value.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::pg_sys;

use super::deferred::Deferred;
use super::discretion::named;
use super::layout::archive::awaited::awaiting;
use super::layout::archive::parts::by_index;
use super::layout::archive::revive::{self, Lot, Twice, Which};
use super::layout::{self, Lock, Standing};
use super::undo::{ALREADY_LIVE, DELETED_LATER, PURGED, conflict_name, undone_already};
use super::{hold, owners, readable_keys};
use crate::backend::query::Statement;
use crate::backend::subtransaction::{attempt, rehearse};
use crate::error::{Error, Result};
use crate::lifecycle::cascade;
use crate::lifecycle::rows::{Clause, Rows};
use crate::log::event::{self, TakenRow, Tally};
use crate::table::key::Key;
use crate::table::{Bin, Table, all_managed, by_oid};

/// One line of the answer: relation, id, outcome, detail.
pub type Line = (pg_sys::Oid, String, String, Option<String>);

/// What a deletion has in the bins, and what it had there.
pub struct Binned {
    deletion: i64,
    sources: Vec<Source>,
    held: Vec<Held>,
    gone: Vec<Gone>,
}

/// A table with a bin that the deletion may have taken records of.
struct Source {
    table: Rc<Table>,
    /// What it took of it, while the log knows.
    tally: Option<Tally>,
}

/// What it has in one bin, of one kind: deleted by somebody, or fallen by a foreign key.
struct Held {
    table: Rc<Table>,
    by_cascade: bool,
    /// Each row's key, in no order; of a record with versions once for each.
    keys: Vec<Key>,
    /// Parallel to `keys`; empty where the table has no versions.
    versions: Vec<i64>,
    twice: Twice,
    /// Records that it took more than once.
    taken_twice: HashSet<String>,
    redacted: bool,
}

/// A row that it took, and has in the bin no more.
struct Gone {
    table: Rc<Table>,
    id: String,
    version: Option<i64>,
    /// What has become of the record: live again, deleted by another deletion since, or purged.
    standing: Option<Standing>,
}

/// A record that cannot come back, and why.
struct Conflict {
    table: Rc<Table>,
    id: String,
    /// Records of the same table that stay for no other reason.
    others: Vec<String>,
    error: Error,
    name: &'static str,
}

/// Moments in the course of trying, counted: when each of what is held was tried last, and when some of it came back last.
struct Times {
    now: usize,
    tried: Vec<usize>,
    came: Vec<usize>,
}

impl Binned {
    /// What `deletion` has in the bins of all tables, parents and children in no order.
    pub fn of(deletion: i64) -> Result<Binned> {
        let tallies = event::tallies(deletion)?;
        let mut sources = Vec::new();
        // All of them: of a table that had no events the log does not know, whatever it knows of others.
        for managed in all_managed()?.into_iter().filter(|managed| managed.is_archived) {
            let tally = tallies.iter().find(|tally| tally.managed == managed.number).copied();
            sources.push(Source { table: by_oid(managed.relation)?, tally });
        }
        let mut binned = Binned { deletion, sources, held: vec![], gone: vec![] };
        binned.look(Lock::None)?;
        if !tallies.is_empty() {
            let held: HashSet<pg_sys::Oid> = binned.held.iter().map(|held| held.table.oid).collect();
            binned.sources.retain(|source| source.tally.is_some() || held.contains(&source.table.oid));
        }
        Ok(binned)
    }

    /// Whether neither a bin nor the log knows that there was such a deletion, from a table that has a bin.
    pub fn is_unknown(&self) -> bool {
        self.held.is_empty() && self.sources.iter().all(|source| source.tally.is_none())
    }

    /// Brings all of it back; an error says what stands in the way, and then nothing has changed.
    pub fn restore(&mut self) -> Result<Vec<Line>> {
        if self.sources.is_empty() {
            return Ok(Vec::new());
        }
        self.refuse(&self.refused()?)?;
        let deferred = self.deferred()?;
        if attempt(|| self.all(&deferred)).is_ok() {
            return Ok(self.lines(&[]));
        }
        if self.look_again()? {
            self.refuse(&self.refused()?)?;
            if attempt(|| self.all(&deferred)).is_ok() {
                return Ok(self.lines(&[]));
            }
        }
        self.refuse(&rehearse(|| self.found_by_trying(&deferred))?)?;
        // It would do now: somebody was in the way, and is not any more.
        self.all(&deferred).map(|()| self.lines(&[]))
    }

    /// Says what would become of each record.
    pub fn rehearse(&mut self) -> Result<Vec<Line>> {
        if self.sources.is_empty() {
            return Ok(Vec::new());
        }
        let deferred = self.deferred()?;
        if self.refused()?.is_empty() && attempt(|| self.all(&deferred)).is_ok() {
            return Ok(self.lines(&[]));
        }
        let has_changed = self.look_again()?;
        if has_changed && event::is_undone(self.deletion)? {
            return Err(undone_already(self.deletion));
        }
        let mut conflicts = self.refused()?;
        if !(conflicts.is_empty() && has_changed && attempt(|| self.all(&deferred)).is_ok()) {
            let refused: HashSet<(pg_sys::Oid, String)> = conflicts.iter().map(|one| (one.table.oid, one.id.clone())).collect();
            let found = rehearse(|| self.found_by_trying(&deferred))?;
            conflicts.extend(found.into_iter().filter(|one| !refused.contains(&(one.table.oid, one.id.clone()))));
        }
        Ok(self.lines(&conflicts))
    }

    /// Lists what there is, and locks it: nobody takes of it from here on. Whether somebody has since it was listed first.
    fn look_again(&mut self) -> Result<bool> {
        let before = self.rows();
        self.look(Lock::Delete)?;
        Ok(self.rows() != before)
    }

    fn rows(&self) -> usize {
        self.held.iter().map(|held| held.keys.len()).sum()
    }

    fn look(&mut self, lock: Lock) -> Result<()> {
        let before = std::mem::take(&mut self.held);
        self.gone.clear();
        for source in &self.sources {
            let Some(bin) = source.table.bin() else { continue };
            let held = source.held(bin, self.deletion, lock)?;
            let before = before.iter().filter(|held| held.table.oid == source.table.oid).flat_map(Held::rows).collect();
            self.gone.extend(source.gone(bin, self.deletion, &held, before)?);
            self.held.extend(held);
        }
        Ok(())
    }

    fn deferred(&self) -> Result<Deferred> {
        Deferred::of(self.sources.iter().map(|source| source.table.oid).collect())
    }

    /// All that is listed, or an error.
    fn all(&self, deferred: &Deferred) -> Result<()> {
        let lots: Vec<Lot> = self.held.iter().map(|held| held.lot(Which::All)).collect();
        let back = revive::all(self.deletion, &lots)?;
        deferred.check()?;
        if back.iter().zip(&self.held).all(|(rows, held)| *rows == held.keys.len() as u64) {
            return Ok(());
        }
        Err(Error::not_ready(format!("records of deletion {} have been restored or purged meanwhile", self.deletion))
            .detail("Somebody else did so while they were brought back.")
            .hint("Try again."))
    }

    /// What was purged, what is on hold, and what is not the caller's.
    fn refused(&self) -> Result<Vec<Conflict>> {
        let mut conflicts: Vec<Conflict> = self.gone.iter().filter_map(Gone::conflict).collect();
        for Held { table, by_cascade, keys, .. } in &self.held {
            let conflict = |key: &Key, name, error| Conflict {
                table: Rc::clone(table),
                id: key.text.clone(),
                others: vec![],
                error,
                name,
            };
            let on_hold = hold::all_held(table)?;
            for key in keys.iter().filter(|key| on_hold.contains(&key.text)) {
                conflicts.push(conflict(key, "held", Error::on_hold("the record is on hold")));
            }
            if !by_cascade && table.owners.is_some() {
                let owned = owners::owned_of(table, keys, Some(self.deletion))?;
                let others = |(key, owned): &(&Key, bool)| !owned && !on_hold.contains(&key.text);
                for (key, _) in keys.iter().zip(owned).filter(others) {
                    conflicts.push(conflict(key, "denied", Error::denied("the record is not yours")));
                }
            }
        }
        Ok(conflicts)
    }

    /// Brings back what can be, parents before children, and says what cannot: by halving, as often as something has come back since
    /// that may have been missing. What is missing only because something else does not come back is said once for each table. To be
    /// rolled back.
    fn found_by_trying(&self, deferred: &Deferred) -> Result<Vec<Conflict>> {
        let lots: Vec<Lot> = self.held.iter().map(|held| held.lot(Which::All)).collect();
        let mut failures: Vec<Vec<(Key, Error)>> = lots.iter().map(|_| Vec::new()).collect();
        let order = revive::in_order(&lots);
        awaiting(self.deletion, &lots, || self.try_in(&order, &lots, deferred, &mut failures))?;
        let of = |(i, failures): (usize, Vec<(Key, Error)>)| failures.into_iter().map(move |(key, error)| (i, key, error));
        Ok(self.causes(failures.into_iter().enumerate().flat_map(of).collect()))
    }

    /// Tries all of the lots in this order, until nothing more comes back; what fails is left in `failures`.
    fn try_in(
        &self,
        order: &[Vec<usize>],
        lots: &[Lot],
        deferred: &Deferred,
        failures: &mut [Vec<(Key, Error)>],
    ) -> Result<()> {
        let mut times = Times { now: 1, tried: vec![0; lots.len()], came: vec![0; lots.len()] };
        for circle in order.iter().filter(|group| group.len() > 1) {
            // Tables that refer to each other come back together or, one by one, hardly at all.
            let lots: Vec<Lot> = circle.iter().map(|i| lots[*i].clone()).collect();
            let back = || revive::all(self.deletion, &lots).and_then(|_| deferred.check());
            if attempt(back).is_ok() {
                circle.iter().for_each(|i| (times.tried[*i], times.came[*i]) = (1, 1));
            }
        }
        loop {
            let before = times.now;
            for i in order.iter().flatten().copied() {
                let may_do = |(_, error): &&(Key, Error)| self.may_do_by_now(i, error, &times);
                let keys: Vec<Key> = match times.tried[i] {
                    0 => distinct(&self.held[i].keys).cloned().collect(),
                    _ => failures[i].iter().filter(may_do).map(|(key, _)| key.clone()).collect(),
                };
                if keys.is_empty() {
                    continue;
                }
                let again: HashSet<&str> = keys.iter().map(|key| key.text.as_str()).collect();
                failures[i].retain(|(key, _)| !again.contains(key.text.as_str()));
                let others = failures[i].len();
                self.place(i, &keys, deferred, &mut failures[i])?;
                times.now += 1;
                times.tried[i] = times.now;
                if failures[i].len() - others < keys.len() {
                    times.came[i] = times.now;
                }
            }
            if times.now == before {
                return Ok(());
            }
        }
    }

    /// Whether a record that failed to come back may do so by now. It may have waited for what it refers to; and what a trigger of
    /// the application's looks at, nobody knows.
    fn may_do_by_now(&self, i: usize, error: &Error, times: &Times) -> bool {
        let table = &self.held[i].table;
        let refers_to = |other: &Table| {
            table.parents.iter().any(|key| key.parent == other.oid) || other.children.iter().any(|key| key.child == table.oid)
        };
        let since = (0..self.held.len()).filter(|other| times.came[*other] >= times.tried[i]);
        since.into_iter().any(|other| match error.is_foreign_key() {
            true => refers_to(&self.held[other].table),
            false => !error.is_of_constraint(),
        })
    }

    /// Brings back these records of one bin, but for those that cannot be.
    fn place(&self, i: usize, keys: &[Key], deferred: &Deferred, failures: &mut Vec<(Key, Error)>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let held = &self.held[i];
        let lot = held.lot(Which::Keys(keys.into()));
        let place = || revive::all(self.deletion, std::slice::from_ref(&lot)).and_then(|_| deferred.check());
        let Err(error) = attempt(place) else { return Ok(()) };
        if let [only] = keys {
            failures.push((only.clone(), error));
            return Ok(());
        }
        let (left, right) = keys.split_at(keys.len() / 2);
        self.place(i, left, deferred, failures)?;
        self.place(i, right, deferred, failures)
    }

    /// Causes as they are; what only follows from them, a line for each table.
    fn causes(&self, failures: Vec<(usize, Key, Error)>) -> Vec<Conflict> {
        let conflict = |i: usize, id: String, name, error| Conflict {
            table: Rc::clone(&self.held[i].table),
            id,
            others: vec![],
            error,
            name,
        };
        let purged = || self.gone.iter().filter(|gone| gone.standing.is_none());
        let taken: Vec<pg_sys::Oid> =
            self.held.iter().map(|held| held.table.oid).chain(purged().map(|gone| gone.table.oid)).collect();
        let follows = |i: usize, error: &Error| error.is_foreign_key() && self.held[i].table.parents_in(&taken);
        let (blocked, causes): (Vec<_>, Vec<_>) = failures.into_iter().partition(|(i, _, error)| follows(*i, error));
        let mut blockers: Vec<(&Table, String)> = purged().map(|gone| (&*gone.table, gone.id.clone())).collect();
        blockers.extend(causes.iter().map(|(i, key, _)| (&*self.held[*i].table, key.text.clone())));
        if blockers.is_empty() {
            return blocked.into_iter().map(|(i, key, error)| conflict(i, key.text, conflict_name(&error), error)).collect();
        }
        let mut conflicts: Vec<Conflict> =
            causes.into_iter().map(|(i, key, error)| conflict(i, key.text, conflict_name(&error), error)).collect();
        for i in 0..self.held.len() {
            let of_table: Vec<&(usize, Key, Error)> = blocked.iter().filter(|(of, _, _)| *of == i).collect();
            if let Some((_, first, _)) = of_table.first() {
                let others = match of_table.len() - 1 {
                    0 => String::new(),
                    1 => ", and 1 record more".to_string(),
                    others => format!(", and {others} records more"),
                };
                let blocker = self.blocker(i, &blockers);
                let error = Error::foreign_key(format!("blocked by {blocker}: its parent does not come back{others}"));
                let others = of_table.iter().skip(1).map(|(_, key, _)| key.text.clone()).collect();
                conflicts.push(Conflict { others, ..conflict(i, first.text.clone(), "blocked", error) });
            }
        }
        conflicts
    }

    /// What keeps the records of one bin that only follow from it: those of the tables that they refer to, and so on.
    fn blocker(&self, of: usize, blockers: &[(&Table, String)]) -> String {
        let mut above = vec![self.held[of].table.oid];
        let mut next = 0;
        while let Some(child) = above.get(next) {
            let child = self.held.iter().find(|held| held.table.oid == *child);
            let parents = child.iter().flat_map(|held| &held.table.parents).map(|key| key.parent);
            let new: Vec<pg_sys::Oid> = parents.filter(|parent| !above.contains(parent)).collect();
            above.extend(new);
            next += 1;
        }
        let (theirs, others): (Vec<_>, Vec<_>) = blockers.iter().partition(|(table, _)| above.contains(&table.oid));
        let theirs = if theirs.is_empty() { others } else { theirs };
        let first = theirs.first().map(|(table, id)| named(table, id));
        match theirs.len() {
            0 | 1 => first.unwrap_or_default(),
            causes => format!("{} and {} more", first.unwrap_or_default(), causes - 1),
        }
    }

    fn lines(&self, conflicts: &[Conflict]) -> Vec<Line> {
        let mut lines = Vec::new();
        for held in &self.held {
            let table = &held.table;
            let staying: HashSet<&str> = conflicts
                .iter()
                .filter(|one| one.table.oid == table.oid)
                .flat_map(|one| one.others.iter().chain([&one.id]))
                .map(String::as_str)
                .collect();
            let stays = |key: &&Key| staying.contains(key.text.as_str());
            let back = distinct(&held.keys).filter(|key| !stays(key));
            lines.extend(back.map(|key| held.line(key)));
        }
        lines.extend(self.gone.iter().filter_map(Gone::line));
        lines.extend(
            conflicts.iter().map(|one| (one.table.oid, one.id.clone(), one.name.to_string(), Some(one.error.summary()))),
        );
        lines
    }

    /// The error that there is where anything stands in the way.
    fn refuse(&self, conflicts: &[Conflict]) -> Result<()> {
        let Some(first) = conflicts.first() else { return Ok(()) };
        let named = conflicts.iter().take(5).map(|one| format!("{}: {}", named(&one.table, &one.id), one.error.summary()));
        let deletion = self.deletion;
        Err(first
            .error
            .clone()
            .reworded(format!("deletion {deletion} cannot be undone: not all of its records can come back"))
            .detail(named.collect::<Vec<_>>().join("; "))
            .hint(format!("SELECT * FROM tombstone.undo({deletion}, dry_run => true) lists every conflict.")))
    }
}

/// The keys, each once, in their order.
fn distinct(keys: &[Key]) -> impl Iterator<Item = &Key> {
    let mut seen = HashSet::with_capacity(keys.len());
    keys.iter().filter(move |key| seen.insert(key.text.as_str()))
}

impl Source {
    /// What the deletion has in the bin, by kind; locked where asked.
    fn held(&self, bin: &Bin, deletion: i64, lock: Lock) -> Result<Vec<Held>> {
        let listed = self.listed(bin, deletion, Twice::None, lock)?;
        let mut known = HashSet::new();
        let again: Vec<(&str, Option<i64>)> = listed.iter().map(Listed::name).filter(|name| !known.insert(*name)).collect();
        if again.is_empty() {
            return Ok(self.by_kind(listed, Twice::None, HashSet::new()));
        }
        let first = self.listed(bin, deletion, Twice::First, lock)?;
        let mut times: HashMap<&str, usize> = HashMap::new();
        for row in &listed {
            *times.entry(row.key.text.as_str()).or_default() += 1;
        }
        for row in &first {
            times.entry(row.key.text.as_str()).and_modify(|times| *times -= 1);
        }
        let taken_twice = times.into_iter().filter(|(_, times)| *times > 0).map(|(id, _)| id.to_string()).collect();
        Ok(self.by_kind(first, Twice::First, taken_twice))
    }

    fn listed(&self, bin: &Bin, deletion: i64, twice: Twice, lock: Lock) -> Result<Vec<Listed>> {
        let version = self.table.version.as_ref().map_or("0".into(), |version| format!("t.{}", version.sql()));
        let sql = format!(
            "SELECT {}, {version}::pg_catalog.int8, t.{} OPERATOR(pg_catalog.=) 'cascade' FROM {} AS t WHERE t.{} OPERATOR(pg_catalog.=) $1{}{}",
            cascade::columns(&self.table.id),
            bin.own.cause.sql(),
            bin.sql(),
            bin.own.deletion.sql(),
            revive::only(twice, &self.table, bin)?,
            if lock == Lock::None { "" } else { " FOR UPDATE OF t" },
        );
        let statement = Statement::new(sql, [pg_sys::INT8OID]);
        let found = self.table.as_owner(|| by_index(|| statement.value_rows(&[deletion.into()])))?;
        let row = |mut values: Vec<pg_sys::Datum>| {
            let by_cascade = values.pop().is_some_and(|is| is.value() != 0);
            let version = values.pop().map(|version| version.value().cast_signed() as i64);
            // SAFETY: just read from the id columns.
            let key = unsafe { self.table.key_of(values) };
            Listed { key, version: version.filter(|_| self.table.version.is_some()), by_cascade }
        };
        Ok(found.into_iter().map(row).collect())
    }

    fn by_kind(&self, listed: Vec<Listed>, twice: Twice, taken_twice: HashSet<String>) -> Vec<Held> {
        let redacted = self.tally.map_or(!self.table.redactions.is_empty(), |tally| tally.redacted);
        let (fallen, deleted): (Vec<Listed>, Vec<Listed>) = listed.into_iter().partition(|row| row.by_cascade);
        let of_kind = |(rows, by_cascade): (Vec<Listed>, bool)| Held {
            table: Rc::clone(&self.table),
            by_cascade,
            versions: rows.iter().filter_map(|row| row.version).collect(),
            keys: rows.into_iter().map(|row| row.key).collect(),
            twice,
            taken_twice: taken_twice.clone(),
            redacted,
        };
        [(deleted, false), (fallen, true)].map(of_kind).into_iter().filter(|held| !held.keys.is_empty()).collect()
    }

    /// What the deletion took of the table, as the log says or as its bin had it `before`, and has there no more.
    fn gone(&self, bin: &Bin, deletion: i64, held: &[Held], before: Vec<TakenRow>) -> Result<Vec<Gone>> {
        let rows: usize = held.iter().map(|held| held.keys.len()).sum();
        let mut taken = before;
        if let Some(tally) = self.tally.filter(|tally| tally.rows != rows as u64) {
            taken.extend(event::rows_taken_of(deletion, tally.managed)?);
        }
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let mut known: HashSet<(String, Option<i64>)> =
            held.iter().flat_map(Held::rows).map(|(id, version, _)| (id, version)).collect();
        taken.retain(|(id, version, _)| known.insert((id.clone(), *version)));
        let mut gone = Vec::new();
        for by_cascade in [false, true] {
            let taken: Vec<&TakenRow> = taken.iter().filter(|(_, _, of)| *of == by_cascade).collect();
            gone.extend(self.standing_of(bin, deletion, &taken, by_cascade)?);
        }
        Ok(gone)
    }

    /// How rows stand that the deletion took and that are not listed, with the rights it had: a cascade's were the owner's.
    fn standing_of(&self, bin: &Bin, deletion: i64, taken: &[&TakenRow], by_cascade: bool) -> Result<Vec<Gone>> {
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let table = &self.table;
        let ids: Vec<&str> = taken.iter().map(|(id, _, _)| id.as_str()).collect();
        let (places, keys): (Vec<usize>, Vec<Key>) = readable_keys(table, &ids)?.into_iter().unzip();
        let versions: Vec<i64> = places.iter().filter_map(|place| taken[*place].1).collect();
        let is_of_versions = table.version.is_some() && versions.len() == keys.len();
        let rows = if is_of_versions { Rows::Pairs(&keys, &versions) } else { Rows::Records(&keys) };
        let find = || layout::of(table).find(&rows, Lock::None);
        let found = if by_cascade { table.as_owner(find) } else { find() }?;
        let mut standings: HashMap<usize, Standing> = HashMap::new();
        for row in found {
            let standing = standings.entry(row.key).or_insert(row.standing);
            if row.standing == Standing::Live {
                *standing = Standing::Live;
            }
        }
        // The log may spell an id otherwise than the bin does by now: its type has changed.
        let there = self.there(bin, deletion, &rows)?;
        let gone = places.iter().zip(&keys).enumerate().filter(|(i, _)| !there.contains(i)).map(|(i, (place, key))| Gone {
            table: Rc::clone(table),
            id: key.text.clone(),
            version: taken[*place].1,
            standing: standings.get(&i).copied(),
        });
        Ok(gone.collect())
    }

    /// The places of those of the rows that the deletion has in the bin.
    fn there(&self, bin: &Bin, deletion: i64, rows: &Rows) -> Result<HashSet<usize>> {
        let Clause { from, condition, mut types, ordinal } = rows.clause(&self.table);
        types.push(pg_sys::INT8OID);
        let sql = format!(
            "SELECT {ordinal} FROM {} AS t, {from} WHERE {condition} AND t.{} OPERATOR(pg_catalog.=) ${}",
            bin.sql(),
            bin.own.deletion.sql(),
            types.len(),
        );
        let mut arguments = rows.arguments(&self.table);
        arguments.push(deletion.into());
        let place = |row: &pgrx::spi::SpiHeapTupleData| Ok(row.get::<i64>(1)?.map_or(0, |place| place as usize - 1));
        let found = self.table.as_owner(|| Statement::new(sql, types).rows(&arguments, place))?;
        Ok(found.into_iter().collect())
    }
}

/// A row of a bin.
struct Listed {
    key: Key,
    version: Option<i64>,
    by_cascade: bool,
}

impl Listed {
    fn name(&self) -> (&str, Option<i64>) {
        (&self.key.text, self.version)
    }
}

impl Held {
    fn lot(&self, which: Which) -> Lot {
        Lot { table: Rc::clone(&self.table), which, twice: self.twice, by_cascade: Some(self.by_cascade) }
    }

    fn rows(&self) -> impl Iterator<Item = TakenRow> {
        let version = |i: usize| self.versions.get(i).copied();
        self.keys.iter().enumerate().map(move |(i, key)| (key.text.clone(), version(i), self.by_cascade))
    }

    fn line(&self, key: &Key) -> Line {
        let blanked = self.redacted.then_some("what redaction blanked is gone");
        let again = self.taken_twice.contains(&key.text);
        let again = again.then_some("as it was first; the deletion took it twice, and its later tombstone stays");
        let detail = [blanked, again].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let outcome = if self.redacted { "restored_redacted" } else { "restored" };
        (self.table.oid, key.text.clone(), outcome.to_string(), (!detail.is_empty()).then_some(detail))
    }
}

impl Gone {
    fn of_version(&self, text: &str) -> String {
        self.version.map_or(text.to_string(), |version| format!("version {version}: {text}"))
    }

    /// Where the record is not purged, what to say of it.
    fn line(&self) -> Option<Line> {
        let (outcome, detail) = match self.standing? {
            Standing::Live => ALREADY_LIVE,
            Standing::Deleted(_) => DELETED_LATER,
        };
        Some((self.table.oid, self.id.clone(), outcome.to_string(), Some(self.of_version(detail))))
    }

    fn conflict(&self) -> Option<Conflict> {
        let (name, text) = PURGED;
        let error = Error::not_ready(self.of_version(text));
        let (table, id) = (Rc::clone(&self.table), self.id.clone());
        self.standing.is_none().then_some(Conflict { table, id, others: vec![], error, name })
    }
}

//! undo of what is in bins: all of it in as few statements as foreign keys allow, or nothing. What stands in its way is found by
//! trying, in a subtransaction that is rolled back: Postgres' own words name the row, the constraint and the value.

use std::collections::HashSet;
use std::rc::Rc;

use pgrx::pg_sys;

use super::layout::archive::parts::by_index;
use super::layout::archive::revive::{self, Lot, Which};
use super::undo::conflict_name;
use super::{hold, owners};
use crate::backend::query::Statement;
use crate::backend::subtransaction::{attempt, rehearse};
use crate::error::{Error, Result};
use crate::lifecycle::cascade;
use crate::table::key::Key;
use crate::table::{Bin, Table, all_managed, by_oid};

/// One line of the answer: relation, id, outcome, detail.
pub type Line = (pg_sys::Oid, String, String, Option<String>);

/// What a deletion has in the bins.
pub struct Binned {
    deletion: i64,
    held: Vec<Held>,
}

/// What it has in one bin, of one kind: deleted by somebody, or fallen by a foreign key.
struct Held {
    table: Rc<Table>,
    by_cascade: bool,
    /// Each row's key, in the order in which it was deleted; of a record with versions once for each.
    keys: Vec<Key>,
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

impl Binned {
    /// What `deletion` has in the bins of all tables, parents and children in no order.
    pub fn of(deletion: i64) -> Result<Binned> {
        let mut held = Vec::new();
        for managed in all_managed()?.into_iter().filter(|managed| managed.is_archived) {
            let table = by_oid(managed.relation)?;
            let Some(bin) = table.bin() else { continue };
            for by_cascade in [false, true] {
                let keys = keys_in(deletion, &table, bin, by_cascade)?;
                if !keys.is_empty() {
                    held.push(Held { table: Rc::clone(&table), by_cascade, keys });
                }
            }
        }
        Ok(Binned { deletion, held })
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Brings all of it back; an error says what stands in the way, and then nothing has changed.
    pub fn restore(&self) -> Result<Vec<Line>> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let refused = self.refused()?;
        if refused.is_empty() && attempt(|| self.all()).is_ok() {
            return Ok(self.lines(&[]));
        }
        let conflicts = if refused.is_empty() { rehearse(|| self.found_by_trying())? } else { refused };
        match conflicts.first() {
            Some(first) => Err(self.cannot(first, &conflicts)),
            // It would do now: somebody was in the way, and is not any more.
            None => self.all().map(|_| self.lines(&[])),
        }
    }

    /// Says what would become of each record.
    pub fn rehearse(&self) -> Result<Vec<Line>> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let mut conflicts = self.refused()?;
        if !conflicts.is_empty() || attempt(|| self.all()).is_err() {
            let refused: HashSet<(pg_sys::Oid, String)> = conflicts.iter().map(|one| (one.table.oid, one.id.clone())).collect();
            let found = rehearse(|| self.found_by_trying())?;
            conflicts.extend(found.into_iter().filter(|one| !refused.contains(&(one.table.oid, one.id.clone()))));
        }
        Ok(self.lines(&conflicts))
    }

    fn all(&self) -> Result<Vec<u64>> {
        let lot = |held: &Held| Lot { table: Rc::clone(&held.table), which: Which::All, by_cascade: Some(held.by_cascade) };
        revive::all(self.deletion, &self.held.iter().map(lot).collect::<Vec<_>>())
    }

    /// What is on hold, and what is not the caller's.
    fn refused(&self) -> Result<Vec<Conflict>> {
        let mut conflicts = Vec::new();
        for Held { table, by_cascade, keys } in &self.held {
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

    /// Brings back what can be, and says what cannot: by halving, as often as more of it comes back than the time before. What is
    /// missing only because something else does not come back is said once for each table. To be rolled back.
    fn found_by_trying(&self) -> Result<Vec<Conflict>> {
        let mut left: Vec<(usize, Vec<Key>)> =
            self.held.iter().enumerate().map(|(i, held)| (i, distinct(&held.keys))).collect();
        let mut failures: Vec<(usize, Key, Error)> = Vec::new();
        loop {
            let before: usize = left.iter().map(|(_, keys)| keys.len()).sum();
            failures.clear();
            for (i, keys) in &left {
                self.place(*i, keys, &mut failures)?;
            }
            if failures.is_empty() || failures.len() == before {
                break;
            }
            for (i, keys) in &mut left {
                keys.retain(|key| failures.iter().any(|(of, failed, _)| of == i && failed.text == key.text));
            }
        }
        Ok(self.causes(failures))
    }

    /// Brings back these records of one bin, but for those that cannot be.
    fn place(&self, i: usize, keys: &[Key], failures: &mut Vec<(usize, Key, Error)>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let held = &self.held[i];
        let lot = Lot { table: Rc::clone(&held.table), which: Which::Keys(keys.to_vec()), by_cascade: Some(held.by_cascade) };
        let Err(error) = attempt(|| revive::all(self.deletion, std::slice::from_ref(&lot))) else { return Ok(()) };
        if let [only] = keys {
            failures.push((i, only.clone(), error));
            return Ok(());
        }
        let (left, right) = keys.split_at(keys.len() / 2);
        self.place(i, left, failures)?;
        self.place(i, right, failures)
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
        let follows = |i: usize, error: &Error| {
            let table = &self.held[i].table;
            error.is_foreign_key() && table.parents_in(&self.held.iter().map(|held| held.table.oid).collect::<Vec<_>>())
        };
        let (blocked, causes): (Vec<_>, Vec<_>) = failures.into_iter().partition(|(i, _, error)| follows(*i, error));
        if causes.is_empty() {
            return blocked.into_iter().map(|(i, key, error)| conflict(i, key.text, conflict_name(&error), error)).collect();
        }
        let blocker = causes
            .first()
            .map(|(i, key, _)| format!("\"{}\" of {}", key.text, self.held[*i].table.title()))
            .unwrap_or_default();
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
                let error = Error::foreign_key(format!("blocked by {blocker}: its parent does not come back{others}"));
                let others = of_table.iter().skip(1).map(|(_, key, _)| key.text.clone()).collect();
                conflicts.push(Conflict { others, ..conflict(i, first.text.clone(), "blocked", error) });
            }
        }
        conflicts
    }

    fn lines(&self, conflicts: &[Conflict]) -> Vec<Line> {
        let mut lines = Vec::new();
        for Held { table, keys, .. } in &self.held {
            let outcome = if table.redactions.is_empty() { "restored" } else { "restored_redacted" };
            let detail = (!table.redactions.is_empty()).then(|| "what redaction blanked is gone".to_string());
            let staying: HashSet<&str> = conflicts
                .iter()
                .filter(|one| one.table.oid == table.oid)
                .flat_map(|one| one.others.iter().chain([&one.id]))
                .map(String::as_str)
                .collect();
            let stays = |key: &Key| staying.contains(key.text.as_str());
            let back = distinct(keys).into_iter().filter(|key| !stays(key));
            lines.extend(back.map(|key| (table.oid, key.text, outcome.to_string(), detail.clone())));
        }
        lines.extend(
            conflicts.iter().map(|one| (one.table.oid, one.id.clone(), one.name.to_string(), Some(one.error.summary()))),
        );
        lines
    }

    fn cannot(&self, first: &Conflict, conflicts: &[Conflict]) -> Error {
        let named =
            conflicts.iter().take(5).map(|one| format!("\"{}\" of {}: {}", one.id, one.table.title(), one.error.summary()));
        let deletion = self.deletion;
        first
            .error
            .clone()
            .reworded(format!("deletion {deletion} cannot be undone: not all of its records can come back"))
            .detail(named.collect::<Vec<_>>().join("; "))
            .hint(format!("SELECT * FROM tombstone.undo({deletion}, dry_run => true) lists every conflict."))
    }
}

/// The keys, each once, in their order.
fn distinct(keys: &[Key]) -> Vec<Key> {
    let mut seen = HashSet::new();
    keys.iter().filter(|key| seen.insert(key.text.as_str())).cloned().collect()
}

fn keys_in(deletion: i64, table: &Table, bin: &Bin, by_cascade: bool) -> Result<Vec<Key>> {
    let is = if by_cascade { "=" } else { "<>" };
    let own = &bin.own;
    let sql = format!(
        "SELECT {} FROM {} AS t WHERE t.{} OPERATOR(pg_catalog.=) $1 AND t.{} OPERATOR(pg_catalog.{is}) 'cascade'",
        cascade::columns(&table.id),
        bin.sql(),
        own.deletion.sql(),
        own.cause.sql(),
    );
    let statement = Statement::new(sql, [pg_sys::INT8OID]);
    let found = table.as_owner(|| by_index(|| statement.value_rows(&[deletion.into()])))?;
    // SAFETY: just read from the id columns.
    Ok(found.into_iter().map(|values| Key { text: unsafe { table.key_text(&values) }, values }).collect())
}

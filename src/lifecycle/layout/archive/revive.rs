//! Bringing back what a deletion took: out of the bins, into the tables, parents before children. Tables that refer to each other in
//! a circle are written by one statement: Postgres checks their foreign keys at its end.

use std::collections::HashSet;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::awaited::awaiting;
use super::orphans;
use super::parts::by_index;
use crate::backend::ident::ident;
use crate::backend::identity::{may_insert, row_security_binds};
use crate::backend::query::Statement;
use crate::backend::stash::{self, Stash};
use crate::error::{Error, Result};
use crate::lifecycle::cascade::{self, Referred};
use crate::lifecycle::discretion::withholding;
use crate::lifecycle::layout::returning;
use crate::lifecycle::rows::{Clause, Rows, columns_equal};
use crate::lifecycle::{owners, unlinked};
use crate::log::account::{self, Cause};
use crate::table::key::Key;
use crate::table::triggers::RETURN_TRIGGER;
use crate::table::{Bin, Column, ForeignKey, OnDelete, Table, by_oid};

/// Which tombstones of one deletion.
#[derive(Clone)]
pub enum Which {
    All,
    Keys(Rc<[Key]>),
}

/// Which tombstones of a record that the deletion took more than once: it was there again in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twice {
    /// There is no such record.
    None,
    /// The first one, which is the record as it was before the deletion.
    First,
    Last,
}

/// Tombstones of one deletion in one bin.
#[derive(Clone)]
pub struct Lot {
    pub table: Rc<Table>,
    pub which: Which,
    pub twice: Twice,
    /// Whether only those that a foreign key took, or only those that somebody deleted; `None`: all.
    pub by_cascade: Option<bool>,
}

/// Brings back a lot, and what fell with it along foreign keys; returns how many rows of the lot itself came back. To whoever asks for
/// a record also come back the children that somebody deleted with it, as they have to where a foreign key does not do it by itself.
pub fn with_what_fell(deletion: i64, lot: Lot) -> Result<u64> {
    let is_asked = account::current().cause == Cause::User;
    let mut lots = vec![lot];
    let mut next = 0;
    while let Some(parent) = lots.get(next).cloned() {
        next += 1;
        for key in parent.table.children.iter().filter(|key| key.on_delete != OnDelete::Wait) {
            let child = by_oid(key.child)?;
            let Some(bin) = child.bin() else { continue };
            let parents = values_of(deletion, &parent, key)?;
            if parents.is_empty() {
                continue;
            }
            let mut known: HashSet<String> = lots.iter().filter(|lot| lot.table.oid == child.oid).flat_map(Lot::ids).collect();
            let by_cascade = (key.on_delete == OnDelete::Cascade).then_some((true, Cause::Cascade));
            let by_somebody = (is_asked && may_insert(child.oid)).then_some((false, Cause::User));
            for (by_cascade, cause) in by_cascade.into_iter().chain(by_somebody) {
                let mut fallen = fallen(deletion, &child, bin, key, &parents, cause)?;
                fallen.retain(|key| known.insert(key.text.clone()));
                if !by_cascade {
                    let owned = owners::owned_of(&child, &fallen, Some(deletion))?;
                    fallen = fallen.into_iter().zip(owned).filter_map(|(key, owned)| owned.then_some(key)).collect();
                }
                if !fallen.is_empty() {
                    let (table, which) = (Rc::clone(&child), Which::Keys(fallen.into()));
                    lots.push(Lot { table, which, twice: Twice::Last, by_cascade: Some(by_cascade) });
                }
            }
        }
    }
    orphans::leave_out(deletion, &mut lots)?;
    let back = all(deletion, &lots)?;
    // What was not written by foreign key alone came back on the same account as the first lot.
    let others = in_order(&lots).into_iter().filter(|group| !group.iter().all(|i| lots[*i].fell())).flatten();
    if lots.first().is_some_and(|lot| !lot.fell()) {
        cascade::note_followed(others.filter(|i| *i > 0).map(|i| back[i]).sum());
    }
    Ok(back.first().copied().unwrap_or(0))
}

/// Brings back these lots; returns how many rows of each came back.
pub fn all(deletion: i64, lots: &[Lot]) -> Result<Vec<u64>> {
    let all = || {
        let mut back = vec![0; lots.len()];
        for group in in_order(lots) {
            let members: Vec<&Lot> = group.iter().map(|i| &lots[*i]).collect();
            for (i, rows) in group.iter().zip(together(deletion, &members)?) {
                back[*i] = rows;
            }
        }
        unlinked::put_back(deletion, lots)?;
        Ok(back)
    };
    returning::scope(|| awaiting(deletion, lots, all))
}

impl Lot {
    pub fn is_empty(&self) -> bool {
        matches!(&self.which, Which::Keys(keys) if keys.is_empty())
    }

    /// Without the records `ids`.
    pub fn leave(&mut self, ids: &HashSet<String>) {
        if let Which::Keys(keys) = &mut self.which {
            *keys = keys.iter().filter(|key| !ids.contains(&key.text)).cloned().collect();
        }
    }

    pub fn bin(&self) -> Result<&Bin> {
        self.table.bin().ok_or_else(|| Error::not_ready(format!("table {} has no archive any more", self.table.title())))
    }

    fn ids(&self) -> Vec<String> {
        match &self.which {
            Which::All => Vec::new(),
            Which::Keys(keys) => keys.iter().map(|key| key.text.clone()).collect(),
        }
    }

    /// Whether a foreign key took it.
    fn fell(&self) -> bool {
        self.by_cascade == Some(true)
    }

    /// What picks its rows in the bin known as `t`: more to join with, the condition, and the parameters.
    pub fn clause<'a>(&self, deletion: i64) -> Result<(String, String, Vec<pg_sys::Oid>, Vec<DatumWithOid<'a>>)> {
        let own = &self.bin()?.own;
        let (mut from, mut condition, mut types, mut arguments) = (String::new(), String::new(), vec![], vec![]);
        if let Which::Keys(keys) = &self.which {
            let rows = Rows::Records(keys);
            let Clause { from: more, condition: same, types: of_keys, .. } = rows.clause(&self.table);
            (from, condition, types, arguments) = (more, format!("{same} AND "), of_keys, rows.arguments(&self.table));
        }
        types.push(pg_sys::INT8OID);
        arguments.push(deletion.into());
        condition += &format!("t.{} OPERATOR(pg_catalog.=) ${}", own.deletion.sql(), types.len());
        if let Some(by_cascade) = self.by_cascade {
            let is = if by_cascade { "=" } else { "<>" };
            condition += &format!(" AND t.{} OPERATOR(pg_catalog.{is}) 'cascade'", own.cause.sql());
        }
        condition += &only(self.twice, &self.table, self.bin()?)?;
        Ok((from, condition, types, arguments))
    }

    /// Its rows, out of the bin.
    fn take(&self, deletion: i64) -> Result<Option<Stash>> {
        let bin = self.bin()?;
        let (from, condition, types, arguments) = self.clause(deletion)?;
        let using = if from.is_empty() { String::new() } else { format!(" USING {from}") };
        let columns = cascade::columns(&bin.columns);
        let sql = format!("DELETE FROM {} AS t{using} WHERE {condition} RETURNING {columns}", bin.sql());
        let take = || Stash::of(&Statement::new(sql, types), &arguments);
        returning::taking_out(|| self.table.as_owner(|| by_index(take)))
    }

    /// The stamp of the deletion, by which its events are known.
    fn stamp(&self, deletion: i64) -> Result<i64> {
        let bin = self.bin()?;
        let own = &bin.own;
        let sql = format!(
            "SELECT {} FROM {} WHERE {} OPERATOR(pg_catalog.=) $1 LIMIT 1",
            own.deleted_at.sql(),
            bin.sql(),
            own.deletion.sql()
        );
        let statement = Statement::new(sql, [pg_sys::INT8OID]);
        let row = self.table.as_owner(|| by_index(|| statement.first_row(&[deletion.into()])))?;
        Ok(row.and_then(|row| row.first().map(|stamp| stamp.value().cast_signed() as i64)).unwrap_or_default())
    }
}

/// That the row of the bin known as `t` is the first, or the last, that its deletion left of the record: more of a condition. A bin
/// grows at its end only, so what one transaction deleted stands there in the order in which it did so. Two things can change that: a
/// TRUNCATE after a DELETE in that transaction, whose rows go wherever there is room, and a CLUSTER of the partition.
pub fn only(twice: Twice, table: &Table, bin: &Bin) -> Result<String> {
    let comes_before = match twice {
        Twice::None => return Ok(String::new()),
        Twice::First => "<",
        Twice::Last => ">",
    };
    let Some(columns) = bin.identity_of(table)? else { return Ok(String::new()) };
    let same = columns_equal(&columns, "o", |i| format!("t.{}", columns[i].sql()));
    Ok(format!(
        " AND NOT EXISTS (SELECT FROM {0} AS o WHERE {same} AND o.{1} OPERATOR(pg_catalog.=) t.{1} AND o.ctid OPERATOR(pg_catalog.{comes_before}) t.ctid)",
        bin.sql(),
        bin.own.deletion.sql(),
    ))
}

/// What comes back into one table: the rows of each of its lots, one after the other.
struct Returning<'a> {
    table: &'a Table,
    bin: &'a Bin,
    stamp: i64,
    lots: Vec<(usize, Stash)>,
}

impl Returning<'_> {
    /// The statement that inserts them, each lot under its name. A domain may have got a check since that was not asked of them.
    fn insert(&self) -> String {
        let columns = self.bin.columns.iter().map(|column| column.sql()).collect::<Vec<_>>().join(", ");
        let value = |column: &Column| match column.type_of.has_domain() {
            true => column.type_of.checked(&column.sql()),
            false => column.sql(),
        };
        let values = self.bin.columns.iter().map(value).collect::<Vec<_>>().join(", ");
        let rows = self.lots.iter().map(|(i, _)| format!("SELECT {values} FROM {}", ident(&name(*i))));
        let rows = rows.collect::<Vec<_>>().join(" UNION ALL ");
        format!("INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE {rows}", self.table.sql())
    }

    fn rows(&self) -> u64 {
        self.lots.iter().map(|(_, stash)| stash.rows()).sum()
    }

    /// Writes the rows again as they were, where a trigger that fires after ours has changed them. Not where row security has been
    /// asked, about the rows as changed: its answer is no answer about these.
    fn set_right(&self, is_checked: bool) -> Result<()> {
        let table = self.table;
        let key: Vec<&Column> = table.id.iter().chain(&table.version).collect();
        let is_key = |column: &Column| key.iter().any(|one| one.name == column.name);
        let row = |alias: &str| {
            let values = self.bin.columns.iter().map(|column| format!("{alias}.{}", column.sql()));
            format!("ROW({})::pg_catalog.record", values.collect::<Vec<_>>().join(", "))
        };
        let set = self.bin.columns.iter().filter(|column| !is_key(column)).map(|column| format!("{0} = s.{0}", column.sql()));
        let set = set.collect::<Vec<_>>().join(", ");
        let same = columns_equal(key.iter().copied(), "t", |i| format!("s.{}", key[i].sql()));
        let (target, is, was) = (table.sql(), row("t"), row("s"));
        for (i, stash) in &self.lots {
            let (name, rows) = (name(*i), ident(&name(*i)));
            let write =
                format!("UPDATE {target} AS t SET {set} FROM {rows} AS s WHERE {same} AND {is} OPERATOR(pg_catalog.*<>) {was}");
            let missing = format!(
                "SELECT FROM {rows} AS s WHERE NOT EXISTS (SELECT FROM {target} AS t WHERE {same} AND {is} OPERATOR(pg_catalog.*=) {was})"
            );
            let named = [(name, stash)];
            if !set.is_empty() {
                let write = || table.as_owner_firing(|| stash::run(&write, &named));
                let written = withholding(&[table], || returning::keeping(write))?;
                if is_checked && written > 0 {
                    return Err(unchecked(table, written));
                }
            }
            let missing = table.as_owner(|| stash::run(&missing, &named))?;
            if missing > 0 {
                return Err(changed(table, missing));
            }
        }
        Ok(())
    }
}

/// Brings back lots whose tables refer to each other, or one.
fn together(deletion: i64, lots: &[&Lot]) -> Result<Vec<u64>> {
    let tables = taken_out(deletion, lots)?;
    let mut back = vec![0; lots.len()];
    let Some((last, before)) = tables.split_last() else { return Ok(back) };
    let first = before.iter().enumerate().map(|(i, table)| format!("w{i} AS ({})", table.insert())).collect::<Vec<_>>();
    let with = if first.is_empty() { String::new() } else { format!("WITH {} ", first.join(", ")) };
    let sql = format!("{with}{}", last.insert());
    let stashes = || tables.iter().flat_map(|table| &table.lots);
    let named: Vec<(String, &Stash)> = stashes().map(|(i, stash)| (name(*i), stash)).collect();
    let readers = |table: &Returning| table.lots.iter().map(|(_, stash)| stash.reader()).collect();
    let rows = tables.iter().map(|table| (table.table.number, table.stamp, readers(table))).collect();
    // What somebody deleted comes back with the rights of whoever asks; what fell with it, with its owner's, as it went.
    let write = || stash::run(&sql, &named);
    let all: Vec<&Table> = tables.iter().map(|table| table.table).collect();
    let fallen = || withholding(&all, || last.table.as_owner_firing(write));
    let fell = lots.iter().all(|lot| lot.fell());
    let (written, passed) = returning::inserting(rows, fell, || match (fell, account::current().cause) {
        (false, _) => write(),
        (true, Cause::Undo) => fallen(),
        (true, _) => account::as_cascade(fallen),
    });
    written?;
    for (table, (passed, had_later_trigger)) in tables.iter().zip(passed) {
        if passed < table.rows() {
            return Err(cancelled(table.table, table.rows() - passed));
        }
        if had_later_trigger {
            table.set_right(!fell && row_security_binds(table.table.oid))?;
        }
    }
    for (i, stash) in stashes() {
        back[*i] = stash.rows();
    }
    Ok(back)
}

/// The rows of these lots, out of their bins, by table; without those that have none.
fn taken_out<'a>(deletion: i64, lots: &[&'a Lot]) -> Result<Vec<Returning<'a>>> {
    let mut tables: Vec<Returning> = Vec::new();
    for (i, lot) in lots.iter().enumerate() {
        let stamp = lot.stamp(deletion)?;
        let Some(stash) = lot.take(deletion)? else { continue };
        match tables.iter_mut().find(|table| table.table.oid == lot.table.oid) {
            Some(table) => table.lots.push((i, stash)),
            None => tables.push(Returning { table: &lot.table, bin: lot.bin()?, stamp, lots: vec![(i, stash)] }),
        }
    }
    Ok(tables)
}

/// What SQL calls the rows of a lot. No table can have that name, as Postgres keeps what begins with pg_temp for itself.
fn name(i: usize) -> String {
    format!("tombstone returning {i}")
}

thread_local! {
    static BEFORE_INSERT: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(tgname), ', ' ORDER BY tgname) FROM pg_catalog.pg_trigger
         WHERE tgrelid = $1 AND tgtype & 7 = 7 AND tgenabled <> 'D' AND tgname <> $2::pg_catalog.name
             AND (NOT $3 OR tgname > $2::pg_catalog.name)",
        [pg_sys::OIDOID, pg_sys::TEXTOID, pg_sys::BOOLOID],
    )));
}

/// The triggers that fire before INSERT, besides ours; all of them, or those that come after it.
fn before_insert(table: &Table, after_ours: bool) -> Option<String> {
    let arguments = [table.oid.into(), RETURN_TRIGGER.into(), after_ours.into()];
    let names = BEFORE_INSERT.with(|statement| statement.rows(&arguments, |row| Ok(row.get::<String>(1)?)));
    names.ok().and_then(|names| names.into_iter().flatten().next())
}

/// 55000: the rows are back, and are not what they were.
fn changed(table: &Table, rows: u64) -> Error {
    let rows = match rows {
        1 => format!("a record of table {} did not come back as it was", table.title()),
        _ => format!("{rows} records of table {} did not come back as they were", table.title()),
    };
    let names = before_insert(table, true).unwrap_or_else(|| "of a partition".into());
    Error::not_ready(rows)
        .detail(format!("A trigger that fires before INSERT, and after {RETURN_TRIGGER}, changes what comes back: {names}."))
        .hint(format!("ALTER TRIGGER … ON {} RENAME TO …; triggers fire in the order of their names.", table.title()))
}

/// 42501: the rows are back, and row security was asked about others.
fn unchecked(table: &Table, rows: u64) -> Error {
    let changed = changed(table, rows);
    Error::denied(format!("row security cannot be asked about what comes back into table {}", table.title()))
        .detail(changed.summary())
        .hint(format!(
            "Restore as a role that row security does not bind; or ALTER TRIGGER … ON {} RENAME TO ….",
            table.title()
        ))
}

/// 55000: the rows are on their way, and do not arrive.
fn cancelled(table: &Table, rows: u64) -> Error {
    let names = before_insert(table, false);
    let rows = if rows == 1 { "a record".to_string() } else { format!("{rows} records") };
    let error = Error::not_ready(format!("{rows} of table {} did not come back", table.title()));
    match names {
        Some(names) => error
            .detail(format!("A trigger that fires before INSERT cancelled the write: {names}."))
            .hint("Such a trigger returns NULL. Disable it, then try again."),
        None => error
            .detail("The table's own triggers did not fire: they are disabled, or session_replication_role is replica.")
            .hint(format!("ALTER TABLE {} ENABLE TRIGGER USER; RESET session_replication_role;", table.title())),
    }
}

/// The places of the lots, parents before children; those whose tables refer to each other in a circle, or are one table, together.
pub fn in_order(lots: &[Lot]) -> Vec<Vec<usize>> {
    let count = lots.len();
    let mut below: Vec<Vec<bool>> = (0..count)
        .map(|i| (0..count).map(|j| lots[i].table.children.iter().any(|key| key.child == lots[j].table.oid)).collect())
        .collect();
    for middle in 0..count {
        for from in 0..count {
            for to in 0..count {
                below[from][to] |= below[from][middle] && below[middle][to];
            }
        }
    }
    // Of one table, what fell comes apart from what somebody deleted: triggers are told by it what they may change.
    let alike = |i: usize, j: usize| lots[i].table.oid == lots[j].table.oid && lots[i].fell() == lots[j].fell();
    let same = |i: usize, j: usize| i == j || alike(i, j) || below[i][j] && below[j][i];
    let mut left: Vec<usize> = (0..count).collect();
    let mut groups = Vec::new();
    while let Some(first) = left.iter().copied().find(|i| !left.iter().any(|j| below[*j][*i] && !same(*i, *j))) {
        let (group, rest) = left.into_iter().partition(|i| same(first, *i));
        groups.push(group);
        left = rest;
    }
    groups
}

/// The values by which children refer to the rows of a lot.
pub fn values_of(deletion: i64, parent: &Lot, key: &ForeignKey) -> Result<Referred> {
    let bin = parent.bin()?;
    let (from, condition, types, arguments) = parent.clause(deletion)?;
    let find = || Referred::from_bin(&bin.sql(), &from, &condition, types, &arguments, &key.parent_columns);
    parent.table.as_owner(|| by_index(find))
}

/// The keys of the children along this foreign key that the deletion took for this cause.
fn fallen(deletion: i64, child: &Table, bin: &Bin, key: &ForeignKey, parents: &Referred, cause: Cause) -> Result<Vec<Key>> {
    let mut types = parents.types();
    types.push(pg_sys::INT8OID);
    let sql = format!(
        "SELECT DISTINCT {} FROM {} AS t, {} WHERE {} AND t.{} OPERATOR(pg_catalog.=) ${} AND t.{} OPERATOR(pg_catalog.=) '{}'",
        cascade::columns(&child.id),
        bin.sql(),
        parents.rows_from(),
        parents.equal_children(key),
        bin.own.deletion.sql(),
        types.len(),
        bin.own.cause.sql(),
        cause.name(),
    );
    let mut arguments = parents.arguments();
    arguments.push(deletion.into());
    let found = child.as_owner(|| by_index(|| Statement::new(sql, types).value_rows(&arguments)))?;
    // SAFETY: just read from the id columns.
    Ok(found.into_iter().map(|values| unsafe { child.key_of(values) }).collect())
}

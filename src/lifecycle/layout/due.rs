//! Rows whose age is up, found and taken, in whichever relation they are. The rule's expression is its owner's: run this with the
//! owner's rights, in a security-restricted operation; and in our settings, where a time without a zone is UTC.

use pgrx::datum::{DatumWithOid, Interval, TimestampWithTimeZone};
use pgrx::pg_sys;

use super::sql::alias_beside;
use super::{DueRow, Summary};
use crate::backend::query::Statement;
use crate::backend::spool::Spool;
use crate::backend::stamp::stamp_argument;
use crate::error::Result;
use crate::lifecycle::rows::{key_equals, keys_from};
use crate::lifecycle::rule::{Action, KeptVersions, Rule};
use crate::table::key::{Key, columns_of};
use crate::table::{Purpose, Table};

/// Where the rows of one rule are, and what taking them means.
pub struct Due<'a> {
    pub table: &'a Table,
    pub rule: &'a Rule,
    /// What follows FROM, and the alias in it: what the rule's expression calls a row.
    pub target: String,
    pub alias: String,
    /// What a row must be besides old enough.
    pub condition: Option<String>,
    /// The moment that a row's age counts from: a timestamptz, a timestamp or a date. A cast would fail at a date for which there is no
    /// timestamp, and keep an index away; compared with a timestamptz, each is what it is.
    pub counts_from: String,
    /// The column that tells the tombstones of one id apart, where there may be several.
    pub deletion: Option<String>,
    /// The statement that takes rows, up to its WHERE.
    pub take: String,
}

impl Due<'_> {
    /// What is due, but for the records `but`: read in one go, so that a table without a fitting index is read once.
    pub fn spooled(&self, but: &[Key]) -> Result<Spool> {
        let mut spool = Spool::new(&self.types());
        spool.fill(&self.find("due", &self.names()), &self.find_arguments(but)?)?;
        Ok(spool)
    }

    pub fn summary(&self, but: &[Key]) -> Result<Summary> {
        let moment = |which| format!("pg_catalog.{which}({})::pg_catalog.timestamptz", self.counts_from);
        let counted = format!("pg_catalog.count(*), {}, {}", moment("min"), moment("max"));
        let rows = self.find("summary", &counted).rows(&self.find_arguments(but)?, |row| {
            Ok(Summary { rows: row.get(1)?.unwrap_or_default(), oldest: row.get(2)?, newest: row.get(3)? })
        })?;
        Ok(rows.into_iter().next().unwrap_or(Summary { rows: 0, oldest: None, newest: None }))
    }

    pub fn lock(&self, rows: &[DueRow]) -> Result<Vec<DueRow>> {
        // FOR UPDATE, of an expiry as well: it also keeps away from a row that others are just referring to.
        let statement = self.take_statement("lock", |due| {
            format!("SELECT {} FROM {} WHERE {due} FOR UPDATE OF {} SKIP LOCKED", self.names(), self.target, self.alias)
        });
        statement.value_rows(&self.take_arguments(rows)?)
    }

    pub fn take(&self, rows: &[DueRow]) -> Result<u64> {
        let statement = self.take_statement("take", |due| format!("{} WHERE {due}", self.take));
        statement.execute(&self.take_arguments(rows)?)
    }

    /// The types of what names a row: its id, its version, its deletion.
    pub fn types(&self) -> Vec<pg_sys::Oid> {
        let id = self.table.id.iter().map(|column| column.type_of.base());
        id.chain(self.numbers().map(|_| pg_sys::INT8OID)).collect()
    }

    /// What names a row besides its id: whole numbers, all of them.
    fn numbers(&self) -> impl Iterator<Item = String> {
        self.table.version.iter().map(|column| column.sql()).chain(self.deletion.clone())
    }

    /// A statement that finds `what` of the rows that are due, but for those whose keys it gets.
    fn find(&self, purpose: &'static str, what: &str) -> std::rc::Rc<Statement> {
        self.table.planned_statement(Purpose(purpose, self.rule.action.name(), 0), || {
            let mut types: Vec<pg_sys::Oid> = self.table.id.iter().map(|column| column.type_of.array()).collect();
            let but = self.among(types.len(), false);
            types.push(pg_sys::TIMESTAMPTZOID);
            let (due, named) = (self.is_due(types.len()), self.is_named());
            (format!("SELECT {what} FROM {} WHERE {due} AND {named} AND NOT ({but})", self.target), types)
        })
    }

    fn find_arguments<'d>(&self, but: &[Key]) -> Result<Vec<DatumWithOid<'d>>> {
        let mut arguments = columns_of(self.table, but);
        arguments.push(limit(self.rule)?);
        Ok(arguments)
    }

    /// A statement about those of the rows it gets that are due still, made by `build` of that condition.
    fn take_statement(&self, purpose: &'static str, build: impl FnOnce(&str) -> String) -> std::rc::Rc<Statement> {
        self.table.planned_statement(Purpose(purpose, self.rule.action.name(), 0), || {
            let mut types: Vec<pg_sys::Oid> = self.table.id.iter().map(|column| column.type_of.array()).collect();
            types.extend(self.numbers().map(|_| pg_sys::INT8ARRAYOID));
            let these = self.among(types.len(), true);
            types.push(pg_sys::TIMESTAMPTZOID);
            (build(&format!("{these} AND {}", self.is_due(types.len()))), types)
        })
    }

    fn take_arguments<'d>(&self, rows: &[DueRow]) -> Result<Vec<DatumWithOid<'d>>> {
        let id = &self.table.id;
        let array = |i: usize| rows.iter().map(|row| row[i]).collect();
        let mut arguments: Vec<_> = id.iter().enumerate().map(|(i, column)| column.type_of.array_of(array(i))).collect();
        for i in id.len()..id.len() + self.numbers().count() {
            // An int8 is its 64 bits.
            let numbers: Vec<i64> = rows.iter().map(|row| row[i].value().cast_signed() as i64).collect();
            arguments.push(numbers.into());
        }
        arguments.push(limit(self.rule)?);
        Ok(arguments)
    }

    /// That the row is among those that the first `count` parameters name. Where these are several, in a subselect of their own: the
    /// rule's expression must see nothing beside the table.
    fn among(&self, count: usize, with_numbers: bool) -> String {
        if count == 1 {
            return key_equals(self.table, &self.alias, |_| "ANY ($1)".into());
        }
        let keys = alias_beside(&self.alias);
        let mut same = key_equals(self.table, &self.alias, |i| format!("{keys}.c{i}"));
        for (i, column) in self.numbers().enumerate().filter(|_| with_numbers) {
            same += &format!(" AND {}.{column} OPERATOR(pg_catalog.=) {keys}.c{}", self.alias, self.table.id.len() + i);
        }
        format!("EXISTS (SELECT FROM {} WHERE {same})", keys_from(keys, count))
    }

    /// That the row is due: that its age counts from before the limit in parameter `limit`, or is up by what the row itself says.
    fn is_due(&self, limit: usize) -> String {
        let condition = self.condition.as_ref().map_or(String::new(), |condition| format!("{condition} AND "));
        let counts_from = &self.counts_from;
        let is_old = format!("{counts_from} OPERATOR(pg_catalog.<) ${limit}");
        if let Some(keeps) = &self.rule.keeps {
            return format!("{condition}({is_old} OR {})", self.is_outdated(keeps));
        }
        let Some(sooner) = &self.rule.sooner else { return format!("{condition}{is_old}") };
        // Where it is no tombstone its own age is nobody's business, and is not computed. An age that no date can have, of one row, is not
        // to keep the others: less than nothing is nothing.
        format!(
            "{condition}{counts_from} IS NOT NULL AND ({is_old} OR {counts_from} OPERATOR(pg_catalog.<)
             (pg_catalog.now() OPERATOR(pg_catalog.-)
              GREATEST(LEAST(({sooner}\n), '4000 years'::pg_catalog.interval), '0'::pg_catalog.interval)))"
        )
    }

    /// That the row is a version which nothing keeps: there are enough newer live ones, and it is old.
    fn is_outdated(&self, keeps: &KeptVersions) -> String {
        let Some(version) = &self.table.version else { return "false".into() };
        let (alias, newer, version) = (&self.alias, alias_beside(&self.alias), version.sql());
        let same = key_equals(self.table, newer, |i| format!("{alias}.{}", self.table.id[i].sql()));
        let is_old = keeps.younger_than.as_ref().map_or(String::new(), |age| {
            let limit = format!("pg_catalog.now() OPERATOR(pg_catalog.-) LEAST({}, '4000 years')", interval(age));
            format!(" AND {} OPERATOR(pg_catalog.<) ({limit})", self.counts_from)
        });
        format!(
            "(EXISTS (SELECT FROM {} WHERE {same} AND {newer}.{version} OPERATOR(pg_catalog.>) {alias}.{version} AND {} OFFSET {}){is_old})",
            target(self.table, newer),
            self.table.is_live(newer),
            keeps.newest - 1
        )
    }

    /// That no part of what names the row is NULL, whatever has become of its columns since they were found fit.
    fn is_named(&self) -> String {
        let columns = self.table.id.iter().chain(&self.table.version);
        columns.map(|column| format!("{}.{} IS NOT NULL", self.alias, column.sql())).collect::<Vec<_>>().join(" AND ")
    }

    /// What names a row: id, version, deletion.
    fn names(&self) -> String {
        let id = self.table.id.iter().map(|column| format!("{}.{}", self.alias, column.sql()));
        id.chain(self.numbers().map(|column| format!("{}.{column}::pg_catalog.int8", self.alias)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

thread_local! {
    // Beyond 4,000 years there is no date to count from.
    static LIMIT: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.now() OPERATOR(pg_catalog.-) LEAST($1, '4000 years'::pg_catalog.interval)", [pg_sys::INTERVALOID],
    )));
}

/// What is older is due, in this transaction. Worked out once: the planner may then know how many rows that are.
fn limit<'a>(rule: &Rule) -> Result<DatumWithOid<'a>> {
    let limit = LIMIT.with(|statement| statement.rows(&[rule.after.into()], |row| Ok(row.get::<TimestampWithTimeZone>(1)?)))?;
    Ok(stamp_argument(limit.into_iter().flatten().next().map(|limit| limit.into_inner())))
}

/// The moment that a row of `alias` says its age counts from, where the rule has an expression for it; `deleted_at` of a tombstone. A
/// live one without either never gets old.
pub fn counts_from(rule: &Rule, deleted_at: impl FnOnce() -> String) -> String {
    match (&rule.from, rule.action) {
        (Some(from), _) => format!("({from}\n)"),
        (None, Action::Purge) => deleted_at(),
        (None, Action::Expire) => "NULL::pg_catalog.timestamptz".into(),
    }
}

/// An interval as SQL. PostgreSQL 14 reads no text of as many microseconds as there may be.
fn interval(age: &Interval) -> String {
    format!(
        "(pg_catalog.make_interval(0, {}, 0, {}) OPERATOR(pg_catalog.+) ('1 microsecond'::pg_catalog.interval OPERATOR(pg_catalog.*) ({})))",
        age.months(),
        age.days(),
        age.micros()
    )
}

/// The table, by the name that the rule's expression has for its rows. Tables that inherit from it are none of ours: our triggers do not see their rows.
pub fn target(table: &Table, alias: &str) -> String {
    let only = if table.is_partitioned { "" } else { "ONLY " };
    format!("{only}{} AS {alias}", table.sql())
}

/// What the rule's expression calls a row, as SQL.
pub fn alias(table: &Table, rule: &Rule) -> String {
    rule.expression().map_or_else(|| table.alias(), |expression| table.alias_in(expression))
}

/// Whether what expires is purged at once, and leaves no tombstone. Where a foreign key refers to the table it does: the tombstone
/// comes first, and children are kept for as long as their own table says.
pub fn skips_tombstones(table: &Table, rule: &Rule) -> bool {
    rule.action == Action::Expire && rule.keeps_nothing && !table.is_referred_to
}

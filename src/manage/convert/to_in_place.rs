//! Back to in_place, in one transaction that has the tables to itself: what is in the bins becomes tombstones of the tables again, and
//! the bins go. Of a conversion to archive that is under way, or was broken off, it is the end: the copies go, and nothing has changed.

use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use pgrx::{Spi, pg_sys};

use super::group::{self, Member};
use super::{counted, tell, tell_truncate};
use crate::backend::procedure::transaction;
use crate::backend::query::Statement;
use crate::backend::relation::{LockFor, keeper, lock};
use crate::backend::subtransaction::reworded;
use crate::error::{Error, Result};
use crate::lifecycle::rows::columns_equal;
use crate::log::run;
use crate::manage::bin::{self, run_as};
use crate::manage::doors::forget_all;
use crate::manage::{adopt, live_view, triggers, unique, validate};
use crate::settings::in_our_settings;
use crate::table::options::{IN_PLACE, Options};
use crate::table::{Bin, Column, Marker, Table, by_oid, catalog};

/// What came back to one table.
struct Back {
    title: String,
    rows: i64,
    column: String,
    now: &'static str,
}

pub fn run(table: pg_sys::Oid) -> Result<()> {
    for Back { title, rows, column, now } in transaction(|| in_our_settings(|| convert(table)))? {
        let message = format!("table {title} has layout in_place: {} moved back to it", counted(rows.unsigned_abs()));
        tell(message, format!("UPDATE … SET {column} = {now} is the soft delete, and DELETE purges."));
    }
    Ok(())
}

fn convert(table: pg_sys::Oid) -> Result<Vec<Back>> {
    if !Member::of(table)?.is_archived() {
        end_conversion(table)?;
        return Ok(Vec::new());
    }
    let members = group::locked(&group::above(table)?, table, LockFor::Ending)?;
    if let Some(member) = members.iter().find(|member| !member.is_archived()) {
        return Err(Error::changed(format!("table {} was converted by another session", member.relation.title())));
    }
    let others = group::others(&members, table);
    if !others.is_empty() {
        notice!("converted together with {}: {others}, by ON DELETE CASCADE", catalog::title(table));
    }
    let returning = members.iter().map(Returning::of).collect::<Result<Vec<_>>>()?;
    returning.iter().try_for_each(Returning::refuse_conflicts)?;
    let states = members.iter().map(|member| trigger_states(member.relation.oid)).collect::<Result<Vec<_>>>()?.concat();
    // What is deferred would be asked when nobody is there any more to word its answer.
    Spi::run("SET CONSTRAINTS ALL IMMEDIATE")?;
    run_as(keeper(), &states.iter().filter_map(TriggerState::sleep).collect::<Vec<_>>())?;
    reworded(|| insert(&returning), cannot_come_back)??;
    returning.iter().try_for_each(Returning::refuse_lost)?;
    run_as(keeper(), &states.iter().map(TriggerState::restore).collect::<Vec<_>>())?;
    let mut back = Vec::new();
    for Returning { member, options, rows, deleted_at, .. } in &returning {
        change_layout(member, options)?;
        back.push(Back {
            title: member.relation.title(),
            rows: *rows,
            column: quote_identifier(&deleted_at.column().name),
            now: deleted_at.now(),
        });
    }
    Ok(back)
}

fn change_layout(member: &Member, options: &Options) -> Result<()> {
    let table = member.relation.oid;
    if let Some(bin) = member.bin.map(catalog::relation).transpose()?.flatten() {
        triggers::detach_archive(member.number, &member.relation, &bin)?;
        catalog::update(table, options)?;
        adopt::keep_options(&member.relation)?;
        catalog::set_bin(table, None)?;
        forget_all(table)?;
        bin::discard(bin.oid)?;
    }
    live_view::leave_out_tombstones(&member.relation, options)?;
    tell_truncate(member, options.truncate.as_deref());
    unique::tell_of_tombstones(&member.relation, options)
}

/// Of a table whose layout is in_place.
fn end_conversion(table: pg_sys::Oid) -> Result<()> {
    let members = group::locked(&group::below(table)?, table, LockFor::Configuring)?;
    if members.iter().all(|member| member.relation.oid != table || member.bin.is_none()) {
        notice!("table {} has layout in_place already", catalog::title(table));
        return Ok(());
    }
    for member in &members {
        if let Some(process) = run::at_it(member.number, "convert")? {
            return Err(Error::not_ready(format!("table {} is being converted by another session", member.relation.title()))
                .detail(format!("Its process is {process}."))
                .hint("End that first, with pg_cancel_backend()."));
        }
        let Some(bin) = member.bin else { continue };
        catalog::set_bin(member.relation.oid, None)?;
        forget_all(member.relation.oid)?;
        bin::discard(bin)?;
        notice!("table {} stays in_place: its conversion is ended", member.relation.title());
    }
    Ok(())
}

/// A table that gets its tombstones back.
struct Returning<'a> {
    member: &'a Member,
    table: std::rc::Rc<Table>,
    /// What they will be.
    options: Options,
    rows: i64,
    deleted_at: Marker,
}

impl<'a> Returning<'a> {
    fn of(member: &'a Member) -> Result<Returning<'a>> {
        let table = by_oid(member.relation.oid)?;
        let before = member.options.clone();
        let truncate = before.truncate.clone().filter(|truncate| truncate == "refuse");
        let options = Options { layout: Some(IN_PLACE.into()), deleted_at: None, truncate, ..before };
        let name = options.marker().to_string();
        let Some(attribute) = member.relation.attribute(&name) else {
            let title = member.relation.title();
            return Err(Error::not_ready(format!("table {title} has no column {name}"))
                .detail("With layout in_place it says which rows are tombstones.")
                .hint(format!("ALTER TABLE {title} ADD COLUMN {} timestamptz;", quote_identifier(&name))));
        };
        let deleted_at = validate::marker(&member.relation, attribute)?;
        let options = validate::complete(&member.relation, options)?;
        let mut returning = Returning { member, table, options, rows: 0, deleted_at };
        let bin = returning.bin()?;
        lock(bin.oid, LockFor::Ending);
        returning.rows = returning.number(&format!("SELECT pg_catalog.count(*) FROM {}", bin.sql()))?;
        Ok(returning)
    }

    fn bin(&self) -> Result<&Bin> {
        self.table.bin().ok_or_else(|| Error::not_ready(format!("table {} has no archive any more", self.table.title())))
    }

    fn number(&self, sql: &str) -> Result<i64> {
        let read = || Statement::new(sql, []).rows(&[], |row| Ok(row.get::<i64>(1)?.unwrap_or_default()));
        Ok(self.table.evaluating(read)?.into_iter().sum())
    }

    /// What stands before the table's name where rows of the table itself are meant.
    fn only(&self) -> &'static str {
        if self.table.is_partitioned { "" } else { "ONLY " }
    }

    /// How many rows of the table are tombstones, or would be.
    fn marked(&self) -> Result<i64> {
        let (only, table, column) = (self.only(), self.table.sql(), self.deleted_at.sql());
        self.number(&format!("SELECT pg_catalog.count(*) FROM {only}{table} WHERE {column} IS NOT NULL"))
    }

    /// 55000 where the table has not got each of them: the bin, where they all are, is about to go. The application's triggers sleep,
    /// but its rules do not.
    fn refuse_lost(&self) -> Result<()> {
        let (title, marked) = (self.table.title(), self.marked()?);
        if marked == self.rows {
            return Ok(());
        }
        let read = || RULES.with(|statement| statement.rows(&[self.table.oid.into()], |row| Ok(row.get::<String>(1)?)));
        let rules: Vec<String> = self.table.evaluating(read)?.into_iter().flatten().collect();
        let hint = match rules.first() {
            Some(rule) => format!(
                "Look at what is done ON INSERT by: {}. ALTER TABLE {title} DISABLE RULE {rule}; then CALL it again.",
                rules.join(", ")
            ),
            None => format!("Look for a rule, a trigger or a policy that keeps rows out of {title}, or hides them."),
        };
        Err(Error::not_ready(format!("table {title} did not take its tombstones back"))
            .detail(format!(
                "Its archive has {}; the table got {marked} of them. Nothing has changed.",
                counted(self.rows.unsigned_abs())
            ))
            .hint(hint))
    }

    /// 55000 where a live row would become a tombstone, or a record would have more rows than a table can have of it.
    fn refuse_conflicts(&self) -> Result<()> {
        let (table, bin, title) = (&self.table, self.bin()?, self.table.title());
        let only = self.only();
        let marked = self.marked()?;
        if marked > 0 {
            let name = &self.deleted_at.column().name;
            return Err(Error::not_ready(format!("column {name} of table {title} is set in live rows"))
                .detail(format!("Such rows: {marked}. With layout in_place they would be tombstones."))
                .hint(format!("UPDATE {title} SET {} = NULL; or delete them first.", quote_identifier(name))));
        }
        let key: Vec<&Column> = table.id.iter().chain(&table.version).collect();
        let same = |other: &str| columns_equal(key.iter().copied(), "b", |i| format!("{other}.{}", key[i].sql()));
        let own = &bin.own;
        let stays = format!(
            "FROM {bin} AS b WHERE EXISTS (SELECT FROM {only}{table} AS t WHERE {in_table})
             OR EXISTS (SELECT FROM {bin} AS o WHERE {in_bin} AND (o.{stamp}, o.{deletion}) OPERATOR(pg_catalog.>) (b.{stamp}, b.{deletion}))",
            bin = bin.sql(),
            table = table.sql(),
            in_table = same("t"),
            in_bin = same("o"),
            stamp = own.deleted_at.sql(),
            deletion = own.deletion.sql(),
        );
        let count = self.number(&format!("SELECT pg_catalog.count(*) {stays}"))?;
        if count == 0 {
            return Ok(());
        }
        let columns = table.id.iter().map(|column| format!("b.{}", column.sql())).collect::<Vec<_>>().join(", ");
        let first = table
            .evaluating(|| Statement::new(format!("SELECT {columns} {stays} ORDER BY {columns} LIMIT 1"), []).first_row(&[]))?;
        // SAFETY: just read from the id columns.
        let first = first.map(|values| unsafe { table.key_text(&values) }).unwrap_or_default();
        Err(Error::not_ready(format!("{} of table {title} cannot come back to it", counted(count.unsigned_abs())))
            .detail(format!(
                "Record \"{first}\", for one, is live, or has a later tombstone: in place a record stands in the table once."
            ))
            .hint(format!("Keep them elsewhere if they are wanted, and purge them: DELETE FROM {} WHERE …;", bin.title())))
    }

    /// The statement that brings them back.
    fn insert(&self) -> Result<String> {
        let bin = self.bin()?;
        let marker = &self.deleted_at;
        let columns = bin.columns.iter().filter(|column| column.name != marker.column().name).map(|column| column.sql());
        let columns = columns.collect::<Vec<_>>().join(", ");
        Ok(format!(
            "INSERT INTO {} ({columns}, {}) OVERRIDING SYSTEM VALUE SELECT {columns}, {} FROM {}",
            self.table.sql(),
            marker.sql(),
            marker.holding(&bin.own.deleted_at.sql()),
            bin.sql()
        ))
    }
}

/// Brings all of them back: in one statement, as tables may refer to each other in a circle, and Postgres checks their foreign keys at
/// its end; where they have several owners, parents first.
fn insert(returning: &[Returning]) -> Result<()> {
    let inserts = returning.iter().map(Returning::insert).collect::<Result<Vec<_>>>()?;
    let Some((last, before)) = returning.split_last().zip(inserts.split_last()).map(|((table, _), sqls)| (table, sqls)) else {
        return Ok(());
    };
    if returning.iter().any(|other| other.table.owner != last.table.owner) {
        let one = |(returning, sql): (&Returning, &String)| {
            returning.table.evaluating(|| Statement::new(sql, []).execute(&[]).map(drop))
        };
        return returning.iter().zip(&inserts).try_for_each(one);
    }
    let (insert, others) = before;
    let others = others.iter().enumerate().map(|(i, sql)| format!("w{i} AS ({sql})")).collect::<Vec<_>>();
    let with = if others.is_empty() { String::new() } else { format!("WITH {} ", others.join(", ")) };
    last.table.evaluating(|| Statement::new(format!("{with}{insert}"), []).execute(&[]).map(drop))
}

/// In our words, with Postgres' own behind them.
fn cannot_come_back(error: Error) -> Error {
    let why = error.summary();
    let hint = match error.is_foreign_key() {
        true => "Convert the table that they refer to first; or purge from the archive what refers to nothing any more.",
        false => {
            "Purge the tombstones that are in the way from the archive, or change what they are in the way of; then CALL it again."
        }
    };
    error.reworded("what was deleted does not fit into its table as it is now").detail(why).hint(hint)
}

/// A trigger of a table or of a partition, and when it fires.
#[derive(Clone)]
struct TriggerState {
    table: String,
    name: String,
    enabled: String,
}

thread_local! {
    // Those that keep foreign keys and deferred constraints are not among them. The copies on partitions, which some versions call
    // internal, are.
    static TRIGGERS: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(t.tgname), t.tgenabled::pg_catalog.text
         FROM (SELECT $1 AS relid, 0 AS level
               UNION SELECT p.relid::pg_catalog.oid, p.level FROM pg_catalog.pg_partition_tree($1) AS p) AS tree
         JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.relid AND (NOT t.tgisinternal OR t.tgconstraint = 0)
         JOIN pg_catalog.pg_class c ON c.oid = tree.relid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         ORDER BY tree.level, tree.relid, t.tgname",
        [pg_sys::OIDOID],
    )));
}

thread_local! {
    static RULES: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.quote_ident(r.rulename) FROM pg_catalog.pg_rewrite r
         WHERE r.ev_class = $1 AND r.ev_type = '3' AND r.ev_enabled <> 'D' ORDER BY r.rulename",
        [pg_sys::OIDOID],
    )));
}

/// The triggers of the application, and ours, on a table and its partitions: the table's own first.
fn trigger_states(table: pg_sys::Oid) -> Result<Vec<TriggerState>> {
    let text = |row: &pgrx::spi::SpiHeapTupleData, i: usize| Ok::<_, Error>(row.get::<String>(i)?.unwrap_or_default());
    TRIGGERS.with(|statement| {
        statement
            .rows(&[table.into()], |row| Ok(TriggerState { table: text(row, 1)?, name: text(row, 2)?, enabled: text(row, 3)? }))
    })
}

impl TriggerState {
    fn sleep(&self) -> Option<String> {
        (self.enabled != "D").then(|| format!("ALTER TABLE {} DISABLE TRIGGER {}", self.table, self.name))
    }

    /// A table's partitions follow it, and are set right after.
    fn restore(&self) -> String {
        let how = match self.enabled.as_str() {
            "D" => "DISABLE",
            "R" => "ENABLE REPLICA",
            "A" => "ENABLE ALWAYS",
            _ => "ENABLE",
        };
        format!("ALTER TABLE {} {how} TRIGGER {}", self.table, self.name)
    }
}

//! One table's tombstones on their way to its bin: what a copy of each is, and which of the copies are right. Everything here is done
//! in the name of the table's owner, who owns the bin.

use std::collections::HashSet;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::backend::erase::erase;
use crate::backend::ident::literal;
use crate::backend::query::Statement;
use crate::backend::relation::{LockFor, lock};
use crate::backend::spool::Spool;
use crate::error::{Error, Result};
use crate::lifecycle::layout::DueRow;
use crate::lifecycle::readable_keys;
use crate::lifecycle::rows::{columns_equal, keys_from};
use crate::log::event::Told;
use crate::manage::validate;
use crate::table::key::columns_of;
use crate::table::{Bin, Column, ColumnType, Marker, OnDelete, Table, Tombstones, by_oid, catalog};

/// Who deleted what the log knows nothing of.
const UNKNOWN: &str = "unknown";

pub struct Copying {
    pub table: Rc<Table>,
    bin: Bin,
    deleted_at: Marker,
    /// What tells its rows apart.
    key: Vec<Column>,
}

impl Copying {
    /// The table `oid`, which is being converted; 55000 where it is not any more.
    pub fn of(oid: pg_sys::Oid) -> Result<Copying> {
        lock(oid, LockFor::Reading);
        let table = by_oid(oid)?;
        let (Tombstones::InPlace { deleted_at }, Some(bin), Some(relation)) =
            (&table.tombstones, catalog::bin_of(oid)?, catalog::relation(oid)?)
        else {
            return Err(Error::not_ready(format!("table {} is not being converted any more", table.title()))
                .hint("Another session has converted it, or has ended that, in the meantime."));
        };
        let (bin, deleted_at) = (Bin::load(bin, &relation)?, deleted_at.clone());
        let key = validate::telling_apart(&relation, &table.id, table.version.as_ref())?;
        Ok(Copying { table, bin, deleted_at, key })
    }

    pub fn bin(&self) -> pg_sys::Oid {
        self.bin.oid
    }

    /// How many tombstones have no copy, by their number.
    pub fn left(&self) -> Result<u64> {
        let tombstones = self.count(&format!("{} WHERE {}", self.source(), self.is_tombstone()))?;
        Ok(tombstones.saturating_sub(self.copies()?))
    }

    /// How many copies of them its bin has.
    pub fn copies(&self) -> Result<u64> {
        self.count(&self.bin.sql())
    }

    fn count(&self, of: &str) -> Result<u64> {
        let statement = Statement::new(format!("SELECT pg_catalog.count(*) FROM {of}"), []);
        let rows = self.table.evaluating(|| statement.rows(&[], |row| Ok(row.get::<i64>(1)?.unwrap_or_default())))?;
        Ok(rows.into_iter().sum::<i64>().unsigned_abs())
    }

    /// Copies what these entries of the log say of, where its tombstone is there and its copy is not; returns how many.
    pub fn copy_told(&self, entries: &[Told]) -> Result<u64> {
        let Some(told) = self.read(entries)? else { return Ok(0) };
        let table = &self.table;
        let (ids, mut types): (usize, Vec<pg_sys::Oid>) =
            (table.id.len(), table.id.iter().map(|column| column.type_of.array()).collect());
        types.extend([pg_sys::INT8ARRAYOID, stamps().array(), pg_sys::INT4ARRAYOID]);
        let of_rows = types.len();
        types.push(pg_sys::INT8ARRAYOID);
        types.extend([pg_sys::TEXTARRAYOID; 4]);
        let of_entries: Vec<String> = (of_rows + 1..=types.len()).map(|i| format!("pg_catalog.unnest(${i})")).collect();
        let mut same = columns_equal(&table.id, "t", |i| format!("k.c{i}"));
        if let Some(version) = &table.version {
            same += &format!(" AND t.{} OPERATOR(pg_catalog.=) k.c{ids}", version.sql());
        }
        let sql = format!(
            "{} SELECT {}, e.deletion, {stamp}, e.actor, e.cause, e.reason, e.app_actor
             FROM {}
             JOIN ROWS FROM ({}) WITH ORDINALITY AS e (deletion, actor, cause, reason, app_actor, n) ON e.n OPERATOR(pg_catalog.=) k.c{}
             JOIN {} ON {same} AND {}
             WHERE {}",
            self.insert(),
            self.values(),
            keys_from("k", of_rows),
            of_entries.join(", "),
            ids + 2,
            self.source(),
            self.deleted_at.bears("t", &format!("k.c{}", ids + 1)),
            self.has_no_copy(),
            stamp = self.deleted_at.stamp("t"),
        );
        let statement = Statement::new(sql, types).planned_each_time();
        self.writing(|| statement.execute(&told))
    }

    /// The arguments that say what the entries do; `None` where they name no record.
    fn read<'a>(&self, entries: &[Told]) -> Result<Option<Vec<DatumWithOid<'a>>>> {
        let table = &self.table;
        let (mut keys, mut versions, mut at, mut places) = (vec![], vec![], vec![], vec![]);
        let mut seen = HashSet::new();
        for (place, entry) in (1..).zip(entries) {
            let ids: Vec<&str> = entry.ids.iter().map(String::as_str).collect();
            for (i, key) in readable_keys(table, &ids)? {
                let version = entry.versions.get(i).copied();
                // The newest entry comes first, and of two that say the same it is the one.
                if seen.insert((key.text.clone(), version, self.deleted_at.held(entry.stamp))) {
                    keys.push(key);
                    versions.push(version);
                    at.push(pg_sys::Datum::from(entry.stamp));
                    places.push(place);
                }
            }
        }
        if keys.is_empty() {
            return Ok(None);
        }
        let places: Vec<i32> = places;
        let mut arguments = columns_of(table, &keys);
        arguments.push(versions.into());
        arguments.push(stamps().array_of(at));
        arguments.push(places.into());
        arguments.push(entries.iter().map(|entry| entry.deletion).collect::<Vec<_>>().into());
        arguments.push(entries.iter().map(|entry| entry.actor.clone()).collect::<Vec<_>>().into());
        arguments.push(entries.iter().map(|entry| entry.cause.clone()).collect::<Vec<_>>().into());
        arguments.push(entries.iter().map(|entry| entry.reason.clone()).collect::<Vec<_>>().into());
        arguments.push(entries.iter().map(|entry| entry.app_actor.clone()).collect::<Vec<_>>().into());
        Ok(Some(arguments))
    }

    /// What names the tombstones that have no copy, the oldest first: their keys, and their stamps behind them.
    pub fn without_copies(&self) -> Result<Spool> {
        let mut types: Vec<pg_sys::Oid> = self.key.iter().map(|column| column.type_of.base()).collect();
        types.push(pg_sys::TIMESTAMPTZOID);
        let mut spool = Spool::new(&types);
        let key = self.key.iter().map(|column| format!("t.{}", column.sql())).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT {key}, {} FROM {} WHERE {} AND {} ORDER BY t.{}",
            self.deleted_at.stamp("t"),
            self.source(),
            self.is_tombstone(),
            self.has_no_copy(),
            self.deleted_at.sql()
        );
        self.table.evaluating(|| spool.fill(&Statement::new(sql, []), &[]))?;
        Ok(spool)
    }

    /// Copies those of these rows that are so still, each by the deletion of its number; nobody knows whose they were.
    pub fn copy_unknown(&self, rows: &[(DueRow, i64)]) -> Result<u64> {
        if rows.is_empty() {
            return Ok(0);
        }
        let keys = self.key.len();
        let column = |i: usize| rows.iter().map(|(row, _)| row[i]).collect::<Vec<_>>();
        let of_stamps = stamps();
        let mut types: Vec<pg_sys::Oid> = self.key.iter().map(|column| column.type_of.array()).collect();
        let mut arguments: Vec<DatumWithOid> =
            self.key.iter().enumerate().map(|(i, key)| key.type_of.array_of(column(i))).collect();
        types.extend([of_stamps.array(), pg_sys::INT8ARRAYOID]);
        arguments.push(of_stamps.array_of(column(keys)));
        arguments.push(rows.iter().map(|(_, number)| *number).collect::<Vec<_>>().into());
        let sql = format!(
            "{} SELECT {}, k.c{}, {}, '{UNKNOWN}', {}, NULL, NULL FROM {} JOIN {} ON {} AND {}
             WHERE {}",
            self.insert(),
            self.values(),
            keys + 1,
            self.deleted_at.stamp("t"),
            self.cause()?,
            keys_from("k", types.len()),
            self.source(),
            columns_equal(&self.key, "t", |i| format!("k.c{i}")),
            self.deleted_at.bears("t", &format!("k.c{keys}")),
            self.has_no_copy(),
        );
        let statement = Statement::new(sql, types).planned_each_time();
        self.writing(|| statement.execute(&arguments))
    }

    /// The numbers of deletions that the log does not know, of which there are copies.
    pub fn numbers_given(&self) -> Result<Spool> {
        numbers_given(&self.table, &self.bin)
    }

    /// Makes the copies right that there are: those of what is no tombstone any more go, those of what has changed change. The table
    /// is locked.
    pub fn settle(&self) -> Result<()> {
        let (bin, source, same) = (self.bin.sql(), self.source(), self.is_copy());
        let (columns, values) = (self.bin.stored.iter(), self.value_list());
        let columns: Vec<String> = columns.map(|column| column.sql()).collect();
        let copied = columns.iter().map(|column| format!("b.{column}")).collect::<Vec<_>>().join(", ");
        let (columns, values) = (columns.join(", "), values.join(", "));
        let commands = [
            format!("DELETE FROM {bin} AS b WHERE NOT EXISTS (SELECT FROM {source} WHERE {same})"),
            format!(
                "UPDATE {bin} AS b SET ({columns}) = ROW ({values}) FROM {source}
                 WHERE {same} AND ROW ({values})::record OPERATOR(pg_catalog.*<>) ROW ({copied})::record"
            ),
        ];
        self.writing(|| commands.iter().try_for_each(|command| Statement::new(command, []).execute(&[]).map(drop)))
    }

    /// Takes the tombstones out of the table, where nobody hears of it; returns how many. The table is locked.
    pub fn take_out(&self) -> Result<u64> {
        let sql = format!("SELECT t.tableoid, t.ctid FROM {} WHERE {}", self.source(), self.is_tombstone());
        self.table.evaluating(|| erase(&Statement::new(sql, []), &[]))
    }

    /// One conversion writes at a time: so each sees what the other has copied.
    fn writing<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        lock(self.bin.oid, LockFor::Configuring);
        self.table.evaluating(act)
    }

    /// The table, as `t`. Tables that inherit from it are none of ours.
    fn source(&self) -> String {
        format!("{}{} AS t", if self.table.is_partitioned { "" } else { "ONLY " }, self.table.sql())
    }

    fn is_tombstone(&self) -> String {
        format!("t.{} IS NOT NULL", self.deleted_at.sql())
    }

    /// That the bin's row `b` is a copy of the table's row `t`.
    fn is_copy(&self) -> String {
        let key = columns_equal(&self.key, "t", |i| format!("b.{}", self.key[i].sql()));
        // The bin has what the column holds, to the microsecond.
        format!("{key} AND {}", self.deleted_at.bears("t", &format!("b.{}", self.bin.own.deleted_at.sql())))
    }

    fn has_no_copy(&self) -> String {
        format!("NOT EXISTS (SELECT FROM {} AS b WHERE {})", self.bin.sql(), self.is_copy())
    }

    fn insert(&self) -> String {
        let columns = self.bin.stored.iter().chain(self.bin.own.all()).map(|column| column.sql());
        format!("INSERT INTO {} ({})", self.bin.sql(), columns.collect::<Vec<_>>().join(", "))
    }

    fn values(&self) -> String {
        self.value_list().join(", ")
    }

    /// What the bin gets of the row `t`, column by column. Nothing marks a tombstone there; and what redaction names never gets there,
    /// though the table may have it of tombstones that are older than the option.
    fn value_list(&self) -> Vec<String> {
        let value = |column: &Column| {
            let kind = column.type_of.sql();
            if column.name == self.deleted_at.column().name {
                return format!("NULL::{kind}");
            }
            match self.table.redactions.iter().find(|redaction| redaction.column.name == column.name) {
                None => format!("t.{}", column.sql()),
                Some(redaction) => {
                    let text = redaction.text.as_ref().map_or("NULL".to_string(), |text| literal(text));
                    format!("{text}::{kind}")
                }
            }
        };
        self.bin.stored.iter().map(value).collect()
    }

    /// Why a row fell of which the log says nothing: with a parent of its own stamp, or for itself. restore() goes by it.
    fn cause(&self) -> Result<String> {
        let mut conditions = Vec::new();
        for key in self.table.references.iter().filter(|key| key.on_delete == OnDelete::Cascade) {
            let parent = by_oid(key.parent)?;
            let Tombstones::InPlace { deleted_at } = &parent.tombstones else { continue };
            if !may_read(self.table.owner, parent.oid)? {
                continue;
            }
            let same = key.parent_columns.iter().zip(&key.child_columns).zip(&key.operators);
            let same = same.map(|((parent, child), operator)| format!("p.{} {operator} t.{}", parent.sql(), child.sql()));
            conditions.push(format!(
                "EXISTS (SELECT FROM {} AS p WHERE {} AND {})",
                parent.sql(),
                same.collect::<Vec<_>>().join(" AND "),
                self.deleted_at.bears("t", &deleted_at.stamp("p")),
            ));
        }
        if conditions.is_empty() {
            return Ok("'user'".into());
        }
        Ok(format!("CASE WHEN {} THEN 'cascade' ELSE 'user' END", conditions.join(" OR ")))
    }
}

/// The deletions in a bin that the log does not know: the number of each before its stamp, in the order of the stamps.
pub fn numbers_given(table: &Table, bin: &Bin) -> Result<Spool> {
    let own = &bin.own;
    let sql = format!(
        "SELECT pg_catalog.min({}), {stamp} FROM {} WHERE {} OPERATOR(pg_catalog.=) '{UNKNOWN}' GROUP BY {stamp} ORDER BY {stamp}",
        own.deletion.sql(),
        bin.sql(),
        own.actor.sql(),
        stamp = own.deleted_at.sql(),
    );
    let mut spool = Spool::new(&[pg_sys::INT8OID, pg_sys::TIMESTAMPTZOID]);
    table.evaluating(|| spool.fill(&Statement::new(sql, []), &[]))?;
    Ok(spool)
}

fn stamps() -> ColumnType {
    ColumnType::new(pg_sys::TIMESTAMPTZOID, -1)
}

thread_local! {
    static MAY_READ: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT pg_catalog.has_table_privilege($1, $2, 'SELECT')", [pg_sys::OIDOID, pg_sys::OIDOID],
    )));
}

fn may_read(role: pg_sys::Oid, table: pg_sys::Oid) -> Result<bool> {
    let arguments = [role.into(), table.into()];
    let may = MAY_READ.with(|statement| statement.rows(&arguments, |row| Ok(row.get::<bool>(1)?.unwrap_or_default())))?;
    Ok(may.into_iter().all(|may| may))
}

//! Rows that are to come back, and stand in their bins still. Meanwhile a trigger of the application may make one like them, as it does for
//! every new parent: a profile for a new user. That one is left out, because the record is the one in the bin.

use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use super::parts::by_index;
use super::revive::Lot;
use crate::backend::own_table::own_statements;
use crate::backend::query::Statement;
use crate::error::Result;
use crate::lifecycle::cascade;
use crate::table::{Bin, Column, Table};

/// The rows of one lot.
struct Awaited {
    deletion: i64,
    lot: Lot,
    /// Read when it is asked for: mostly no trigger makes any row.
    keys: OnceCell<Vec<UniqueKey>>,
}

/// A unique key of a table, and what the awaited rows have in it.
struct UniqueKey {
    columns: Vec<Column>,
    values: HashSet<Vec<String>>,
}

thread_local! {
    static AWAITED: RefCell<Vec<Rc<Awaited>>> = const { RefCell::new(Vec::new()) };
}

own_statements! {
    // Of whole rows and of columns as they are: what else there may be to an index does not say which rows are alike.
    UNIQUE(OID) =
        "SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.n)
         FROM pg_catalog.pg_index i
         CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (attnum, n)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
         WHERE i.indrelid = $1 AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND k.n <= i.indnkeyatts
         GROUP BY i.indexrelid
         ORDER BY i.indexrelid";
}

/// Runs `act`, in the course of which these lots come back.
pub fn awaiting<T>(deletion: i64, lots: &[Lot], act: impl FnOnce() -> T) -> T {
    struct Before(usize);
    impl Drop for Before {
        fn drop(&mut self) {
            AWAITED.with_borrow_mut(|all| all.truncate(self.0));
        }
    }
    let awaited = lots.iter().map(|lot| Rc::new(Awaited { deletion, lot: lot.clone(), keys: OnceCell::new() }));
    let _before = AWAITED.with_borrow_mut(|all| {
        let before = all.len();
        all.extend(awaited);
        Before(before)
    });
    act()
}

/// Whether an awaited row of `table` has a unique key of a row that is about to be inserted; `value` is what that one has in a column.
pub fn is_like_one(table: &Table, value: impl Fn(&Column) -> Result<Option<String>>) -> Result<bool> {
    let of_table = |one: &&Rc<Awaited>| one.lot.table.oid == table.oid;
    let awaited: Vec<Rc<Awaited>> = AWAITED.with_borrow(|all| all.iter().filter(of_table).map(Rc::clone).collect());
    for one in awaited {
        for key in one.keys()? {
            let values = key.columns.iter().map(&value).collect::<Result<Option<Vec<_>>>>()?;
            if values.is_some_and(|values| key.values.contains(&values)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

impl Awaited {
    fn keys(&self) -> Result<&[UniqueKey]> {
        if self.keys.get().is_none() {
            let bin = self.lot.bin()?;
            let names: Vec<Vec<String>> = UNIQUE.rows(&[self.lot.table.oid.into()], |row| row.get(1))?;
            let keys = names.iter().filter_map(|names| columns_of(bin, names)).map(|columns| self.key(bin, columns));
            // Reading runs no trigger, so nobody else has set it.
            let _ = self.keys.set(keys.collect::<Result<_>>()?);
        }
        Ok(self.keys.get().map_or(&[], Vec::as_slice))
    }

    /// What the rows have in one key. One that has a NULL in it keeps no other from being there.
    fn key(&self, bin: &Bin, columns: Vec<Column>) -> Result<UniqueKey> {
        let (from, condition, types, arguments) = self.lot.clause(self.deletion)?;
        let from = if from.is_empty() { String::new() } else { format!(", {from}") };
        let sql = format!("SELECT {} FROM {} AS t{from} WHERE {condition}", cascade::columns(&columns), bin.sql());
        let statement = Statement::new(sql, types);
        let mut values = HashSet::new();
        let read = || {
            statement.each_row(&arguments, |row| {
                // SAFETY: just read from these columns.
                let texts = row
                    .iter()
                    .zip(&columns)
                    .map(|(value, column)| value.map(|value| unsafe { column.type_of.write_key(value) }));
                values.extend(texts.collect::<Option<Vec<_>>>());
            })
        };
        self.lot.table.as_owner(|| by_index(read))?;
        Ok(UniqueKey { columns, values })
    }
}

/// The columns of these names, if the bin has all of them.
fn columns_of(bin: &Bin, names: &[String]) -> Option<Vec<Column>> {
    names.iter().map(|name| bin.columns.iter().find(|column| column.name == *name).cloned()).collect()
}

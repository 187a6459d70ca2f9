//! The one way to the extension's own tables: named statements, which run in the keeper's name, and rows in which nothing is NULL
//! that may not be. Knows none of the tables, and touches them for others only: a table's statements stand in the file that writes
//! it (docs/architecture.md, "Who writes which own table").

use std::ops::ControlFlow;
use std::thread::LocalKey;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;
use pgrx::{FromDatum, IntoDatum};

use super::identity::acting_as;
use super::query::Statement;
use super::relation::keeper;
use super::transaction::with_snapshot;
use crate::error::{Error, Result};

/// The types of parameters, as `own_statements!` calls them.
pub mod parameter {
    pub use pgrx::pg_sys::{
        BOOLOID as BOOL, INT4ARRAYOID as INT4_ARRAY, INT4OID as INT4, INT8ARRAYOID as INT8_ARRAY, INT8OID as INT8,
        INTERVALOID as INTERVAL, NUMERICOID as NUMERIC, OIDARRAYOID as OID_ARRAY, OIDOID as OID, TEXTARRAYOID as TEXT_ARRAY,
        TEXTOID as TEXT, TIMESTAMPTZARRAYOID as TIMESTAMPTZ_ARRAY, TIMESTAMPTZOID as TIMESTAMPTZ,
    };
}

/// Declares statements on the extension's own tables: `NAME(TYPES OF PARAMETERS) = SQL;` each.
macro_rules! own_statements {
    ($($name:ident($($parameter:ident),*) $(.$option:ident())? = $sql:expr;)*) => {$(
        $crate::backend::own_table::own_statement! {
            $name = {
                use $crate::backend::query::Statement;
                let parameters: &[pgrx::pg_sys::Oid] = &[$($crate::backend::own_table::parameter::$parameter),*];
                Statement::new($sql, parameters)$(.$option())?
            }
        }
    )*};
}
pub(crate) use own_statements;

/// The same of a statement whose parameters are known at run time only.
macro_rules! own_statement {
    ($name:ident = $statement:expr) => {
        static $name: $crate::backend::own_table::OwnStatement = {
            thread_local! {
                static STATEMENT: &'static $crate::backend::query::Statement = Box::leak(Box::new($statement));
            }
            $crate::backend::own_table::OwnStatement(&STATEMENT)
        };
    };
}
pub(crate) use own_statement;

/// A statement on the extension's own tables, planned at first use and kept for the session.
pub struct OwnStatement(pub &'static LocalKey<&'static Statement>);

/// Rows fetched at once from what the running statement sees.
const FETCH: i64 = 64;

impl OwnStatement {
    /// Runs it.
    pub fn run(&self, arguments: &[DatumWithOid]) -> Result<()> {
        self.any(arguments).map(drop)
    }

    /// Runs it; whether it wrote or found a row.
    pub fn any(&self, arguments: &[DatumWithOid]) -> Result<bool> {
        self.with(|statement| Ok(statement.execute(arguments)? > 0))
    }

    /// Runs it; reads each row with `read`.
    pub fn rows<T>(&self, arguments: &[DatumWithOid], mut read: impl FnMut(OwnRow) -> Result<T>) -> Result<Vec<T>> {
        self.with(|statement| statement.rows(arguments, |row| read(OwnRow(row))))
    }

    /// The same in what is committed by now, and by this transaction. Reads only.
    pub fn rows_latest<T>(&self, arguments: &[DatumWithOid], mut read: impl FnMut(OwnRow) -> Result<T>) -> Result<Vec<T>> {
        self.with(|statement| statement.rows_latest(arguments, |row| read(OwnRow(row))))
    }

    /// The same of the first row; `None`: there is none.
    pub fn first<T>(&self, arguments: &[DatumWithOid], read: impl FnMut(OwnRow) -> Result<T>) -> Result<Option<T>> {
        Ok(self.rows(arguments, read)?.into_iter().next())
    }

    /// The same of a row that there always is.
    pub fn one<T>(&self, arguments: &[DatumWithOid], read: impl FnMut(OwnRow) -> Result<T>) -> Result<T> {
        self.first(arguments, read)?.ok_or_else(|| Error::misread("it found no row"))
    }

    /// The text in the first column of the first row of what is committed by now. Reads only.
    pub fn latest(&self, arguments: &[DatumWithOid]) -> Result<Option<String>> {
        self.with(|statement| statement.latest(arguments))
    }

    /// Reads rows as the statement that is running sees them. Reads only.
    pub fn rows_now<T>(&self, arguments: &[DatumWithOid], mut read: impl FnMut(OwnRow) -> Result<T>) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        let take = |row: &SpiHeapTupleData| {
            rows.push(read(OwnRow(row))?);
            Ok(ControlFlow::Continue(()))
        };
        self.with(|statement| statement.scan_rows(arguments, FETCH, take))?;
        Ok(rows)
    }

    /// Reads rows of what is committed by now, a few at a time, until `read` breaks off. Reads only.
    pub fn scan(&self, arguments: &[DatumWithOid], mut read: impl FnMut(OwnRow) -> Result<ControlFlow<()>>) -> Result<()> {
        with_snapshot(|| self.with(|statement| statement.scan_rows(arguments, FETCH, |row| read(OwnRow(row))).map(drop)))
    }

    fn with<T>(&self, act: impl FnOnce(&Statement) -> Result<T>) -> Result<T> {
        acting_as(keeper(), || self.0.with(|statement| act(statement)))
    }
}

/// A row of a result. Its columns are counted from 1.
#[derive(Clone, Copy)]
pub struct OwnRow<'a>(&'a SpiHeapTupleData<'a>);

impl<'a> OwnRow<'a> {
    /// The value of a column that is never NULL.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: usize) -> Result<T> {
        self.nullable(column)?.ok_or_else(|| Error::misread(format!("column {column} is NULL")))
    }

    /// The value of a column that may be NULL.
    pub fn nullable<T: FromDatum + IntoDatum>(&self, column: usize) -> Result<Option<T>> {
        Ok(self.0.get(column)?)
    }

    /// What is never NULL and always as `parse` knows it.
    pub fn parsed<T>(&self, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        let text: String = self.get(column)?;
        parse(&text).ok_or_else(|| Error::misread(format!("column {column} is \"{text}\"")))
    }

    /// A number that is never NULL, nor below 0.
    pub fn count(&self, column: usize) -> Result<u64> {
        let number: i64 = self.get(column)?;
        u64::try_from(number).map_err(|_| Error::misread(format!("column {column} is {number}")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;
    use std::{fs, io};

    /// The files that write each own table.
    type Writers = BTreeMap<String, BTreeSet<String>>;

    /// What a statement that writes begins with, up to the table's name, and what appends past SQL does.
    const WRITES: [&str; 8] = [
        "INSERT INTO tombstone.",
        "UPDATE tombstone.",
        "UPDATE ONLY tombstone.",
        "DELETE FROM tombstone.",
        "DELETE FROM ONLY tombstone.",
        "MERGE INTO tombstone.",
        "TRUNCATE tombstone.",
        "relation::append( c\"",
    ];

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// Every file below `folder`, by its path from the root.
    fn files(folder: &str) -> io::Result<Vec<String>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(root().join(folder))? {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                files.extend(self::files(&path)?);
            } else if Path::new(&path).extension().is_some_and(|kind| kind == "rs" || kind == "sql") {
                files.push(path);
            }
        }
        Ok(files)
    }

    /// The tables that `text`, of a file in Rust or SQL, writes; its tests do not count.
    fn written_by(text: &str) -> BTreeSet<String> {
        let is_comment = |line: &&str| ["//", "--"].iter().any(|mark| line.trim_start().starts_with(mark));
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code: Vec<&str> = text.lines().filter(|line| !is_comment(line)).flat_map(str::split_whitespace).collect();
        let code = code.join(" ").replace("append(c\"", "append( c\"");
        let name =
            |after: &str| after.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default().to_string();
        let all = WRITES.iter().flat_map(|write| code.match_indices(write).map(|(at, write)| name(&code[at + write.len()..])));
        all.filter(|table| !table.is_empty()).collect()
    }

    fn writers() -> io::Result<Writers> {
        let mut writers = Writers::new();
        for file in [files("src")?, files("sql")?].concat() {
            for table in written_by(&fs::read_to_string(root().join(&file))?) {
                writers.entry(table).or_default().insert(file.clone());
            }
        }
        Ok(writers)
    }

    /// What docs/architecture.md says: the table in the first column, and in the second each file that has a name in quotes.
    fn documented() -> io::Result<Writers> {
        let text = fs::read_to_string(root().join("docs/architecture.md"))?;
        let section = text.lines().skip_while(|line| *line != "## Who writes which own table").skip(1);
        let rows = section.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_string).collect::<BTreeSet<_>>();
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').collect();
            Some((
                quoted(cells.get(1)?).pop_first()?,
                quoted(cells.get(2)?).into_iter().filter(|name| name.contains('/')).collect(),
            ))
        };
        Ok(rows.filter_map(row).collect())
    }

    #[test]
    fn each_own_table_is_written_where_the_docs_say() -> io::Result<()> {
        assert_eq!(writers()?, documented()?, "left: what src/ and sql/ do; right: what docs/architecture.md says");
        Ok(())
    }

    #[test]
    fn what_writes_is_found() {
        let text =
            "let sql = \"WITH gone AS (DELETE FROM\n    tombstone.one o USING tombstone.four) UPDATE tombstone.two SET\";
            // UPDATE tombstone.five\n  relation::append(\n c\"three\", &[]); SELECT FROM tombstone.six FOR UPDATE";
        assert_eq!(written_by(text), ["one", "two", "three"].map(String::from).into());
    }
}

//! A probe: the function that puts a question to an outside source. It is the table owner's, and runs with the owner's rights and
//! nobody else's; what it raises is caught, and what takes too long is cancelled.

use std::collections::HashSet;
use std::time::Duration;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::quote_qualified_identifier;

use crate::backend::ident::qualified;
use crate::backend::identity::acting_as;
use crate::backend::query::Statement;
use crate::backend::relation::keeper;
use crate::backend::subtransaction::attempt_for_now;
use crate::backend::text_array::text_array;
use crate::backend::timeout::at_most_and_whether;
use crate::backend::transaction::with_memory;
use crate::error::{Error, Result};
use crate::table::Table;

/// What a source says of the ids it was asked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// So many of them are there.
    Count(u64),
    /// These of them are there.
    Listed(HashSet<String>),
}

/// What a probe returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returns {
    Count,
    Ids,
}

#[derive(Debug, Clone)]
pub struct Probe {
    name: String,
    /// The question, its parameter the ids.
    sql: String,
    returns: Returns,
    /// How long one question may take.
    timeout: Duration,
}

struct Function {
    schema: String,
    name: String,
    takes_ids: bool,
    returns: pg_sys::Oid,
    is_set: bool,
    owner_may: bool,
}

thread_local! {
    static FUNCTION: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT n.nspname::text, p.proname::text,
                p.prokind = 'f' AND p.provariadic = 0 AND p.pronargs = 1 AND p.proargtypes[0] = 'text[]'::regtype,
                p.prorettype, p.proretset, has_function_privilege($2, p.oid, 'EXECUTE') AND has_schema_privilege($2, n.oid, 'USAGE')
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = $1",
        [pg_sys::OIDOID, pg_sys::OIDOID],
    )));
    static NAMED: &'static Statement = Box::leak(Box::new(Statement::new(
        "SELECT to_regprocedure($1 || '(text[])')::oid", [pg_sys::TEXTOID],
    )));
}

impl Probe {
    /// The function `oid` as a probe for `table`; 22023 where it cannot be one, 42501 where the table's owner may not call it, 55000
    /// where there is no such function.
    pub fn new(table: &Table, oid: pg_sys::Oid, timeout: Duration) -> Result<Probe> {
        let function = function(oid, table.owner)?.ok_or_else(|| gone(table))?;
        let name = qualified(&function.schema, &function.name);
        let title = quote_qualified_identifier(&function.schema, &function.name);
        let returns = match (function.returns, function.is_set) {
            (pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID, false) => Returns::Count,
            (pg_sys::TEXTOID | pg_sys::VARCHAROID, true) => Returns::Ids,
            _ => return Err(no_probe(&title)),
        };
        if !function.takes_ids {
            return Err(no_probe(&title));
        }
        if !function.owner_may {
            return Err(Error::denied(format!("the owner of table {} may not call {title}", table.title()))
                .detail("A probe is called with the table owner's rights.")
                .hint("GRANT EXECUTE on the function, and USAGE on its schema, to the owner of the table."));
        }
        let sql = match returns {
            Returns::Count => format!("SELECT {name}($1)::pg_catalog.int8"),
            // One more than there can be is enough to know that it names what it was not asked after.
            Returns::Ids => {
                format!("SELECT DISTINCT p.id::pg_catalog.text FROM {name}($1) AS p (id) LIMIT pg_catalog.cardinality($1) + 1")
            }
        };
        Ok(Probe { name: title, sql, returns, timeout })
    }

    /// The same of a function that is known by its name.
    pub fn named(table: &Table, name: &str, timeout: Duration) -> Result<Probe> {
        let found = acting_as(keeper(), || {
            NAMED.with(|statement| statement.rows(&[name.into()], |row| Ok(row.get::<pg_sys::Oid>(1)?)))
        })?;
        Probe::new(table, found.into_iter().flatten().next().ok_or_else(|| gone(table))?, timeout)
    }

    /// Its name, as `named` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks which or how many of `ids` are there. An error leaves the transaction as it was before; a cancellation by somebody is
    /// one, too (`Error::is_cancellation`).
    pub fn ask(&self, table: &Table, ids: &[&str]) -> Result<Answer> {
        let call = || with_memory(|| attempt_for_now(|| self.call(table, ids)));
        let (answer, had_its_time) = at_most_and_whether(self.timeout, call);
        match answer {
            Err(error) if error.is_cancellation() && had_its_time => {
                Err(Error::no_answer(format!("the probe did not answer within {} s", self.timeout.as_secs_f64())))
            }
            Err(error) if error.is_undefined_name() => {
                let why = format!("{}; in a probe, names outside pg_catalog must be qualified", error.summary());
                Err(Error::no_answer(why))
            }
            answer => answer,
        }
    }

    fn call(&self, table: &Table, ids: &[&str]) -> Result<Answer> {
        // SAFETY: an array of text, typed as such.
        let argument = unsafe { DatumWithOid::new(text_array(ids.iter().map(|id| Some(*id))), pg_sys::TEXTARRAYOID) };
        // Planned each time: functions can be renamed, and what a plan costs is little beside a question to somebody outside.
        let statement = Statement::new(&self.sql, [pg_sys::TEXTARRAYOID]);
        table.evaluating(|| match self.returns {
            Returns::Count => {
                let counts = statement.rows(&[argument], |row| Ok(row.get::<i64>(1)?))?;
                let count = counts.into_iter().flatten().next().and_then(|count| u64::try_from(count).ok());
                count.map(Answer::Count).ok_or_else(|| Error::no_answer("the probe returned NULL, or less than nothing"))
            }
            Returns::Ids => {
                let ids = statement.rows(&[argument], |row| Ok(row.get::<String>(1)?))?;
                let ids: Option<HashSet<String>> = ids.into_iter().collect();
                ids.map(Answer::Listed).ok_or_else(|| Error::no_answer("the probe returned NULL among the ids"))
            }
        })
    }
}

fn function(oid: pg_sys::Oid, owner: pg_sys::Oid) -> Result<Option<Function>> {
    let found = acting_as(keeper(), || {
        FUNCTION.with(|statement| {
            statement.rows(&[oid.into(), owner.into()], |row| {
                Ok(Function {
                    schema: row.get(1)?.unwrap_or_default(),
                    name: row.get(2)?.unwrap_or_default(),
                    takes_ids: row.get(3)?.unwrap_or_default(),
                    returns: row.get(4)?.unwrap_or(pg_sys::InvalidOid),
                    is_set: row.get(5)?.unwrap_or_default(),
                    owner_may: row.get(6)?.unwrap_or_default(),
                })
            })
        })
    })?;
    Ok(found.into_iter().next())
}

fn gone(table: &Table) -> Error {
    Error::not_ready(format!("the probe of table {} is gone", table.title()))
        .detail("The function was dropped or renamed.")
        .hint("Name another one with tombstone.watch().")
}

fn no_probe(name: &str) -> Error {
    Error::invalid(format!("function {name} cannot be a probe"))
        .detail("A probe takes ids text[], and returns bigint, how many of them its source has, or setof text, which.")
        .hint("For example: CREATE FUNCTION probe(ids text[]) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM source WHERE id = ANY (ids)';")
}

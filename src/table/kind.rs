//! The kind that a table's events name: a constant, a column, or what an expression over the row says.

use pgrx::pg_sys;
use pgrx::spi::quote_identifier;

use super::catalog::Relation;
use super::{Column, Purpose, Table};
use crate::backend::ident::{ident, literal_value};
use crate::error::Result;

#[derive(Debug, Clone)]
pub enum Kind {
    None,
    Constant(String),
    Column(Column),
    /// Evaluated with the table owner's rights.
    Expression(String),
}

impl Kind {
    /// What the option `kind` says of rows of `relation`.
    pub fn of_option(kind: Option<&str>, relation: &Relation) -> Kind {
        let Some(text) = kind else { return Kind::None };
        if let Some(constant) = literal_value(text) {
            return Kind::Constant(constant);
        }
        // A bare name that SQL reads as a column, and whose values are text as they stand.
        let column = relation.attribute(text.trim()).map(|attribute| &attribute.column);
        match column {
            Some(column) if column.type_of.is_text() && quote_identifier(&column.name) == column.name => {
                Kind::Column(column.clone())
            }
            _ => Kind::Expression(text.to_string()),
        }
    }
}

impl Table {
    /// The kinds of `rows`, composite values of type `row_type`, in their order; of a table whose kind is an expression.
    pub fn kinds_of(&self, row_type: pg_sys::Oid, rows: pgrx::datum::DatumWithOid) -> Result<Vec<Option<String>>> {
        let Kind::Expression(expression) = &self.kind else { return Ok(Vec::new()) };
        let statement = self.statement(Purpose("kinds", "rows", row_type.to_u32()), || {
            let row = self.alias_in(expression);
            let sql = format!("SELECT ({expression}\n)::pg_catalog.text FROM pg_catalog.unnest($1) AS {row}");
            // SAFETY: a catalog look-up.
            (sql, vec![unsafe { pg_sys::get_array_type(row_type) }])
        });
        self.evaluating(|| statement.rows(&[rows], |row| Ok(row.get::<String>(1)?)))
    }

    /// The kind as SQL over a row of this table, NULL where it has none; and what it calls that row.
    pub fn kind_sql(&self) -> (String, String) {
        let kind = match &self.kind {
            Kind::None => "NULL::pg_catalog.text".to_string(),
            Kind::Constant(constant) => format!("{}::pg_catalog.text", crate::backend::ident::literal(constant)),
            Kind::Column(column) => format!("{}::pg_catalog.text", ident(&column.name)),
            Kind::Expression(expression) => {
                return (format!("({expression}\n)::pg_catalog.text"), self.alias_in(expression));
            }
        };
        (kind, self.alias())
    }
}

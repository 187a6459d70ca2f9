//! A record's key as values of its columns, next to its text.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use super::key_text::{compose, decompose};
use super::{Column, Table};
use crate::error::{Error, Result};

/// A key of one table: its columns' values, and its text in the one spelling the log and the holds use.
#[derive(Debug, Clone)]
pub struct Key {
    pub values: Vec<pg_sys::Datum>,
    pub text: String,
}

impl Table {
    /// The key that `id` names; 22023 where it can name none.
    pub fn key(&self, id: &str) -> Result<Key> {
        let columns: Vec<_> = self.id.iter().map(|column| (column.name.as_str(), column.type_of.json())).collect();
        let hint = |error: Error| match self.id.as_slice() {
            [only] => error.hint(format!("The id of {} is its column {}.", self.title(), only.name)),
            _ => error.hint(format!("The id of {} is a JSON object, such as {}.", self.title(), self.example())),
        };
        let texts = decompose(&columns, id).map_err(|wrong| hint(Error::invalid(format!("id \"{id}\" {wrong}"))))?;
        let mut values = Vec::with_capacity(texts.len());
        for (column, text) in self.id.iter().zip(&texts) {
            let what =
                if self.id.len() == 1 { format!("id \"{id}\"") } else { format!("member {} of id \"{id}\"", column.name) };
            values.push(self.read(column, text, &what).map_err(hint)?);
        }
        // SAFETY: just read as values of these types.
        Ok(unsafe { self.key_of(values) })
    }

    /// The key with these column values.
    ///
    /// # Safety
    /// `values` are values of the id columns, in their order.
    pub unsafe fn key_of(&self, values: Vec<pg_sys::Datum>) -> Key {
        // SAFETY: by contract of this function.
        Key { text: unsafe { self.key_text(&values) }, values }
    }

    /// To read a value is to run the checks of its parts, which are the code of whoever made the type: no reader lends it his rights.
    fn read(&self, column: &Column, text: &str, what: &str) -> Result<pg_sys::Datum> {
        if !column.type_of.has_parts() {
            return column.type_of.read_key(text, what);
        }
        self.evaluating(|| column.type_of.read_key(text, what))
    }

    /// The text of the key with these column values.
    ///
    /// # Safety
    /// `values` are values of the id columns, in their order.
    pub unsafe fn key_text(&self, values: &[pg_sys::Datum]) -> String {
        // SAFETY: by contract of this function.
        let texts = self.id.iter().zip(values).map(|(column, value)| unsafe { column.type_of.write_key(*value) });
        match self.id.len() {
            1 => texts.collect(),
            _ => {
                let columns: Vec<_> = self.id.iter().map(|column| (column.name.as_str(), column.type_of.json())).collect();
                compose(&columns, texts.collect())
            }
        }
    }

    fn example(&self) -> String {
        let members: Vec<String> = self.id.iter().map(|column| format!("\"{}\": …", column.name)).collect();
        format!("{{{}}}", members.join(", "))
    }
}

/// Array parameters of `keys`, one for each id column of `table`.
pub fn columns_of<'a>(table: &Table, keys: &[Key]) -> Vec<DatumWithOid<'a>> {
    let column = |i: usize| keys.iter().map(|key| key.values[i]).collect();
    table.id.iter().enumerate().map(|(i, id)| id.type_of.array_of(column(i))).collect()
}

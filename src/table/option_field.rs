//! What the fields of `Options` may be: how a value of each goes to SQL and comes from it, and how one is read from the text that
//! configure() is given. Knows none of the options.

use pgrx::datum::{DatumWithOid, Interval, JsonB};
use pgrx::{FromDatum, IntoDatum, pg_sys};
use serde_json::{Map, Value};

use super::ColumnType;
use crate::backend::own_table::OwnRow;
use crate::error::{Error, Result};

/// What configure() takes for a retention that never ends: NULL stands for the default.
pub const FOREVER: &str = "forever";

/// The type of a field.
pub trait Field: Sized {
    /// The type that carries it to SQL and back, where its column may be of another.
    const CARRIER: Carrier;

    /// Reads it from a column of a row, which may be NULL or not.
    fn read(row: OwnRow, column: usize, may_be_null: bool) -> Result<Self>;

    /// The argument that writes it.
    fn write(&self) -> DatumWithOid<'static>;
}

/// A type of Postgres, by the name and by the OID it has.
#[derive(Debug, Clone, Copy)]
pub struct Carrier {
    pub name: &'static str,
    pub oid: pg_sys::Oid,
}

/// A value that Rust and Postgres both have.
pub trait Carried: FromDatum + IntoDatum + Clone {
    const CARRIER: Carrier;
}

impl Carried for String {
    const CARRIER: Carrier = Carrier { name: "text", oid: pg_sys::TEXTOID };
}

impl Carried for Vec<String> {
    const CARRIER: Carrier = Carrier { name: "text[]", oid: pg_sys::TEXTARRAYOID };
}

impl Carried for Interval {
    const CARRIER: Carrier = Carrier { name: "interval", oid: pg_sys::INTERVALOID };
}

impl Carried for i32 {
    const CARRIER: Carrier = Carrier { name: "integer", oid: pg_sys::INT4OID };
}

/// `None`: NULL, or what is to be found out yet, if the column is never NULL.
impl<T: Carried> Field for Option<T> {
    const CARRIER: Carrier = T::CARRIER;

    fn read(row: OwnRow, column: usize, may_be_null: bool) -> Result<Self> {
        if may_be_null { row.nullable(column) } else { row.get(column).map(Some) }
    }

    fn write(&self) -> DatumWithOid<'static> {
        self.clone().into()
    }
}

impl Field for String {
    const CARRIER: Carrier = <String as Carried>::CARRIER;

    fn read(row: OwnRow, column: usize, _: bool) -> Result<Self> {
        row.get(column)
    }

    fn write(&self) -> DatumWithOid<'static> {
        self.clone().into()
    }
}

impl Field for Vec<String> {
    const CARRIER: Carrier = <Vec<String> as Carried>::CARRIER;

    fn read(row: OwnRow, column: usize, _: bool) -> Result<Self> {
        row.get(column)
    }

    fn write(&self) -> DatumWithOid<'static> {
        self.clone().into()
    }
}

impl Field for Map<String, Value> {
    const CARRIER: Carrier = Carrier { name: "jsonb", oid: pg_sys::JSONBOID };

    fn read(row: OwnRow, column: usize, _: bool) -> Result<Self> {
        match row.get::<JsonB>(column)?.0 {
            Value::Object(members) => Ok(members),
            other => Err(Error::misread(format!("column {column} is {other}, not an object"))),
        }
    }

    fn write(&self) -> DatumWithOid<'static> {
        JsonB(Value::Object(self.clone())).into()
    }
}

/// A text that may be left out.
pub fn text(_: &str, text: &str) -> Result<Option<String>> {
    Ok(Some(text.to_string()))
}

/// A text that may not.
pub fn word(_: &str, text: &str) -> Result<String> {
    Ok(text.to_string())
}

/// The names in a `name[]`: `{a,b}`, or one bare name.
pub fn names(_: &str, text: &str) -> Result<Option<Vec<String>>> {
    Ok(Some(split_names(text)))
}

/// The words in a `text[]`, none of them perhaps.
pub fn words(_: &str, text: &str) -> Result<Vec<String>> {
    Ok(split_names(text).into_iter().filter(|word| !word.is_empty()).collect())
}

/// The members of an object.
pub fn json(option: &str, text: &str) -> Result<Map<String, Value>> {
    let not_json = |error: serde_json::Error| Error::invalid(format!("option {option} is not JSON")).detail(error.to_string());
    match serde_json::from_str(text).map_err(not_json)? {
        Value::Object(members) => Ok(members),
        Value::Null => Ok(Map::new()),
        _ => Err(Error::invalid(format!("option {option} must be a JSON object, such as {{\"body\": \"\"}}"))),
    }
}

pub fn interval(option: &str, text: &str) -> Result<Option<Interval>> {
    let datum = ColumnType::new(pg_sys::INTERVALOID, -1).read(text, &format!("option {option}: \"{text}\""))?;
    // SAFETY: just read as an interval.
    Ok(unsafe { Interval::from_datum(datum, false) })
}

/// An interval, or 'forever'.
pub fn retention(option: &str, text: &str) -> Result<Option<Interval>> {
    if text == FOREVER { Ok(None) } else { interval(option, text) }
}

pub fn number(option: &str, text: &str) -> Result<Option<i32>> {
    let not_whole = |_| Error::invalid(format!("option {option} must be a whole number, not \"{text}\""));
    text.trim().parse().map(Some).map_err(not_whole)
}

fn split_names(text: &str) -> Vec<String> {
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(inner) = inner else { return vec![text.trim().to_string()] };
    let mut names = vec![String::new()];
    let (mut quoted, mut chars) = (false, inner.chars());
    while let Some(c) = chars.next() {
        let last = names.len() - 1;
        match c {
            '"' => quoted = !quoted,
            '\\' => names[last].extend(chars.next()),
            ',' if !quoted => names.push(String::new()),
            c if c.is_whitespace() && !quoted => (),
            c => names[last].push(c),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_whole() {
        assert_eq!(number("keep_versions", " 7 "), Ok(Some(7)));
        assert_eq!(
            number("keep_versions", "7.5"),
            Err(Error::invalid("option keep_versions must be a whole number, not \"7.5\""))
        );
    }

    #[test]
    fn json_is_an_object_or_null() {
        assert_eq!(json("redact", "{\"body\": \"\"}").map(|members| members.len()), Ok(1));
        assert_eq!(json("redact", "null"), Ok(Map::new()));
        assert!(json("redact", "[]").is_err());
        assert!(json("redact", "{").is_err());
    }

    #[test]
    fn names_are_an_array_or_one_name() {
        assert_eq!(split_names("id"), ["id"]);
        assert_eq!(split_names("{tenant, \"Order No\"}"), ["tenant", "Order No"]);
    }

    #[test]
    fn words_may_be_none() {
        assert_eq!(words("mute", "{expiry, retention}"), Ok(vec!["expiry".into(), "retention".into()]));
        assert_eq!(words("mute", "expiry"), Ok(vec!["expiry".into()]));
        assert_eq!(words("mute", "{}"), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn quoted_names_come_back(wanted in proptest::collection::vec("\\PC+", 1..4)) {
            let quoted = wanted.iter().map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
            let array = format!("{{{}}}", quoted.collect::<Vec<_>>().join(","));
            prop_assert_eq!(split_names(&array), wanted);
        }
    }
}

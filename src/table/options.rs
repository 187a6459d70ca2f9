//! The options of a managed table, as given and as stored. Pure but for the two Postgres types they carry.

use pgrx::datum::Interval;
use pgrx::pg_sys;
use serde_json::{Map, Value};

use super::Announce;
use crate::error::{Error, Result};

/// The `deleted_at` column where no other is named.
const DELETED_AT: &str = "deleted_at";
/// The layout whose tombstones stay in the table.
pub const IN_PLACE: &str = "in_place";
/// The layout whose tombstones go to a table of their own.
pub const ARCHIVE: &str = "archive";
/// The option `events` where creates and updates are events, too.
const ALL_EVENTS: &str = "all";
/// What configure() takes for an interval that never ends.
pub const FOREVER: &str = "forever";

/// Every option, by the name it has in manage(). `None` in layout, id and deleted_at: to be found out.
#[derive(Debug, Clone)]
pub struct Options {
    pub layout: Option<String>,
    pub id: Option<Vec<String>>,
    pub version: Option<String>,
    pub deleted_at: Option<String>,
    pub redact: Map<String, Value>,
    pub kind: Option<String>,
    pub owners: Option<String>,
    pub retention: Option<Interval>,
    pub expire_after: Option<Interval>,
    pub expire_from: Option<String>,
    pub events: String,
    pub notify: String,
    pub channel: String,
    pub event_retention: Option<Interval>,
    pub max_purge: Option<i64>,
}

impl Options {
    /// The name of the column that marks tombstones.
    pub fn marker(&self) -> &str {
        self.deleted_at.as_deref().unwrap_or(DELETED_AT)
    }

    /// Whether creates and updates are events, too.
    pub fn follows_creates(&self) -> bool {
        self.events == ALL_EVENTS
    }

    /// How events are announced.
    pub fn announce(&self) -> Result<Announce> {
        Announce::of_option(&self.notify)
            .ok_or_else(|| Error::misread(format!("option notify of a managed table is \"{}\"", self.notify)))
    }
}

/// What configure() is told to set an option to, read by what the option is.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// NULL: the default of manage().
    Reset,
    /// 'forever', for the two retentions.
    Forever,
    Text(String),
}

impl Setting {
    pub fn read(option: &str, value: Option<String>) -> Setting {
        match value {
            None => Setting::Reset,
            Some(value) if ["retention", "event_retention"].contains(&option) && value == FOREVER => Setting::Forever,
            Some(value) => Setting::Text(value),
        }
    }
}

/// Refuses a value that is not one of `allowed`, in words.
pub fn one_of(option: &str, value: &str, allowed: &[&str]) -> core::result::Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("option {option} must be one of {}, not \"{value}\"", allowed.join(", ")))
}

/// A number of records, as configure() takes it.
pub fn count(option: &str, text: &str) -> core::result::Result<i64, String> {
    text.trim().parse().map_err(|_| format!("option {option} must be a whole number, not \"{text}\""))
}

/// Whether a retention or age of `months`, `days` and `microseconds` is longer than nothing, months counted as 30 days.
pub fn is_positive(months: i32, days: i32, microseconds: i64) -> bool {
    let days = i128::from(months) * 30 + i128::from(days);
    days * 86_400_000_000 + i128::from(microseconds) > 0
}

/// The text that a `redact` value stands for in a column of type `kind`: JSON as JSON, all else by its own text.
pub fn redact_text(value: &Value, kind: pg_sys::Oid) -> Option<String> {
    match value {
        Value::Null => None,
        value if kind == pg_sys::JSONOID || kind == pg_sys::JSONBOID => Some(value.to_string()),
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    }
}

/// The names in a `name[]` as configure() takes it: `{a,b}`, or one bare name.
pub fn names(text: &str) -> Vec<String> {
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

/// Whether the word `name` occurs in an expression, in whatever case.
pub fn names_column(expression: &str, name: &str) -> bool {
    let of_a_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let (expression, name) = (expression.to_lowercase(), name.to_lowercase());
    expression.match_indices(&name).any(|(at, _)| {
        let before = expression[..at].chars().next_back();
        let after = expression[at + name.len()..].chars().next();
        !before.is_some_and(of_a_word) && !after.is_some_and(of_a_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn settings_are_read_by_what_the_option_is() {
        assert_eq!(Setting::read("retention", None), Setting::Reset);
        assert_eq!(Setting::read("retention", Some("forever".into())), Setting::Forever);
        assert_eq!(Setting::read("kind", Some("forever".into())), Setting::Text("forever".into()));
    }

    #[test]
    fn a_value_outside_the_list_is_named_with_the_list() {
        assert_eq!(one_of("events", "all", &["delete", "all"]), Ok(()));
        assert_eq!(
            one_of("events", "none", &["delete", "all"]),
            Err("option events must be one of delete, all, not \"none\"".into())
        );
    }

    #[test]
    fn intervals_compare_as_postgres_compares_them() {
        assert!(is_positive(0, 0, 1));
        assert!(is_positive(1, -29, 0));
        assert!(!is_positive(1, -30, 0));
        assert!(!is_positive(0, 0, 0));
        assert!(is_positive(i32::MAX, i32::MAX, i64::MAX));
    }

    #[test]
    fn redact_values_are_text_except_in_json_columns() {
        assert_eq!(redact_text(&Value::Null, pg_sys::TEXTOID), None);
        assert_eq!(redact_text(&"x".into(), pg_sys::TEXTOID), Some("x".into()));
        assert_eq!(redact_text(&7.into(), pg_sys::INT4OID), Some("7".into()));
        assert_eq!(redact_text(&"x".into(), pg_sys::JSONBOID), Some("\"x\"".into()));
    }

    #[test]
    fn a_column_is_named_as_a_word() {
        assert!(names_column("upper(Kind)", "kind"));
        assert!(names_column("t.\"kind\"", "kind"));
        assert!(!names_column("kinds || a_kind || mankind", "kind"));
    }

    #[test]
    fn names_are_an_array_or_one_name() {
        assert_eq!(names("id"), ["id"]);
        assert_eq!(names("{tenant, \"Order No\"}"), ["tenant", "Order No"]);
    }

    proptest! {
        #[test]
        fn quoted_names_come_back(wanted in proptest::collection::vec("\\PC+", 1..4)) {
            let quoted = wanted.iter().map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
            let array = format!("{{{}}}", quoted.collect::<Vec<_>>().join(","));
            prop_assert_eq!(names(&array), wanted);
        }
    }
}

//! The words of NOTIFY: seed 004's object first. Pure.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// Postgres takes payloads of less than 8,000 bytes.
pub const MOST_BYTES: usize = 7999;

/// What one record's event says to a listener: identity, never data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Payload<'a> {
    pub id: &'a str,
    pub kind: Option<&'a str>,
    pub op: &'a str,
    #[serde(rename = "deletionType", skip_serializing_if = "Option::is_none")]
    pub deletion_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<&'a str>,
    #[serde(flatten)]
    pub full: Option<Full<'a>>,
}

/// What a payload says besides, where the table's option `payload` is full: who did it, why and when.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Full<'a> {
    pub cause: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion: Option<i64>,
    #[serde(serialize_with = "to_the_microsecond")]
    pub at: DateTime<Utc>,
    /// The application's; the role is not told.
    #[serde(rename = "actor", skip_serializing_if = "Option::is_none")]
    pub app_actor: Option<&'a str>,
}

/// The moment of a stamp, in Postgres' microseconds since 2000.
pub fn moment(stamp: i64) -> DateTime<Utc> {
    const FROM_1970_TO_2000: i64 = 946_684_800_000_000;
    DateTime::from_timestamp_micros(stamp.saturating_add(FROM_1970_TO_2000)).unwrap_or_default()
}

/// As RFC 3339 has it, always of the same length: such texts sort as the moments do.
fn to_the_microsecond<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// What is left of a payload whose id or kind is too long for NOTIFY: that something happened, and where to look.
#[derive(Serialize)]
struct Truncated<'a> {
    op: &'a str,
    #[serde(rename = "deletionType", skip_serializing_if = "Option::is_none")]
    deletion_type: Option<&'a str>,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    #[serde(flatten)]
    full: Option<Full<'a>>,
}

impl Payload<'_> {
    /// The JSON object, in at most `most` bytes where `most` is enough for a truncated one.
    pub fn json(&self, most: usize) -> String {
        let whole = json(self);
        if whole.len() <= most {
            return whole;
        }
        let Payload { op, deletion_type, full, .. } = *self;
        let truncated = |cursor| json(&Truncated { op, deletion_type, truncated: true, cursor, full });
        Some(truncated(self.cursor)).filter(|json| json.len() <= most).unwrap_or_else(|| truncated(None))
    }
}

/// The same objects as JSON arrays, each array in at most `most` bytes.
pub fn arrays<'a>(payloads: impl Iterator<Item = Payload<'a>>, most: usize) -> Vec<String> {
    let mut arrays: Vec<String> = Vec::new();
    for payload in payloads {
        let object = payload.json(most - "[]".len());
        match arrays.last_mut().filter(|array| array.len() + ",]".len() + object.len() <= most) {
            Some(array) => {
                array.push(',');
                array.push_str(&object);
            }
            None => arrays.push(format!("[{object}")),
        }
    }
    arrays.iter_mut().for_each(|array| array.push(']'));
    arrays
}

/// A payload that Postgres will not take for one it has been given before: within a transaction it sends equal ones once.
/// What follows a JSON value as white space says nothing, here the number `turn`.
pub fn told_apart(mut json: String, turn: u64) -> String {
    if turn > 0 {
        let digits = format!("{turn:b}");
        if json.len() + digits.len() <= MOST_BYTES {
            json.extend(digits.chars().map(|digit| if digit == '0' { ' ' } else { '\t' }));
        }
    }
    json
}

fn json(value: &impl Serialize) -> String {
    // Text, numbers and nothing else: there is nothing in them that could fail.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WELLBORE: Payload = Payload {
        id: "opendes:Wellbore:id1",
        kind: Some("opendes:wks:master-data--Wellbore:1.0.0"),
        op: "delete",
        deletion_type: Some("soft"),
        version: None,
        restored: false,
        cursor: None,
        full: None,
    };

    #[test]
    fn the_object_of_seed_004() {
        let soft = r#"{"id":"opendes:Wellbore:id1","kind":"opendes:wks:master-data--Wellbore:1.0.0","op":"delete","deletionType":"soft"}"#;
        assert_eq!(WELLBORE.json(MOST_BYTES), soft);
        assert_eq!(Payload { deletion_type: Some("hard"), ..WELLBORE }.json(MOST_BYTES), soft.replace("soft", "hard"));
    }

    #[test]
    fn what_comes_after_the_four() {
        let version = Payload { kind: None, version: Some(3), cursor: Some("c"), ..WELLBORE };
        let wanted =
            r#"{"id":"opendes:Wellbore:id1","kind":null,"op":"delete","deletionType":"soft","version":3,"cursor":"c"}"#;
        assert_eq!(version.json(MOST_BYTES), wanted);
        let restored = Payload { id: "ä\"\n", kind: None, op: "update", deletion_type: None, restored: true, ..WELLBORE };
        assert_eq!(restored.json(MOST_BYTES), r#"{"id":"ä\"\n","kind":null,"op":"update","restored":true}"#);
    }

    #[test]
    fn an_id_too_long_leaves_what_fits() {
        let long = "x".repeat(9000);
        let payload = Payload { id: &long, cursor: Some("c"), ..WELLBORE };
        assert_eq!(payload.json(MOST_BYTES), r#"{"op":"delete","deletionType":"soft","truncated":true,"cursor":"c"}"#);
        let endless = Payload { cursor: Some(&long), ..payload };
        assert_eq!(endless.json(MOST_BYTES), r#"{"op":"delete","deletionType":"soft","truncated":true}"#);
    }

    #[test]
    fn a_full_one_says_why_and_when() {
        let full = Full { cause: "expiry", deletion: Some(7), at: moment(820_540_800_000_001), app_actor: None };
        let payload = Payload { kind: None, full: Some(full), cursor: Some("c"), ..WELLBORE };
        let four = r#"{"id":"opendes:Wellbore:id1","kind":null,"op":"delete","deletionType":"soft""#;
        let why = r#""cause":"expiry","deletion":7,"at":"2026-01-01T00:00:00.000001Z""#;
        assert_eq!(payload.json(MOST_BYTES), format!(r#"{four},"cursor":"c",{why}}}"#));
        let full = Full { cause: "user", deletion: None, at: moment(0), app_actor: Some("user \"42\"") };
        let who = r#""cause":"user","at":"2000-01-01T00:00:00.000000Z","actor":"user \"42\"""#;
        assert_eq!(Payload { kind: None, full: Some(full), ..WELLBORE }.json(MOST_BYTES), format!("{four},{who}}}"));
        // Where the id is too long it is still said why: whoever mutes a cause need not look.
        let long = Payload { id: &"x".repeat(9000), full: Some(full), ..WELLBORE };
        assert_eq!(long.json(MOST_BYTES), format!(r#"{{"op":"delete","deletionType":"soft","truncated":true,{who}}}"#));
    }

    #[test]
    fn equal_payloads_of_two_turns_differ_and_mean_the_same() {
        let json = WELLBORE.json(MOST_BYTES);
        assert_eq!(told_apart(json.clone(), 0), json);
        assert_ne!(told_apart(json.clone(), 1), told_apart(json.clone(), 2));
        assert_eq!(told_apart(json.clone(), 5).trim_end(), json);
    }

    proptest! {
        #[test]
        fn arrays_fit_and_lose_nothing(ids in proptest::collection::vec("\\PC{0,40}", 0..40), most in 100usize..400) {
            let payload = |id| Payload { id, kind: None, ..WELLBORE };
            let arrays = arrays(ids.iter().map(|id| payload(id)), most);
            prop_assert!(arrays.iter().all(|array| array.len() <= most));
            let objects: Vec<serde_json::Value> =
                arrays.iter().flat_map(|array| serde_json::from_str::<Vec<serde_json::Value>>(array).unwrap()).collect();
            prop_assert_eq!(objects.len(), ids.len());
            for (object, id) in objects.iter().zip(&ids) {
                prop_assert!(object["truncated"] == true || object["id"] == id.as_str());
            }
        }
    }
}

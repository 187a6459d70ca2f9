//! A record's key as text, and back. Pure: a key is the list of its columns' values, each in its type's own text form.
//!
//! One column: that text; bytes are their UTF-8 text, or `\x…` where they are none. Several columns: a JSON object.

use serde_json::{Map, Value};

/// How a key column's value is written in a composite key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Json {
    /// Integers: a JSON number.
    Number,
    Boolean,
    /// Everything else: the type's text in a JSON string.
    String,
}

/// The text of `values`, one for each of `columns`.
pub fn compose(columns: &[(&str, Json)], values: Vec<String>) -> String {
    debug_assert_eq!(columns.len(), values.len());
    match <[String; 1]>::try_from(values) {
        Ok([only]) => only,
        Err(values) => {
            let members = columns.iter().zip(values).map(|((name, json), value)| (name.to_string(), scalar(*json, value)));
            Value::Object(Map::from_iter(members)).to_string()
        }
    }
}

fn scalar(json: Json, text: String) -> Value {
    let read = match json {
        Json::Number => text.parse().ok().map(Value::Number),
        Json::Boolean => match text.as_str() {
            "t" => Some(Value::Bool(true)),
            "f" => Some(Value::Bool(false)),
            _ => None,
        },
        Json::String => None,
    };
    read.unwrap_or(Value::String(text))
}

/// The columns' values in `id`; `Err` says what is wrong with it, in words that follow "id … ".
pub fn decompose(columns: &[(&str, Json)], id: &str) -> Result<Vec<String>, String> {
    if columns.len() == 1 {
        return Ok(vec![id.to_string()]);
    }
    let wanted = || columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let Ok(Value::Object(mut members)) = serde_json::from_str(id) else {
        return Err(format!("is not a JSON object with the members {}", wanted()));
    };
    let mut values = Vec::with_capacity(columns.len());
    for (name, _) in columns {
        match members.shift_remove(*name) {
            Some(Value::String(text)) if text.contains('\0') => {
                return Err(format!("has a NUL character in its member {name}"));
            }
            Some(Value::String(text)) => values.push(text),
            Some(Value::Number(number)) => values.push(number.to_string()),
            Some(Value::Bool(flag)) => values.push(flag.to_string()),
            Some(_) => return Err(format!("has a member {name} that is neither string, number nor boolean")),
            None => return Err(format!("lacks the member {name} of the key ({})", wanted())),
        }
    }
    match members.keys().next() {
        Some(stranger) => Err(format!("has a member {stranger} that the key ({}) has not", wanted())),
        None => Ok(values),
    }
}

/// Bytes as key text: their UTF-8 text, or `\x` and hex digits where they are not text (or look like that already).
pub fn bytes_to_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("\\x") && !text.contains('\0') => text.to_string(),
        _ => bytes.iter().fold("\\x".to_string(), |hex, byte| hex + &format!("{byte:02x}")),
    }
}

/// The bytes that `text` stands for; `Err` says what is wrong, in words that follow "id … ".
pub fn text_to_bytes(text: &str) -> Result<Vec<u8>, String> {
    let Some(hex) = text.strip_prefix("\\x") else {
        return Ok(text.as_bytes().to_vec());
    };
    let complaint = || "starts with \\x but does not go on with pairs of hexadecimal digits".to_string();
    if hex.len() % 2 != 0 || !hex.is_ascii() {
        return Err(complaint());
    }
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).map_err(|_| complaint())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TENANT_AND_NUMBER: [(&str, Json); 2] = [("tenant", Json::String), ("number", Json::Number)];

    #[test]
    fn one_column_is_its_text() {
        assert_eq!(compose(&[("id", Json::Number)], vec!["42".into()]), "42");
        assert_eq!(decompose(&[("id", Json::Number)], "42"), Ok(vec!["42".to_string()]));
    }

    #[test]
    fn several_columns_are_an_object_in_key_order() {
        let text = compose(&TENANT_AND_NUMBER, vec!["a\"b".into(), "7".into()]);
        assert_eq!(text, r#"{"tenant":"a\"b","number":7}"#);
        assert_eq!(
            decompose(&TENANT_AND_NUMBER, r#"{ "number": "7", "tenant": "a\"b" }"#),
            Ok(vec!["a\"b".into(), "7".into()])
        );
    }

    #[test]
    fn booleans_are_json_booleans() {
        let columns = [("a", Json::Boolean), ("b", Json::String)];
        assert_eq!(compose(&columns, vec!["t".into(), "x".into()]), r#"{"a":true,"b":"x"}"#);
        assert_eq!(decompose(&columns, r#"{"a":false,"b":"x"}"#), Ok(vec!["false".into(), "x".into()]));
    }

    #[test]
    fn what_is_wrong_with_an_object_is_named() {
        for (id, complaint) in [
            ("x", "is not a JSON object with the members tenant, number"),
            ("[1]", "is not a JSON object with the members tenant, number"),
            (r#"{"tenant":"a"}"#, "lacks the member number of the key (tenant, number)"),
            (r#"{"tenant":"a","number":null}"#, "has a member number that is neither string, number nor boolean"),
            ("{\"tenant\":\"a\\u0000b\",\"number\":1}", "has a NUL character in its member tenant"),
            (r#"{"tenant":"a","number":1,"z":1}"#, "has a member z that the key (tenant, number) has not"),
        ] {
            assert_eq!(decompose(&TENANT_AND_NUMBER, id), Err(complaint.to_string()));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_hex() {
        assert_eq!(bytes_to_text(b"alice"), "alice");
        assert_eq!(bytes_to_text(&[0xff, 0x00]), "\\xff00");
        assert_eq!(bytes_to_text(b"\\x41"), "\\x5c783431");
        assert!(text_to_bytes("\\xf").is_err());
        assert!(text_to_bytes("\\xzz").is_err());
        assert!(text_to_bytes("\\xä1").is_err());
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes: Vec<u8>) {
            prop_assert_eq!(text_to_bytes(&bytes_to_text(&bytes)), Ok(bytes));
        }

        #[test]
        fn columns_come_back(tenant in "\\PC*", number: i64) {
            let values = vec![tenant, number.to_string()];
            prop_assert_eq!(decompose(&TENANT_AND_NUMBER, &compose(&TENANT_AND_NUMBER, values.clone())), Ok(values));
        }
    }
}

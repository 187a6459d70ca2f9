//! Quoting for generated SQL. Pure: always quotes, so that no name, reserved or mixed-case, needs a second thought.

/// `name` as an SQL identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema`.`name` as a qualified SQL identifier.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// `value` as an SQL string literal, whatever `standard_conforming_strings` says.
pub fn literal(value: &str) -> String {
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// What `sql` says where it is one plain string literal and nothing else.
pub fn literal_value(sql: &str) -> Option<String> {
    let inner = sql.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    // A backslash means itself or not, as standard_conforming_strings has it.
    let plain = !inner.contains('\\') && !inner.replace("''", "").contains('\'');
    plain.then(|| inner.replace("''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What Postgres' scanner makes of a quoted identifier.
    fn scan_ident(sql: &str) -> Option<String> {
        let inner = sql.strip_prefix('"')?.strip_suffix('"')?;
        let mut out = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            if c == '"' && chars.next() != Some('"') {
                return None;
            }
            out.push(c);
        }
        Some(out)
    }

    /// What Postgres' scanner makes of an E'' literal, as far as ours go.
    fn scan_literal(sql: &str) -> Option<String> {
        let inner = sql.strip_prefix("E'")?.strip_suffix('\'')?;
        let mut out = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' | '\'' if chars.next() != Some(c) => return None,
                _ => out.push(c),
            }
        }
        Some(out)
    }

    proptest! {
        #[test]
        fn an_identifier_scans_back(name in "\\PC*") {
            prop_assert_eq!(scan_ident(&ident(&name)), Some(name));
        }

        #[test]
        fn a_literal_scans_back(value in "\\PC*") {
            prop_assert_eq!(scan_literal(&literal(&value)), Some(value));
        }
    }

    #[test]
    fn a_plain_literal_is_read_and_nothing_else() {
        assert_eq!(literal_value(" 'osdu:wks:well:1.0.0' "), Some("osdu:wks:well:1.0.0".into()));
        assert_eq!(literal_value("'it''s'"), Some("it's".into()));
        assert_eq!(literal_value("''"), Some(String::new()));
        for other in ["kind", "'a' || 'b'", "'a''", "E'a'", "'a\\n'", "'"] {
            assert_eq!(literal_value(other), None, "{other}");
        }
    }

    #[test]
    fn reserved_words_and_case_survive() {
        assert_eq!(qualified("Sales", "order"), "\"Sales\".\"order\"");
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
    }
}

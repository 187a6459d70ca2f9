//! Keys: text to column values and back, through the server's own types; quoting, against the server's own scanner.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::backend::ident::{ident, literal};
    use crate::pgrx_tests::sql::{run, value};
    use crate::table::by_oid;

    /// A managed table with one key column of type `kind`; returns its OID.
    fn table_of(kind: &str) -> pg_sys::Oid {
        run("DROP TABLE IF EXISTS keyed");
        run(&format!("CREATE TABLE keyed (id {kind} PRIMARY KEY, deleted_at timestamptz)"));
        run("SELECT tombstone.manage('keyed')");
        value("SELECT 'keyed'::regclass::oid")
    }

    /// Each type: an id as somebody may write it, and as the log spells it.
    #[pg_test]
    fn an_id_has_one_spelling() {
        run("CREATE DOMAIN even AS bigint CHECK (VALUE % 2 = 0)");
        for (kind, written, spelt) in [
            ("text", "a b\"c\\", "a b\"c\\"),
            ("varchar(9)", "x", "x"),
            ("smallint", "007", "7"),
            ("integer", " -7", "-7"),
            ("bigint", "+9223372036854775807", "9223372036854775807"),
            ("even", "42", "42"),
            ("numeric(6,2)", "1.5", "1.50"),
            ("boolean", "yes", "t"),
            ("uuid", "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("bytea", "alice", "alice"),
            ("bytea", "\\xFF00", "\\xff00"),
            ("bytea", "\\x616c", "al"),
            ("date", "2024-02-29", "2024-02-29"),
            ("timestamptz", "2024-02-29 12:00:00+00", "2024-02-29 12:00:00+00"),
            ("inet", "10.0.0.1/32", "10.0.0.1"),
        ] {
            let table = by_oid(table_of(kind)).expect(kind);
            assert_eq!(table.key(written).expect(written).text, spelt, "{kind}");
        }
    }

    #[pg_test]
    fn a_spelling_does_not_depend_on_settings() {
        let table = by_oid(table_of("timestamptz")).expect("managed");
        let spelt = |id: &str| table.key(id).expect(id).text;
        let plain = spelt("2024-02-29 12:00:00+00");
        run("SET LOCAL TimeZone = 'Asia/Kathmandu'");
        run("SET LOCAL DateStyle = 'German'");
        assert_eq!(spelt("2024-02-29 12:00:00+00"), plain);
        assert_eq!(value::<String>("SELECT current_setting('TimeZone')"), "Asia/Kathmandu");
    }

    #[pg_test]
    fn a_composite_id_is_an_object() {
        run(
            r#"CREATE TABLE "Order Line" ("Order" bigint, "select" text, flag bool, deleted_at timestamptz, PRIMARY KEY ("Order", "select", flag))"#,
        );
        run(r#"SELECT tombstone.manage('"Order Line"')"#);
        let table = by_oid(value(r#"SELECT '"Order Line"'::regclass::oid"#)).expect("managed");
        let key = table.key(r#"{"flag": true, "select": "a\"b", "Order": "12"}"#).expect("a key");
        assert_eq!(key.text, r#"{"Order":12,"select":"a\"b","flag":true}"#);
        assert_eq!(table.key(&key.text).expect("its own spelling").text, key.text);
    }

    #[pg_test]
    fn an_identifier_is_what_the_server_reads() {
        for name in ["plain", "Mixed", "select", "a\"b", "a.b", "ü", " ", "$1"] {
            let read: String = value(&format!("SELECT (parse_ident({}))[1]", literal(&ident(name))));
            assert_eq!(read, name);
        }
    }

    #[pg_test]
    fn a_literal_is_what_the_server_reads() {
        for conforming in ["on", "off"] {
            run(&format!("SET LOCAL standard_conforming_strings = {conforming}"));
            for text in ["", "it's", "back\\slash", "\\'", "two\nlines", "ü"] {
                assert_eq!(value::<String>(&format!("SELECT {}", literal(text))), text);
            }
        }
    }
}

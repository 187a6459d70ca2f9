//! Options: a change is in force at once, also for the triggers and plans this session has used already. And SQL knows the same
//! options as Rust.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pgrx_tests::sql::{refusal, run, value};
    use crate::table::options::{ALL, Descriptor};

    fn notes() {
        run("CREATE TABLE note (id int PRIMARY KEY, body text NOT NULL, tag text, deleted_at timestamptz)");
        run("INSERT INTO note SELECT n, 'body', 'tag' FROM generate_series(1, 9) n");
        run(r#"SELECT tombstone.manage('note', redact => '{"body": ""}')"#);
    }

    fn blanked(id: i32) -> String {
        run(&format!("UPDATE note SET deleted_at = now() WHERE id = {id}"));
        value(&format!("SELECT format('%s/%s', body, tag) FROM note WHERE id = {id}"))
    }

    #[pg_test]
    fn redact_changes_at_once() {
        notes();
        assert_eq!(blanked(1), "/tag");
        run(r#"SELECT tombstone.configure('note', 'redact', '{"tag": null, "body": "gone"}')"#);
        assert_eq!(blanked(2), "gone/");
        run("SELECT tombstone.configure('note', 'redact', NULL)");
        assert_eq!(blanked(3), "body/tag");
    }

    #[pg_test]
    fn a_renamed_table_is_the_same_table() {
        notes();
        run("SELECT tombstone.soft_delete('1', 'note')");
        run("ALTER TABLE note RENAME TO memo");
        run("CREATE SCHEMA elsewhere");
        run("ALTER TABLE memo SET SCHEMA elsewhere");
        run("SELECT tombstone.soft_delete('2', 'elsewhere.memo')");
        run("ALTER SCHEMA elsewhere RENAME TO nowhere");
        run("SELECT tombstone.soft_delete('3')");
        assert_eq!(value::<i64>("SELECT count(*) FROM nowhere.memo WHERE deleted_at IS NOT NULL"), 3);
    }

    #[pg_test]
    fn columns_may_come_and_go() {
        notes();
        assert_eq!(blanked(1), "/tag");
        run("ALTER TABLE note DROP COLUMN tag");
        run("ALTER TABLE note ADD COLUMN later int DEFAULT 7");
        run("UPDATE note SET deleted_at = now() WHERE id = 2");
        assert_eq!(value::<String>("SELECT body || later FROM note WHERE id = 2"), "7");
    }

    #[pg_test]
    fn a_retention_is_forever_or_its_default() {
        notes();
        let retention = || value::<String>("SELECT COALESCE(retention::text, 'forever') FROM tombstone.tables");
        assert_eq!(retention(), "30 days");
        run("SELECT tombstone.configure('note', 'retention', 'forever')");
        assert_eq!(retention(), "forever");
        run("SELECT tombstone.configure('note', 'retention', '7 days')");
        assert_eq!(retention(), "7 days");
        run("SELECT tombstone.configure('note', 'retention', NULL)");
        assert_eq!(retention(), "30 days");
    }
    #[pg_test]
    fn forever_is_for_retentions_alone() {
        notes();
        run("SELECT tombstone.configure('note', 'channel', 'forever')");
        assert_eq!(value::<String>("SELECT channel::text FROM tombstone.tables"), "forever");
        let (code, _) = refusal("SELECT tombstone.configure('note', 'expire_after', 'forever')");
        assert_eq!(code, PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE);
    }

    /// A line for each option, in the order of their names.
    fn listed(line: impl Fn(&Descriptor) -> String) -> String {
        let mut lines: Vec<String> = ALL.iter().map(line).collect();
        lines.sort();
        lines.join("\n")
    }

    #[pg_test]
    fn each_option_is_a_column() {
        // The others of its columns are not options.
        let columns: String = value(
            "SELECT string_agg(line, E'\n' ORDER BY line COLLATE \"C\") FROM (
                 SELECT concat(attname, ' ', format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ' NOT NULL' END) AS line
                 FROM pg_attribute WHERE attrelid = 'tombstone.managed'::regclass AND attnum > 0 AND NOT attisdropped
                   AND attname <> ALL ('{managed, relation, home, paused_at, paused_by, archive}')) AS columns",
        );
        assert_eq!(listed(|option| format!("{} {}", option.name, option.column)), columns);
    }

    #[pg_test]
    fn each_option_is_a_parameter_of_manage() {
        let parameters: String = value(
            "SELECT string_agg(line, E'\n' ORDER BY line COLLATE \"C\") FROM (
                 SELECT concat(name, ' ', format_type(type, NULL)) AS line
                 FROM pg_proc CROSS JOIN LATERAL unnest(proargnames, proargtypes::oid[]) AS parameter (name, type)
                 WHERE pg_proc.oid = 'tombstone.manage'::regproc AND name <> ALL ('{relation, tree}')) AS parameters",
        );
        // A number or a share: who says a number need not quote it.
        let sql_type = |option: &Descriptor| if option.name == "max_purge" { "\"any\"" } else { option.sql_type() };
        assert_eq!(listed(|option| format!("{} {}", option.name, sql_type(option))), parameters);
    }

    #[pg_test]
    fn each_option_is_shown() {
        for option in ALL {
            let name = option.name;
            let shown = format!("attrelid = 'tombstone.tables'::regclass AND attname = '{name}'");
            assert!(value::<bool>(&format!("SELECT EXISTS (SELECT FROM pg_attribute WHERE {shown})")), "{name}");
        }
    }

    #[pg_test]
    fn null_resets_each_option_to_what_manage_takes() {
        run("CREATE TABLE note (id int PRIMARY KEY, deleted_at timestamptz)");
        run("CREATE TABLE memo (id int PRIMARY KEY)");
        for table in ["note", "memo"] {
            run(&format!("SELECT tombstone.manage('{table}')"));
            let stored =
                || value::<String>(&format!("SELECT m::text FROM tombstone.managed m WHERE relation = '{table}'::regclass"));
            let begun = stored();
            for option in ALL {
                run(&format!("SELECT tombstone.configure('{table}', '{}', NULL)", option.name));
                assert_eq!(stored(), begun, "{table}, {}", option.name);
            }
        }
    }

    #[pg_test]
    fn a_null_that_cannot_be_is_no_default() {
        notes();
        run("ALTER TABLE tombstone.managed ALTER COLUMN channel DROP NOT NULL");
        run("UPDATE tombstone.managed SET channel = NULL");
        let (code, message) = refusal("SELECT tombstone.configure('note', 'retention', '7 days')");
        assert_eq!(code, PgSqlErrorCode::ERRCODE_DATA_EXCEPTION);
        assert!(message.contains("misread its own query"), "{message}");
    }
}

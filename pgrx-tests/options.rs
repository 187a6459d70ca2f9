//! Options: a change is in force at once, also for the triggers and plans this session has used already.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pgrx_tests::sql::{run, value};

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
}

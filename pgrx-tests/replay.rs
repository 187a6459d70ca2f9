//! Replay: what a poll costs that finds nothing new.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pgrx_tests::sql::{run, value};

    /// Postgres plans a statement anew for its first executions and keeps a plan for any arguments after that. Such a plan
    /// would walk the whole log in search of something new.
    #[pg_test]
    fn a_poll_reads_nothing_of_a_long_log() {
        run("CREATE TABLE number (id int PRIMARY KEY, deleted_at timestamptz)");
        run("SELECT tombstone.manage('number')");
        run(
            "INSERT INTO tombstone.event (xid, at, managed, op, deletion_type, restored, deletion, ids, redacted, cause, actor, batched, full_payload)
             SELECT '3', now(), managed, 'delete', 'hard', false, n, ARRAY[n::text], false, 'user', 'nobody', false, false
             FROM tombstone.managed, generate_series(1, 20000) n",
        );
        run("ANALYZE tombstone.event");
        let read =
            "SELECT sum(pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid))::bigint FROM pg_class
                    WHERE oid = 'tombstone.event'::regclass
                       OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'tombstone.event'::regclass)";
        let cursor = value::<String>("SELECT tombstone.cursor()");
        let before = value::<i64>(read);
        for _ in 0..10 {
            run(&format!("SELECT * FROM tombstone.replay('{cursor}')"));
        }
        assert!(value::<i64>(read) - before < 100, "{} rows were read", value::<i64>(read) - before);
    }
}

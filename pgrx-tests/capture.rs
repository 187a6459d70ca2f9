//! Capture: what the triggers report becomes log entries, many records a row, and nothing that was rolled back.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pgrx_tests::sql::{refusal, run, value};

    fn numbers(many: i32) {
        run("CREATE TABLE number (id int PRIMARY KEY, deleted_at timestamptz)");
        run(&format!("INSERT INTO number SELECT generate_series(1, {many})"));
        run("SELECT tombstone.manage('number')");
    }

    fn entries(which: &str) -> (i64, i64) {
        let sql = |what: &str| format!("SELECT {what} FROM tombstone.event WHERE {which}");
        (value(&sql("count(*)")), value(&sql("COALESCE(sum(cardinality(ids)), 0)::bigint")))
    }

    #[pg_test]
    fn a_statement_is_one_entry() {
        numbers(100);
        run("UPDATE number SET deleted_at = now()");
        assert_eq!(entries("deletion_type = 'soft'"), (1, 100));
        run("UPDATE number SET deleted_at = NULL WHERE id > 50");
        assert_eq!(entries("restored"), (1, 50));
        run("DELETE FROM number");
        assert_eq!(entries("deletion_type = 'hard'"), (1, 100));
    }

    /// To the last bit, whether or not there are NULLs among them.
    #[pg_test]
    fn the_arrays_of_an_entry_are_as_postgres_makes_them() {
        run("CREATE TABLE word (id text PRIMARY KEY, kind text, deleted_at timestamptz)");
        run("INSERT INTO word SELECT repeat('ä', i % 40) || i, CASE WHEN i % 5 > 0 THEN repeat('k', i % 9) END
             FROM generate_series(1, 300) i");
        run("SELECT tombstone.manage('word', kind => 'kind')");
        run("DELETE FROM word WHERE kind IS NOT NULL");
        run("DELETE FROM word WHERE length(id) < 9");
        run("DELETE FROM word");
        let same = |column| format!("bool_and(record_image_eq(ROW({column} || '{{}}'), ROW(array(SELECT unnest({column})))))");
        assert!(value::<bool>(&format!("SELECT {} FROM tombstone.event", same("ids"))));
        assert!(value::<bool>(&format!("SELECT {} FROM tombstone.event WHERE kinds IS NOT NULL", same("kinds"))));
        assert_eq!(entries("true"), (3, 300));
    }

    #[pg_test]
    fn a_large_statement_is_split() {
        numbers(20_000);
        run("UPDATE number SET deleted_at = now()");
        assert_eq!(entries("deletion_type = 'soft'"), (3, 20_000));
        assert_eq!(value::<i64>("SELECT count(DISTINCT deletion) FROM tombstone.event"), 1);
        assert_eq!(value::<i64>("SELECT records FROM tombstone.deletions"), 20_000);
    }

    #[pg_test]
    fn stamps_of_their_own_are_entries_of_their_own() {
        numbers(6);
        run("UPDATE number SET deleted_at = timestamptz '2024-01-01' + (id % 2) * interval '1 day'");
        assert_eq!(entries("deletion_type = 'soft'"), (2, 6));
    }

    #[pg_test]
    fn what_is_rolled_back_is_not_logged() {
        numbers(10);
        run("DO $$ BEGIN
                 UPDATE number SET deleted_at = now() WHERE id = 1;
                 BEGIN
                     UPDATE number SET deleted_at = now() WHERE id BETWEEN 2 AND 5;
                     PERFORM 1/0;
                 EXCEPTION WHEN division_by_zero THEN
                     UPDATE number SET deleted_at = now() WHERE id = 6;
                 END;
             END $$");
        assert_eq!(value::<String>("SELECT string_agg(ids::text, ' ' ORDER BY seq) FROM tombstone.event"), "{1} {6}");
    }

    /// The failing row comes last: the batch of the rows before it must die with their statement.
    #[pg_test]
    fn a_statement_that_fails_half_way_is_not_logged() {
        numbers(10);
        run("ALTER TABLE number ADD CHECK (id < 10 OR deleted_at IS NULL)");
        let (code, _) = refusal("UPDATE number SET deleted_at = now()");
        assert_eq!(code, PgSqlErrorCode::ERRCODE_CHECK_VIOLATION);
        run("UPDATE number SET deleted_at = now() WHERE id = 1");
        assert_eq!(entries("true"), (1, 1));
    }

    #[pg_test]
    fn a_trigger_that_cancels_the_row_leaves_no_entry() {
        numbers(10);
        run("CREATE FUNCTION keep_even() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.id % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END $$");
        run("CREATE TRIGGER keep_even BEFORE UPDATE ON number FOR EACH ROW EXECUTE FUNCTION keep_even()");
        run("UPDATE number SET deleted_at = now()");
        assert_eq!(entries("deletion_type = 'soft'"), (1, 5));
    }

    /// A user's trigger that deletes on its own, inside the statement: both are logged, each once.
    #[pg_test]
    fn deletes_inside_a_trigger_are_logged_once() {
        numbers(10);
        run("CREATE FUNCTION and_the_next() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN
                    IF NEW.id = 1 THEN UPDATE number SET deleted_at = now() WHERE id = 2; END IF;
                    RETURN NEW;
                END $$");
        run("CREATE TRIGGER and_the_next BEFORE UPDATE ON number FOR EACH ROW EXECUTE FUNCTION and_the_next()");
        run("UPDATE number SET deleted_at = now() WHERE id = 1");
        let logged = value::<String>("SELECT string_agg(id, ' ' ORDER BY id) FROM tombstone.event, unnest(ids) id");
        assert_eq!(logged, "1 2");
    }

    #[pg_test]
    fn many_versions_name_their_record_once() {
        run("CREATE TABLE state (who text, epoch bigint, data bytea, PRIMARY KEY (who, epoch))");
        run("INSERT INTO state SELECT 'alice', n, '\\x01' FROM generate_series(1, 100) n");
        run("SELECT tombstone.manage('state', 'in_place', '{who}', 'epoch')");
        assert_eq!(value::<i64>("SELECT tombstone.tombstone_value_states('alice', 60)"), 60);
        assert_eq!(value::<String>("SELECT ids::text FROM tombstone.event"), "{alice}");
        assert_eq!(value::<i32>("SELECT cardinality(versions) FROM tombstone.event"), 60);
        assert_eq!(value::<i64>("SELECT records FROM tombstone.deletions"), 1);
    }

    /// More rows than kinds are evaluated for at once, in more entries than one.
    #[pg_test]
    fn kinds_stay_with_their_records() {
        run("CREATE TABLE number (id int PRIMARY KEY, word text, deleted_at timestamptz)");
        run("INSERT INTO number SELECT n, 'w' || n FROM generate_series(1, 9000) n");
        let told_apart =
            "SELECT count(*) FROM tombstone.event e, unnest(e.ids, e.kinds) AS r (id, kind) WHERE r.kind = 'w' || r.id";
        for kind in ["word", "left(word, 99)", "(SELECT number.word)"] {
            run("TRUNCATE tombstone.event");
            run(&format!("SELECT tombstone.manage('number', kind => '{kind}')"));
            run("UPDATE number SET deleted_at = now()");
            assert_eq!(value::<i64>(told_apart), 9000, "{kind}");
            run("UPDATE number SET deleted_at = NULL");
            assert_eq!(value::<i64>(told_apart), 18_000, "{kind}");
            run("SELECT tombstone.unmanage('number')");
        }
    }

    #[pg_test]
    fn one_kind_is_written_once() {
        numbers(100);
        run("SELECT tombstone.configure('number', 'kind', '''number''')");
        run("DELETE FROM number");
        assert_eq!(value::<String>("SELECT kinds::text FROM tombstone.event"), "{number}");
    }

    /// Entries are written past the table's CHECK constraints; they must hold all the same.
    #[pg_test]
    fn every_entry_keeps_the_tables_constraints() {
        numbers(10);
        run("CREATE TABLE part (id int, version int, number int REFERENCES number ON DELETE CASCADE, deleted_at timestamptz,
                                PRIMARY KEY (id, version))");
        run("SELECT tombstone.manage('part', version => 'version', kind => 'nullif(id % 2, 0)', events => 'all')");
        run("INSERT INTO part SELECT n / 3, n, n FROM generate_series(1, 10) n");
        run("UPDATE part SET number = number");
        run("SELECT tombstone.soft_delete('1', 'number', 'why')");
        run("SELECT tombstone.undo(deletion) FROM tombstone.deletions");
        run("SELECT tombstone.tombstone_value_states('2', 7)");
        run("SELECT tombstone.restore('2', 'part')");
        run("UPDATE number SET deleted_at = now() WHERE id > 5");
        run("DELETE FROM number");
        assert!(value::<i64>("SELECT count(*) FROM tombstone.event") > 8);
        let constraints = "SELECT array_agg(pg_get_expr(conbin, conrelid) ORDER BY conname)
                           FROM pg_constraint WHERE conrelid = 'tombstone.event'::regclass AND contype = 'c'";
        let constraints: Vec<String> = value(constraints);
        assert!(constraints.len() > 5);
        for constraint in constraints {
            let broken = format!("SELECT count(*) FROM tombstone.event WHERE NOT ({constraint})");
            assert_eq!(value::<i64>(&broken), 0, "{constraint}");
        }
        let nulls = "SELECT count(*) FROM tombstone.event e, pg_attribute a
                     WHERE a.attrelid = 'tombstone.event'::regclass AND a.attnum > 0 AND a.attnotnull
                       AND to_jsonb(e) -> a.attname::text = 'null'";
        assert_eq!(value::<i64>(nulls), 0);
    }

    #[pg_test]
    fn trigger_functions_are_not_to_be_called() {
        let (code, _) = refusal("SELECT tombstone.on_drop()");
        assert_ne!(code, PgSqlErrorCode::ERRCODE_INTERNAL_ERROR);
        run("CREATE TABLE t (id int)");
        run("CREATE TRIGGER wrong AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION tombstone.on_update()");
        let (code, _) = refusal("INSERT INTO t VALUES (1)");
        assert_eq!(code, PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED);
    }
}

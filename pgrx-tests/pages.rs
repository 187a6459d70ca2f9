//! Live records page by page: in the order of their keys, each once, and with a mark that tells whether they were written since.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::backend::subtransaction::rehearse;
    use crate::lifecycle::layout::live::Marked;
    use crate::pgrx_tests::sql::{run, value};
    use crate::table::{Table, by_oid};
    use crate::watch::pages::{Pages, Records};

    fn table(name: &str) -> std::rc::Rc<Table> {
        by_oid(value(&format!("SELECT '{name}'::regclass::oid"))).expect("a managed table")
    }

    /// All pages, each as the ids it has.
    fn pages(table: &Table, most: usize) -> Vec<Vec<String>> {
        let mut pages = Pages::After(None);
        let mut all = Vec::new();
        loop {
            let page = pages.next_live(table, most).expect("a page");
            if page.is_empty() {
                return all;
            }
            all.push(page.into_iter().map(|record| record.id).collect());
        }
    }

    fn mark_of(table: &Table, id: &str) -> Vec<Marked> {
        Records::Named(vec![id.into()]).live(table).and_then(|mut pages| pages.next_live(table, 1)).expect("a page")
    }

    #[pg_test]
    fn pages_follow_the_key_and_the_last_ones_are_even() {
        run("CREATE TABLE t (id int PRIMARY KEY, deleted_at timestamptz);
             INSERT INTO t SELECT g * 7 % 23 FROM generate_series(1, 11) g;
             UPDATE t SET deleted_at = now() WHERE id = 14;
             SELECT tombstone.manage('t')");
        let expected: Vec<String> =
            value::<Vec<String>>("SELECT array_agg(id::text ORDER BY id) FROM t WHERE deleted_at IS NULL");
        let pages = pages(&table("t"), 4);
        assert_eq!(pages.concat(), expected);
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [4, 3, 3]);
    }

    #[pg_test]
    fn a_key_of_several_columns_is_compared_as_a_row() {
        run("CREATE TABLE t (a text COLLATE \"C\", b int, deleted_at timestamptz, PRIMARY KEY (a, b));
             INSERT INTO t SELECT a, b FROM unnest('{x,y,Z}'::text[]) a, generate_series(8, 12) b;
             SELECT tombstone.manage('t')");
        let expected = "SELECT array_agg(json_build_object('a', a, 'b', b)::jsonb::text ORDER BY a, b) FROM t";
        let ids = pages(&table("t"), 2).concat();
        let as_jsonb = |id: &String| value::<String>(&format!("SELECT '{id}'::jsonb::text"));
        assert_eq!(ids.iter().map(as_jsonb).collect::<Vec<_>>(), value::<Vec<String>>(expected));
    }

    #[pg_test]
    fn columns_whose_types_are_of_several_schemas_too() {
        run("CREATE EXTENSION citext;
             CREATE TABLE t (a citext, b int, deleted_at timestamptz, PRIMARY KEY (a, b));
             INSERT INTO t SELECT a, b FROM unnest('{x,Y,z}'::citext[]) a, generate_series(1, 5) b;
             SELECT tombstone.manage('t')");
        let ids = pages(&table("t"), 2).concat();
        assert_eq!(ids.len(), 15);
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 15);
    }

    #[pg_test]
    fn a_page_is_read_along_the_index() {
        run("CREATE TABLE t (id int PRIMARY KEY, deleted_at timestamptz);
             INSERT INTO t SELECT generate_series(1, 50000);
             ANALYZE t;
             SELECT tombstone.manage('t')");
        let table = table("t");
        let read = || value::<i64>("SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 't'");
        let before = read();
        let mut pages = Pages::After(Some("40000".into()));
        assert_eq!(pages.next_live(&table, 10).expect("a page").len(), 10);
        assert!(read() - before < 100, "{} rows were read for a page of 10", read() - before);
    }

    #[pg_test]
    fn a_record_with_versions_comes_once_and_any_of_its_rows_changes_its_mark() {
        run("CREATE TABLE t (id text, v int, body text, deleted_at timestamptz, PRIMARY KEY (id, v));
             INSERT INTO t SELECT 'r' || r, v FROM generate_series(1, 5) r, generate_series(1, 3) v;
             SELECT tombstone.manage('t', version => 'v')");
        let table = table("t");
        assert_eq!(pages(&table, 2).concat(), ["r1", "r2", "r3", "r4", "r5"]);
        for change in ["UPDATE t SET body = 'news' WHERE id = 'r2' AND v = 2", "INSERT INTO t VALUES ('r2', 4)"] {
            let before = mark_of(&table, "r2");
            run(change);
            assert_ne!(mark_of(&table, "r2"), before, "{change}");
        }
    }

    #[pg_test]
    fn a_lock_is_no_change() {
        run("CREATE TABLE t (id int PRIMARY KEY, deleted_at timestamptz);
             INSERT INTO t VALUES (1);
             SELECT tombstone.manage('t')");
        let table = table("t");
        let before = mark_of(&table, "1");
        run("SELECT FROM t FOR UPDATE");
        assert_eq!(mark_of(&table, "1"), before);
        let written = rehearse(|| {
            Spi::run("UPDATE t SET id = id")?;
            Ok(mark_of(&table, "1"))
        });
        assert_ne!(written.expect("an update"), before);
        assert_eq!(mark_of(&table, "1"), before, "what was rolled back was no change");
    }
}

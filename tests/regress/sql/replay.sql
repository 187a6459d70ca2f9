-- The log, read: replay, its cursors, who may see what, and how long it remembers.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA replay;
SET search_path = replay;
SELECT format('DROP OWNED BY %I', rolname), format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname = 'regress_reader' \gexec
CREATE ROLE regress_reader;
GRANT USAGE ON SCHEMA replay TO regress_reader;

CREATE TABLE note (id int PRIMARY KEY, body text, deleted_at timestamptz);
CREATE TABLE state (name text, epoch bigint, data text, deleted_at timestamptz, PRIMARY KEY (name, epoch));
\o /dev/null
SELECT tombstone.manage('note', redact => '{"body": ""}', kind => $$'note'$$, notify => 'none');
SELECT tombstone.manage('state', version => 'epoch', redact => '{"data": ""}', events => 'all', notify => 'none');
\o

-- Where the log is read from: the beginning, or a cursor. A cursor is text of no meaning to anybody else.
SELECT * FROM tombstone.replay(NULL);
SELECT tombstone.cursor() AS place \gset
INSERT INTO note SELECT n, 'text ' || n FROM generate_series(1, 8) AS n;
UPDATE note SET deleted_at = now() WHERE id <= 3;
SELECT tombstone.restore('2', 'note');
DELETE FROM note WHERE id = 8;
INSERT INTO state SELECT name, epoch, 'secret' FROM (VALUES ('ada'), ('bob')) AS n (name), generate_series(1, 3) AS epoch;
SELECT tombstone.tombstone_value_states('ada', 2, 'state');
SELECT relation, id, version, kind, op, deletion_type, deleted_at IS NOT NULL AS deleted, cause, actor = current_user AS me, data, restored, deletion
FROM tombstone.replay(:'place');

-- The data is that of the row as it is now. What was purged has none, and has left the stream but for its purge.
SELECT relation, id, version, op, deletion_type, data - 'deleted_at' AS data FROM tombstone.replay(:'place', with_data => true) WHERE id IN ('2', '8', 'ada');
DELETE FROM state WHERE name = 'ada' AND epoch = 1;
DELETE FROM note WHERE id = 2;
SELECT relation, id, version, op, deletion_type FROM tombstone.replay(:'place');

-- Pages: whatever their length, the same comes of it; each goes on from the cursor of the last row before. An entry may hold
-- more records than a page.
DELETE FROM note WHERE id = 7;
UPDATE note SET deleted_at = now() WHERE id IN (4, 5, 6);
CREATE FUNCTION paged(place text, length int) RETURNS TABLE (relation regclass, id text, version bigint, op text, deletion_type text)
LANGUAGE plpgsql AS $$
DECLARE
    event record;
    found_any bool := true;
BEGIN
    WHILE found_any LOOP
        found_any := false;
        FOR event IN SELECT * FROM tombstone.replay(place, length) LOOP
            place := event.cursor;
            found_any := true;
            RETURN QUERY SELECT event.relation, event.id, event.version, event.op, event.deletion_type;
        END LOOP;
    END LOOP;
END
$$;
SELECT length, array_agg(p::text ORDER BY n) = (SELECT array_agg(w::text ORDER BY n) FROM paged(:'place', 1000) WITH ORDINALITY AS w (relation, id, version, op, deletion_type, n)) AS same
FROM generate_series(1, 9) AS length, paged(:'place', length) WITH ORDINALITY AS p (relation, id, version, op, deletion_type, n)
GROUP BY length ORDER BY length;
-- The cursor in any row is a place to go on from.
SELECT bool_and((SELECT count(*) FROM tombstone.replay(r.cursor)) = (SELECT count(*) FROM tombstone.replay(:'place')) - r.n) AS everywhere
FROM tombstone.replay(:'place') WITH ORDINALITY AS r (cursor, at, relation, id, kind, op, deletion_type, version, deleted_at, cause, actor, data, restored, deletion, app_actor, reason, n);

-- Of some tables only.
SELECT relation, count(*) FROM tombstone.replay(:'place', relations => '{state}') GROUP BY relation;
SELECT relation, count(*) FROM tombstone.replay(:'place', relations => '{}') GROUP BY relation;

-- What is no cursor is refused, and so is one that lost its end or had a letter changed.
SELECT * FROM tombstone.replay('yesterday');
\echo :SQLSTATE
SELECT * FROM tombstone.replay('');
\echo :SQLSTATE
SELECT * FROM tombstone.replay(left(:'place', -1));
\echo :SQLSTATE
SELECT * FROM tombstone.replay(overlay(:'place' PLACING CASE WHEN substr(:'place', 5, 1) = '0' THEN '1' ELSE '0' END FROM 5));
\echo :SQLSTATE
SELECT * FROM tombstone.replay(:'place', 0);
\echo :SQLSTATE
SELECT * FROM tombstone.replay(:'place', -5);
\echo :SQLSTATE
SELECT * FROM tombstone.replay(:'place', NULL);
\echo :SQLSTATE
SELECT * FROM tombstone.replay(:'place', relations => '{note, NULL}');
\echo :SQLSTATE
SELECT * FROM tombstone.replay(:'place', relations => '{pg_class}');
\echo :SQLSTATE

-- What a transaction does itself it reads after its commit, like everybody else: it may yet be rolled back.
SELECT tombstone.cursor() AS place \gset
BEGIN;
UPDATE note SET deleted_at = NULL WHERE id = 4;
SELECT id FROM tombstone.replay(:'place');
SELECT tombstone.cursor() AS inside \gset
COMMIT;
SELECT id, restored FROM tombstone.replay(:'inside');
SELECT id, restored FROM tombstone.replay(:'place');

-- In one snapshot: the cursor is what the tables are.
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT tombstone.cursor() AS snapshot \gset
SELECT count(*) FROM tombstone.replay(:'snapshot');
COMMIT;

-- Who may: events are for those who may read the whole table.
SELECT tombstone.cursor() AS place \gset
DELETE FROM note WHERE id = 6;
DELETE FROM state WHERE name = 'bob' AND epoch = 3;
SET ROLE regress_reader;
SELECT count(*) FROM tombstone.replay(:'place');
SELECT * FROM tombstone.replay(:'place', relations => '{note}');
\echo :SQLSTATE
RESET ROLE;
GRANT SELECT (id, deleted_at) ON note TO regress_reader;
GRANT SELECT ON state TO regress_reader;
SET ROLE regress_reader;
SELECT relation, id, version, deletion_type FROM tombstone.replay(:'place');
SELECT * FROM tombstone.replay(:'place', relations => '{note}');
\echo :SQLSTATE
RESET ROLE;
-- Where row security filters what they see there are none for them, as the log cannot tell which they could have seen.
ALTER TABLE state ENABLE ROW LEVEL SECURITY;
CREATE POLICY live ON state USING (deleted_at IS NULL);
SET ROLE regress_reader;
SELECT count(*) FROM tombstone.replay(:'place');
SELECT * FROM tombstone.replay(:'place', relations => '{state}');
\echo :SQLSTATE
-- Nobody writes the log, or reads it past replay.
SELECT count(*) FROM tombstone.event;
INSERT INTO tombstone.tick (seen) VALUES ('1:1:');
DELETE FROM tombstone.floor;
UPDATE tombstone.log SET incarnation = gen_random_uuid();
DELETE FROM tombstone.undone;
-- Maintenance is for owners.
CALL tombstone.maintain('note');
\echo :SQLSTATE
CALL tombstone.maintain();
RESET ROLE;
CALL tombstone.maintain('pg_class');
\echo :SQLSTATE
CALL tombstone.maintain(max_runtime => '0');
\echo :SQLSTATE

-- How long: an event goes when it could be read for longer than its table's event_retention; then cursors from before it are
-- refused, as they would miss it. Later ones are not, nor those of who reads other tables.
SELECT tombstone.cursor() AS early \gset
DELETE FROM note WHERE id = 5;
SELECT tombstone.cursor() AS late \gset
DELETE FROM state WHERE name = 'bob' AND epoch = 2;
SELECT tombstone.state('5', 'note');
CALL tombstone.maintain();
SELECT relation, id FROM tombstone.replay(:'early');
SELECT tombstone.configure('note', 'event_retention', '1 microsecond');
CALL tombstone.maintain();
SELECT relation, id FROM tombstone.replay(:'early');
\echo :SQLSTATE
SELECT relation, id FROM tombstone.replay(:'late');
SELECT relation, id FROM tombstone.replay(:'early', relations => '{state}');
SELECT DISTINCT relation FROM tombstone.replay(NULL);
-- The log remembered that the record was purged; now nobody does.
SELECT tombstone.state('5', 'note');
-- And what is deleted from here on is there again.
UPDATE note SET deleted_at = now() WHERE id = 4;
SELECT relation, id FROM tombstone.replay(:'late');

-- Another log's cursor is refused: the extension was created anew.
DROP EXTENSION pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
SELECT * FROM tombstone.replay(:'late');
\echo :SQLSTATE

DROP SCHEMA replay CASCADE;
DROP ROLE regress_reader;

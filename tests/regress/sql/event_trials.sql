-- Events: what has gone wrong once, or was tried by a hostile reader. Each case failed before its mend.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA trials;
SET search_path = trials;

CREATE VIEW log AS
    SELECT m.relation, concat_ws(' ', e.deletion_type, CASE WHEN e.restored THEN 'restoring' END, e.op) AS what, e.ids, e.kinds
    FROM tombstone.event e JOIN tombstone.managed m USING (managed) ORDER BY e.seq;

-- A row that moved between partitions leaves nothing behind that the next INSERT could be taken for: neither where creates
-- were no events yet, nor where the move failed half-way, nor where another trigger writes in between.
CREATE TABLE visit (id int, region text, note text, deleted_at timestamptz, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE visit_eu PARTITION OF visit FOR VALUES IN ('eu');
CREATE TABLE visit_us PARTITION OF visit FOR VALUES IN ('us');
SELECT tombstone.manage('visit', id => '{id}');
INSERT INTO visit VALUES (1, 'eu');
UPDATE visit SET region = 'us';
SELECT tombstone.configure('visit', 'events', 'all');
INSERT INTO visit VALUES (2, 'eu');
SELECT * FROM log WHERE relation = 'visit'::regclass;
DELETE FROM tombstone.event;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER zzz AFTER DELETE ON visit FOR EACH ROW EXECUTE FUNCTION fail();
UPDATE visit SET region = 'us' WHERE id = 2;
DROP TRIGGER zzz ON visit;
INSERT INTO visit VALUES (3, 'eu');
SELECT * FROM log WHERE relation = 'visit'::regclass;
DELETE FROM tombstone.event;
CREATE TABLE journal (id serial PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('journal', events => 'all');
CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO trials.journal DEFAULT VALUES; RETURN NULL; END $$;
CREATE TRIGGER zzz AFTER DELETE ON visit FOR EACH ROW EXECUTE FUNCTION write_down();
UPDATE visit SET region = 'us' WHERE id = 3;
DROP TRIGGER zzz ON visit;
SELECT * FROM log WHERE relation = 'visit'::regclass;
DELETE FROM tombstone.event;
-- What COPY has brought is settled before the table becomes another one, or loses its rows.
CREATE TABLE copied (id int PRIMARY KEY, n int, deleted_at timestamptz);
SELECT tombstone.manage('copied', events => 'all', kind => 'n + 1');
BEGIN;
COPY copied (id, n) FROM stdin;
1	1
2	2
\.
ALTER TABLE copied ALTER n TYPE bigint;
COMMIT;
SELECT * FROM log;
DELETE FROM tombstone.event;
BEGIN;
COPY copied (id, n) FROM stdin;
3	3
\.
TRUNCATE copied;
COMMIT;
SELECT what FROM log;
DELETE FROM tombstone.event;
BEGIN;
COPY copied (id, n) FROM stdin;
4	4
\.
DROP TABLE copied;
COMMIT;
SELECT to_regclass('copied') IS NULL AS dropped;

-- For one record the log has things in the order in which they happened, also where a trigger goes on with the row.
CREATE TABLE busy (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('busy', events => 'all');
CREATE FUNCTION delete_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE trials.busy SET deleted_at = now() WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE FUNCTION restore_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE trials.busy SET deleted_at = NULL WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER born_dead AFTER INSERT ON busy FOR EACH ROW EXECUTE FUNCTION delete_it();
INSERT INTO busy VALUES (1);
DROP TRIGGER born_dead ON busy;
SELECT what FROM log WHERE relation = 'busy'::regclass;
DELETE FROM busy;
INSERT INTO busy VALUES (2);
DELETE FROM tombstone.event;
CREATE TRIGGER undying AFTER UPDATE ON busy FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION restore_it();
UPDATE busy SET deleted_at = now();
DROP TRIGGER undying ON busy;
SELECT tombstone.state('2', 'busy');
SELECT what FROM log WHERE relation = 'busy'::regclass;
DELETE FROM tombstone.event;

-- A kind is refused when it is set, or works.
CREATE TABLE sorted (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('sorted', events => 'all');
DO $$ BEGIN
    PERFORM tombstone.configure('trials.sorted', 'kind', 'tableoid::regclass::text');
EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$;
INSERT INTO sorted VALUES (1);
DO $$ BEGIN
    PERFORM tombstone.configure('trials.sorted', 'kind', 'trials.sorted.id');
EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$;
INSERT INTO sorted VALUES (2);
SELECT count(*) FROM sorted;

CREATE TABLE phoenix (id int PRIMARY KEY, kind text, deleted_at timestamptz);
SELECT tombstone.manage('phoenix', events => 'all', kind => 'kind');
INSERT INTO phoenix VALUES (1, 'first');

-- A key that changes its type or its columns breaks nobody's replay.
CREATE TABLE renamed (id text PRIMARY KEY, n int NOT NULL UNIQUE, deleted_at timestamptz);
SELECT tombstone.manage('renamed', events => 'all');
INSERT INTO renamed VALUES ('one', 1), ('two', 2);
SELECT tombstone.configure('renamed', 'id', '{n}');
INSERT INTO renamed VALUES ('three', 3);
SELECT bool_and(id IN ('1', '2', '3')) AS by_number FROM tombstone.replay(NULL, relations => '{renamed}');
DROP TABLE renamed;
CREATE TABLE retyped (id text PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('retyped', events => 'all');
INSERT INTO retyped VALUES ('one');
ALTER TABLE retyped ALTER id TYPE int USING 1;
INSERT INTO retyped VALUES (2);
SELECT count(*) > 0 AS readable FROM tombstone.replay(NULL);
DROP TABLE retyped;

-- A table that its reader may SELECT from but cannot reach keeps nothing else from being read.
CREATE SCHEMA hidden;
CREATE TABLE hidden.well (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('hidden.well', events => 'all');
INSERT INTO hidden.well VALUES (1);
CREATE ROLE regress_far;
GRANT USAGE ON SCHEMA trials TO regress_far;
GRANT SELECT ON hidden.well, phoenix TO regress_far;
SET ROLE regress_far;
SELECT count(*) FILTER (WHERE relation = 'phoenix'::regclass) > 0 AS readable FROM tombstone.replay(NULL, with_data => true);
RESET ROLE;
DROP SCHEMA hidden CASCADE;

-- Whoever has read all there was is not told of having missed something, however the last page ended.
CREATE TABLE read (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('read', events => 'all', event_retention => '1 microsecond');
INSERT INTO read VALUES (1), (2);
SELECT (array_agg(cursor))[2] AS cursor FROM tombstone.replay(NULL, 2, '{read}') \gset
SELECT count(*) FROM tombstone.replay(:'cursor', relations => '{read}');
CALL tombstone.maintain('read');
SELECT count(*) FROM tombstone.replay(:'cursor', relations => '{read}');

-- A deletion of which the log has forgotten a part is undone as a whole, or not at all; and an undone one stays undone.
CREATE TABLE brief (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE lasting (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('brief', event_retention => '1 microsecond'), tombstone.manage('lasting');
INSERT INTO brief VALUES (1), (2);
INSERT INTO lasting VALUES (1), (2);
BEGIN;
UPDATE lasting SET deleted_at = now() WHERE id = 1;
UPDATE brief SET deleted_at = now() WHERE id = 1;
COMMIT;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
CALL tombstone.maintain('brief');
SELECT set_config('trials.deletion', :'deletion', false) = :'deletion' AS said;
DO $$ BEGIN
    PERFORM tombstone.undo(current_setting('trials.deletion')::bigint);
EXCEPTION WHEN object_not_in_prerequisite_state OR undefined_object THEN NULL; END $$;
SELECT (b.deleted_at IS NULL) = (l.deleted_at IS NULL) AS as_a_whole FROM brief b JOIN lasting l USING (id) WHERE id = 1;
BEGIN;
UPDATE brief SET deleted_at = now() WHERE id = 2;
UPDATE lasting SET deleted_at = now() WHERE id = 2;
COMMIT;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
SELECT outcome FROM tombstone.undo(:deletion);
CALL tombstone.maintain('brief');
CALL tombstone.maintain('brief');
SELECT undone_at IS NOT NULL AS undone FROM tombstone.deletions WHERE deletion = :deletion;

-- As a whole it goes, too.
CREATE TABLE twin (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('twin', event_retention => '1 microsecond');
INSERT INTO twin VALUES (1);
INSERT INTO brief VALUES (3);
BEGIN;
UPDATE twin SET deleted_at = now() WHERE id = 1;
UPDATE brief SET deleted_at = now() WHERE id = 3;
COMMIT;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
CALL tombstone.maintain('brief');
SELECT count(*) FROM tombstone.deletions WHERE deletion = :deletion;

-- One table's event_retention is no business of another's.
DO $$ BEGIN
    PERFORM tombstone.configure('trials.phoenix', 'event_retention', '100000 years');
EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$;
CALL tombstone.maintain('read');
CALL tombstone.maintain();

CREATE TABLE diary (id int PRIMARY KEY, n int, deleted_at timestamptz);
CREATE VIEW entries AS
SELECT e.op, e.deletion_type, e.restored, e.cause, e.ids, e.kinds
FROM tombstone.event e JOIN tombstone.managed m USING (managed) WHERE m.relation = 'trials.diary'::regclass ORDER BY e.seq;
SELECT tombstone.manage('diary', kind => 'n::text', events => 'all', notify => 'none');

-- COPY's events are written when COPY is done: a type that changes later in the transaction cannot spoil them …
BEGIN;
COPY diary (id, n) FROM stdin;
1	2000000000
\.
ALTER TABLE diary ALTER n TYPE text USING n::text;
COMMIT;
SELECT * FROM entries;
ALTER TABLE diary ALTER n TYPE int USING n::int;
-- … nor a savepoint, nor what comes after.
BEGIN;
COPY diary (id, n) FROM stdin;
2	2
\.
SAVEPOINT s;
UPDATE diary SET n = 3 WHERE id = 1;
ROLLBACK TO s;
COMMIT;
SELECT * FROM entries;
DELETE FROM tombstone.event;
BEGIN;
COPY diary (id, n) FROM stdin;
3	3
\.
TRUNCATE diary;
COMMIT;
SELECT * FROM entries;

-- What a trigger does to the row that fired it comes after what fired it.
DELETE FROM tombstone.event;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE trials.diary SET n = n + 1 WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER touch AFTER INSERT ON diary FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO diary VALUES (1, 1), (2, 2);
SELECT * FROM entries;
DELETE FROM tombstone.event;
CREATE FUNCTION revive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE trials.diary SET deleted_at = NULL WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER revive AFTER UPDATE ON diary FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL AND NEW.id = 1) EXECUTE FUNCTION revive();
UPDATE diary SET deleted_at = now();
SELECT * FROM entries;
DROP TRIGGER touch ON diary;
DROP TRIGGER revive ON diary;

-- JSON is made with the rights of who wrote the casts, not of who reads.
CREATE ROLE regress_mallory;
GRANT ALL ON SCHEMA trials TO regress_mallory;
SET ROLE regress_mallory;
CREATE TYPE bait AS ENUM ('worm');
CREATE FUNCTION hook(bait) RETURNS json LANGUAGE plpgsql AS
    $$ BEGIN RETURN pg_catalog.to_json(current_user::text || ' ' || current_setting('search_path')); END $$;
CREATE CAST (bait AS json) WITH FUNCTION hook(bait);
CREATE TABLE trap (id int PRIMARY KEY, c bait DEFAULT 'worm', deleted_at timestamptz);
SELECT tombstone.manage('trap', events => 'all', notify => 'none');
INSERT INTO trap VALUES (1);
RESET ROLE;
SELECT id, data FROM tombstone.replay(NULL, relations => '{trap}', with_data => true);
DROP TABLE trap;
DROP TYPE bait CASCADE;

-- JSON comes as it is, however deep, whatever it looks like.
CREATE TABLE deep (id int PRIMARY KEY, j jsonb, deleted_at timestamptz);
SELECT tombstone.manage('deep', notify => 'none');
INSERT INTO deep VALUES (1, (repeat('[', 200) || repeat(']', 200))::jsonb), (2, '{"$serde_json::private::Number": "12"}'), (3, '1e400');
UPDATE deep SET deleted_at = now();
SELECT d.id, r.data -> 'j' = d.j AS same FROM deep d JOIN tombstone.replay(NULL, relations => '{deep}', with_data => true) r ON r.id = d.id::text ORDER BY d.id;

-- From the beginning, page by page, also after something was trimmed.
TRUNCATE tombstone.event, tombstone.floor;
TRUNCATE diary;
CREATE TABLE other (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('other', notify => 'none', event_retention => '1 microsecond');
INSERT INTO other VALUES (1), (2), (3);
DELETE FROM other WHERE id = 1;
CALL tombstone.maintain();
DELETE FROM other WHERE id > 1;
SELECT cursor AS first FROM tombstone.replay(NULL, 1, '{other}') \gset
SELECT id FROM tombstone.replay(:'first', 1, '{other}');
-- What was delivered may be trimmed; what was not is missed.
CALL tombstone.maintain();
SELECT id FROM tombstone.replay(:'first', 1, '{other}');
\echo :SQLSTATE

-- An id that cannot be read any more names nothing, and stops nobody's reading.
DELETE FROM tombstone.event;
CREATE TABLE turned (id text PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('turned', notify => 'none', events => 'all');
INSERT INTO turned VALUES ('a'), ('7');
DELETE FROM turned WHERE id = 'a';
ALTER TABLE turned ALTER id TYPE int USING id::int;
SELECT id, op, deletion_type FROM tombstone.replay(NULL, relations => '{turned}');

-- A row that moved to another partition and one that is new are told apart, whatever happened before.
CREATE TABLE moving (id int, part int, deleted_at timestamptz, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE moving_1 PARTITION OF moving FOR VALUES IN (1);
CREATE TABLE moving_2 PARTITION OF moving FOR VALUES IN (2);
SELECT tombstone.manage('moving', id => '{id}', notify => 'none');
INSERT INTO moving VALUES (1, 1);
UPDATE moving SET part = 2;
SELECT tombstone.configure('moving', 'events', 'all');
INSERT INTO moving VALUES (2, 1);
UPDATE moving SET part = 3 - part;
SELECT id, op FROM tombstone.replay(NULL, relations => '{moving}');

-- A kind must be known when the trigger sees the row.
CREATE TABLE computed (id int PRIMARY KEY, a text, kind text GENERATED ALWAYS AS (a || ':1') STORED, deleted_at timestamptz);
SELECT tombstone.manage('computed', kind => 'kind');
\echo :SQLSTATE
SELECT tombstone.manage('computed', kind => 'tableoid::regclass::text');
\echo :SQLSTATE
SELECT tombstone.manage('computed', kind => $$a || ':1'$$, notify => 'none');

-- Wide rows are not kept by the hundred for the sake of their kind.
CREATE TABLE wide (id int PRIMARY KEY, k text, body text, deleted_at timestamptz);
SELECT tombstone.manage('wide', kind => 'upper(k)', notify => 'none');
INSERT INTO wide SELECT n, 'k' || n, repeat('x', 3000000) FROM generate_series(1, 40) AS n;
DELETE FROM wide;
SELECT count(*), bool_and(kind = 'K' || id) AS right FROM tombstone.replay(NULL, relations => '{wide}');

DROP SCHEMA trials CASCADE;
DROP ROLE regress_far, regress_mallory;

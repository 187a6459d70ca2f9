-- Layout archive: the archive follows its table, and maintenance keeps its partitions.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA bin;
SET search_path = bin;

--
-- The table changes, and its archive with it, in the same transaction
--

CREATE TABLE person (id int PRIMARY KEY, email text, born text, spare int);
INSERT INTO person VALUES (1, 'ann', '1990-02-03', 1), (2, 'bob', 'unknown', 2), (3, 'cid', '2000-01-01', 3);
SELECT tombstone.manage('person');
DELETE FROM person WHERE id = 1;
-- A column with a default: older tombstones get it, as the rows of the table do.
ALTER TABLE person ADD COLUMN grade int NOT NULL DEFAULT 5;
-- A column that is called like one of the archive's own.
ALTER TABLE person ADD COLUMN reason text;
ALTER TABLE person RENAME COLUMN email TO mail;
ALTER TABLE person DROP COLUMN spare;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = 'person_tombstone'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
DELETE FROM person WHERE id = 3;
SELECT id, mail, born, grade, reason, cause, tombstone_reason FROM person_tombstone ORDER BY id;
ALTER TABLE person ALTER COLUMN grade TYPE bigint;
ALTER TABLE person DROP COLUMN reason;
SELECT tombstone.restore('1', 'person'), tombstone.restore('3', 'person');
SELECT * FROM person ORDER BY id;
-- What it cannot follow does not happen.
DELETE FROM person WHERE id = 2;
ALTER TABLE person ALTER COLUMN born TYPE date USING born::date;
\echo :SQLSTATE
SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'person'::regclass AND attname = 'born';
BEGIN;
ALTER TABLE person ADD COLUMN later int;
ROLLBACK;
DELETE FROM person WHERE id = 1;
SELECT tombstone.restore('1', 'person');
-- Its owner.
CREATE ROLE bin_other;
GRANT USAGE ON SCHEMA bin TO bin_other;
ALTER TABLE person OWNER TO bin_other;
SELECT relname, relowner::regrole FROM pg_class WHERE relname LIKE 'person_tombstone%' AND relkind IN ('r', 'p') ORDER BY 1;
-- Its name: the archive is called after it.
ALTER TABLE person RENAME TO human;
SELECT relation, archive FROM tombstone.tables;
DELETE FROM human WHERE id = 1;
SELECT tombstone.restore('1', 'human');
-- DROP TABLE leaves what was deleted.
SET client_min_messages = notice;
DROP TABLE human;
SET client_min_messages = warning;
SELECT id FROM human_tombstone;
DROP TABLE human_tombstone;
REVOKE USAGE ON SCHEMA bin FROM bin_other;
DROP ROLE bin_other;

--
-- Partitions whose number follows use
--

CREATE TABLE c (id int PRIMARY KEY, v text);
INSERT INTO c SELECT i, 'x' FROM generate_series(1, 100) i;
SELECT tombstone.manage('c', retention => '1 microsecond');
CALL tombstone.maintain('c');
CREATE VIEW parts AS
    SELECT count(*) FILTER (WHERE pg_get_expr(relpartbound, oid) = 'DEFAULT') AS open,
           count(*) FILTER (WHERE pg_get_expr(relpartbound, oid) <> 'DEFAULT') AS closed
    FROM pg_class WHERE relispartition AND oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'c_tombstone'::regclass);
SELECT * FROM parts;
DELETE FROM c WHERE id <= 50;
UPDATE c_tombstone SET deleted_at = now() - interval '2 hours';
-- What is due is purged; what is on hold stays; the partition, old enough, is closed.
SELECT tombstone.hold('7', 'c');
SELECT action, records FROM tombstone.preview('c');
CALL tombstone.maintain('c');
SELECT * FROM parts;
SELECT id FROM c_tombstone;
SELECT tombstone.release('7', 'c');
-- All of it due, and none held: dropped as a whole, with an event for each record.
CALL tombstone.maintain('c');
SELECT * FROM parts;
SELECT count(*) FROM c_tombstone;
SELECT action, records, outcome, detail FROM tombstone.runs ORDER BY run;
SELECT op, deletion_type, cause, count(*) FROM tombstone.replay(NULL) GROUP BY 1, 2, 3;
-- And on it goes.
SELECT tombstone.configure('c', 'retention', '30 days');
DELETE FROM c WHERE id = 60;
SELECT tombstone.restore('60', 'c');

-- Expiry is a DELETE here; a watcher's as well.
SELECT tombstone.configure('c', 'expire_from', $$'2020-01-01'::timestamptz + id * interval '1 day'$$);
SELECT tombstone.configure('c', 'expire_after', (now() - '2020-04-01'::timestamptz)::text);
SELECT records FROM tombstone.preview('c') WHERE action = 'expire';
CALL tombstone.maintain('c');
SELECT count(*), min(cause) FROM c_tombstone;
CREATE FUNCTION has(ids text[]) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM unnest(ids) i WHERE i::int <> 95';
SELECT tombstone.watch('c', 'bin.has(text[])', max_missing => 0.5);
SELECT missing, outcome FROM tombstone.reconcile('c');
SELECT id, cause FROM c_tombstone WHERE id = 95;
-- Where no tombstone is kept, what expires goes for ever, past the bin.
SELECT tombstone.configure('c', 'retention', '0');
CALL tombstone.maintain('c');
SELECT min(id) AS next FROM c \gset
SELECT tombstone.configure('c', 'expire_after', (now() - ('2020-01-01'::timestamptz + (:next + 0.5) * interval '1 day'))::text);
CALL tombstone.maintain('c');
SELECT count(*) FROM c WHERE id = :next;
SELECT op, deletion_type, cause FROM tombstone.replay(NULL) WHERE id = :'next';
SELECT action, records FROM tombstone.runs ORDER BY run DESC LIMIT 1;

-- A stamp that is no moment, or none that is over, which its owner may give a tombstone: it stays in the open partition.
CREATE TABLE d (id int PRIMARY KEY);
SELECT tombstone.manage('d', retention => '30 days');
CREATE VIEW tombstones AS
    SELECT id, CASE pg_get_expr(c.relpartbound, c.oid) WHEN 'DEFAULT' THEN 'open' ELSE 'closed' END AS part
    FROM d_tombstone t JOIN pg_class c ON c.oid = t.tableoid;
INSERT INTO d_tombstone SELECT i, i, at, 'me', 'user'
FROM unnest(ARRAY['infinity', now() + interval '1 year', now() - interval '2 days']) WITH ORDINALITY AS row (at, i);
CALL tombstone.maintain('d');
SELECT * FROM tombstones ORDER BY id;
-- What was deleted before everything else is due first, unless it is on hold; what is deleted at the end of time never is.
INSERT INTO d_tombstone VALUES (4, 4, '-infinity', 'me', 'user'), (5, 5, clock_timestamp(), 'me', 'user');
SELECT tombstone.hold('4', 'd');
CALL tombstone.maintain('d');
SELECT * FROM tombstones ORDER BY id;
SELECT tombstone.configure('d', 'retention', '1 microsecond');
CALL tombstone.maintain('d');
SELECT * FROM tombstones ORDER BY id;
SELECT tombstone.release('4', 'd');
CALL tombstone.maintain('d');
SELECT * FROM tombstones ORDER BY id;
SELECT tombstone.restore('1', 'd'), tombstone.state('1', 'd');

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA bin CASCADE;

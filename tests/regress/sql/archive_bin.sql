-- Layout archive: a bin that its owner has altered, and where rows go in it.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA bin;
SET search_path = bin;

CREATE TABLE thing (id int PRIMARY KEY, name text NOT NULL, secret text);
SELECT tombstone.manage('thing', redact => '{"secret": null}');
INSERT INTO thing SELECT g, 'name ' || g, 'secret' FROM generate_series(1, 20) g;

--
-- What it adds
--

ALTER TABLE thing_tombstone ADD exported bool DEFAULT false;
DELETE FROM thing WHERE id = 1;
SELECT id, name, secret, exported FROM thing_tombstone ORDER BY id;
UPDATE thing_tombstone SET exported = false;
ALTER TABLE thing_tombstone ALTER exported SET NOT NULL;
DELETE FROM thing WHERE id = 2;
\echo :SQLSTATE
ALTER TABLE thing_tombstone ALTER exported DROP NOT NULL;
DELETE FROM thing WHERE id = 2;
-- Neither has a value for it; what is NOT NULL in the table has.
UPDATE thing_tombstone SET reason = '', secret = '';
ALTER TABLE thing_tombstone ALTER reason SET NOT NULL;
DELETE FROM thing WHERE id = 3;
\echo :SQLSTATE
ALTER TABLE thing_tombstone ALTER reason DROP NOT NULL, ALTER secret SET NOT NULL;
DELETE FROM thing WHERE id = 3;
\echo :SQLSTATE
ALTER TABLE thing_tombstone ALTER secret DROP NOT NULL, ALTER name SET NOT NULL;
DELETE FROM thing WHERE id = 3;
ALTER TABLE thing ALTER name DROP NOT NULL;
DELETE FROM thing WHERE id = 4;
\echo :SQLSTATE
ALTER TABLE thing_tombstone ALTER name DROP NOT NULL;
SELECT id, name, secret, exported FROM thing_tombstone ORDER BY id;
SELECT count(*) FROM thing;

--
-- What is no table that rows can be written to
--

DROP TABLE thing_tombstone_open;
DELETE FROM thing WHERE id = 5;
\echo :SQLSTATE
CREATE TABLE divided PARTITION OF thing_tombstone DEFAULT PARTITION BY RANGE (id);
CREATE TABLE below PARTITION OF divided DEFAULT;
DELETE FROM thing WHERE id = 5;
\echo :SQLSTATE
DROP TABLE divided;
CREATE FOREIGN DATA WRAPPER far;
CREATE SERVER far FOREIGN DATA WRAPPER far;
CREATE FOREIGN TABLE far PARTITION OF thing_tombstone DEFAULT SERVER far;
DELETE FROM thing WHERE id = 5;
\echo :SQLSTATE
DROP FOREIGN TABLE far;
CREATE TABLE near PARTITION OF thing_tombstone DEFAULT;
DELETE FROM thing WHERE id = 5;
SELECT tableoid::regclass, id FROM thing_tombstone;

--
-- Where rows go
--

-- Room that is free again is not used: of two tombstones of one record the later one stands further back.
CREATE TABLE note (id int PRIMARY KEY, body text);
SELECT tombstone.manage('note');
INSERT INTO note SELECT g, repeat('x', 1000) FROM generate_series(1, 50) g;
DELETE FROM note;
DELETE FROM note_tombstone WHERE id <= 20;
VACUUM note_tombstone;
\c
SET client_min_messages = warning;
SET search_path = bin;
BEGIN;
INSERT INTO note VALUES (1, 'first');
DELETE FROM note;
INSERT INTO note VALUES (1, repeat('second', 1000));
DELETE FROM note;
COMMIT;
SELECT left(body, 6) AS body, ctid > ALL (SELECT ctid FROM note_tombstone o WHERE o.id > 1) AS is_behind
FROM note_tombstone WHERE id = 1 ORDER BY ctid;
SELECT deletion FROM note_tombstone WHERE id = 1 LIMIT 1 \gset
SELECT id, outcome FROM tombstone.undo(:deletion);
SELECT left(body, 6) AS body FROM note;

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA bin CASCADE;
DROP FOREIGN DATA WRAPPER far CASCADE;

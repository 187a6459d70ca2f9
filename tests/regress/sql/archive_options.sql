-- Layout archive: the options of a managed table, one after the other, where they mean something else than in place; versions;
-- what maintenance sees.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA options;
SET search_path = options;

--
-- layout, deleted_at
--

-- Without a column deleted_at a table is archived; with one, or where one is named, its tombstones stay in place.
CREATE TABLE plain (id int PRIMARY KEY);
CREATE TABLE marked (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE named (id int PRIMARY KEY);
SELECT tombstone.manage('plain'), tombstone.manage('marked'), tombstone.manage('named', deleted_at => 'gone');
SELECT relation, layout, deleted_at, archive FROM tombstone.tables;
-- A table with such a column can be archived all the same; the bin's own column is called otherwise then.
CREATE TABLE dated (id int PRIMARY KEY, deleted_at date);
INSERT INTO dated VALUES (1, '2026-01-01');
SELECT tombstone.manage('dated', layout => 'archive');
DELETE FROM dated;
SELECT id, deleted_at, tombstone_deleted_at IS NOT NULL AS stamped FROM dated_tombstone;
SELECT tombstone.restore('1', 'dated');
TABLE dated;

-- A layout is no option to be set, and deleted_at is a matter of the other one.
SELECT tombstone.configure('plain', 'layout', 'in_place');
\echo :SQLSTATE
SELECT tombstone.configure('marked', 'layout', 'archive');
\echo :SQLSTATE
SELECT tombstone.configure('plain', 'deleted_at', 'gone');
\echo :SQLSTATE
SELECT tombstone.manage('plain', layout => 'archive');
\echo :SQLSTATE

--
-- kind, events, redact
--

CREATE TABLE item (id int PRIMARY KEY, kind text, price numeric);
SELECT tombstone.manage('item', kind => $$'item:' || kind$$, events => 'all', redact => '{"kind": null}');
INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3);
UPDATE item SET price = 7 WHERE id = 1;
DELETE FROM item WHERE id < 3;
-- What is redacted never reaches the bin.
SELECT id, kind, price FROM item_tombstone ORDER BY id;
-- The kind of an event is the one that the record had.
SELECT id, kind, op, deletion_type FROM tombstone.replay(NULL, relations => '{item}');
SELECT tombstone.restore('1', 'item');
SELECT tombstone.purge('3', 'item');
DELETE FROM item_tombstone;
-- What is purged has left the stream; data is of live rows alone.
SELECT id, kind, op, deletion_type, restored, data FROM tombstone.replay(NULL, relations => '{item}', with_data => true);
-- An option changed holds for what is deleted from then on.
SELECT tombstone.configure('item', 'redact', '{"price": 0}'), tombstone.configure('item', 'kind', NULL);
UPDATE item SET kind = 'd';
DELETE FROM item;
SELECT id, kind, price FROM item_tombstone;
SELECT outcome, detail FROM tombstone.undo((SELECT max(deletion) FROM item_tombstone));
TABLE item;
-- Other columns cannot be ids while tombstones are known by these.
DELETE FROM item;
ALTER TABLE item ADD number int NOT NULL UNIQUE;
SELECT tombstone.configure('item', 'id', '{number}');
\echo :SQLSTATE
DELETE FROM item_tombstone;
SELECT tombstone.configure('item', 'id', '{number}');
INSERT INTO item VALUES (1, 'a', 1, 17);
SELECT tombstone.soft_delete('17', 'item') > 0 AS deleted;
SELECT tombstone.state('17', 'item'), tombstone.state('1', 'item');
SELECT tombstone.restore('17', 'item');

--
-- version
--

CREATE TABLE doc (id text, n bigint, body text, PRIMARY KEY (id, n));
SELECT tombstone.manage('doc', version => 'n');
INSERT INTO doc SELECT id, n, 'x' FROM unnest('{a,b}'::text[]) AS id, generate_series(1, 5) AS n;
-- A record is deleted with all its versions; one with versions left is live.
DELETE FROM doc WHERE id = 'a' AND n = 3;
SELECT tombstone.state('a', 'doc');
SELECT outcome FROM tombstone.undo((SELECT max(deletion) FROM doc_tombstone));
SELECT tombstone.soft_delete('a', 'doc') > 0 AS deleted;
SELECT tombstone.state('a', 'doc');
-- Versions are purged live or deleted, and pass the bin by.
SELECT tombstone.purge_versions('a', lim => 2, relation => 'doc');
SELECT tombstone.purge_versions('b', ids => '{1,4}', relation => 'doc');
SELECT id, n FROM doc_tombstone ORDER BY n;
SELECT tombstone.purge_versions('a', ids => '{5}', relation => 'doc');
\echo :SQLSTATE
SELECT tombstone.restore('a', 'doc');
SELECT id, array_agg(n ORDER BY n) AS versions FROM doc GROUP BY id ORDER BY id;
SELECT tombstone.purge('a', 'doc'), tombstone.state('a', 'doc');

--
-- retention, expire_after, max_purge, event_retention
--

CREATE TABLE note (id int PRIMARY KEY, at timestamptz);
SELECT tombstone.manage('note', retention => '7 days', expire_after => '90 days', expire_from => 'at');
INSERT INTO note SELECT i, now() - interval '91 days' * (i % 2) FROM generate_series(1, 4) AS i;
DELETE FROM note WHERE id = 4;
-- Whoever cannot wait for seven days puts a tombstone eight days back.
UPDATE note_tombstone SET deleted_at = deleted_at - interval '8 days';
SELECT relation, action, records FROM tombstone.preview('note');
SELECT relation, action, due FROM tombstone.backlog WHERE relation = 'note'::regclass;
SELECT tombstone.configure('note', 'max_purge', '1');
CALL tombstone.maintain('note');
SELECT action, records, outcome, detail FROM tombstone.runs ORDER BY run;
SELECT tombstone.configure('note', 'max_purge', NULL);
CALL tombstone.maintain('note');
SELECT id FROM note;
SELECT id, cause FROM note_tombstone ORDER BY id;
SELECT action, records, outcome, detail FROM tombstone.runs ORDER BY run;
SELECT id, op, deletion_type, cause FROM tombstone.replay(NULL, relations => '{note}') ORDER BY id;
-- An expiry is undone like any other deletion.
SELECT id, outcome FROM tombstone.undo((SELECT max(deletion) FROM note_tombstone)) ORDER BY id;
-- For ever is for ever.
SELECT tombstone.configure('note', 'retention', 'forever'), tombstone.configure('note', 'expire_after', NULL);
DELETE FROM note WHERE id = 1;
UPDATE note_tombstone SET deleted_at = deleted_at - interval '1000 years';
CALL tombstone.maintain('note');
SELECT id, cause FROM note_tombstone;

-- The bin needs no log: what the log has forgotten can still be undone.
SELECT deletion FROM note_tombstone \gset
SELECT tombstone.configure('note', 'event_retention', '1 microsecond');
CALL tombstone.maintain('note');
SELECT count(*) FROM tombstone.replay(NULL, relations => '{note}');
SELECT id, outcome FROM tombstone.undo(:deletion);

-- Nothing is taken of a table that is paused.
DELETE FROM note WHERE id = 3;
SELECT tombstone.configure('note', 'retention', '1 day'), tombstone.pause('note');
UPDATE note_tombstone SET deleted_at = deleted_at - interval '2 days';
CALL tombstone.maintain('note');
SELECT count(*) FROM note_tombstone;
SELECT tombstone.resume('note');
CALL tombstone.maintain('note');
SELECT count(*) FROM note_tombstone;

--
-- unmanage
--

-- The bin stays, as a table like any other; a table managed anew needs its name.
SET client_min_messages = notice;
DELETE FROM note WHERE id = 1;
SELECT tombstone.unmanage('note');
SET client_min_messages = warning;
SELECT id FROM note_tombstone;
DELETE FROM note WHERE id = 2;
SELECT count(*) FROM note_tombstone;
SELECT tombstone.manage('note');
\echo :SQLSTATE
DELETE FROM note_tombstone;
DROP TABLE note_tombstone;
SELECT tombstone.manage('note');

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA options CASCADE;

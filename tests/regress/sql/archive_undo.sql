-- Layout archive: undo of a deletion of which something has become of its records since: restored one by one, purged, deleted anew;
-- and of one that took a record twice.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA undone;
SET search_path = undone;

--
-- A record deleted, created anew and deleted again in one transaction
--

CREATE TABLE note (id int PRIMARY KEY, body text);
SELECT tombstone.manage('note');
INSERT INTO note VALUES (1, 'first'), (2, 'other');
BEGIN;
DELETE FROM note WHERE id = 1;
INSERT INTO note VALUES (1, 'second');
DELETE FROM note;
COMMIT;
SELECT deletion FROM note_tombstone WHERE id = 2 \gset
-- restore brings back the last of them.
BEGIN;
SELECT tombstone.restore('1', 'note');
SELECT * FROM note;
ROLLBACK;
-- undo brings back what there was before the deletion; the other tombstone stays.
SELECT * FROM tombstone.undo(:deletion, dry_run => true) ORDER BY id;
SELECT * FROM tombstone.undo(:deletion) ORDER BY id;
SELECT * FROM note ORDER BY id;
SELECT id, body, deletion = :deletion AS of_it FROM note_tombstone;
DELETE FROM note WHERE id = 1;
SELECT tombstone.restore('1', 'note', :deletion);
SELECT * FROM note ORDER BY id;

-- The same where a foreign key took the first one, and where only the partition key tells the rows of one id apart.
CREATE TABLE album (id int PRIMARY KEY);
CREATE TABLE track (id int, year int, album int REFERENCES album ON DELETE CASCADE, name text, PRIMARY KEY (id, year)) PARTITION BY LIST (year);
CREATE TABLE track_2025 PARTITION OF track FOR VALUES IN (2025);
CREATE TABLE track_2026 PARTITION OF track FOR VALUES IN (2026);
SELECT tombstone.manage('track', id => '{id}'), tombstone.manage('album');
INSERT INTO album VALUES (1);
INSERT INTO track VALUES (1, 2025, 1, 'first'), (1, 2026, 1, 'first'), (2, 2025, 1, 'first');
BEGIN;
DELETE FROM album;
INSERT INTO track VALUES (1, 2025, NULL, 'second');
DELETE FROM track;
COMMIT;
SELECT deletion FROM album_tombstone \gset
SELECT * FROM tombstone.undo(:deletion) ORDER BY relation::text, id;
SELECT * FROM track ORDER BY id, year;
SELECT id, year, album, name, cause FROM track_tombstone;

--
-- What has become of its records since
--

CREATE TABLE item (id int PRIMARY KEY);
SELECT tombstone.manage('item');
INSERT INTO item VALUES (1), (2), (3), (4);
DELETE FROM item;
SELECT max(deletion) AS deletion FROM item_tombstone \gset
SELECT sum(tombstone.restore(i::text, 'item')) FROM generate_series(1, 4) AS i;
SELECT id, outcome, detail FROM tombstone.undo(:deletion, dry_run => true) ORDER BY id;
DELETE FROM item WHERE id = 2;
SELECT id, outcome, detail FROM tombstone.undo(:deletion) ORDER BY id;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE

-- Purged, by whichever door: then it is not all that the deletion took.
DELETE FROM item;
SELECT max(deletion) AS deletion FROM item_tombstone \gset
SELECT tombstone.restore('3', 'item');
SELECT tombstone.purge('1', 'item');
SELECT id, outcome, detail FROM tombstone.undo(:deletion, dry_run => true) ORDER BY id;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
SELECT * FROM item;
DELETE FROM item_tombstone;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
-- What was purged in the first place.
INSERT INTO item VALUES (5);
SELECT tombstone.purge('5', 'item');
SELECT id, outcome FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions), dry_run => true);

-- What waits for a parent that was purged is one line, as ever.
CREATE TABLE folder (id int PRIMARY KEY);
CREATE TABLE file (id int PRIMARY KEY, folder int REFERENCES folder ON DELETE CASCADE);
SELECT tombstone.manage('folder', tree => true);
INSERT INTO folder VALUES (1), (2), (3);
INSERT INTO file VALUES (11, 1), (12, 1), (21, 2), (31, 3);
DELETE FROM folder;
SELECT max(deletion) AS deletion FROM folder_tombstone \gset
DELETE FROM folder_tombstone WHERE id < 3;
SELECT * FROM tombstone.undo(:deletion, dry_run => true) ORDER BY id;
DELETE FROM folder_tombstone;
SELECT * FROM tombstone.undo(:deletion, dry_run => true) ORDER BY id;

-- Once the log has forgotten the deletion the bin is all there is to go by.
INSERT INTO item VALUES (6), (7);
DELETE FROM item WHERE id > 5;
SELECT max(deletion) AS deletion FROM item_tombstone \gset
DELETE FROM item_tombstone WHERE id = 6;
SELECT tombstone.configure('item', 'event_retention', '1 microsecond');
CALL tombstone.maintain('item');
SELECT id, outcome FROM tombstone.undo(:deletion);

-- Of some versions.
CREATE TABLE doc (id text, n int, PRIMARY KEY (id, n));
SELECT tombstone.manage('doc', version => 'n');
INSERT INTO doc VALUES ('a', 1), ('a', 2), ('b', 1), ('b', 2);
DELETE FROM doc;
SELECT max(deletion) AS deletion FROM doc_tombstone \gset
SELECT tombstone.restore('b', 'doc');
DELETE FROM doc_tombstone WHERE n = 2;
SELECT id, outcome, detail FROM tombstone.undo(:deletion, dry_run => true) ORDER BY id, detail;

-- The log's ids are as they were spelt then.
CREATE TABLE price (id int PRIMARY KEY);
SELECT tombstone.manage('price');
INSERT INTO price VALUES (1), (2);
DELETE FROM price;
SELECT max(deletion) AS deletion FROM price_tombstone \gset
ALTER TABLE price ALTER id TYPE numeric(10, 2);
SELECT tombstone.restore('1', 'price');
SELECT id, outcome, detail FROM tombstone.undo(:deletion) ORDER BY id;

-- Whoever may not see the table is not told how its records stand; what a foreign key took is told with its owner's rights.
CREATE ROLE undone_user;
GRANT USAGE ON SCHEMA undone TO undone_user;
GRANT INSERT, DELETE ON album, item TO undone_user;
DELETE FROM track_tombstone;
DELETE FROM album;
SELECT max(deletion) AS deletion FROM album_tombstone \gset
DELETE FROM track_tombstone WHERE id = 2;
INSERT INTO item VALUES (8);
DELETE FROM item WHERE id = 8;
SELECT max(deletion) AS of_item FROM item_tombstone \gset
SELECT tombstone.restore('8', 'item');
SET ROLE undone_user;
SELECT relation, id, outcome FROM tombstone.undo(:deletion, dry_run => true) ORDER BY relation::text, id;
SELECT * FROM tombstone.undo(:of_item);
\echo :SQLSTATE
RESET ROLE;

--
-- Redaction: what the tombstone went through, whatever the option says now
--

CREATE TABLE person (id int PRIMARY KEY, name text);
SELECT tombstone.manage('person', redact => '{"name": null}');
INSERT INTO person VALUES (1, 'ann');
DELETE FROM person;
SELECT tombstone.configure('person', 'redact', NULL);
SELECT id, outcome, detail FROM tombstone.undo((SELECT max(deletion) FROM person_tombstone));
UPDATE person SET name = 'bob';
DELETE FROM person;
SELECT tombstone.configure('person', 'redact', '{"name": null}');
SELECT id, outcome, detail FROM tombstone.undo((SELECT max(deletion) FROM person_tombstone));
TABLE person;

--
-- Who deleted, where what fell was so much that it was logged first
--

CREATE TABLE maker (id int PRIMARY KEY);
CREATE TABLE release (id int PRIMARY KEY, maker int NOT NULL REFERENCES maker ON DELETE CASCADE);
SELECT tombstone.manage('maker', tree => true);
INSERT INTO maker VALUES (1);
INSERT INTO release SELECT i, 1 FROM generate_series(1, 9000) AS i;
DELETE FROM maker;
SELECT e.cause, cardinality(e.ids) AS ids FROM tombstone.event e
WHERE e.deletion = (SELECT max(deletion) FROM maker_tombstone) AND e.op = 'delete' ORDER BY e.seq;
SELECT cause, records FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1;

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA undone CASCADE;
DROP ROLE undone_user;

-- MERGE is plain SQL too: its UPDATE soft-deletes, restores and moves, its DELETE purges, through the same triggers.
-- PostgreSQL 15 brought it, and with it reserved prefixes of settings: a misspelt one of ours is refused; 14 warns at load.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA sync;
SET search_path = sync;
SELECT :SERVER_VERSION_NUM >= 150000 AS has_merge \gset
CREATE TABLE item (id int PRIMARY KEY, name text, deleted_at timestamptz);
SELECT tombstone.manage('item', redact => '{"name": "gone"}');
INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 6) AS i;

--
-- The reserved prefix
--

-- A new session does not know our settings before its first call, which then sorts out what it was given.
\c -
SET search_path = sync;
SET tombstone.nonsense = 'x';
SELECT tombstone.state('1', 'item');
SHOW tombstone.nonsense;
-- From then on there is no such setting.
SET tombstone.nonsense = 'y';
\echo :SQLSTATE
SET client_min_messages = warning;

\if :has_merge

--
-- A table brought into line with a feed
--

CREATE TABLE feed (id int PRIMARY KEY, name text, op text);
CREATE VIEW items AS SELECT id, name, deleted_at IS NOT NULL AS deleted FROM item ORDER BY id;
CREATE VIEW log AS
    SELECT e.deletion, e.op, e.deletion_type, e.restored, ARRAY(SELECT unnest(e.ids) COLLATE "C" ORDER BY 1) AS ids
    FROM tombstone.event e JOIN tombstone.managed m USING (managed)
    ORDER BY deletion, op, deletion_type, ids;

-- What the feed says is gone is soft-deleted, and redacted in the same write; the rest is none of our business.
INSERT INTO feed VALUES (1, 'one', 'keep'), (2, NULL, 'gone'), (3, NULL, 'gone'), (7, 'seven', 'keep');
MERGE INTO item i USING feed f ON i.id = f.id
WHEN MATCHED AND f.op = 'gone' THEN UPDATE SET deleted_at = now(), name = 'not seen'
WHEN MATCHED THEN UPDATE SET name = f.name
WHEN NOT MATCHED THEN INSERT (id, name) VALUES (f.id, f.name);
SELECT * FROM items;
SELECT * FROM log;
SELECT tombstone.state('2');

-- In one MERGE one comes back, one goes for a while, and one goes for ever: one deletion.
TRUNCATE tombstone.event;
ALTER SEQUENCE tombstone.event_seq_seq RESTART;
TRUNCATE feed;
INSERT INTO feed VALUES (2, 'two', 'keep'), (4, NULL, 'gone'), (5, NULL, 'purge');
MERGE INTO item i USING feed f ON i.id = f.id
WHEN MATCHED AND f.op = 'purge' THEN DELETE
WHEN MATCHED AND f.op = 'gone' THEN UPDATE SET deleted_at = now()
WHEN MATCHED THEN UPDATE SET deleted_at = NULL, name = f.name;
SELECT * FROM items;
SELECT * FROM log;
SELECT relations, records FROM tombstone.deletions;
SELECT id, tombstone.state(id::text) FROM generate_series(1, 8) AS id;
-- What was purged in it keeps the rest from being undone.
SELECT id, outcome FROM tombstone.undo(1, dry_run => true) ORDER BY id;

-- A hold stops the whole of it.
SELECT tombstone.hold('6', 'item', 'case 17');
TRUNCATE feed;
INSERT INTO feed VALUES (1, NULL, 'gone'), (6, NULL, 'purge');
MERGE INTO item i USING feed f ON i.id = f.id
WHEN MATCHED AND f.op = 'purge' THEN DELETE
WHEN MATCHED THEN UPDATE SET deleted_at = now();
\echo :SQLSTATE
MERGE INTO item i USING feed f ON i.id = f.id WHEN MATCHED THEN UPDATE SET deleted_at = now();
\echo :SQLSTATE
SELECT id, tombstone.state(id::text) FROM item WHERE id IN (1, 6) ORDER BY id;
SELECT tombstone.release('6', 'item');

-- DO NOTHING does nothing, and nothing is logged of it.
SELECT count(*) FROM log \gset before_
MERGE INTO item i USING feed f ON i.id = f.id WHEN MATCHED THEN DO NOTHING;
SELECT count(*) - :before_count AS logged FROM log;

--
-- Along foreign keys
--

CREATE TABLE tag (id int PRIMARY KEY, item int NOT NULL REFERENCES item ON DELETE CASCADE, deleted_at timestamptz);
SELECT tombstone.manage('tag');
INSERT INTO tag VALUES (10, 1), (11, 1), (60, 6);
MERGE INTO item i USING feed f ON i.id = f.id
WHEN MATCHED AND f.op = 'purge' THEN DELETE
WHEN MATCHED THEN UPDATE SET deleted_at = now();
SELECT id, tombstone.state(id::text, 'tag') FROM unnest('{10, 11, 60}'::int[]) AS id;
SELECT relations, records FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1;
MERGE INTO item i USING feed f ON i.id = f.id WHEN MATCHED THEN UPDATE SET deleted_at = NULL;
SELECT id, tombstone.state(id::text, 'tag') FROM unnest('{10, 11, 60}'::int[]) AS id;

--
-- Partitions: MERGE may move a row, and delete it on the way
--

CREATE TABLE visit (id int, region text, note text, deleted_at timestamptz, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE visit_eu PARTITION OF visit FOR VALUES IN ('eu');
CREATE TABLE visit_us PARTITION OF visit FOR VALUES IN ('us');
SELECT tombstone.manage('visit', id => '{id}', redact => '{"note": "gone"}');
INSERT INTO visit VALUES (1, 'eu', 'x'), (2, 'eu', 'x'), (3, 'us', 'x'), (4, 'us', 'x');
TRUNCATE tombstone.event;
ALTER SEQUENCE tombstone.event_seq_seq RESTART;

-- A row that only moves is not deleted.
MERGE INTO visit v USING (VALUES (1, 'us')) AS f (id, region) ON v.id = f.id WHEN MATCHED THEN UPDATE SET region = f.region;
SELECT tableoid::regclass, id, note, deleted_at IS NOT NULL AS deleted FROM visit ORDER BY id;
SELECT * FROM log;
-- One that moves and is soft-deleted is one soft delete; its neighbour is purged.
MERGE INTO visit v USING (VALUES (1, 'eu', false), (2, 'us', false), (3, 'us', true)) AS f (id, region, purge) ON v.id = f.id
WHEN MATCHED AND f.purge THEN DELETE
WHEN MATCHED THEN UPDATE SET region = f.region, deleted_at = now();
SELECT tableoid::regclass, id, note, deleted_at IS NOT NULL AS deleted FROM visit ORDER BY id;
SELECT * FROM log;
-- And back, in a MERGE of its own.
MERGE INTO visit v USING (VALUES (1, 'us'), (2, 'eu')) AS f (id, region) ON v.id = f.id
WHEN MATCHED THEN UPDATE SET region = f.region, deleted_at = NULL;
SELECT tableoid::regclass, id, note, deleted_at IS NOT NULL AS deleted FROM visit ORDER BY id;
SELECT op, deletion_type, restored, ids FROM log;

--
-- Events of everything: each action of a MERGE is its own entry, as if it were its own statement
--

CREATE TABLE part (id int PRIMARY KEY, name text, deleted_at timestamptz);
SELECT tombstone.manage('part', events => 'all', kind => 'name || ''?''', redact => '{"name": "gone"}');
INSERT INTO part SELECT i, 'part ' || i FROM generate_series(1, 5) AS i;
DELETE FROM tombstone.event;
MERGE INTO part p
USING (VALUES (1, 'keep'), (2, 'gone'), (3, 'purge'), (4, 'leave'), (6, 'keep'), (7, 'keep')) AS f (id, op) ON p.id = f.id
WHEN MATCHED AND f.op = 'purge' THEN DELETE
WHEN MATCHED AND f.op = 'gone' THEN UPDATE SET deleted_at = now()
WHEN MATCHED AND f.op = 'keep' THEN UPDATE SET name = 'kept'
WHEN MATCHED THEN DO NOTHING
WHEN NOT MATCHED THEN INSERT (id, name) VALUES (f.id, 'new');
SELECT op, deletion_type, ids, kinds FROM tombstone.event ORDER BY op, deletion_type;
-- A record that is brought back and written to in one is restored; a tombstone that is written to is not.
DELETE FROM tombstone.event;
MERGE INTO part p USING (VALUES (2), (4)) AS f (id) ON p.id = f.id WHEN MATCHED THEN UPDATE SET name = 'again', deleted_at = NULL;
MERGE INTO part p USING (VALUES (2)) AS f (id) ON p.id = f.id WHEN MATCHED THEN UPDATE SET deleted_at = now();
MERGE INTO part p USING (VALUES (2), (4)) AS f (id) ON p.id = f.id WHEN MATCHED THEN UPDATE SET name = 'too late';
SELECT op, deletion_type, restored, ids, kinds FROM tombstone.event ORDER BY seq;
-- Rows that move are updated, however they came to move; the one inserted beside them is created.
SELECT tombstone.configure('visit', 'events', 'all');
DELETE FROM tombstone.event;
MERGE INTO visit v USING (VALUES (1, 'eu'), (4, 'eu'), (5, 'us')) AS f (id, region) ON v.id = f.id
WHEN MATCHED THEN UPDATE SET region = f.region
WHEN NOT MATCHED THEN INSERT (id, region) VALUES (f.id, f.region);
SELECT op, ids FROM log;
\endif

DROP SCHEMA sync CASCADE;

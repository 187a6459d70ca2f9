-- Layout archive: what the doors say that they do not say in place: TRUNCATE's option, purges without events, an older tombstone
-- restored, what needs rows that stay.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA doors;
SET search_path = doors;

--
-- truncate => archive | refuse | purge
--

CREATE TABLE kept (id int PRIMARY KEY);
CREATE TABLE guarded (id int PRIMARY KEY);
CREATE TABLE scratch (id int PRIMARY KEY);
SELECT tombstone.manage('kept'), tombstone.manage('guarded', truncate => 'refuse'), tombstone.manage('scratch', truncate => 'purge');
SELECT relation, truncate, purge_events FROM tombstone.tables;
INSERT INTO kept VALUES (1), (2);
INSERT INTO guarded VALUES (1), (2);
INSERT INTO scratch VALUES (1), (2);
TRUNCATE kept;
TABLE kept;
SELECT id FROM kept_tombstone ORDER BY id;
TRUNCATE guarded;
\echo :SQLSTATE
TABLE guarded;
TRUNCATE scratch;
TABLE scratch;
SELECT count(*) FROM scratch_tombstone;
SELECT relations, deletion_type FROM tombstone.deletions ORDER BY deletion;
SELECT count(*) AS back FROM tombstone.undo((SELECT max(deletion) FROM kept_tombstone));
-- The option changes like any other.
SELECT tombstone.configure('guarded', 'truncate', NULL);
TRUNCATE guarded;
SELECT count(*) FROM guarded_tombstone;
SELECT tombstone.configure('guarded', 'truncate', 'sometimes');
\echo :SQLSTATE
-- In place there is nowhere to archive to; refuse is of use all the same.
CREATE TABLE marked (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('marked', truncate => 'archive');
\echo :SQLSTATE
SELECT tombstone.manage('marked', truncate => 'refuse');
TRUNCATE marked;
\echo :SQLSTATE
-- A bin is emptied by its owner as before: it is a purge.
TRUNCATE guarded_tombstone;
SELECT count(*) FROM guarded_tombstone;

--
-- deletions say soft or hard
--

BEGIN;
DELETE FROM kept WHERE id = 1;
SELECT tombstone.purge('2', 'kept');
COMMIT;
SELECT relations, records, deletion_type FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1;

--
-- restore(id, relation, deletion)
--

CREATE TABLE note (id int PRIMARY KEY, body text);
SELECT tombstone.manage('note');
INSERT INTO note VALUES (1, 'first');
DELETE FROM note;
SELECT max(deletion) AS first FROM note_tombstone \gset
INSERT INTO note VALUES (1, 'second');
DELETE FROM note;
SELECT max(deletion) AS second FROM note_tombstone \gset
SELECT tombstone.restore('1', 'note', :first);
TABLE note;
-- The other one stays where it is; the id is taken now.
SELECT body FROM note_tombstone;
SELECT tombstone.restore('1', 'note', :second);
\echo :SQLSTATE
DELETE FROM note;
SELECT tombstone.restore('1', 'note', :first);
\echo :SQLSTATE
SELECT tombstone.restore('1', 'note');
TABLE note;
-- In place there is one tombstone of an id, and the log knows whose it is.
INSERT INTO marked VALUES (1), (2);
UPDATE marked SET deleted_at = now() WHERE id = 1;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
SELECT tombstone.restore('2', 'marked', :deletion);
\echo :SQLSTATE
SELECT tombstone.restore('1', 'marked', :second);
\echo :SQLSTATE
SELECT tombstone.restore('1', 'marked', :deletion);

--
-- tombstone_value_states
--

CREATE TABLE doc (id text, n bigint, body text, PRIMARY KEY (id, n));
SELECT tombstone.manage('doc', version => 'n', redact => '{"body": ""}');
INSERT INTO doc SELECT 'a', i, 'x' FROM generate_series(1, 3) AS i;
SELECT tombstone.tombstone_value_states('a', 2, 'doc');
\echo :SQLSTATE
SELECT count(*) FROM doc;

--
-- purge_events => none
--

SELECT tombstone.configure('note', 'purge_events', 'none'), tombstone.configure('note', 'retention', '1 day');
INSERT INTO note SELECT i, 'x' FROM generate_series(10, 19) AS i;
DELETE FROM note WHERE id >= 10;
UPDATE note_tombstone SET deleted_at = deleted_at - interval '2 days' WHERE id >= 10;
CALL tombstone.maintain('note');
SELECT count(*) FROM note_tombstone WHERE id >= 10;
-- Nothing says that they are purged. So that they were deleted stays in the stream: a reader must hear of it.
SELECT id, op, deletion_type FROM tombstone.replay(NULL, relations => '{note}') WHERE id::int >= 18 ORDER BY id;
SELECT action, records, outcome FROM tombstone.runs WHERE relation = 'note'::regclass ORDER BY run;
-- What somebody purges by hand is told as ever.
DELETE FROM note WHERE id = 1;
SELECT tombstone.purge('1', 'note') AS rows;
SELECT op, deletion_type FROM tombstone.replay(NULL, relations => '{note}') WHERE id = '1';

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA doors CASCADE;

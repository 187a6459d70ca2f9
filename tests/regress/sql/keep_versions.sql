-- The options keep_versions and keep_versions_for: old versions of a record expire by rule. The latest live one never does.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA drawer;
SET search_path = drawer;
SET tombstone.rate = 0;

CREATE TABLE page (id text, version int, body text, written_at timestamptz, deleted_at timestamptz, PRIMARY KEY (id, version));
SELECT tombstone.manage('page', version => 'version', redact => '{"body": ""}', retention => NULL, keep_versions => 2);
CREATE VIEW live AS SELECT id, array_agg(version ORDER BY version) AS versions FROM page WHERE deleted_at IS NULL GROUP BY id ORDER BY id;
INSERT INTO page SELECT 'a', v, 'text', now() - (7 - v) * interval '1 day' FROM generate_series(1, 6) v;
INSERT INTO page SELECT 'b', v, 'text', now() - (3 - v) * interval '1 day' FROM generate_series(1, 2) v;
INSERT INTO page VALUES ('c', 1, 'text', now() - interval '1 year');

--
-- The newest so many
--

SELECT action, records FROM tombstone.preview('page');
CALL tombstone.maintain('page');
SELECT * FROM live;
SELECT version, body FROM page WHERE id = 'a' ORDER BY version;
-- Each is an event, with its version.
SELECT id, version, op, deletion_type, cause FROM tombstone.replay(NULL) ORDER BY id, version;
-- Only live versions count.
UPDATE page SET deleted_at = now() WHERE id = 'a' AND version = 6;
INSERT INTO page VALUES ('a', 7, 'text', now());
CALL tombstone.maintain('page');
SELECT * FROM live;
-- On hold nothing expires.
INSERT INTO page VALUES ('a', 8, 'text', now()), ('b', 3, 'text', now());
SELECT tombstone.hold('a', 'page');
CALL tombstone.maintain('page');
SELECT * FROM live;
SELECT tombstone.release('a', 'page');

--
-- All of the last so long, and besides them the newest so many
--

SELECT tombstone.configure('page', 'expire_from', 'written_at');
SELECT tombstone.configure('page', 'keep_versions_for', '4 hours 30 minutes');
INSERT INTO page SELECT 'd', v, 'text', now() - (7 - v) * interval '1 hour' FROM generate_series(1, 7) v;
CALL tombstone.maintain('page');
SELECT * FROM live;
-- Without a number the latest stays, however old.
SELECT tombstone.configure('page', 'keep_versions', NULL);
SELECT tombstone.configure('page', 'keep_versions_for', '1 minute');
CALL tombstone.maintain('page');
SELECT * FROM live;
-- expire_after is another rule: what is that old expires, be it the latest.
SELECT tombstone.configure('page', 'expire_after', '6 months');
CALL tombstone.maintain('page');
SELECT * FROM live;
SELECT action, records, outcome, detail FROM tombstone.runs ORDER BY run;

--
-- What refers to a version goes with that version, and not with another one
--

CREATE TABLE leaf (id text, version int, deleted_at timestamptz, PRIMARY KEY (id, version));
CREATE TABLE mark (id int PRIMARY KEY, leaf text, version int, deleted_at timestamptz,
    CONSTRAINT mark_leaf FOREIGN KEY (leaf, version) REFERENCES leaf ON DELETE CASCADE);
SELECT tombstone.manage('leaf', version => 'version', keep_versions => 1);
SELECT tombstone.manage('mark');
INSERT INTO leaf SELECT 'a', v FROM generate_series(1, 3) v;
INSERT INTO mark SELECT v, 'a', v FROM generate_series(1, 3) v;
CALL tombstone.maintain('leaf');
SELECT version FROM leaf WHERE deleted_at IS NULL;
SELECT id FROM mark WHERE deleted_at IS NULL;
-- Where live children keep their version, it stays; those of another one keep it not.
SELECT tombstone.configure('mark', 'on_delete', '{"mark_leaf": "restrict"}');
INSERT INTO leaf VALUES ('a', 4), ('b', 1), ('b', 2);
INSERT INTO mark VALUES (4, 'b', 2);
CALL tombstone.maintain('leaf');
SELECT id, version FROM leaf WHERE deleted_at IS NULL ORDER BY id, version;
SELECT records, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;

--
-- With an archive, and in a partitioned table
--

CREATE TABLE k (site int, id int, version bigint, PRIMARY KEY (site, id, version)) PARTITION BY LIST (site);
CREATE TABLE k1 PARTITION OF k FOR VALUES IN (1);
SELECT tombstone.manage('k', version => 'version', keep_versions => 1);
INSERT INTO k SELECT 1, i, v FROM generate_series(1, 2) i, generate_series(1, 3) v;
CALL tombstone.maintain('k');
SELECT id, version FROM k ORDER BY id;
SELECT id, version, cause FROM k_tombstone ORDER BY id, version;

--
-- Checked when it is set
--

SELECT tombstone.configure('page', 'keep_versions', '0');
\echo :SQLSTATE
SELECT tombstone.configure('page', 'keep_versions', 'few');
\echo :SQLSTATE
SELECT tombstone.configure('page', 'keep_versions_for', '0');
\echo :SQLSTATE
SELECT tombstone.configure('k', 'keep_versions_for', '1 day');
\echo :SQLSTATE
CREATE TABLE note (id int PRIMARY KEY, at timestamptz);
SELECT tombstone.manage('note', keep_versions => 3);
\echo :SQLSTATE
SELECT tombstone.manage('note', keep_versions_for => '1 day', expire_from => 'at');
\echo :SQLSTATE

SET client_min_messages = error;
DROP SCHEMA drawer CASCADE;

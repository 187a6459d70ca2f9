-- undo brings back exactly what one deletion took, or nothing; a dry run says first what it would do,
-- record by record, and names each thing that stands in the way.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA undo;
SET search_path = undo;
CREATE VIEW deletions AS SELECT deletion, reason, relations, records, undone_at IS NOT NULL AS undone FROM tombstone.deletions;

CREATE TABLE project (id int PRIMARY KEY, name text NOT NULL, deleted_at timestamptz);
CREATE TABLE task (id int PRIMARY KEY, project int NOT NULL REFERENCES project ON DELETE CASCADE, title text, deleted_at timestamptz);
-- A live name is unique: a deleted one may be taken again.
CREATE UNIQUE INDEX ON project (name) WHERE deleted_at IS NULL;
SELECT tombstone.manage('project');
SELECT tombstone.manage('task', redact => '{"title": "gone"}');
INSERT INTO project VALUES (1, 'alpha'), (2, 'beta'), (3, 'gamma'), (4, 'delta');
INSERT INTO task VALUES (11, 1, 'a'), (12, 1, 'b'), (13, 1, 'c'), (21, 2, 'd'), (31, 3, 'e');

--
-- Exactly what it took
--

-- One deletion takes task 12; the next takes project 1, with what is left of it, and project 2.
SELECT tombstone.soft_delete('12', 'task', 'done');
SELECT id, outcome FROM tombstone.soft_delete_many('{1, 2}', 'project', 'by mistake');
SELECT * FROM deletions ORDER BY deletion;

-- A dry run changes nothing.
SELECT * FROM tombstone.undo(2, dry_run => true) ORDER BY relation::text, id;
SELECT tombstone.state('1', 'project');
-- The real one brings back the same, parents before children; the first deletion stands.
SELECT relation, outcome, array_agg(id ORDER BY id) AS ids
FROM tombstone.undo(2) WITH ORDINALITY AS u (relation, id, outcome, detail, n) GROUP BY relation, outcome ORDER BY min(n);
SELECT id, tombstone.state(id::text, 'project') FROM project ORDER BY id;
SELECT id, title, tombstone.state(id::text, 'task') FROM task ORDER BY id;
SELECT * FROM deletions ORDER BY deletion;

-- A deletion is undone once; the next deletion of the same records has a number of its own.
SELECT * FROM tombstone.undo(2);
\echo :SQLSTATE
SELECT * FROM tombstone.undo(2, dry_run => true);
\echo :SQLSTATE
SELECT * FROM tombstone.undo(99);
\echo :SQLSTATE
SELECT * FROM tombstone.undo(NULL);
\echo :SQLSTATE

-- A deletion of many statements, children before parents, is undone as a whole.
BEGIN;
UPDATE task SET deleted_at = now() WHERE project = 3;
DELETE FROM task WHERE id = 12;
SELECT tombstone.soft_delete('3', 'project');
COMMIT;
SELECT * FROM tombstone.undo(8, dry_run => true) ORDER BY id::int;
-- What was purged does not come back: here the undo of the rest is refused, too.
SELECT * FROM tombstone.undo(8);
\echo :SQLSTATE
SELECT tombstone.state('3', 'project');
SELECT tombstone.restore('3', 'project');

--
-- What happened since
--

-- Restored since: nothing to do. Deleted again since: that is another deletion's.
SELECT tombstone.soft_delete('31', 'task') > 0 AS deleted;
SELECT id, outcome FROM tombstone.soft_delete_many('{11, 13, 21}', 'task');
SELECT max(deletion) AS deletion FROM deletions \gset
SELECT tombstone.restore('11', 'task');
SELECT tombstone.restore('13', 'task');
SELECT tombstone.soft_delete('13', 'task') > 0 AS deleted;
SELECT * FROM tombstone.undo(:deletion) ORDER BY id;
SELECT id, tombstone.state(id::text, 'task') FROM task ORDER BY id;
SELECT tombstone.restore('13', 'task');

--
-- What stands in the way: all of it is named, and nothing comes back
--

-- A unique name that somebody has taken; and so the children, whose parent cannot return
SELECT id, outcome FROM tombstone.soft_delete_many('{1, 3, 4}', 'project');
SELECT max(deletion) AS deletion FROM deletions \gset
INSERT INTO project VALUES (5, 'alpha'), (6, 'gamma');
SELECT * FROM tombstone.undo(:deletion, true) ORDER BY relation::text, id;
\set VERBOSITY terse
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
\set VERBOSITY default
SELECT id FROM project WHERE deleted_at IS NULL ORDER BY id;
-- Out of the way, and it goes through.
UPDATE project SET name = name || ' 2' WHERE id > 4;
SELECT relation, outcome, count(*) FROM tombstone.undo(:deletion) GROUP BY relation, outcome ORDER BY relation::text;

-- Two of its own records, which could not both be live
BEGIN;
SELECT tombstone.soft_delete('1', 'project') > 0 AS deleted;
INSERT INTO project VALUES (7, 'alpha');
SELECT tombstone.soft_delete('7', 'project') > 0 AS deleted;
COMMIT;
SELECT max(deletion) AS deletion FROM deletions \gset
SELECT relation, id, outcome FROM tombstone.undo(:deletion, true) WHERE relation = 'project'::regclass ORDER BY id;
SELECT tombstone.restore('1', 'project');

-- A parent that a later deletion took
SELECT id, outcome FROM tombstone.soft_delete_many('{11, 21}', 'task');
SELECT max(deletion) AS deletion FROM deletions \gset
SELECT tombstone.soft_delete('2', 'project') > 0 AS deleted;
SELECT * FROM tombstone.undo(:deletion, true) ORDER BY relation::text, id;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
SELECT tombstone.restore('2', 'project');

-- A hold
SELECT tombstone.hold('11', 'task', 'case 17');
SELECT * FROM tombstone.undo(:deletion, true) ORDER BY relation::text, id;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
SELECT tombstone.release('11', 'task');

-- A purge since
SELECT tombstone.purge('21', 'task');
SELECT * FROM tombstone.undo(:deletion, true) ORDER BY relation::text, id;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE

-- Another check of the table's own
SELECT tombstone.soft_delete('4', 'project') AS deletion \gset
ALTER TABLE project ADD CONSTRAINT no_delta CHECK (name <> 'delta' OR deleted_at IS NOT NULL);
SELECT * FROM tombstone.undo(:deletion, true) ORDER BY relation::text, id;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
ALTER TABLE project DROP CONSTRAINT no_delta;

-- Records of other owners
SELECT tombstone.configure('project', 'owners', 'CASE id WHEN 3 THEN ''regress_lead'' ELSE ''regress_member'' END');
CREATE ROLE regress_lead;
CREATE ROLE regress_member;
GRANT USAGE ON SCHEMA undo TO regress_lead, regress_member;
GRANT SELECT, UPDATE ON project TO regress_lead, regress_member;
BEGIN;
UPDATE project SET deleted_at = now() WHERE id IN (1, 3);
COMMIT;
SELECT max(deletion) AS deletion FROM deletions \gset
SET ROLE regress_lead;
SELECT * FROM tombstone.undo(:deletion, true) WHERE relation = 'project'::regclass ORDER BY id;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
RESET ROLE;
-- Without the right to update the table nobody undoes what was deleted in it.
REVOKE UPDATE ON project FROM regress_lead;
SET ROLE regress_lead;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
RESET ROLE;
REVOKE ALL ON project FROM regress_lead;
SET ROLE regress_lead;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
RESET ROLE;
SELECT tombstone.configure('project', 'owners', NULL);
SELECT relation, outcome, count(*) FROM tombstone.undo(:deletion) GROUP BY relation, outcome ORDER BY relation::text;

-- A table that is managed no more
SELECT tombstone.restore('4', 'project');
SELECT tombstone.soft_delete('4', 'project') AS deletion \gset
SELECT tombstone.unmanage('project', discard => true);
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE

--
-- Versions
--

CREATE TABLE doc (id text, version bigint, body text, deleted_at timestamptz, PRIMARY KEY (id, version));
SELECT tombstone.manage('doc', version => 'version', redact => '{"body": null}');
INSERT INTO doc VALUES ('a', 1, 'x'), ('a', 2, 'x'), ('a', 3, 'x'), ('b', 1, 'x');
SELECT tombstone.tombstone_value_states('a', 1);
SELECT tombstone.tombstone_value_states('a', 3);
SELECT max(deletion) AS deletion FROM deletions \gset
SELECT * FROM tombstone.undo(:deletion) ORDER BY detail;
SELECT id, version, deleted_at IS NOT NULL AS deleted FROM doc ORDER BY id, version;

--
-- Taken twice
--

-- A record that the deletion took twice, as it was there again in between, is listed once: as it was taken last.
CREATE TABLE memo (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('memo');
INSERT INTO memo VALUES (1), (2);
BEGIN;
UPDATE memo SET deleted_at = now();
SELECT tombstone.restore('1', 'memo');
SELECT tombstone.soft_delete('1', 'memo') AS deletion \gset
COMMIT;
SELECT * FROM tombstone.undo(:deletion, dry_run => true) ORDER BY id;
SELECT * FROM tombstone.undo(:deletion) ORDER BY id;
-- Deleted, and then purged: what does not come back is named once.
BEGIN;
SELECT tombstone.soft_delete('1', 'memo') AS deletion \gset
DELETE FROM memo WHERE id = 1;
COMMIT;
SELECT * FROM tombstone.undo(:deletion, dry_run => true);

DROP SCHEMA undo CASCADE;
DROP ROLE regress_lead, regress_member;

-- Layout in_place: equal stamps are not one deletion. An application that rounds its stamps, here to the day, leaves the same one in
-- many deletions. While the log knows which of them took a record, the log decides.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA stamps;
SET search_path = stamps;
\set today '''2026-01-01 00:00Z'''

CREATE TABLE project (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE task (id int PRIMARY KEY, project int NOT NULL REFERENCES project ON DELETE CASCADE, deleted_at timestamptz);
CREATE TABLE step (id int PRIMARY KEY, task int NOT NULL REFERENCES task ON DELETE CASCADE, deleted_at timestamptz);
SELECT tombstone.manage('project'), tombstone.manage('task'), tombstone.manage('step');
INSERT INTO project VALUES (1), (2);
INSERT INTO task VALUES (11, 1), (12, 1), (21, 2);
INSERT INTO step VALUES (111, 11), (112, 11), (121, 12), (211, 21);
CREATE VIEW dead AS
    SELECT 'project' AS of, id FROM project WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'task', id FROM task WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'step', id FROM step WHERE deleted_at IS NOT NULL ORDER BY 1, 2;

--
-- restore
--

-- Task 12 and step 111 are deleted by themselves, and then the project, with what is left of it. All have one stamp.
UPDATE task SET deleted_at = :today WHERE id = 12;
UPDATE step SET deleted_at = :today WHERE id = 111;
UPDATE project SET deleted_at = :today WHERE id = 1;
TABLE dead;
-- The project comes back with what fell with it, and with nothing that another transaction has deleted.
SELECT tombstone.restore('1', 'project');
TABLE dead;
SELECT tombstone.restore('12', 'task'), tombstone.restore('111', 'step');

-- What the same transaction deleted by hand, before the project, is of the same deletion.
UPDATE step SET deleted_at = :today WHERE id = 112;
BEGIN;
UPDATE task SET deleted_at = :today WHERE id = 11;
UPDATE project SET deleted_at = :today WHERE id = 1;
COMMIT;
SELECT tombstone.restore('1', 'project');
TABLE dead;
SELECT tombstone.restore('112', 'step');

-- In plain SQL as well, where one statement restores what several deletions took.
UPDATE task SET deleted_at = :today WHERE id = 12;
UPDATE project SET deleted_at = :today WHERE id = 1;
UPDATE step SET deleted_at = :today WHERE id = 211;
UPDATE project SET deleted_at = :today WHERE id = 2;
UPDATE project SET deleted_at = NULL;
TABLE dead;
UPDATE task SET deleted_at = NULL;
UPDATE step SET deleted_at = NULL;
TABLE dead;

--
-- undo, and restore of one deletion
--

-- Deleted, restored, and deleted again on the same day: the tombstone is the last deletion's.
UPDATE task SET deleted_at = :today WHERE id IN (11, 12);
SELECT max(deletion) AS first FROM tombstone.deletions \gset
SELECT tombstone.restore('12', 'task');
UPDATE task SET deleted_at = :today WHERE id = 12;
SELECT max(deletion) AS last FROM tombstone.deletions \gset
SELECT tombstone.restore('12', 'task', :first);
\echo :SQLSTATE
SELECT relation, id, outcome FROM tombstone.undo(:first) WHERE relation = 'task'::regclass ORDER BY id;
TABLE dead;
SELECT tombstone.restore('12', 'task', :last);
TABLE dead;

-- Versions of one record that several deletions took
CREATE TABLE doc (id text, version bigint, deleted_at timestamptz, PRIMARY KEY (id, version));
SELECT tombstone.manage('doc', version => 'version');
INSERT INTO doc VALUES ('a', 1), ('a', 2);
UPDATE doc SET deleted_at = :today WHERE version = 1;
SELECT max(deletion) AS first FROM tombstone.deletions \gset
UPDATE doc SET deleted_at = :today WHERE version = 2;
SELECT id, outcome, detail FROM tombstone.undo(:first);
SELECT version FROM doc WHERE deleted_at IS NULL;

--
-- A child of two parents, and one with an archive
--

CREATE TABLE person (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE membership (person int REFERENCES person ON DELETE CASCADE, project int REFERENCES project ON DELETE CASCADE,
    deleted_at timestamptz, PRIMARY KEY (person, project));
CREATE TABLE invoice (id int PRIMARY KEY, project int REFERENCES project ON DELETE CASCADE);
SELECT tombstone.manage('person'), tombstone.manage('membership'), tombstone.manage('invoice', 'archive');
INSERT INTO person VALUES (7), (8);
INSERT INTO membership VALUES (7, 1), (8, 1);
INSERT INTO invoice VALUES (5, 1), (6, 1);
UPDATE membership SET deleted_at = :today WHERE person = 8;
DELETE FROM invoice WHERE id = 6;
UPDATE project SET deleted_at = :today WHERE id = 1;
SELECT tombstone.restore('1', 'project');
SELECT person, deleted_at IS NULL AS live FROM membership ORDER BY person;
-- A row of a bin says itself which deletion took it, whatever its parent's stamp.
SELECT id FROM invoice ORDER BY id;

--
-- What the log does not know
--

-- Where it has been trimmed of both deletions, the stamp is all there is.
UPDATE task SET deleted_at = :today WHERE id = 12;
UPDATE project SET deleted_at = :today WHERE id = 1;
TRUNCATE tombstone.event;
SELECT tombstone.restore('1', 'project');
TABLE dead;
-- So it is where it knows one of them only.
UPDATE task SET deleted_at = :today WHERE id = 12;
TRUNCATE tombstone.event;
UPDATE project SET deleted_at = :today WHERE id = 1;
SELECT tombstone.restore('1', 'project') > 0 AS restored;
SELECT id FROM task WHERE deleted_at IS NOT NULL;
-- Where it tells of several, a child that it does not know is of none of them.
UPDATE task SET deleted_at = :today WHERE id = 12;
TRUNCATE tombstone.event;
UPDATE step SET deleted_at = :today WHERE id = 111;
UPDATE task SET deleted_at = :today WHERE id = 21;
UPDATE project SET deleted_at = :today WHERE id = 1;
SELECT tombstone.restore('1', 'project') > 0 AS restored;
TABLE dead;

-- Of what is known to be another deletion's alone, nothing comes back with a record of which the log does not know who took it.
UPDATE project SET deleted_at = :today WHERE id = 2;
TRUNCATE tombstone.event;
INSERT INTO task VALUES (22, 2);
UPDATE task SET deleted_at = :today WHERE id = 22;
SELECT tombstone.restore('2', 'project') > 0 AS restored;
SELECT id FROM task WHERE project = 2 AND deleted_at IS NOT NULL;
-- Of a table without events it never tells.
UPDATE project SET deleted_at = NULL;
UPDATE task SET deleted_at = NULL;
UPDATE step SET deleted_at = NULL;
SELECT tombstone.configure('step', 'events', 'none');
UPDATE step SET deleted_at = :today WHERE id = 111;
UPDATE task SET deleted_at = :today WHERE id = 12;
UPDATE project SET deleted_at = :today WHERE id = 1;
SELECT tombstone.restore('1', 'project') > 0 AS restored;
TABLE dead;

-- Columns that keep fewer digits, each as many as it likes.
CREATE TABLE hall (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE chair (id int PRIMARY KEY, hall int REFERENCES hall ON DELETE CASCADE, deleted_at timestamp(0));
SELECT tombstone.manage('hall'), tombstone.manage('chair');
INSERT INTO hall VALUES (1);
INSERT INTO chair VALUES (1, 1), (2, 1), (3, 1);
UPDATE chair SET deleted_at = '2026-01-01 00:00:01' WHERE id = 2;
UPDATE hall SET deleted_at = '2026-01-01 00:00:01.4Z';
SELECT id, deleted_at FROM chair ORDER BY id;
SELECT tombstone.restore('1', 'hall');
SELECT id, deleted_at FROM chair ORDER BY id;
-- A deletion that took its records one by one has an entry of each, and all of them one stamp.
INSERT INTO project SELECT generate_series(1001, 1100);
INSERT INTO task SELECT id, id FROM project WHERE id > 1000;
DO $$ BEGIN FOR one IN 1001 .. 1100 LOOP UPDATE project SET deleted_at = now() WHERE id = one; END LOOP; END $$;
SELECT max(deletion) AS number FROM tombstone.event \gset
SELECT outcome, count(*) FROM tombstone.undo(:number) GROUP BY outcome;

DROP SCHEMA stamps CASCADE;

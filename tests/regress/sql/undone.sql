-- undone_at of tombstone.deletions: when a deletion was taken back as a whole, by whichever road, in both layouts.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA back;
SET search_path = back;
CREATE VIEW deletions AS SELECT deletion, reason, records, undone_at IS NOT NULL AS undone FROM tombstone.deletions ORDER BY deletion;

--
-- In place
--

CREATE TABLE project (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE task (id int PRIMARY KEY, project int NOT NULL REFERENCES project ON DELETE CASCADE, deleted_at timestamptz);
SELECT tombstone.manage('project'), tombstone.manage('task');
INSERT INTO project VALUES (1), (2), (3);
INSERT INTO task VALUES (11, 1), (12, 1), (21, 2);

-- By restore(): with the last of its records it is taken back.
SELECT id, outcome FROM tombstone.soft_delete_many('{1, 2}', 'project', 'two projects');
SELECT tombstone.restore('1', 'project');
TABLE deletions;
SELECT tombstone.restore('2', 'project');
TABLE deletions;
-- Whatever becomes of the records since.
SELECT tombstone.soft_delete('1', 'project', 'one of them again') > 0 AS deleted;
TABLE deletions;
-- By plain SQL, also where it comes in several steps.
UPDATE project SET deleted_at = NULL WHERE id = 1;
UPDATE task SET deleted_at = now() WHERE id IN (11, 12);
UPDATE task SET deleted_at = NULL WHERE id = 12;
SELECT deletion, undone FROM deletions ORDER BY deletion DESC LIMIT 1;
UPDATE task SET deleted_at = NULL;
SELECT deletion, undone FROM deletions ORDER BY deletion DESC LIMIT 1;
-- undo() may still be called: there is nothing to do, and the moment stays the one when it was taken back.
SELECT max(deletion) AS deletion, max(undone_at) AS at FROM tombstone.deletions \gset
SELECT id, outcome FROM tombstone.undo(:deletion) ORDER BY id;
SELECT undone_at = :'at' AS the_same FROM tombstone.deletions WHERE deletion = :deletion;

-- A record that was purged in between does not come back, nor does the deletion, whatever stands in its place.
UPDATE task SET deleted_at = '2026-01-01 00:00Z' WHERE id IN (11, 12);
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
DELETE FROM task WHERE id = 12;
INSERT INTO task VALUES (12, 1);
UPDATE task SET deleted_at = '2026-01-01 00:00Z' WHERE id = 12;
UPDATE task SET deleted_at = NULL;
SELECT deletion = :deletion AS the_first, undone FROM deletions WHERE deletion >= :deletion AND records < 3 ORDER BY deletion;
-- Of equal stamps, each deletion by itself.
UPDATE task SET deleted_at = '2026-01-02 00:00Z' WHERE id = 11;
UPDATE task SET deleted_at = '2026-01-02 00:00Z' WHERE id = 12;
SELECT tombstone.restore('12', 'task');
SELECT undone FROM deletions ORDER BY deletion DESC LIMIT 2;
SELECT tombstone.restore('11', 'task');
SELECT undone FROM deletions ORDER BY deletion DESC LIMIT 2;

-- Versions: all that it took.
CREATE TABLE doc (id text, version bigint, body text, deleted_at timestamptz, PRIMARY KEY (id, version));
SELECT tombstone.manage('doc', version => 'version', redact => '{"body": null}');
INSERT INTO doc VALUES ('a', 1, 'x'), ('a', 2, 'x'), ('b', 1, 'x');
UPDATE doc SET deleted_at = now();
UPDATE doc SET deleted_at = NULL WHERE (id, version) <> ('a', 2);
SELECT undone FROM deletions ORDER BY deletion DESC LIMIT 1;
UPDATE doc SET deleted_at = NULL;
SELECT undone FROM deletions ORDER BY deletion DESC LIMIT 1;

-- A savepoint that is rolled back has taken nothing back.
BEGIN;
UPDATE task SET deleted_at = now() WHERE id = 11;
SAVEPOINT s;
SELECT tombstone.restore('11', 'task');
ROLLBACK TO s;
COMMIT;
SELECT undone FROM deletions ORDER BY deletion DESC LIMIT 1;
SELECT tombstone.restore('11', 'task');

--
-- With an archive
--

CREATE TABLE customer (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer ON DELETE CASCADE);
SELECT tombstone.manage('orders'), tombstone.manage('customer');
INSERT INTO customer VALUES (1), (2);
INSERT INTO orders VALUES (10, 1), (20, 2);
DELETE FROM customer;
SELECT max(deletion) AS first FROM tombstone.deletions \gset
SELECT tombstone.restore('1', 'customer');
SELECT undone FROM deletions WHERE deletion = :first;
-- Another record of that id, deleted and restored, is another deletion's.
INSERT INTO customer VALUES (2);
DELETE FROM customer WHERE id = 2;
SELECT max(deletion) AS second FROM tombstone.deletions \gset
SELECT tombstone.restore('2', 'customer');
SELECT deletion = :first AS the_first, undone FROM deletions WHERE deletion IN (:first, :second) ORDER BY deletion;
DELETE FROM customer WHERE id = 2;
SELECT tombstone.restore('2', 'customer', :first);
SELECT deletion = :first AS the_first, undone FROM deletions WHERE deletion IN (:first, :second) ORDER BY deletion;

--
-- Who sees it, and for how long
--

-- As all that is shown of a deletion, it is of the tables that one may read. The order is not back, which only its reader can know.
BEGIN;
UPDATE project SET deleted_at = now() WHERE id = 3;
DELETE FROM orders WHERE id = 10;
COMMIT;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
SELECT tombstone.restore('3', 'project');
CREATE ROLE regress_reader;
GRANT USAGE ON SCHEMA back TO regress_reader;
GRANT SELECT ON deletions, project TO regress_reader;
SELECT records, undone_at IS NOT NULL AS undone FROM tombstone.deletions WHERE deletion = :deletion;
SET ROLE regress_reader;
SELECT records, undone_at IS NOT NULL AS undone FROM tombstone.deletions WHERE deletion = :deletion;
RESET ROLE;

-- What tells of it stays in the log for as long as the deletion does, though one of its tables forgets sooner.
SELECT tombstone.configure('task', 'event_retention', '1 microsecond');
SELECT tombstone.soft_delete('1', 'project') AS deletion \gset
SELECT tombstone.restore('1', 'project');
CALL tombstone.maintain('task');
CALL tombstone.maintain('task');
SELECT undone FROM deletions WHERE deletion = :deletion;
SELECT relation, op, restored, count(*) FROM tombstone.replay(NULL, relations => '{task}') GROUP BY 1, 2, 3 ORDER BY 2;
-- And goes with it; what is left belongs to the deletion before, which an order keeps.
SELECT tombstone.configure('project', 'event_retention', '1 microsecond');
CALL tombstone.maintain('project');
CALL tombstone.maintain('project');
CALL tombstone.maintain('task');
SELECT undone FROM deletions WHERE deletion = :deletion;
SELECT relation, op, restored, id FROM tombstone.replay(NULL, relations => '{project, task}');

DROP SCHEMA back CASCADE;
DROP ROLE regress_reader;

-- Layout archive: who may delete, restore, purge and read what was deleted.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE ROLE bin_owner;
CREATE ROLE bin_ann;
CREATE ROLE bin_bob;
GRANT bin_ann, bin_bob TO bin_owner;
CREATE SCHEMA bin AUTHORIZATION bin_owner;
GRANT USAGE ON SCHEMA bin TO PUBLIC;
SET search_path = bin;

-- The archive is the table owner's, and nobody else's.
SET ROLE bin_owner;
CREATE TABLE doc (id int PRIMARY KEY, owner text, body text);
INSERT INTO doc VALUES (1, 'bin_ann', 'a'), (2, 'bin_bob', 'b'), (3, 'bin_bob', 'c');
GRANT SELECT, DELETE ON doc TO bin_ann, bin_bob;
SELECT tombstone.manage('doc', owners => 'owner');
SELECT relname, relowner::regrole, relacl FROM pg_class WHERE relname LIKE 'doc_tombstone%' AND relkind IN ('r', 'p') ORDER BY 1;
SET ROLE bin_ann;
SELECT tombstone.soft_delete('1', 'doc') > 0 AS deleted;
SELECT tombstone.soft_delete('2', 'doc');
\echo :SQLSTATE
SELECT * FROM doc_tombstone;
\echo :SQLSTATE
DELETE FROM doc_tombstone;
\echo :SQLSTATE
-- Deleting takes DELETE on the table, restoring takes INSERT.
SELECT tombstone.restore('1', 'doc');
\echo :SQLSTATE
RESET ROLE;
GRANT INSERT ON bin.doc TO bin_ann, bin_bob;
-- A record that is not in the table is not therefore everybody's.
SET ROLE bin_bob;
SELECT tombstone.restore('1', 'doc');
\echo :SQLSTATE
SELECT outcome FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions), true);
SELECT outcome FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions));
\echo :SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION tombstone.purge TO bin_bob;
SET ROLE bin_bob;
SELECT tombstone.purge('1', 'doc');
\echo :SQLSTATE
SET ROLE bin_ann;
SELECT tombstone.restore('1', 'doc');

-- Row security: WITH CHECK of INSERT is asked of what comes back.
SET ROLE bin_owner;
ALTER TABLE doc ENABLE ROW LEVEL SECURITY;
CREATE POLICY reading ON doc FOR SELECT USING (true);
CREATE POLICY deleting ON doc FOR DELETE USING (owner = current_user);
CREATE POLICY writing ON doc FOR INSERT WITH CHECK (body <> 'a');
SET ROLE bin_ann;
DELETE FROM doc;
SELECT id FROM doc ORDER BY 1;
-- What row security would hide is not told.
SELECT tombstone.state('1', 'doc');
SELECT tombstone.restore('1', 'doc');
\echo :SQLSTATE
SET ROLE bin_owner;
SELECT tombstone.restore('1', 'doc');

-- Holds, on live records and on archived ones.
SELECT tombstone.hold('1', 'doc', 'lawsuit');
DELETE FROM doc WHERE id = 1;
\echo :SQLSTATE
TRUNCATE doc;
\echo :SQLSTATE
DELETE FROM doc WHERE id = 2;
SELECT tombstone.hold('2', 'doc');
SELECT tombstone.restore('2', 'doc');
\echo :SQLSTATE
SELECT outcome FROM tombstone.undo((SELECT max(deletion) FROM doc_tombstone), true);
DELETE FROM doc_tombstone WHERE id = 2;
\echo :SQLSTATE
TRUNCATE doc_tombstone;
\echo :SQLSTATE
SELECT tombstone.release('2', 'doc');
SELECT tombstone.restore('2', 'doc');

-- Many at once take the same rights as one: DELETE, and SELECT on the id.
CREATE TABLE item (id int PRIMARY KEY, owner text, body text);
INSERT INTO item SELECT i, 'bin_ann', 'x' FROM generate_series(1, 5) AS i;
GRANT SELECT (id, owner), DELETE ON item TO bin_ann;
SELECT tombstone.manage('item');
SET ROLE bin_ann;
SELECT tombstone.soft_delete('1', 'item') > 0 AS deleted;
SELECT * FROM tombstone.soft_delete_many('{1,2,3,9}', 'item');
-- Row security binds as it binds a DELETE.
SET ROLE bin_owner;
UPDATE item SET owner = 'bin_bob' WHERE id = 4;
ALTER TABLE item ENABLE ROW LEVEL SECURITY;
CREATE POLICY reading ON item FOR SELECT USING (true);
CREATE POLICY deleting ON item FOR DELETE USING (owner = current_user);
SET ROLE bin_ann;
SELECT * FROM tombstone.soft_delete_many('{4,5}', 'item');
-- UPDATE besides, whose policies let nothing be updated, changes none of it.
SET ROLE bin_owner;
GRANT UPDATE, INSERT ON item TO bin_ann;
INSERT INTO item VALUES (6, 'bin_ann', 'x');
SET ROLE bin_ann;
SELECT * FROM tombstone.soft_delete_many('{4,6}', 'item');
-- Whoever may not delete deletes none.
SET ROLE bin_owner;
REVOKE DELETE ON item FROM bin_ann;
SET ROLE bin_ann;
SELECT * FROM tombstone.soft_delete_many('{4}', 'item');
SET ROLE bin_bob;
SELECT * FROM tombstone.soft_delete_many('{4}', 'item');
SET ROLE bin_owner;

-- What fell by a foreign key comes back with its owner's rights, as it went.
CREATE TABLE note (id int PRIMARY KEY, doc int REFERENCES doc ON DELETE CASCADE);
INSERT INTO note VALUES (1, 3), (2, 3);
SELECT tombstone.manage('note');
SET ROLE bin_bob;
DELETE FROM note;
\echo :SQLSTATE
DELETE FROM doc WHERE id = 3;
SELECT tombstone.restore('3', 'doc');
SET ROLE bin_owner;
SELECT count(*) FROM note;

-- An archive stays as long as its table is managed; one that was altered is told at the next statement that needs it.
SELECT tombstone.release('1', 'doc');
DROP TABLE doc_tombstone;
\echo :SQLSTATE
ALTER TABLE doc_tombstone RENAME COLUMN id TO number;
DELETE FROM doc WHERE id = 1;
\echo :SQLSTATE
SELECT count(*) FROM doc;
SELECT tombstone.unmanage('doc');
DROP TABLE doc_tombstone;
SELECT tombstone.manage('doc');
DELETE FROM doc WHERE id = 1;
SELECT count(*) FROM doc_tombstone;

RESET ROLE;
DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA bin CASCADE;
DROP ROLE bin_owner, bin_ann, bin_bob;

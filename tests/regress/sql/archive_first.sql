-- Layout archive: the first statement of a session without shared_preload_libraries is one like any other, though it is the one that
-- loads the library, in its midst.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA first;
CREATE TABLE first.parent (id int PRIMARY KEY);
CREATE TABLE first.child (id int PRIMARY KEY, parent int REFERENCES first.parent ON DELETE CASCADE);
CREATE TABLE first.toy (id int PRIMARY KEY, child int REFERENCES first.child ON DELETE CASCADE);
CREATE TABLE first.other (id int);
CREATE TABLE first.friend (id int PRIMARY KEY, parent int REFERENCES first.parent ON DELETE SET NULL);
SELECT tombstone.manage('first.parent', tree => true);
INSERT INTO first.parent VALUES (1), (2), (3);
INSERT INTO first.child VALUES (11, 1), (12, 2);
INSERT INTO first.toy VALUES (111, 11);
INSERT INTO first.friend VALUES (21, 1), (23, 3);

-- What falls by a foreign key is known to have fallen, and comes back with its parent.
\c -
DELETE FROM first.parent WHERE id = 1;
SELECT 'parent' AS bin, id, cause FROM first.parent_tombstone
UNION ALL SELECT 'child', id, cause FROM first.child_tombstone
UNION ALL SELECT 'toy', id, cause FROM first.toy_tombstone ORDER BY 2;
SELECT tombstone.restore('1', 'first.parent');
TABLE first.toy;
SELECT * FROM first.friend ORDER BY id;

-- A reference that was overwritten before anything else of ours was called.
\c -
DELETE FROM first.parent WHERE id = 3;
SELECT tombstone.restore('3', 'first.parent');
SELECT * FROM first.friend ORDER BY id;

-- A child deleted by somebody, in a function and a transaction of many commands, has not fallen.
\c -
BEGIN;
INSERT INTO first.other VALUES (1);
INSERT INTO first.other VALUES (2);
DO $$
BEGIN
    DELETE FROM first.child WHERE id = 12;
    DELETE FROM first.parent WHERE id = 2;
END $$;
COMMIT;
SELECT id, cause FROM first.child_tombstone;
SELECT id, cause FROM first.parent_tombstone;

-- A parent that is not managed.
SELECT tombstone.restore('2', 'first.parent');
SET client_min_messages = warning;
SELECT tombstone.unmanage('first.parent');
DROP TABLE first.parent_tombstone;
\c -
DELETE FROM first.parent WHERE id = 2;
SELECT id, cause FROM first.child_tombstone;

SET client_min_messages = warning;
DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA first CASCADE;

-- Constraints that wait for the end of the transaction: undo asks them before, and says what stands in the way.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA later;
SET search_path = later;
CREATE TABLE a (id int PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
SELECT tombstone.manage('a', tree => true);
INSERT INTO a VALUES (1, 'x'), (2, 'y');
INSERT INTO b VALUES (1, 1), (2, 2);
DELETE FROM b;
SELECT max(deletion) AS children FROM b_tombstone \gset
DELETE FROM a WHERE id = 1;
SELECT max(deletion) AS parent FROM a_tombstone \gset
SELECT relation, id, outcome, detail FROM tombstone.undo(:children, true) ORDER BY id;
SELECT * FROM tombstone.undo(:children);
\echo :SQLSTATE
-- A transaction that violates one for its own reasons goes on, and Postgres has the last word.
BEGIN;
INSERT INTO b VALUES (3, 3);
SELECT outcome FROM tombstone.undo(:parent);
INSERT INTO a VALUES (3, 'z');
COMMIT;
SELECT * FROM b;
-- With its parent back it comes back; the constraints wait as they did before.
BEGIN;
SELECT outcome FROM tombstone.undo(:children);
INSERT INTO b VALUES (4, 4);
INSERT INTO a VALUES (4, 'four');
COMMIT;
SELECT * FROM b ORDER BY id;
-- A unique key may wait, too.
DELETE FROM a WHERE id = 4;
SELECT max(deletion) AS parent FROM a_tombstone \gset
INSERT INTO a VALUES (5, 'four');
SELECT relation, id, outcome, detail FROM tombstone.undo(:parent, true) ORDER BY relation::text;
-- Two that refer to each other come back together.
CREATE TABLE c (id int PRIMARY KEY, d int);
CREATE TABLE d (id int PRIMARY KEY, c int);
SELECT tombstone.manage('c'), tombstone.manage('d');
ALTER TABLE c ADD FOREIGN KEY (d) REFERENCES d ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE d ADD FOREIGN KEY (c) REFERENCES c ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO c VALUES (1, 1);
INSERT INTO d VALUES (1, 1);
COMMIT;
DELETE FROM c;
SELECT relation, id, outcome FROM tombstone.undo((SELECT max(deletion) FROM c_tombstone)) ORDER BY 1;

-- A key column that ON DELETE SET NULL would blank: NOT NULL says so, as without us.
CREATE TABLE e (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE line (p int, n int, PRIMARY KEY (p, n));
SELECT tombstone.manage('e', events => 'all'), tombstone.manage('p'), tombstone.manage('line', events => 'all');
ALTER TABLE line ADD FOREIGN KEY (p) REFERENCES p ON DELETE SET NULL;
INSERT INTO p VALUES (1);
INSERT INTO line VALUES (1, 1);
INSERT INTO e VALUES (1);
DELETE FROM p;
\echo :SQLSTATE
UPDATE line SET p = NULL;
\echo :SQLSTATE
UPDATE e SET id = NULL;
\echo :SQLSTATE
DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA later CASCADE;

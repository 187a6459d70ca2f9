-- What fell by a foreign key is written in its owner's name: who may not see those rows is not shown them by an error either.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE ROLE quiet_owner;
CREATE ROLE quiet_app;
CREATE SCHEMA quiet AUTHORIZATION quiet_owner;
GRANT USAGE ON SCHEMA quiet TO PUBLIC;
SET search_path = quiet;

SET ROLE quiet_owner;
CREATE TABLE person (id int PRIMARY KEY);
CREATE TABLE letter (id int PRIMARY KEY, person int REFERENCES person ON DELETE CASCADE, body text UNIQUE);
CREATE TABLE stamp (letter int REFERENCES letter ON DELETE CASCADE, n int, PRIMARY KEY (letter, n));
SELECT tombstone.manage('person', tree => true);
INSERT INTO person VALUES (1), (2), (3);
INSERT INTO letter VALUES (11, 1, 'topsecret'), (12, 2, 'hush'), (13, 3, '7');
INSERT INTO stamp VALUES (12, 1);
GRANT SELECT, INSERT, DELETE ON person TO quiet_app;
SET ROLE quiet_app;
DELETE FROM person;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
SET ROLE quiet_owner;
ALTER TABLE letter ADD CHECK (body <> 'topsecret');
INSERT INTO person VALUES (4);
INSERT INTO letter VALUES (14, 4, 'hush');

-- Neither values nor ids.
SET ROLE quiet_app;
SELECT * FROM tombstone.undo(:deletion, true) ORDER BY relation::text, id, outcome;
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
SELECT tombstone.restore('1', 'person');
\echo :SQLSTATE
SELECT tombstone.restore('2', 'person');
\echo :SQLSTATE
-- An expression that fails says the value in its message.
SET ROLE quiet_owner;
ALTER TABLE letter ADD number int GENERATED ALWAYS AS (CASE WHEN id = 11 THEN body::int END) STORED;
SET ROLE quiet_app;
SELECT outcome, detail FROM tombstone.undo(:deletion, true) WHERE outcome = 'failed';
SELECT tombstone.restore('1', 'person');
\echo :SQLSTATE
SET ROLE quiet_owner;
ALTER TABLE letter DROP number;

-- The owner is shown all.
SELECT id, outcome, detail FROM tombstone.undo(:deletion, true) WHERE relation <> 'person'::regclass ORDER BY id;
SELECT tombstone.restore('1', 'person');

-- So is who may read the table; of columns, those that are granted.
GRANT SELECT (id) ON letter TO quiet_app;
SET ROLE quiet_app;
SELECT id, outcome, detail FROM tombstone.undo(:deletion, true) WHERE relation = 'letter'::regclass ORDER BY id;
SET ROLE quiet_owner;
GRANT SELECT ON letter TO quiet_app;
SET ROLE quiet_app;
SELECT id, outcome, detail FROM tombstone.undo(:deletion, true) WHERE relation = 'letter'::regclass ORDER BY id;
SELECT tombstone.restore('2', 'person');
-- Not where row security binds it.
SET ROLE quiet_owner;
ALTER TABLE letter ENABLE ROW LEVEL SECURITY;
CREATE POLICY reading ON letter FOR SELECT USING (body <> 'hush');
SET ROLE quiet_app;
SELECT id, outcome, detail FROM tombstone.undo(:deletion, true) WHERE relation = 'letter'::regclass ORDER BY id;
SELECT tombstone.restore('2', 'person');
SET ROLE quiet_owner;
ALTER TABLE letter DISABLE ROW LEVEL SECURITY;
-- A trigger on it may bring in rows of others.
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER nothing BEFORE INSERT ON letter FOR EACH ROW EXECUTE FUNCTION nothing();
SET ROLE quiet_app;
SELECT tombstone.restore('2', 'person');
SET ROLE quiet_owner;
DROP TRIGGER nothing ON letter;

-- Who may not read the table of what they deleted themselves is told no ids either.
REVOKE SELECT ON person FROM quiet_app;
SET ROLE quiet_app;
SELECT relation, id, outcome FROM tombstone.undo(:deletion, true) ORDER BY relation::text, id, outcome;
SET ROLE quiet_owner;
GRANT SELECT ON person TO quiet_app;

-- A hold on what would fall.
REVOKE SELECT, SELECT (id) ON letter FROM quiet_app;
SELECT tombstone.hold('14', 'letter');
SET ROLE quiet_app;
DELETE FROM person WHERE id = 4;
\echo :SQLSTATE
SET ROLE quiet_owner;
DELETE FROM person WHERE id = 4;
SELECT tombstone.release('14', 'letter');
DELETE FROM person WHERE id = 4;

-- What ON DELETE SET NULL has overwritten is put back in the owner's name, too.
CREATE TABLE pledge (id int PRIMARY KEY, person int, secret text);
SELECT tombstone.manage('pledge');
ALTER TABLE pledge ADD FOREIGN KEY (person) REFERENCES person ON DELETE SET NULL;
INSERT INTO person VALUES (5);
INSERT INTO pledge VALUES (51, 5, 'untold');
SET ROLE quiet_app;
DELETE FROM person WHERE id = 5;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
SET ROLE quiet_owner;
ALTER TABLE pledge ADD CHECK (person IS NULL);
SET ROLE quiet_app;
SELECT outcome, detail FROM tombstone.undo(:deletion, true);
SELECT tombstone.restore('5', 'person');
\echo :SQLSTATE

-- In place, the same.
SET ROLE quiet_owner;
CREATE TABLE box (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE thing (id int PRIMARY KEY, box int REFERENCES box ON DELETE CASCADE, name text, deleted_at timestamptz);
CREATE TABLE label (id int PRIMARY KEY, thing text, deleted_at timestamptz);
ALTER TABLE thing ADD UNIQUE (name);
ALTER TABLE label ADD FOREIGN KEY (thing) REFERENCES thing (name);
SELECT tombstone.manage('box'), tombstone.manage('thing'), tombstone.manage('label');
INSERT INTO box VALUES (1), (2);
INSERT INTO thing VALUES (11, 1, 'ring'), (12, 2, 'knife');
INSERT INTO label VALUES (111, 'ring');
ALTER TABLE thing ADD CHECK (name <> 'knife' OR deleted_at IS NULL);
GRANT SELECT, UPDATE ON box TO quiet_app;
SET ROLE quiet_app;
SELECT tombstone.soft_delete('1', 'box');
\echo :SQLSTATE
SELECT tombstone.soft_delete('2', 'box');
\echo :SQLSTATE
SET ROLE quiet_owner;
SELECT tombstone.soft_delete('1', 'box');

RESET ROLE;
DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA quiet CASCADE;
DROP ROLE quiet_owner, quiet_app;

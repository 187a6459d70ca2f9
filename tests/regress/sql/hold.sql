-- Legal hold: while a record is on hold nothing deletes, restores or purges it, by whichever road;
-- the table's owner places and ends holds, and sees who placed them.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA law;
SET search_path = law;

CREATE TABLE client (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE letter (id int PRIMARY KEY, client int REFERENCES client ON DELETE CASCADE, body text, deleted_at timestamptz);
SELECT tombstone.manage('client');
SELECT tombstone.manage('letter', redact => '{"body": ""}');
INSERT INTO client VALUES (1), (2);
INSERT INTO letter VALUES (11, 1, 'one'), (12, 1, 'two'), (21, 2, 'three'), (22, 2, 'four');
SELECT tombstone.soft_delete('12', 'letter') > 0 AS deleted;

-- A live record and a tombstone can both be held; a record that does not exist cannot.
SELECT tombstone.hold('11', 'letter', 'case 17');
SELECT tombstone.hold('12', 'letter');
SELECT tombstone.hold('99', 'letter');
\echo :SQLSTATE
SELECT relation, id, actor = current_user AS mine, reason FROM tombstone.holds ORDER BY id;

-- Held twice it is held once, until released; a new reason takes the place of the old.
SELECT tombstone.hold('11', 'letter');
SELECT tombstone.hold('12', 'letter', 'case 18');
SELECT id, reason FROM tombstone.holds ORDER BY id;

--
-- Every road
--

-- the functions
SELECT tombstone.soft_delete('11', 'letter');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{11, 12, 21}', 'letter');
SELECT tombstone.restore('12', 'letter');
\echo :SQLSTATE
SELECT tombstone.purge('11', 'letter');
\echo :SQLSTATE
SELECT * FROM tombstone.undo(1, dry_run => true);
SELECT * FROM tombstone.undo(1);
\echo :SQLSTATE

-- plain SQL: one held record stops the statement
UPDATE letter SET deleted_at = now() WHERE deleted_at IS NULL;
\echo :SQLSTATE
UPDATE letter SET deleted_at = NULL;
\echo :SQLSTATE
DELETE FROM letter;
\echo :SQLSTATE
WITH gone AS (DELETE FROM letter WHERE id = 11 RETURNING *) SELECT count(*) FROM gone;
\echo :SQLSTATE
TRUNCATE letter;
\echo :SQLSTATE
TRUNCATE client CASCADE;
\echo :SQLSTATE

-- a cascade from the parent, soft or hard
SELECT tombstone.soft_delete('1', 'client');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{1, 2}', 'client');
DELETE FROM client WHERE id = 1;
\echo :SQLSTATE
SELECT tombstone.purge('1', 'client');
\echo :SQLSTATE

-- the table itself
DROP TABLE letter;
\echo :SQLSTATE
DROP SCHEMA law CASCADE;
\echo :SQLSTATE
SELECT tombstone.unmanage('letter');
\echo :SQLSTATE
SELECT tombstone.unmanage('letter', discard => true);
\echo :SQLSTATE

-- Nothing has happened to either, and what is not a deletion still may.
UPDATE letter SET body = body || '!' WHERE id = 11;
SELECT id, body, tombstone.state(id::text, 'letter') FROM letter WHERE id IN (11, 12) ORDER BY id;

-- A transaction that goes on after a refusal keeps the rest of its work.
BEGIN;
SAVEPOINT s;
DELETE FROM letter WHERE id = 11;
ROLLBACK TO s;
DELETE FROM letter WHERE id = 22;
COMMIT;
SELECT id FROM letter ORDER BY id;

-- A hold counts at once, in its own transaction too, and one that is rolled back never was.
BEGIN;
SELECT tombstone.hold('21', 'letter');
SAVEPOINT s;
DELETE FROM letter WHERE id = 21;
\echo :SQLSTATE
ROLLBACK TO s;
ROLLBACK;
SELECT tombstone.restore('2', 'client');

--
-- release
--

SELECT tombstone.release('11', 'letter');
SELECT tombstone.release('11', 'letter');
\echo :SQLSTATE
SELECT tombstone.release('99', 'letter');
\echo :SQLSTATE
DELETE FROM letter WHERE id = 11;
SELECT tombstone.state('11', 'letter');
SELECT tombstone.release('12', 'letter');
SELECT tombstone.restore('12', 'letter');

--
-- Versions: a hold is on the record, and so on all its versions
--

CREATE TABLE doc (id text, version bigint, body text, deleted_at timestamptz, PRIMARY KEY (id, version));
SELECT tombstone.manage('doc', version => 'version', redact => '{"body": null}');
INSERT INTO doc VALUES ('a', 1, 'x'), ('a', 2, 'x'), ('a', 3, 'x'), ('b', 1, 'x'), ('b', 2, 'x');
SELECT tombstone.hold('a', 'doc');
SELECT tombstone.purge_versions('a', lim => 1);
\echo :SQLSTATE
SELECT tombstone.tombstone_value_states('a', 1);
\echo :SQLSTATE
DELETE FROM doc WHERE version = 1;
\echo :SQLSTATE
SELECT tombstone.purge_versions('b', lim => 1);
SELECT tombstone.release('a', 'doc');

--
-- Who may: the table's owner, and whoever is a member of that role
--

CREATE ROLE regress_counsel;
CREATE ROLE regress_clerk;
CREATE ROLE regress_partner IN ROLE regress_counsel;
GRANT USAGE, CREATE ON SCHEMA law TO regress_counsel;
GRANT USAGE ON SCHEMA law TO regress_clerk;
GRANT ALL ON letter TO regress_clerk;
ALTER TABLE letter OWNER TO regress_counsel;
SET ROLE regress_clerk;
SELECT tombstone.hold('12', 'letter');
\echo :SQLSTATE
SELECT tombstone.release('12', 'letter');
\echo :SQLSTATE
SET ROLE regress_partner;
SELECT tombstone.hold('12', 'letter', 'case 19');
SELECT relation, id, actor, reason FROM tombstone.holds;
SELECT tombstone.soft_delete('12', 'letter');
\echo :SQLSTATE
-- The clerk meets the hold, but is not told why it is there.
SET ROLE regress_clerk;
DELETE FROM letter WHERE id = 12;
\echo :SQLSTATE
SELECT * FROM tombstone.holds;
RESET ROLE;
-- A superuser does not pass by accident, either.
DELETE FROM letter WHERE id = 12;
\echo :SQLSTATE
SELECT tombstone.release('12', 'letter');

DROP SCHEMA law CASCADE;
DROP ROLE regress_partner, regress_counsel, regress_clerk;

-- Layout archive: what stands in the way of a deletion's undo, each cause once and all of them at once; and what the table's own
-- triggers have to do with it.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA conflicts;
SET search_path = conflicts;

--
-- Conflicts
--

CREATE TABLE city (id int PRIMARY KEY);
CREATE TABLE person (id int PRIMARY KEY, name text, city int REFERENCES city);
SELECT tombstone.manage('person');
INSERT INTO city VALUES (1), (2);
INSERT INTO person VALUES (1, 'ann', 1), (2, NULL, 1), (3, 'cid', 2), (4, 'dot', 1), (5, 'eve', 1), (6, 'fay', 1);
DELETE FROM person;
SELECT max(deletion) AS deletion FROM person_tombstone \gset

-- A key is taken; a column may not be NULL any more; a parent is gone; a check was added; a record is on hold.
INSERT INTO person VALUES (1, 'other', 1);
ALTER TABLE person ALTER name SET NOT NULL;
DELETE FROM city WHERE id = 2;
ALTER TABLE person ADD CONSTRAINT no_dot CHECK (name <> 'dot');
SELECT tombstone.hold('5', 'person', 'case 17');
SELECT * FROM tombstone.undo(:deletion, dry_run => true) ORDER BY id;
-- The dry run has changed nothing, and neither does the undo.
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
SELECT (SELECT count(*) FROM person) AS live, (SELECT count(*) FROM person_tombstone) AS deleted;
SELECT tombstone.release('5', 'person');
\set VERBOSITY terse
SELECT * FROM tombstone.undo(:deletion);
\echo :SQLSTATE
\set VERBOSITY default

-- One alone can come back, or says why not.
SELECT tombstone.restore('6', 'person');
SELECT tombstone.restore('3', 'person');
\echo :SQLSTATE
-- All of it can, once nothing is in its way; but for what another deletion has taken since.
DELETE FROM person WHERE id = 6;
INSERT INTO city VALUES (2);
UPDATE person SET id = 10 WHERE id = 1;
ALTER TABLE person DROP CONSTRAINT no_dot, ALTER name DROP NOT NULL;
SELECT id, outcome FROM tombstone.undo(:deletion) ORDER BY id;
SELECT * FROM person ORDER BY id;

-- A partition is gone.
CREATE TABLE pay (id int, year int, PRIMARY KEY (id, year)) PARTITION BY LIST (year);
CREATE TABLE pay_2025 PARTITION OF pay FOR VALUES IN (2025);
CREATE TABLE pay_2026 PARTITION OF pay FOR VALUES IN (2026);
SELECT tombstone.manage('pay', id => '{id}');
INSERT INTO pay VALUES (1, 2025), (2, 2026);
DELETE FROM pay;
DROP TABLE pay_2025;
SELECT * FROM tombstone.undo((SELECT max(deletion) FROM pay_tombstone), dry_run => true) ORDER BY id;
SELECT tombstone.restore('2', 'pay');

-- Many causes, and many records that stay because of them: a line for each cause, one a table for what follows.
CREATE TABLE author (id int PRIMARY KEY, email text UNIQUE);
CREATE TABLE post (id int PRIMARY KEY, author int REFERENCES author ON DELETE CASCADE);
SELECT tombstone.manage('author', tree => true);
INSERT INTO author SELECT i, 'a' || i FROM generate_series(1, 100) AS i;
INSERT INTO post SELECT i, 1 + i % 100 FROM generate_series(1, 1000) AS i;
DELETE FROM author;
SELECT max(deletion) AS deletion FROM author_tombstone \gset
INSERT INTO author VALUES (1001, 'a7'), (1002, 'a9');
SELECT relation, outcome, count(*), min(detail) FROM tombstone.undo(:deletion, dry_run => true) GROUP BY relation, outcome ORDER BY 1, 2;
DELETE FROM author WHERE id > 1000;
SELECT relation, outcome, count(*) FROM tombstone.undo(:deletion) GROUP BY relation, outcome ORDER BY 1, 2;

-- Constraints that wait for the commit: a circle of them.
CREATE TABLE hen (id int PRIMARY KEY, egg int);
CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
SELECT tombstone.manage('hen', tree => true);
BEGIN;
INSERT INTO hen VALUES (1, 1), (2, NULL);
INSERT INTO egg VALUES (1, 1), (2, 2);
COMMIT;
DELETE FROM hen WHERE id = 1;
SELECT (SELECT count(*) FROM hen) AS hens, (SELECT count(*) FROM egg) AS eggs;
SELECT relation, id, outcome FROM tombstone.undo((SELECT max(deletion) FROM hen_tombstone)) ORDER BY 1, 2;
SELECT h.id, h.egg, e.hen FROM hen h JOIN egg e ON e.id = h.egg;

-- One that can come back does so beside what cannot.
CREATE TABLE chick (id int PRIMARY KEY, hen int REFERENCES hen ON DELETE CASCADE, name text UNIQUE);
SELECT tombstone.manage('chick');
INSERT INTO chick VALUES (1, 1, 'a'), (2, 1, 'b');
DELETE FROM hen WHERE id = 1;
SELECT max(deletion) AS deletion FROM hen_tombstone \gset
INSERT INTO hen VALUES (9, NULL);
INSERT INTO chick VALUES (9, 9, 'b');
SELECT relation, id, outcome, detail FROM tombstone.undo(:deletion, dry_run => true) ORDER BY 1, 2;
DELETE FROM chick WHERE id = 9;
SELECT relation, id, outcome FROM tombstone.undo(:deletion) ORDER BY 1, 2;

-- Children that were managed before their parents are tried after them.
CREATE TABLE root (id int PRIMARY KEY, name text UNIQUE);
CREATE TABLE twig (id int PRIMARY KEY, root int REFERENCES root ON DELETE CASCADE, above int REFERENCES twig ON DELETE CASCADE);
CREATE TABLE leaf (id int PRIMARY KEY, twig int REFERENCES twig ON DELETE CASCADE);
SELECT tombstone.manage('leaf'), tombstone.manage('twig'), tombstone.manage('root');
INSERT INTO root VALUES (1, 'a'), (2, 'b');
INSERT INTO twig SELECT i, 1 + i % 2, CASE WHEN i > 2 THEN i - 2 END FROM generate_series(1, 20) AS i;
INSERT INTO leaf SELECT i, 1 + i % 20 FROM generate_series(1, 100) AS i;
CREATE SEQUENCE tried;
CREATE FUNCTION count_tried() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('conflicts.tried'); RETURN NEW; END $$;
CREATE TRIGGER count_tried BEFORE INSERT ON leaf FOR EACH ROW EXECUTE FUNCTION count_tried();
SELECT setval('tried', 1, false);
DELETE FROM root;
SELECT max(deletion) AS deletion FROM root_tombstone \gset
INSERT INTO root VALUES (3, 'b');
SELECT relation, outcome, count(*), min(detail) FROM tombstone.undo(:deletion, dry_run => true) GROUP BY relation, outcome ORDER BY 1, 2;
-- Each leaf as often as it takes to find by halving those that cannot come back, and no more: one round.
SELECT nextval('tried') <= 1 + 100 * 8 AS in_one_round;
DELETE FROM root;
SELECT relation, outcome, count(*) FROM tombstone.undo(:deletion) GROUP BY relation, outcome ORDER BY 1, 2;

-- A domain may have got a check since, which Postgres asks of what is cast alone.
CREATE DOMAIN pos AS int;
CREATE DOMAIN code AS char(3);
CREATE TYPE pair AS (a pos, b text);
CREATE TABLE dom (id int PRIMARY KEY, one pos, many pos[], inside pair, code code);
SELECT tombstone.manage('dom');
INSERT INTO dom VALUES (1, 1, '[3:4]={1,2}', '(1,x)', 'ab'), (2, -1, '{}', NULL, 'ab'), (3, 1, '{1,-1}', '(1,)', NULL), (4, 1, NULL, '(-1,x)', 'ab'), (5, NULL, NULL, '(,)', 'abc');
DELETE FROM dom;
SELECT max(deletion) AS deletion FROM dom_tombstone \gset
ALTER DOMAIN pos ADD CONSTRAINT above_zero CHECK (VALUE > 0) NOT VALID;
ALTER DOMAIN code ADD CHECK (VALUE LIKE 'ab%') NOT VALID;
SELECT id, outcome, detail FROM tombstone.undo(:deletion, dry_run => true) ORDER BY id;
SELECT tombstone.restore('2', 'dom');
\echo :SQLSTATE
ALTER DOMAIN pos DROP CONSTRAINT above_zero;
SELECT id, outcome, detail FROM tombstone.undo(:deletion) ORDER BY id;
SELECT * FROM dom ORDER BY id;

-- Columns of type character refer to each other whole.
CREATE TABLE land (id char(3) PRIMARY KEY);
CREATE TABLE town (id int PRIMARY KEY, land char(3) REFERENCES land ON DELETE CASCADE);
CREATE TABLE place (id int PRIMARY KEY, land char(3) REFERENCES land ON DELETE SET NULL);
SELECT tombstone.manage('land', tree => true);
INSERT INTO land VALUES ('abc'), ('abd');
INSERT INTO town VALUES (1, 'abc'), (2, 'abd');
INSERT INTO place VALUES (1, 'abc'), (2, 'abd');
DELETE FROM land;
SELECT tombstone.restore('abc', 'land');
SELECT tombstone.restore('abd', 'land');
SELECT * FROM town JOIN place USING (id, land) ORDER BY id;

-- What there is not.
SELECT * FROM tombstone.undo(999);
\echo :SQLSTATE
SELECT tombstone.restore('77', 'person');
\echo :SQLSTATE
SELECT tombstone.restore('1', 'person');
\echo :SQLSTATE
SELECT tombstone.restore('x', 'person');
\echo :SQLSTATE

--
-- The table's own triggers
--

-- They fire as rows leave, and as they return: so a count of rows stays right.
CREATE TABLE account (id int PRIMARY KEY, owed int);
CREATE TABLE counted (n int);
INSERT INTO counted VALUES (0);
CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE conflicts.counted SET n = n + CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    RETURN NULL;
END $$;
CREATE TRIGGER count_it AFTER INSERT OR DELETE ON account FOR EACH ROW EXECUTE FUNCTION count_it();
-- One that keeps a row keeps it out of the bin; what one makes of the row on its way out is nobody's.
CREATE FUNCTION keep_debtors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.owed > 0 THEN
        RETURN NULL;
    END IF;
    OLD.owed := 99;
    RETURN OLD;
END $$;
CREATE TRIGGER keep_debtors BEFORE DELETE ON account FOR EACH ROW EXECUTE FUNCTION keep_debtors();
SELECT tombstone.manage('account');
INSERT INTO account VALUES (1, 0), (2, 5);
DELETE FROM account;
SELECT id, owed FROM account;
SELECT id, owed FROM account_tombstone;
SELECT n FROM counted;
SELECT tombstone.restore('1', 'account');
SELECT n FROM counted;
SELECT tombstone.soft_delete('2', 'account');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{1,2}', 'account');
SELECT tombstone.purge('2', 'account');
\echo :SQLSTATE
SELECT tombstone.restore('1', 'account');

-- Where ours do not fire the functions notice it.
ALTER TABLE account DISABLE TRIGGER USER;
SELECT tombstone.soft_delete('1', 'account');
\echo :SQLSTATE
ALTER TABLE account ENABLE TRIGGER USER;
SELECT tombstone.soft_delete('1', 'account') > 0 AS deleted;
ALTER TABLE account DISABLE TRIGGER USER;
SELECT tombstone.restore('1', 'account');
\echo :SQLSTATE
ALTER TABLE account ENABLE TRIGGER USER;
SELECT tombstone.restore('1', 'account');

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA conflicts CASCADE;

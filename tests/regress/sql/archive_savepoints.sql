-- A part of a transaction is rolled back: what an outer part has deleted stays whole, with its tombstones, its number and what
-- undo puts back.
\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA saves;
SET search_path = saves;

-- Runs a statement, and rolls it back.
CREATE FUNCTION in_vain(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RAISE 'in vain';
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
-- Runs a statement, and passes over an error in it.
CREATE FUNCTION if_possible(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
EXCEPTION WHEN OTHERS THEN NULL;
END $$;

--
-- A trigger deletes more of the table, in vain
--

CREATE TABLE note (id int PRIMARY KEY, body text);
INSERT INTO note SELECT g, 'note ' || g FROM generate_series(1, 3) g;
INSERT INTO note SELECT g, 'note ' || g FROM generate_series(101, 109) g;
SELECT tombstone.manage('note');
CREATE FUNCTION delete_another_in_vain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.id < 100 THEN
        PERFORM in_vain(format('DELETE FROM note WHERE id = %s', OLD.id + 100));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER zz_another AFTER DELETE ON note FOR EACH ROW EXECUTE FUNCTION delete_another_in_vain();
DELETE FROM note WHERE id IN (1, 2);
SELECT id, body FROM note_tombstone ORDER BY id;
SELECT ids, op, cause FROM tombstone.event ORDER BY seq;
SELECT count(*) FROM tombstone.deletions;
SELECT relation, id, outcome FROM tombstone.undo((SELECT max(deletion) FROM note_tombstone)) ORDER BY id;
SELECT count(*) FROM note;
-- A record on hold stays, whoever deletes what inside.
SELECT tombstone.hold('2', 'note', 'asked for');
DELETE FROM note WHERE id = 2;
SELECT tombstone.state('2', 'note');
CREATE OR REPLACE FUNCTION delete_another_in_vain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.id < 100 THEN
        PERFORM if_possible(format('DELETE FROM note WHERE id = %s', OLD.id + 100));
    END IF;
    RETURN NULL;
END $$;
DELETE FROM note WHERE id = 2;
SELECT tombstone.state('2', 'note');
SELECT tombstone.release('2', 'note');
-- The inner one on hold: it stays, and the outer one goes.
SELECT tombstone.hold('102', 'note', 'asked for');
DELETE FROM note WHERE id = 2;
SELECT tombstone.state('2', 'note'), tombstone.state('102', 'note');
SELECT tombstone.release('102', 'note');
-- What happens inside, and is not rolled back, has its tombstone too, and is of the same deletion.
DELETE FROM note WHERE id = 3;
SELECT id, deletion = max(deletion) OVER () AS of_the_last FROM note_tombstone WHERE id IN (3, 103) ORDER BY id;

-- Updates are events: one inside comes to nothing.
CREATE TABLE told (id int PRIMARY KEY, body text);
INSERT INTO told VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four');
SELECT tombstone.manage('told', events => 'all');
CREATE FUNCTION update_in_vain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM in_vain('UPDATE told SET body = body || ''!'' WHERE id = 4');
    RETURN NULL;
END $$;
CREATE TRIGGER zz_in_vain AFTER DELETE ON told FOR EACH ROW EXECUTE FUNCTION update_in_vain();
DELETE FROM told WHERE id < 4;
SELECT id FROM told_tombstone ORDER BY id;
SELECT ids, op FROM tombstone.event WHERE managed = (SELECT managed FROM tombstone.managed WHERE relation = 'told'::regclass) ORDER BY seq;

-- Layout in_place.
CREATE TABLE memo (id int PRIMARY KEY, body text, deleted_at timestamptz);
INSERT INTO memo (id) SELECT generate_series(1, 3);
INSERT INTO memo (id) SELECT generate_series(101, 103);
SELECT tombstone.manage('memo', layout => 'in_place');
CREATE FUNCTION mark_another_in_vain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id < 100 AND NEW.deleted_at IS NOT NULL THEN
        PERFORM in_vain(format('UPDATE memo SET deleted_at = now() WHERE id = %s', NEW.id + 100));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER zz_another AFTER UPDATE ON memo FOR EACH ROW EXECUTE FUNCTION mark_another_in_vain();
UPDATE memo SET deleted_at = now() WHERE id IN (1, 2);
SELECT id FROM memo WHERE deleted_at IS NOT NULL ORDER BY id;
SELECT ids, op FROM tombstone.event WHERE managed = (SELECT managed FROM tombstone.managed WHERE relation = 'memo'::regclass) ORDER BY seq;
SELECT relation, id, outcome FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions)) ORDER BY id;
SELECT tombstone.hold('2', 'memo', 'asked for');
UPDATE memo SET deleted_at = now() WHERE id = 2;
SELECT tombstone.state('2', 'memo');

-- One that a trigger brings back at once, in a block of its own: the log tells it in the order in which it was done.
CREATE TABLE slip (id int PRIMARY KEY, deleted_at timestamptz);
INSERT INTO slip SELECT generate_series(1, 2);
SELECT tombstone.manage('slip', layout => 'in_place');
CREATE FUNCTION bring_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.deleted_at IS NOT NULL THEN
        PERFORM if_possible(format('UPDATE slip SET deleted_at = NULL WHERE id = %s', NEW.id));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER zz_back AFTER UPDATE ON slip FOR EACH ROW EXECUTE FUNCTION bring_back();
UPDATE slip SET deleted_at = now();
SELECT id FROM slip WHERE deleted_at IS NULL ORDER BY id;
SELECT ids, op, restored, seq = deletion AS first, deletion = max(deletion) OVER () AS of_it FROM tombstone.event
WHERE managed = (SELECT managed FROM tombstone.managed WHERE relation = 'slip'::regclass) ORDER BY seq;
-- And the other way round: what is updated, and deleted inside.
CREATE TABLE leaf (id int PRIMARY KEY, body text);
INSERT INTO leaf VALUES (1, 'one');
SELECT tombstone.manage('leaf', events => 'all');
CREATE FUNCTION pluck() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM if_possible(format('DELETE FROM leaf WHERE id = %s', NEW.id));
    RETURN NULL;
END $$;
CREATE TRIGGER zz_pluck AFTER UPDATE ON leaf FOR EACH ROW EXECUTE FUNCTION pluck();
UPDATE leaf SET body = 'two';
SELECT id, body FROM leaf_tombstone;
SELECT ids, op FROM tombstone.event WHERE managed = (SELECT managed FROM tombstone.managed WHERE relation = 'leaf'::regclass) ORDER BY seq;

--
-- A deletion has one number, in the archive and in the log
--

CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE b (id int PRIMARY KEY);
INSERT INTO a SELECT generate_series(1, 4);
INSERT INTO b SELECT generate_series(1, 4);
SELECT tombstone.manage('a');
SELECT tombstone.manage('b');
CREATE FUNCTION delete_b_in_vain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM in_vain(format('DELETE FROM b WHERE id = %s', OLD.id));
    RETURN NULL;
END $$;
CREATE TRIGGER zz_in_vain AFTER DELETE ON a FOR EACH ROW EXECUTE FUNCTION delete_b_in_vain();
DELETE FROM a WHERE id = 1;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
SELECT id, deletion = :deletion AS as_the_log_says FROM a_tombstone;
SELECT relation, id, outcome FROM tombstone.undo(:deletion);
SELECT count(*) FROM a;
-- By savepoints: the first is rolled back, the second is not; and both.
BEGIN;
SAVEPOINT first;
DELETE FROM b WHERE id = 1;
ROLLBACK TO first;
DELETE FROM b WHERE id = 2;
SAVEPOINT second;
DELETE FROM b WHERE id = 3;
ROLLBACK TO second;
DELETE FROM b WHERE id = 4;
COMMIT;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
SELECT id, deletion = :deletion AS as_the_log_says FROM b_tombstone ORDER BY id;
SELECT ids, seq = deletion AS first FROM tombstone.event WHERE deletion = :deletion ORDER BY seq;
SELECT relation, id, outcome FROM tombstone.undo(:deletion) ORDER BY id;
SELECT count(*) FROM b;
BEGIN;
SAVEPOINT first;
DELETE FROM b WHERE id = 1;
ROLLBACK TO first;
COMMIT;
SELECT count(*) FROM b_tombstone;

--
-- What ON DELETE SET NULL overwrites is put back, whatever is rolled back beside it
--

CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL);
INSERT INTO p VALUES (1), (2);
INSERT INTO c VALUES (10, 1), (11, 1), (20, 2);
SELECT tombstone.manage('c');
SELECT tombstone.manage('p');
CREATE FUNCTION update_b_in_vain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM in_vain('UPDATE b SET id = id');
    RETURN NEW;
END $$;
CREATE TRIGGER zz_in_vain BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION update_b_in_vain();
DELETE FROM p WHERE id = 1;
SELECT * FROM c ORDER BY id;
SELECT id, before, after, deletion = (SELECT deletion FROM p_tombstone) AS of_it FROM tombstone.unlinked ORDER BY id;
SELECT relation, id, outcome FROM tombstone.undo((SELECT deletion FROM p_tombstone));
SELECT * FROM c ORDER BY id;
-- And what is rolled back is not.
BEGIN;
SAVEPOINT before;
DELETE FROM p WHERE id = 1;
ROLLBACK TO before;
DELETE FROM p WHERE id = 2;
COMMIT;
SELECT id, before FROM tombstone.unlinked ORDER BY id;
SELECT relation, id, outcome FROM tombstone.undo((SELECT deletion FROM p_tombstone));
SELECT * FROM c ORDER BY id;

--
-- A transaction undoes what it has deleted, and goes on deleting
--

BEGIN;
DELETE FROM b WHERE id = 1;
SELECT deletion AS undone FROM b_tombstone \gset
SELECT relation, id, outcome FROM tombstone.undo(:undone);
DELETE FROM b WHERE id = 2;
DELETE FROM b WHERE id = 3;
COMMIT;
SELECT DISTINCT deletion AS deletion FROM b_tombstone \gset
SELECT :deletion = :undone AS same;
SELECT deletion = :undone AS the_undone, relations, undone_at IS NOT NULL AS undone
FROM tombstone.deletions WHERE deletion IN (:undone, :deletion) ORDER BY deletion;
SELECT relation, id, outcome FROM tombstone.undo(:deletion) ORDER BY id;
SELECT count(*) FROM b;
-- The undo is rolled back: the deletion goes on. What is undone in a dry run goes on as well.
BEGIN;
DELETE FROM b WHERE id = 1;
SELECT deletion FROM b_tombstone \gset
SAVEPOINT before;
SELECT relation, id, outcome FROM tombstone.undo(:deletion);
DELETE FROM b WHERE id = 2;
SELECT id, deletion = :deletion AS of_the_first FROM b_tombstone;
ROLLBACK TO before;
SELECT relation, id, outcome FROM tombstone.undo(:deletion, dry_run => true);
DELETE FROM b WHERE id = 3;
COMMIT;
SELECT id, deletion = :deletion AS of_the_first FROM b_tombstone ORDER BY id;
SELECT relation, id, outcome FROM tombstone.undo(:deletion) ORDER BY id;
-- Layout in_place.
BEGIN;
UPDATE memo SET deleted_at = now() WHERE id = 1;
SELECT max(deletion) AS undone FROM tombstone.deletions \gset
SELECT relation, id, outcome FROM tombstone.undo(:undone);
UPDATE memo SET deleted_at = now() WHERE id = 3;
COMMIT;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
SELECT :deletion = :undone AS same;
SELECT relation, id, outcome FROM tombstone.undo(:deletion);

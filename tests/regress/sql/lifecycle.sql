-- The life of a record: live, deleted, live again, purged; by function and by plain SQL alike,
-- and how transactions, savepoints and the table's other triggers take part in it.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA life;
SET search_path = life;

CREATE TABLE note (id int PRIMARY KEY, author text, body text NOT NULL, deleted_at timestamptz);
SELECT tombstone.manage('note', redact => '{"body": "", "author": null}');
INSERT INTO note SELECT i, 'ada', 'text ' || i FROM generate_series(1, 20) AS i;

-- What is in the table, and what is in the log.
CREATE VIEW notes AS SELECT id, author, body, deleted_at IS NOT NULL AS deleted FROM note;
CREATE VIEW log AS
    SELECT e.deletion, m.relation, e.op, e.deletion_type, e.restored, e.redacted, ARRAY(SELECT unnest(e.ids) COLLATE "C" ORDER BY 1) AS ids, e.cause, e.reason
    FROM tombstone.event e JOIN tombstone.managed m USING (managed) ORDER BY e.seq;

--
-- Deleted, and back
--

-- The record stays and turns into its tombstone; the answer is the deletion's number.
SELECT tombstone.soft_delete('1');
SELECT * FROM notes WHERE id = 1;
SELECT tombstone.state('1');

-- Neither a tombstone nor nothing can be deleted.
SELECT tombstone.soft_delete('1');
\echo :SQLSTATE
SELECT tombstone.soft_delete('99');
\echo :SQLSTATE
SELECT tombstone.state('99');

-- restore brings it back, but not what redaction blanked.
SELECT tombstone.restore('1');
SELECT * FROM notes WHERE id = 1;
SELECT tombstone.state('1');
SELECT tombstone.restore('1');
\echo :SQLSTATE
SELECT tombstone.restore('99');
\echo :SQLSTATE

-- purge removes a record for ever, live or deleted; the log remembers that it was there.
SELECT tombstone.purge('1');
SELECT tombstone.state('1');
SELECT tombstone.purge('1');
\echo :SQLSTATE
SELECT * FROM log;

--
-- The same in plain SQL
--

-- Setting deleted_at is the soft delete, and redacts in the same write.
UPDATE note SET deleted_at = now() WHERE id = 2 RETURNING id, author, body;
-- Nothing slips past redaction.
UPDATE note SET deleted_at = now(), body = 'secret' WHERE id = 3 RETURNING id, author, body;
-- Clearing it is the restore.
UPDATE note SET deleted_at = NULL, body = 'new text' WHERE id = 2 RETURNING id, author, body;
-- DELETE is the purge, of a live record as of a tombstone.
DELETE FROM note WHERE id IN (2, 3);
SELECT id, tombstone.state(id::text) FROM generate_series(1, 4) AS id;

-- A new stamp on a tombstone is no new deletion, and no other update is any of our business.
UPDATE note SET deleted_at = '2020-01-01 00:00Z' WHERE id = 4;
UPDATE note SET deleted_at = '2020-01-02 00:00Z' WHERE id = 4;
UPDATE note SET author = 'bob' WHERE id = 5;
UPDATE note SET deleted_at = NULL WHERE id = 5;
SELECT tombstone.restore('4');

-- One statement, one entry in the log.
UPDATE note SET deleted_at = now() WHERE id IN (4, 5);
WITH gone AS (UPDATE note SET deleted_at = now() WHERE id = 6 RETURNING id) SELECT * FROM gone;
INSERT INTO note VALUES (6, 'ada', 'again') ON CONFLICT (id) DO UPDATE SET deleted_at = NULL, body = EXCLUDED.body;
INSERT INTO note VALUES (6, 'ada', 'again') ON CONFLICT (id) DO UPDATE SET deleted_at = now();
SELECT * FROM notes WHERE id < 7;
SELECT * FROM log WHERE deletion > 3 OR restored;

--
-- Many at once
--

TRUNCATE tombstone.event;
ALTER SEQUENCE tombstone.event_seq_seq RESTART;
INSERT INTO note VALUES (1, 'ada', 'text 1'), (2, 'ada', 'text 2');
SELECT tombstone.hold('2', 'note', 'case 17');

-- One bad id never fails the good ones: each has its outcome, in the order asked, twice where asked twice.
SELECT * FROM tombstone.soft_delete_many('{7, 99, 4, 2, one, 7, 8}', 'note', 'spring cleaning');
SELECT * FROM log;

-- With 'denied' for what a foreign key forbids, or somebody else owns.
CREATE TABLE reply (id int PRIMARY KEY, note int REFERENCES note, deleted_at timestamptz);
SELECT tombstone.manage('reply');
INSERT INTO reply VALUES (1, 9);
SELECT * FROM tombstone.soft_delete_many('{9, 10}', 'note');
DROP TABLE reply;
-- (A redacted column cannot say whose a tombstone is.)
SELECT tombstone.configure('note', 'redact', '{"body": ""}');
SELECT tombstone.configure('note', 'owners', 'author');
CREATE ROLE regress_ada;
GRANT USAGE ON SCHEMA life TO regress_ada;
GRANT SELECT, UPDATE ON note TO regress_ada;
UPDATE note SET author = 'regress_ada' WHERE id = 11;
SET ROLE regress_ada;
SELECT * FROM tombstone.soft_delete_many('{11, 12, 13}');
RESET ROLE;
SELECT tombstone.configure('note', 'owners', NULL);
REVOKE ALL ON note FROM regress_ada;
SET ROLE regress_ada;
SELECT * FROM tombstone.soft_delete_many('{12, 13}', 'note');
SELECT tombstone.soft_delete('12', 'note');
\echo :SQLSTATE
RESET ROLE;

--
-- A transaction's deletes are one deletion
--

BEGIN;
SELECT tombstone.soft_delete('12', 'note', 'asked by phone');
UPDATE note SET deleted_at = now() WHERE id = 13;
SELECT tombstone.soft_delete('14', 'note', 'asked by mail');
DELETE FROM note WHERE id = 15;
COMMIT;
SELECT deletion, actor = current_user AS me, cause, reason, relations, records, undone_at FROM tombstone.deletions ORDER BY deletion;

-- What a savepoint takes back has not happened …
BEGIN;
SELECT tombstone.soft_delete('16');
SAVEPOINT s;
SELECT tombstone.soft_delete('17');
DELETE FROM note WHERE id = 18;
ROLLBACK TO s;
SELECT tombstone.soft_delete('19');
COMMIT;
-- … nor what a block with an exception handler does …
DO $$ BEGIN
    UPDATE note SET deleted_at = now() WHERE id = 17;
    PERFORM tombstone.soft_delete('99');
EXCEPTION WHEN no_data_found THEN
    PERFORM tombstone.soft_delete('20');
END $$;
-- … nor a transaction that is rolled back, although it had a number.
BEGIN;
SELECT tombstone.soft_delete('17');
ROLLBACK;
SELECT id, tombstone.state(id::text) FROM generate_series(16, 20) AS id;
SELECT deletion, op, deletion_type, ids FROM log WHERE deletion >= 10;

--
-- The table's other triggers
--

TRUNCATE tombstone.event;
ALTER SEQUENCE tombstone.event_seq_seq RESTART;

-- One that changes the row: ours sees the row as it leaves it.
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.body := NEW.body || '!';
    RETURN NEW;
END $$;
CREATE TRIGGER meddle BEFORE UPDATE ON note FOR EACH ROW EXECUTE FUNCTION meddle();
SELECT tombstone.soft_delete('17');
SELECT * FROM notes WHERE id = 17;
-- It may also be what decides that an update is a delete.
CREATE FUNCTION burn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.body LIKE 'burn%' THEN NEW.deleted_at := now(); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER burn BEFORE UPDATE ON note FOR EACH ROW EXECUTE FUNCTION burn();
UPDATE note SET body = 'burn after reading' WHERE id = 18 RETURNING body, deleted_at IS NOT NULL AS deleted;
SELECT deletion, op, ids FROM log;
DROP TRIGGER meddle ON note;
DROP TRIGGER burn ON note;

-- One that cancels the write: nothing happened.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON note FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO note VALUES (21, 'ada', 'stays');
UPDATE note SET deleted_at = now() WHERE id = 21;
DELETE FROM note WHERE id = 21;
SELECT * FROM notes WHERE id = 21;
SELECT deletion, op, ids FROM log;
DROP TRIGGER refuse ON note;

-- One that deletes more: the same deletion, one entry for each statement.
CREATE TABLE attachment (id int PRIMARY KEY, note int, deleted_at timestamptz);
SELECT tombstone.manage('attachment');
INSERT INTO attachment VALUES (1, 21), (2, 21), (3, 22);
CREATE FUNCTION sweep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE life.attachment SET deleted_at = NEW.deleted_at WHERE note = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER sweep AFTER UPDATE ON note FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
    EXECUTE FUNCTION sweep();
INSERT INTO note VALUES (22, 'ada', 'text 22'), (23, 'ada', 'text 23');
UPDATE note SET deleted_at = now() WHERE id IN (21, 22, 23);
SELECT deletion, relation, op, ids FROM log WHERE deletion = (SELECT max(deletion) FROM log) ORDER BY relation::text, ids;
SELECT relations, records FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1;
DROP TRIGGER sweep ON note;

-- A function of the query may delete, record by record, and the log keeps up.
INSERT INTO note SELECT i, 'ada', 'text' FROM generate_series(30, 32) AS i;
SELECT count(DISTINCT tombstone.soft_delete(id::text, 'note')) FROM note WHERE id >= 30;
SELECT ids FROM log WHERE deletion = (SELECT max(deletion) FROM log);

-- Without its triggers a managed table is a table like any other: the functions refuse to pretend.
ALTER TABLE note DISABLE TRIGGER USER;
INSERT INTO note VALUES (40, 'ada', 'text');
SELECT tombstone.soft_delete('40', 'note');
\echo :SQLSTATE
ALTER TABLE note ENABLE TRIGGER USER;
SELECT * FROM notes WHERE id = 40;

-- The trigger functions are nothing to call, or to use elsewhere.
SELECT tombstone.on_update();
CREATE TRIGGER wrong AFTER UPDATE ON note FOR EACH ROW EXECUTE FUNCTION tombstone.on_update();
UPDATE note SET deleted_at = now() WHERE id = 40;
\echo :SQLSTATE
DROP TRIGGER wrong ON note;
CREATE TABLE elsewhere (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TRIGGER wrong BEFORE UPDATE ON elsewhere FOR EACH ROW EXECUTE FUNCTION tombstone.on_update();
INSERT INTO elsewhere VALUES (1);
UPDATE elsewhere SET deleted_at = now();
\echo :SQLSTATE

SELECT tombstone.release('2', 'note');
DROP SCHEMA life CASCADE;
DROP ROLE regress_ada;

-- What has gone wrong once, or was tried by a hostile reader: each case failed before its mend.
-- Errors caught half-way, triggers that interfere, columns that change, tables that go by another road, odd keys.
\set SHOW_CONTEXT never
-- Another library with executor hooks, loaded before ours, is called by ours.
LOAD 'auto_explain';
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA trials;
SET search_path = trials;

-- An error that passes through soft_delete_many rolls back what its handler expects, and no less.
CREATE TABLE diary (line text);
CREATE TABLE account (id int PRIMARY KEY, deleted_at timestamptz);
INSERT INTO account VALUES (1), (2);
SELECT tombstone.manage('account');
CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'as if serialized' USING ERRCODE = '40001'; END $$;
CREATE TRIGGER conflict BEFORE UPDATE ON account FOR EACH ROW EXECUTE FUNCTION conflict();
DO $$
BEGIN
    INSERT INTO diary VALUES ('must be rolled back');
    PERFORM tombstone.soft_delete_many(ARRAY['1'], 'account');
EXCEPTION WHEN serialization_failure THEN
    INSERT INTO diary VALUES ('caught');
END $$;
SELECT * FROM diary;
BEGIN;
COMMIT;
DROP TRIGGER conflict ON account;

-- A trigger that cancels the write: nothing is reported as done.
CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER cancel BEFORE UPDATE OR DELETE ON account FOR EACH ROW EXECUTE FUNCTION cancel();
SELECT tombstone.soft_delete('1', 'account');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{1,2,3}', 'account');
SELECT tombstone.purge('1', 'account');
\echo :SQLSTATE
UPDATE account SET deleted_at = now();
SELECT count(*) FROM tombstone.event;
-- One that would fire after ours is refused: it could undo the redaction.
ALTER TRIGGER cancel ON account RENAME TO zzz;
UPDATE account SET deleted_at = now();
\echo :SQLSTATE
ALTER TABLE account DISABLE TRIGGER zzz;
UPDATE account SET deleted_at = now();

-- An error caught inside a statement, with another library's executor hooks under ours: the statement's end is still found.
CREATE TABLE boss (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE aide (id int PRIMARY KEY, boss int REFERENCES boss, deleted_at timestamptz);
INSERT INTO boss VALUES (1), (2);
INSERT INTO aide VALUES (1, 2);
SELECT tombstone.manage('boss'), tombstone.manage('aide');
CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'SELECT 1/0'; EXCEPTION WHEN division_by_zero THEN RETURN NEW; END $$;
CREATE TRIGGER stumble BEFORE UPDATE ON boss FOR EACH ROW EXECUTE FUNCTION stumble();
BEGIN;
UPDATE boss SET deleted_at = now();
\echo :SQLSTATE
ROLLBACK;
BEGIN;
UPDATE boss SET deleted_at = now() WHERE id = 1;
COMMIT;
SELECT ids FROM tombstone.event ORDER BY seq DESC LIMIT 1;

-- A row without a key: updated like any other, but neither deleted nor purged.
CREATE TABLE loose (id uuid NOT NULL UNIQUE, n int, deleted_at timestamptz);
SELECT tombstone.manage('loose', id => '{id}');
ALTER TABLE loose ALTER id DROP NOT NULL;
INSERT INTO loose VALUES (NULL);
UPDATE loose SET n = 1;
UPDATE loose SET deleted_at = now();
\echo :SQLSTATE
DELETE FROM loose;
\echo :SQLSTATE

-- A column that changes its type, or goes.
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
SELECT tombstone.manage('parent', 'in_place');
INSERT INTO parent VALUES (1), (2);
SELECT tombstone.purge('1', 'parent');
ALTER TABLE parent ALTER deleted_at TYPE text;
UPDATE parent SET deleted_at = 'x';
\echo :SQLSTATE
ALTER TABLE parent DROP COLUMN deleted_at;
SELECT tombstone.unmanage('parent');
\echo :SQLSTATE
SELECT tombstone.unmanage('parent', discard => true);

-- A table that goes with its type is held back by a hold like any other.
CREATE TYPE shape AS (id int, deleted_at timestamptz);
CREATE TABLE typed OF shape (PRIMARY KEY (id));
SELECT tombstone.manage('typed');
INSERT INTO typed VALUES (1);
SELECT tombstone.hold('1', 'typed');
DROP TYPE shape CASCADE;
\echo :SQLSTATE
SELECT tombstone.release('1', 'typed');
DROP TYPE shape CASCADE;
SELECT count(*) FROM tombstone.tables WHERE relation::text = 'typed';

-- A row between two parents comes back with the last of them.
CREATE TABLE person (id int PRIMARY KEY);
CREATE TABLE club (id int PRIMARY KEY);
CREATE TABLE member (person int REFERENCES person ON DELETE CASCADE, club int REFERENCES club ON DELETE CASCADE,
                     PRIMARY KEY (person, club));
SELECT tombstone.manage(t::regclass, 'in_place') FROM unnest('{person,club,member}'::text[]) t;
INSERT INTO person VALUES (1);
INSERT INTO club VALUES (1);
INSERT INTO member VALUES (1, 1);
BEGIN;
SELECT tombstone.soft_delete('1', 'person') = tombstone.soft_delete('1', 'club') AS one_deletion;
COMMIT;
SELECT tombstone.restore('1', 'person');
SELECT tombstone.restore('1', 'club');
SELECT tombstone.state('{"person": 1, "club": 1}', 'member');

-- restore counts records, not rows: a child with three versions is one.
CREATE TABLE book (id int PRIMARY KEY);
CREATE TABLE chapter (book int REFERENCES book ON DELETE CASCADE, id int, v int, PRIMARY KEY (id, v));
SELECT tombstone.manage('book', 'in_place'), tombstone.manage('chapter', 'in_place', version => 'v');
INSERT INTO book VALUES (1);
INSERT INTO chapter SELECT 1, 7, v FROM generate_series(1, 3) v;
SELECT tombstone.soft_delete('1', 'book') > 0 AS deleted;
SELECT tombstone.restore('1', 'book');
SELECT count(*) FROM chapter WHERE deleted_at IS NULL;

-- One record that a constraint forbids to delete fails none of the others.
CREATE TABLE checked (id int PRIMARY KEY, deleted_at timestamptz, CHECK (id <> 2 OR deleted_at IS NULL));
SELECT tombstone.manage('checked');
INSERT INTO checked VALUES (1), (2), (3);
SELECT id, outcome, split_part(detail, '(', 1) AS detail FROM tombstone.soft_delete_many('{1,2,3}', 'checked');

-- A chain of a thousand references is no deeper than one.
CREATE TABLE chain (id int PRIMARY KEY, up int REFERENCES chain ON DELETE CASCADE, deleted_at timestamptz);
CREATE INDEX ON chain (up);
INSERT INTO chain SELECT i, nullif(i - 1, 0) FROM generate_series(1, 1000) i;
SELECT tombstone.manage('chain');
SELECT tombstone.soft_delete('1', 'chain') > 0 AS deleted;
SELECT count(*) FROM chain WHERE deleted_at IS NULL;
SELECT tombstone.restore('1', 'chain');

-- A table called like an alias of ours, with columns called like ours.
CREATE TABLE k (c0 text, id text PRIMARY KEY, n name, deleted_at timestamptz);
CREATE ROLE regress_al;
GRANT USAGE ON SCHEMA trials TO regress_al;
GRANT ALL ON k TO regress_al;
SELECT tombstone.manage('k', owners => 'n');
INSERT INTO k VALUES ('zz', 'secret', 'nobody'), ('al', 'al', 'regress_al');
SET ROLE regress_al;
SELECT tombstone.soft_delete('secret', 'k');
\echo :SQLSTATE
SELECT tombstone.soft_delete('al', 'k') > 0 AS deleted;
RESET ROLE;
DROP OWNED BY regress_al;
DROP ROLE regress_al;

-- Row security decides about rows that share an id: together, or not at all.
CREATE TABLE shared (tenant text, n int, PRIMARY KEY (tenant, n)) PARTITION BY LIST (tenant);
CREATE TABLE shared_a PARTITION OF shared FOR VALUES IN ('a');
CREATE TABLE shared_b PARTITION OF shared FOR VALUES IN ('b');
SELECT tombstone.manage('shared', 'in_place', '{n}');
INSERT INTO shared VALUES ('a', 1), ('b', 1), ('a', 2);
CREATE ROLE regress_ta;
GRANT USAGE ON SCHEMA trials TO regress_ta;
GRANT ALL ON shared TO regress_ta;
ALTER TABLE shared ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_a ON shared USING (tenant = 'a');
SET ROLE regress_ta;
SELECT tombstone.soft_delete('1', 'shared');
\echo :SQLSTATE
SELECT tombstone.soft_delete('2', 'shared') > 0 AS deleted;
RESET ROLE;
DROP OWNED BY regress_ta;
DROP ROLE regress_ta;

-- Ids and values at the edge.
CREATE TABLE pair (tenant text, n int, deleted_at timestamptz, PRIMARY KEY (tenant, n));
SELECT tombstone.manage('pair');
SELECT tombstone.soft_delete('{"tenant":"a\u0000b","n":1}', 'pair');
\echo :SQLSTATE
CREATE TABLE deep (id int PRIMARY KEY, j jsonb, deleted_at timestamptz);
SELECT tombstone.manage('deep', redact => ('{"j":' || repeat('[', 200) || repeat(']', 200) || '}')::jsonb);
\echo :SQLSTATE
CREATE TABLE listed (id int[] PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('listed');
\echo :SQLSTATE
CREATE TABLE coarse (id int PRIMARY KEY, deleted_at timestamptz(0));
SELECT tombstone.manage('coarse');
\echo :SQLSTATE

-- A tombstone stays blank, whoever writes into it.
CREATE TABLE note (id int PRIMARY KEY, body text, deleted_at timestamptz);
SELECT tombstone.manage('note', redact => '{"body": ""}');
INSERT INTO note VALUES (1, 'secret');
SELECT tombstone.soft_delete('1', 'note') > 0 AS deleted;
UPDATE note SET body = 'too late';
INSERT INTO note VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET body = excluded.body;
SELECT id, body FROM note;

-- Deleting what is deleted already leaves the first deletion as it was: its children come back with it.
CREATE TABLE mother (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE daughter (id int PRIMARY KEY, mother int REFERENCES mother ON DELETE CASCADE, deleted_at timestamptz);
SELECT tombstone.manage('mother'), tombstone.manage('daughter');
INSERT INTO mother VALUES (1);
INSERT INTO daughter VALUES (1, 1);
UPDATE mother SET deleted_at = now() WHERE id = 1;
UPDATE mother SET deleted_at = now() WHERE id = 1;
SELECT m.deleted_at = d.deleted_at AS first_stamp FROM mother m, daughter d;
SELECT tombstone.restore('1', 'mother');

-- With the triggers off every door says so, and does nothing.
ALTER TABLE note DISABLE TRIGGER USER;
INSERT INTO note VALUES (2, 'x');
SELECT tombstone.soft_delete('2', 'note');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{2}', 'note');
\echo :SQLSTATE
SELECT tombstone.restore('1', 'note');
\echo :SQLSTATE
SELECT tombstone.purge('2', 'note');
\echo :SQLSTATE
SELECT id, body, deleted_at IS NULL AS live FROM note ORDER BY id;

-- A trigger of that name on somebody's own table stops nobody's DDL.
CREATE TABLE squat (id int);
CREATE ROLE regress_guest;
ALTER TABLE squat OWNER TO regress_guest;
SELECT format('CREATE TRIGGER zz_tombstone_partition_of_%s BEFORE TRUNCATE ON squat FOR EACH STATEMENT EXECUTE FUNCTION tombstone.on_truncate()', managed)
FROM tombstone.managed WHERE relation = 'shared'::regclass \gexec
SELECT tombstone.hold('2', 'shared');
CREATE TABLE innocent (x int);
ALTER TABLE shared ADD COLUMN more int;
ALTER TABLE shared DETACH PARTITION shared_b;
\echo :SQLSTATE
SELECT tombstone.release('2', 'shared');
DROP TABLE squat;
DROP ROLE regress_guest;

DROP SCHEMA trials CASCADE;

-- Layout archive: DELETE is the soft delete. What a DELETE looks like to the application, where its rows go, and how they come back.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA bin;
SET search_path = bin;

--
-- One DELETE
--

CREATE TABLE person (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email  text UNIQUE,
    tags   text[],
    weight numeric,
    shout  text GENERATED ALWAYS AS (upper(email)) STORED
);
INSERT INTO person (email, tags, weight) VALUES
    ('ann', '{a,NULL}', 1.50), ('bob', '[3:4]={x,y}', 'NaN'), ('cid', NULL, NULL), ('dot', '{}', 7);
CREATE TABLE before AS TABLE person;
SELECT tombstone.manage('person');
SELECT relation, layout, deleted_at, archive FROM tombstone.tables;

-- Row counts and RETURNING are those of the DELETE.
DELETE FROM person WHERE id <= 2 RETURNING id, email;
DELETE FROM person WHERE id <= 2;
SELECT id, email, tags, weight, shout, deletion, deleted_at = now() AS just_now, actor = current_user AS by_me, cause, reason
FROM person_tombstone ORDER BY id;
SELECT tombstone.state('1', 'person'), tombstone.state('3', 'person'), tombstone.state('9', 'person');

-- All of it comes back, to the bit; the sequence does not move.
SELECT * FROM tombstone.undo(1, dry_run => true);
SELECT count(*) FROM person;
SELECT * FROM tombstone.undo(1);
SELECT p::text = b::text AS same, array_dims(p.tags) FROM person p JOIN before b USING (id) ORDER BY id;
SELECT count(*) FROM person_tombstone;
SELECT * FROM tombstone.undo(1);
\echo :SQLSTATE
INSERT INTO person (email) VALUES ('eve') RETURNING id;

-- A unique key is free again: many tombstones of one id, and restore takes the latest.
DELETE FROM person WHERE email = 'ann';
INSERT INTO person (id, email) OVERRIDING SYSTEM VALUE VALUES (1, 'ann');
SELECT tombstone.restore('1', 'person');
\echo :SQLSTATE
DELETE FROM person WHERE id = 1;
SELECT email, tags FROM person_tombstone WHERE id = 1 ORDER BY deletion;
SELECT tombstone.restore('1', 'person');
SELECT id, email, tags FROM person WHERE id = 1;
DELETE FROM person WHERE id = 1;

-- By function, with a reason.
SELECT tombstone.soft_delete('2', 'person', 'asked for it') > 0 AS deleted;
SELECT tombstone.soft_delete('2', 'person');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{3,2,77,3}', 'person', 'spring cleaning');
SELECT id, cause, reason FROM person_tombstone WHERE id IN (2, 3) ORDER BY id;

-- A purge is asked for: of a live record, which passes the bin by, and of tombstones.
SELECT tombstone.purge('4', 'person'), tombstone.state('4', 'person');
SELECT count(*) FROM person_tombstone WHERE id = 4;
SELECT tombstone.purge('1', 'person'), tombstone.state('1', 'person');
DELETE FROM person_tombstone WHERE id = 3;
SELECT tombstone.state('3', 'person');
SELECT id, op, deletion_type, cause, restored FROM tombstone.replay(NULL) WHERE relation = 'person'::regclass AND deletion_type = 'hard';
SELECT id, data FROM tombstone.replay(NULL, with_data => true) WHERE id = '2' ORDER BY op;

-- A savepoint rolled back takes its tombstones along.
BEGIN;
DELETE FROM person WHERE email = 'eve';
SAVEPOINT s;
INSERT INTO person (email) VALUES ('fay');
DELETE FROM person WHERE email = 'fay';
ROLLBACK TO s;
COMMIT;
SELECT email FROM person_tombstone ORDER BY deletion DESC LIMIT 2;

--
-- Redaction, the application's triggers, names
--

CREATE TABLE secret (id int PRIMARY KEY, body text NOT NULL, reason text, made int);
SELECT tombstone.manage('secret', redact => '{"body": "gone"}');
INSERT INTO secret VALUES (1, 'the code is 1234', 'because', 1), (2, 'b', NULL, 1);
SELECT tombstone.soft_delete('1', 'secret', 'no need') > 0 AS deleted;
-- The table has a column reason: the bin's own is called otherwise.
SELECT id, body, reason, tombstone_reason FROM secret_tombstone;
SELECT outcome, detail FROM tombstone.undo((SELECT max(deletion) FROM secret_tombstone));
SELECT * FROM secret ORDER BY id;

-- A trigger of the application fires, and the row is what it was.
CREATE FUNCTION remake() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.made := NEW.made + 1; RETURN NEW; END$$;
CREATE TRIGGER remake BEFORE INSERT ON secret FOR EACH ROW EXECUTE FUNCTION remake();
DELETE FROM secret WHERE id = 2;
SELECT tombstone.restore('2', 'secret');
SELECT id, made FROM secret WHERE id = 2;
-- One that cancels the row is a conflict.
CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER never BEFORE INSERT ON secret FOR EACH ROW EXECUTE FUNCTION never();
DELETE FROM secret WHERE id = 2;
SELECT tombstone.restore('2', 'secret');
\echo :SQLSTATE
SELECT outcome FROM tombstone.undo((SELECT max(deletion) FROM secret_tombstone), true);
DROP TRIGGER never ON secret;
SELECT tombstone.restore('2', 'secret');

CREATE TABLE "Order Line" ("Order" int, "select" text, "k" int, PRIMARY KEY ("Order", "select"));
SELECT tombstone.manage('"Order Line"');
INSERT INTO "Order Line" VALUES (1, 'a"b', 7);
DELETE FROM "Order Line";
SELECT "Order", "select", "k" FROM "Order Line_tombstone";
SELECT tombstone.restore('{"Order": 1, "select": "a\"b"}', '"Order Line"');
CREATE TABLE taken (id int PRIMARY KEY);
CREATE TABLE taken_tombstone (id int);
SELECT tombstone.manage('taken');
\echo :SQLSTATE
CREATE TABLE both_names (id int PRIMARY KEY, reason text, tombstone_reason text);
SELECT tombstone.manage('both_names');
\echo :SQLSTATE
CREATE TABLE a_table_whose_name_is_as_long_as_postgres_keeps_names_to_be_long (id int PRIMARY KEY);
SELECT tombstone.manage('a_table_whose_name_is_as_long_as_postgres_keeps_names_to_be_long');
SELECT octet_length(archive::text), archive FROM tombstone.tables WHERE relation::text LIKE 'a_table%';
SELECT tombstone.manage('before', id => '{id}');
\echo :SQLSTATE

--
-- Partitions; every road
--

CREATE TABLE pay (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE pay1 PARTITION OF pay FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE pay2 (v text, at date NOT NULL, gone int, id int NOT NULL);
ALTER TABLE pay2 DROP COLUMN gone;
ALTER TABLE pay ATTACH PARTITION pay2 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO pay SELECT i, date '2024-01-01' + i * 40, 'v' || i FROM generate_series(1, 15) i;
SELECT tombstone.manage('pay', id => '{id}', events => 'all');
-- A row that moves to another partition is not deleted.
UPDATE pay SET at = at + 365 WHERE id = 1;
SELECT count(*) FROM pay_tombstone;
DELETE FROM pay2 WHERE id > 12;
DELETE FROM pay USING pay1 WHERE pay.id = pay1.id AND pay.id = 2;
SELECT id, at, v, cause FROM pay_tombstone ORDER BY id;
SELECT id, outcome FROM tombstone.undo((SELECT min(deletion) FROM pay_tombstone)) ORDER BY 1;
SELECT tombstone.restore('2', 'pay');
SELECT tableoid::regclass, count(*) FROM pay GROUP BY 1 ORDER BY 1;
-- What comes back is restored, not created.
SELECT id, op, restored FROM tombstone.replay(NULL, relations => '{pay}') WHERE op <> 'delete' ORDER BY id::int;
TRUNCATE pay1;
SELECT count(*), count(DISTINCT deletion) FROM pay_tombstone;
SELECT outcome, count(*) FROM tombstone.undo((SELECT max(deletion) FROM pay_tombstone)) GROUP BY 1;
TRUNCATE pay;
SELECT count(*) FROM pay_tombstone;
TRUNCATE pay_tombstone;
SELECT tombstone.state('5', 'pay'), tombstone.state('14', 'pay');

--
-- What refers to it
--

CREATE TABLE parent (id int PRIMARY KEY, partner int);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
CREATE TABLE friend (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE SET NULL, other int DEFAULT 1 REFERENCES parent ON DELETE SET DEFAULT);
CREATE TABLE guard (id int PRIMARY KEY, parent int REFERENCES parent);
SET client_min_messages = notice;
SELECT tombstone.manage('parent');
SELECT tombstone.unmanage('parent');
DROP TABLE parent_tombstone;
SELECT tombstone.manage('parent', tree => true);
SET client_min_messages = warning;
SELECT relation FROM tombstone.tables WHERE relation IN ('parent'::regclass, 'child', 'friend', 'guard') ORDER BY 1;
-- Two tables that refer to each other.
ALTER TABLE parent ADD FOREIGN KEY (partner) REFERENCES child ON DELETE CASCADE;
INSERT INTO parent SELECT i FROM generate_series(1, 5) i;
INSERT INTO child SELECT i, i FROM generate_series(1, 5) i;
UPDATE parent SET partner = 2 WHERE id = 3;
UPDATE parent SET partner = 3 WHERE id = 2;
INSERT INTO friend SELECT i, i, i FROM generate_series(1, 5) i;
INSERT INTO guard VALUES (1, 5);
DELETE FROM parent WHERE id = 2;
SELECT id, partner, cause FROM parent_tombstone ORDER BY id;
SELECT * FROM friend ORDER BY id;
-- Where somebody has chosen anew, that stays.
UPDATE friend SET parent = 4 WHERE id = 3;
SELECT relation, id, outcome FROM tombstone.undo((SELECT max(deletion) FROM parent_tombstone)) ORDER BY 1, 2;
SELECT * FROM parent ORDER BY id;
SELECT * FROM friend ORDER BY id;
DELETE FROM parent WHERE id = 5;
\echo :SQLSTATE

-- A conflict is its own cause, or follows from one.
DELETE FROM parent WHERE id = 4;
INSERT INTO child VALUES (4, 3);
SELECT relation, id, outcome, detail FROM tombstone.undo((SELECT max(deletion) FROM parent_tombstone), true) ORDER BY 1, 2;
SELECT * FROM tombstone.undo((SELECT max(deletion) FROM parent_tombstone));
\echo :SQLSTATE
DELETE FROM child WHERE id = 4;
SELECT tombstone.restore('4', 'parent');
SELECT * FROM child WHERE id = 4;

-- Tables of both layouts.
CREATE TABLE kept (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE, deleted_at timestamptz);
SELECT tombstone.manage('kept');
\echo :SQLSTATE
CREATE TABLE album (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE photo (id int PRIMARY KEY, album int REFERENCES album ON DELETE CASCADE);
SELECT tombstone.manage('album');
SELECT tombstone.manage('photo');
INSERT INTO album VALUES (1);
INSERT INTO photo VALUES (1, 1), (2, 1);
SELECT tombstone.soft_delete('1', 'album') AS deletion \gset
SELECT id, cause, deletion = :deletion AS same FROM photo_tombstone ORDER BY id;
SELECT tombstone.restore('1', 'photo');
\echo :SQLSTATE
SELECT tombstone.restore('1', 'album');
SELECT count(*) FROM photo;
SELECT tombstone.soft_delete('1', 'album') AS deletion \gset
SELECT relation, id, outcome FROM tombstone.undo(:deletion) ORDER BY 1, 2;

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA bin CASCADE;

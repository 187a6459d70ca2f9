-- What an id is: the text of the key for each type of key, a JSON object for a key of several columns,
-- whatever the settings of the session; names that need quoting; and partitioned tables.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA keys;
SET search_path = keys;
CREATE VIEW log AS
    SELECT m.relation, e.op, e.deletion_type, e.restored, ARRAY(SELECT unnest(e.ids) COLLATE "C" ORDER BY 1) AS ids
    FROM tombstone.event e JOIN tombstone.managed m USING (managed) ORDER BY e.seq;

--
-- One column: the text of its value
--

CREATE TABLE by_text (id text PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE by_bigint (id bigint PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE by_uuid (id uuid PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE by_numeric (id numeric(8, 2) PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE by_boolean (id boolean PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE by_varchar (id varchar(4) PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE by_char (id char(4) PRIMARY KEY, deleted_at timestamptz);
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE TABLE by_enum (id colour PRIMARY KEY, deleted_at timestamptz);
CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);
CREATE TABLE by_domain (id even PRIMARY KEY, deleted_at timestamptz);
SELECT count(tombstone.manage(format('by_%s', type)::regclass))
FROM unnest('{text, bigint, uuid, numeric, boolean, varchar, char, enum, domain}'::text[]) AS type;

INSERT INTO by_text VALUES ('a'), (''), (' b '), ('日本'), ('{"a": 1}'), ('\x61');
INSERT INTO by_bigint VALUES (-9223372036854775808), (42);
INSERT INTO by_uuid VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');
INSERT INTO by_numeric VALUES (1.50);
INSERT INTO by_boolean VALUES (true), (false);
INSERT INTO by_varchar VALUES ('wxyz');
INSERT INTO by_char VALUES ('ab');
INSERT INTO by_enum VALUES ('red');
INSERT INTO by_domain VALUES (4);

-- What the type's input function reads is an id; the outcome repeats the id as it was asked.
SELECT * FROM tombstone.soft_delete_many(ARRAY['a', '', ' b ', '日本', '{"a": 1}', '\x61', 'b'], 'by_text');
SELECT * FROM tombstone.soft_delete_many('{" 42", -9223372036854775808, 0}', 'by_bigint');
SELECT * FROM tombstone.soft_delete_many('{A0EEBC999C0B4EF8BB6D6BB9BD380A11}', 'by_uuid');
SELECT * FROM tombstone.soft_delete_many('{1.5}', 'by_numeric');
SELECT * FROM tombstone.soft_delete_many('{yes, f}', 'by_boolean');
SELECT * FROM tombstone.soft_delete_many('{wxyz}', 'by_varchar');
SELECT * FROM tombstone.soft_delete_many('{ab}', 'by_char');
SELECT * FROM tombstone.soft_delete_many('{red}', 'by_enum');
SELECT * FROM tombstone.soft_delete_many('{4}', 'by_domain');

-- The log has one spelling for each.
SELECT relation, ids FROM log;

-- Any spelling of the same key meets a hold on it.
SELECT tombstone.hold('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'by_uuid');
SELECT tombstone.restore('{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', 'by_uuid');
\echo :SQLSTATE
SELECT tombstone.hold('1.500', 'by_numeric');
DELETE FROM by_numeric;
\echo :SQLSTATE

-- The key itself counts, not how it was written: 1.50 and 1.5 are one number, 24 hours and a day one interval.
CREATE TABLE by_number (id numeric PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE by_interval (id interval PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('by_number');
SELECT tombstone.manage('by_interval');
INSERT INTO by_number VALUES (1.5);
INSERT INTO by_interval VALUES ('1 day');
SELECT tombstone.hold('1.50', 'by_number');
SELECT tombstone.hold('24:00:00', 'by_interval');
SELECT relation, id FROM tombstone.holds WHERE relation IN ('by_number'::regclass, 'by_interval'::regclass) ORDER BY relation::text;
DELETE FROM by_number;
\echo :SQLSTATE
DELETE FROM by_interval;
\echo :SQLSTATE

-- Text that is no value of the key's type is a bad request.
SELECT tombstone.soft_delete('forty-two', 'by_bigint');
\echo :SQLSTATE
SELECT tombstone.soft_delete('9223372036854775808', 'by_bigint');
\echo :SQLSTATE
SELECT tombstone.restore('vwxyz', 'by_varchar');
\echo :SQLSTATE
SELECT tombstone.purge('blue', 'by_enum');
\echo :SQLSTATE
SELECT tombstone.hold('3', 'by_domain');
\echo :SQLSTATE
SELECT tombstone.soft_delete(NULL, 'by_bigint');
\echo :SQLSTATE
-- In a list it is one record that does not exist.
SELECT * FROM tombstone.soft_delete_many('{42, x, NULL, 43}', 'by_bigint');
SELECT * FROM tombstone.soft_delete_many('{}', 'by_bigint');
SELECT * FROM tombstone.soft_delete_many(NULL, 'by_bigint');
\echo :SQLSTATE

--
-- Bytes: their UTF-8 text, or \x and hexadecimal digits where they are none
--

CREATE TABLE by_bytea (id bytea PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('by_bytea');
INSERT INTO by_bytea VALUES ('alice'), ('\xff00'), ('\x5c783431'), (convert_to('зоя', 'UTF8')), ('');
SELECT * FROM tombstone.soft_delete_many(ARRAY['alice', '\xFF00', '\x5c783431', 'зоя', '', '\x41'], 'by_bytea');
SELECT ids FROM log WHERE relation = 'by_bytea'::regclass;
SELECT tombstone.restore('\x616c696365', 'by_bytea');
SELECT tombstone.state('\xf', 'by_bytea');
\echo :SQLSTATE
SELECT tombstone.state('\xzz', 'by_bytea');
\echo :SQLSTATE

--
-- Several columns: a JSON object
--

CREATE TABLE orders (tenant text, number int, line smallint, paid boolean, deleted_at timestamptz,
    PRIMARY KEY (tenant, number, line, paid));
SELECT tombstone.manage('orders');
INSERT INTO orders VALUES ('acme', 1, 1, true), ('acme', 1, 2, false), ('o"neil', 2, 1, true);

-- In any order, numbers and booleans also as strings.
SELECT tombstone.soft_delete('{"paid": "yes", "line": "1", "number": 1, "tenant": "acme"}', 'orders') > 0 AS deleted;
SELECT tombstone.soft_delete('{"tenant": "o\"neil", "number": 2, "line": 1, "paid": true}', 'orders') > 0 AS deleted;
SELECT ids FROM log WHERE relation = 'orders'::regclass;
-- What the log has, or Postgres' own JSON of the key, is an id.
SELECT tombstone.state('{"tenant":"o\"neil","number":2,"line":1,"paid":true}', 'orders');
SELECT tombstone.state(to_jsonb(o) - 'deleted_at' #>> '{}', 'orders') FROM orders o ORDER BY number, line;

SELECT tombstone.state('acme', 'orders');
\echo :SQLSTATE
SELECT tombstone.state('["acme", 1, 1, true]', 'orders');
\echo :SQLSTATE
SELECT tombstone.state('{"tenant": "acme", "number": 1}', 'orders');
\echo :SQLSTATE
SELECT tombstone.state('{"tenant": "acme", "number": 1, "line": 1, "paid": true, "colour": "red"}', 'orders');
\echo :SQLSTATE
SELECT tombstone.state('{"tenant": null, "number": 1, "line": 1, "paid": true}', 'orders');
\echo :SQLSTATE
SELECT tombstone.state('{"tenant": "acme", "number": 1.5, "line": 1, "paid": true}', 'orders');
\echo :SQLSTATE

--
-- Dates and times: in ISO form and UTC, whatever the session shows
--

CREATE TABLE diary (day date, at timestamptz, deleted_at timestamptz, PRIMARY KEY (day, at));
CREATE TABLE clock (at timestamptz PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('diary');
SELECT tombstone.manage('clock');
SET TIME ZONE 'Asia/Tokyo';
SET datestyle = 'SQL, DMY';
INSERT INTO diary VALUES ('2024-03-01', '2024-03-01 08:00 UTC');
INSERT INTO clock VALUES ('2024-03-01 08:00 UTC');
-- An id without a zone is UTC; day and month are not mistaken for each other.
SELECT tombstone.hold('{"day": "2024-03-01", "at": "2024-03-01 08:00"}', 'diary', 'the 1st of March');
SELECT tombstone.hold('2024-03-01 17:00+09', 'clock');
SET TIME ZONE 'America/New_York';
SET datestyle = 'Postgres, MDY';
DELETE FROM diary;
\echo :SQLSTATE
UPDATE clock SET deleted_at = now();
\echo :SQLSTATE
SELECT relation, id FROM tombstone.holds WHERE relation IN ('diary'::regclass, 'clock'::regclass) ORDER BY id;
RESET TIME ZONE;
RESET datestyle;

--
-- Names that need quoting, and schemas out of sight
--

CREATE SCHEMA "Select";
CREATE TABLE "Select"."Order" ("User" text, "group" int, "it's ""mine""" text, "Deleted At" timestamptz, PRIMARY KEY ("User", "group"));
SELECT tombstone.manage('"Select"."Order"', deleted_at => 'Deleted At', redact => '{"it''s \"mine\"": "gone"}', kind => '"it''s ""mine"""');
INSERT INTO "Select"."Order" VALUES ('Ada', 1, 'secret');
SELECT tombstone.soft_delete('{"User": "Ada", "group": 1}', '"Select"."Order"') > 0 AS deleted;
SELECT "it's ""mine""", "Deleted At" IS NOT NULL AS deleted FROM "Select"."Order";
SELECT relation, id, deleted_at FROM tombstone.tables WHERE relation = '"Select"."Order"'::regclass;
SET tombstone.default_table = '"Select"."Order"';
SELECT tombstone.restore('{"User": "Ada", "group": 1}');
RESET tombstone.default_table;
DROP TABLE "Select"."Order";

-- Nothing depends on search_path, and nothing in it can stand in for what is meant.
CREATE FUNCTION keys.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;
CREATE FUNCTION keys.never(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE OPERATOR keys.= (LEFTARG = text, RIGHTARG = text, FUNCTION = keys.never);
SET search_path = keys, pg_catalog;
SELECT tombstone.restore('a', 'by_text');
SELECT tombstone.soft_delete('a', 'by_text') > 0 AS deleted;
SELECT isfinite(deleted_at) FROM by_text WHERE id LIKE 'a';
DROP OPERATOR keys.= (text, text);
DROP FUNCTION keys.now();
SET search_path = keys;

--
-- Partitioned tables: the table is managed, its partitions come along
--

CREATE TABLE visit (id int, region text, note text, deleted_at timestamptz, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE visit_eu PARTITION OF visit FOR VALUES IN ('eu');
-- A partition may have its columns in another order.
CREATE TABLE visit_us (deleted_at timestamptz, dropped int, note text, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region));
ALTER TABLE visit_us DROP COLUMN dropped;
ALTER TABLE visit ATTACH PARTITION visit_us FOR VALUES IN ('us');
SELECT tombstone.manage('visit', id => '{id}', redact => '{"note": "gone"}');
CREATE TABLE visit_asia PARTITION OF visit FOR VALUES IN ('asia');
INSERT INTO visit VALUES (1, 'eu', 'x'), (2, 'us', 'x'), (3, 'asia', 'x'), (4, 'eu', 'x'), (5, 'us', 'x');

-- Through the function, in SQL aimed at the table, and in SQL aimed at a partition.
SELECT * FROM tombstone.soft_delete_many('{1, 2, 3, 9}', 'visit');
UPDATE visit SET deleted_at = now() WHERE id = 4;
UPDATE visit_us SET deleted_at = now() WHERE id = 5;
SELECT tableoid::regclass, id, note, deleted_at IS NOT NULL AS deleted FROM visit ORDER BY id;
DELETE FROM visit_eu WHERE id = 4;
SELECT tombstone.state('4', 'visit');
SELECT op, deletion_type, ids FROM log WHERE relation = 'visit'::regclass;

-- A row that moves to another partition is not deleted.
SELECT tombstone.restore('1', 'visit');
UPDATE visit SET region = 'asia' WHERE id = 1;
SELECT tombstone.state('1', 'visit');
-- A soft delete that also moves it is one soft delete, and no purge.
UPDATE visit SET region = 'us', deleted_at = now() WHERE id = 1;
SELECT tableoid::regclass, note, deleted_at IS NOT NULL AS deleted FROM visit WHERE id = 1;
SELECT op, deletion_type, restored, ids FROM log WHERE relation = 'visit'::regclass AND ids = '{1}';

-- A partition that is detached is managed no longer.
ALTER TABLE visit DETACH PARTITION visit_us;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'visit_us'::regclass AND tgname LIKE '%tombstone%';
SELECT tombstone.state('2', 'visit');
UPDATE visit_us SET deleted_at = NULL;

-- Partitions by deletion: the tombstone moves out of the way of the live rows.
CREATE TABLE letter (id int NOT NULL, body text, deleted_at timestamptz) PARTITION BY RANGE (deleted_at);
CREATE TABLE letter_live PARTITION OF letter DEFAULT;
CREATE TABLE letter_gone PARTITION OF letter FOR VALUES FROM ('2000-01-01') TO (MAXVALUE);
SELECT tombstone.manage('letter', id => '{id}');
INSERT INTO letter VALUES (1, 'hello');
SELECT tombstone.soft_delete('1', 'letter') > 0 AS deleted;
SELECT tableoid::regclass, id FROM letter;
SELECT tombstone.restore('1', 'letter');
SELECT tableoid::regclass, id FROM letter;
SELECT op, deletion_type, restored, ids FROM log WHERE relation = 'letter'::regclass;

DROP SCHEMA "Select" CASCADE;
SELECT count(tombstone.release(id, relation)) FROM tombstone.holds;
DROP SCHEMA keys CASCADE;
SELECT relation FROM tombstone.tables;

-- Layout archive: what comes back is what went, to the bit, whatever its type; and by whichever statement it was deleted.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA bits;
SET search_path = bits;

--
-- Every kind of value
--

CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN grade AS int CHECK (VALUE BETWEEN 1 AND 6);
CREATE TYPE place AS (street text, zip varchar(5));
CREATE DOMAIN somewhere AS place CHECK ((VALUE).zip <> '');
CREATE TABLE thing (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    truth bool, small smallint, whole bigint, single real, double float8, exact numeric, scaled numeric(10, 3),
    words text, padded char(5), short varchar(7), sorted text COLLATE "C", bytes bytea, bits bit varying(9),
    day date, at timestamp, at_zone timestamptz(3), clock timetz, span interval,
    uid uuid, written json, parsed jsonb, address inet, spot point, lexemes tsvector, number oid, class regclass,
    numbers int[], texts text[], feeling mood, feelings mood[], mark grade, marks grade[],
    home place, homes place[], abode somewhere, during int4range, seasons int4multirange,
    compressed text, external text, main bytea,
    shout text GENERATED ALWAYS AS (words || '!') STORED
);
ALTER TABLE thing ALTER external SET STORAGE EXTERNAL, ALTER main SET STORAGE MAIN;
INSERT INTO thing VALUES
    (DEFAULT, true, -32768, -9223372036854775808, 'NaN', '-Infinity', 'NaN', 1.500,
     'a', 'ab', 'ab ', 'É', '\x00ff', '101',
     'infinity', '-infinity', '2020-01-01 00:00:00.123Z', '24:00:00+15:59', '1 mon -1 day 00:00:01',
     '00000000-0000-0000-0000-000000000001', '{"b": 1,  "a": [1.00, 1e2], "b": 2}', '{"b": 1.00}', '10.1.2.3/8', '(1.5,-0)',
     '''a'':1A', 4294967295, 'pg_class',
     '[0:1][2:3]={{1,2},{3,NULL}}', '{NULL,""}', 'happy', '{sad,NULL}', 6, '{1,NULL,2}',
     '("a b",12345)', '{"(,1)",NULL}', '(x,1)', '(1,5]', '{[1,2),[5,)}',
     repeat('abc', 20000), repeat('xyz', 20000), decode(repeat('00ff', 5000), 'hex')),
    (DEFAULT, NULL, NULL, NULL, '-0', '-0', '1.000000', NULL,
     '', '', '', NULL, '', '',
     NULL, NULL, NULL, NULL, NULL,
     NULL, 'null', 'null', NULL, NULL,
     '', 0, NULL,
     '{}', '{}', NULL, '{}', NULL, '{}',
     '(,)', '{}', NULL, 'empty', '{}',
     NULL, (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) AS i), NULL);
INSERT INTO thing DEFAULT VALUES;
CREATE TABLE before AS TABLE thing;
SELECT tombstone.manage('thing');

-- The bin has the values as they were, and stores them as the table does.
DELETE FROM thing;
SELECT id, exact, numbers, written, shout, length(external) FROM thing_tombstone ORDER BY id;
SELECT attname, attstorage FROM pg_attribute
WHERE attrelid = 'thing_tombstone'::regclass AND attname IN ('compressed', 'external', 'main') ORDER BY 1;
SELECT outcome, count(*) FROM tombstone.undo(1) GROUP BY outcome;
SELECT id, record_image_eq(now, old) AS same_bits, now::text = old::text AS same_text
FROM thing AS now JOIN before AS old USING (id) ORDER BY id;

-- Twice through the bin it is still the same.
DELETE FROM thing;
SELECT sum(tombstone.restore(id::text, 'thing')) FROM before;
SELECT id, record_image_eq(now, old) AS same_bits FROM thing AS now JOIN before AS old USING (id) ORDER BY id;

-- A table of which nothing is left but the key, and one with columns dropped.
CREATE TABLE bare (id int PRIMARY KEY);
SELECT tombstone.manage('bare');
INSERT INTO bare VALUES (1);
DELETE FROM bare;
SELECT tombstone.restore('1', 'bare');
CREATE TABLE holey (gone int, id int PRIMARY KEY, also_gone text, v text);
ALTER TABLE holey DROP gone, DROP also_gone, ADD added int DEFAULT 7;
SELECT tombstone.manage('holey');
INSERT INTO holey VALUES (1, 'v');
DELETE FROM holey;
SELECT id, v, added FROM holey_tombstone;
SELECT tombstone.restore('1', 'holey');
SELECT * FROM holey;

--
-- Every kind of DELETE
--

CREATE TABLE item (id int PRIMARY KEY, v text);
SELECT tombstone.manage('item');
INSERT INTO item SELECT i, 'v' FROM generate_series(1, 9) AS i;

-- by a cursor
BEGIN;
DECLARE place CURSOR FOR SELECT * FROM item WHERE id = 1 FOR UPDATE;
FETCH place;
DELETE FROM item WHERE CURRENT OF place;
COMMIT;
-- in a WITH, beside the INSERT of what it returns
WITH gone AS (DELETE FROM item WHERE id = 2 RETURNING *) INSERT INTO item SELECT id + 100, v FROM gone RETURNING *;
-- by another table, and by a view
DELETE FROM item USING (VALUES (3)) AS chosen (id) WHERE item.id = chosen.id;
CREATE VIEW items AS SELECT id AS number FROM item;
DELETE FROM items WHERE number = 4 RETURNING number;
-- in a function, with a handler whose first try fails
DO $$
BEGIN
    BEGIN
        DELETE FROM bits.item WHERE id = 5;
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        DELETE FROM bits.item WHERE id = 6;
    END;
END $$;
-- as a prepared statement
PREPARE remove (int) AS DELETE FROM item WHERE id = $1;
EXECUTE remove(7);
-- by MERGE, where there is one
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 150000 THEN
        EXECUTE 'MERGE INTO bits.item USING (VALUES (8), (108)) AS feed (id) ON item.id = feed.id
                 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (feed.id, ''merged'')';
    ELSE
        DELETE FROM bits.item WHERE id = 8;
        INSERT INTO bits.item VALUES (108, 'merged');
    END IF;
END $$;
SELECT id, v, cause FROM item_tombstone ORDER BY id;
SELECT * FROM item ORDER BY id;

-- Each of them is a deletion of its own; what one transaction deletes in many statements is one.
BEGIN;
DELETE FROM item WHERE id = 5;
SELECT tombstone.soft_delete('9', 'item', 'the last') > 0 AS deleted;
DELETE FROM item WHERE id > 100;
COMMIT;
SELECT relations, reason FROM tombstone.deletions WHERE relations ? 'item' ORDER BY deletion;
SELECT id, outcome FROM tombstone.undo((SELECT max(deletion) FROM item_tombstone)) ORDER BY id::int;

-- Deleted, restored and deleted again in one transaction, it is deleted once.
BEGIN;
DELETE FROM item WHERE id = 5;
SELECT tombstone.restore('5', 'item');
DELETE FROM item WHERE id = 5;
COMMIT;
SELECT count(*) FROM item_tombstone WHERE id = 5;
SELECT id, outcome FROM tombstone.undo((SELECT max(deletion) FROM item_tombstone));
SELECT * FROM item WHERE id = 5;

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA bits CASCADE;

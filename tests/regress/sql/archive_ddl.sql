-- Layout archive: the bin follows its table through names, schemas and types, keeps what is on hold, and goes with it where asked.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA ddl;
CREATE SCHEMA elsewhere;
SET search_path = ddl;

--
-- ALTER COLUMN … TYPE … USING
--

CREATE TABLE item (id int PRIMARY KEY, size text, price text);
SELECT tombstone.manage('item');
INSERT INTO item VALUES (1, '12', '3,50'), (2, '345', '4,20');
DELETE FROM item;
INSERT INTO item VALUES (3, '6', '1,00');
-- A plain cast would give 12 and 345: it is the table's own expression that counts.
ALTER TABLE item ALTER size TYPE int USING length(size), ALTER price TYPE numeric USING replace(price, ',', '.')::numeric;
SELECT id, size, price FROM item_tombstone ORDER BY id;
SELECT id, outcome FROM tombstone.undo((SELECT max(deletion) FROM item_tombstone));
TABLE item ORDER BY id;
-- What cannot be converted is told, and nothing changes.
ALTER TABLE item ALTER price TYPE text;
DELETE FROM item WHERE id = 1;
UPDATE item_tombstone SET price = 'much';
ALTER TABLE item ALTER price TYPE numeric USING price::numeric;
\echo :SQLSTATE
SELECT pg_typeof(price) FROM item LIMIT 1;
-- An expression that names the table does not fit the bin. Whoever converts that by hand first is not asked again.
ALTER TABLE item_tombstone ALTER price TYPE numeric USING 0;
ALTER TABLE item ALTER price TYPE numeric USING item.price::numeric;
SELECT id, outcome FROM tombstone.undo((SELECT max(deletion) FROM item_tombstone));

--
-- RENAME, SET SCHEMA
--

DELETE FROM item WHERE id = 1;
ALTER TABLE item RENAME TO article;
SELECT id FROM article_tombstone;
SELECT obj_description('article_tombstone'::regclass);
ALTER TABLE article SET SCHEMA elsewhere;
SELECT relation, archive FROM tombstone.tables;
SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'elsewhere.article_tombstone'::regclass;
DELETE FROM elsewhere.article WHERE id = 2;
SELECT count(*) FROM elsewhere.article_tombstone;
SELECT tombstone.restore('1', 'elsewhere.article');
ALTER TABLE elsewhere.article SET SCHEMA ddl;
-- A name that is taken is told.
CREATE TABLE thing_tombstone ();
ALTER TABLE article RENAME TO thing;
\echo :SQLSTATE
DROP TABLE thing_tombstone;
ALTER TABLE article RENAME TO thing;

--
-- Foreign keys that come later
--

CREATE TABLE marked (id int PRIMARY KEY, thing int, deleted_at timestamptz);
SELECT tombstone.manage('marked');
ALTER TABLE marked ADD FOREIGN KEY (thing) REFERENCES thing ON DELETE CASCADE;
\echo :SQLSTATE
ALTER TABLE marked ADD FOREIGN KEY (thing) REFERENCES thing;
CREATE TABLE part (id int PRIMARY KEY, thing int REFERENCES thing ON DELETE CASCADE);
-- Said once, when the key is made.
ALTER TABLE part ADD note text;
DROP TABLE part, marked;

--
-- What keeps a bin
--

DROP TABLE thing_tombstone;
\echo :SQLSTATE
SELECT tombstone.hold('2', 'thing');
DROP TABLE thing_tombstone_open;
\echo :SQLSTATE
ALTER TABLE thing_tombstone DETACH PARTITION thing_tombstone_open;
\echo :SQLSTATE
UPDATE thing_tombstone SET id = 22 WHERE id = 2;
\echo :SQLSTATE
-- One of which is lost stops no other table's drops, and its id is its owner's to know.
CREATE SCHEMA lent;
CREATE TABLE lost (id int PRIMARY KEY);
INSERT INTO lost VALUES (77);
SELECT tombstone.manage('lost');
DELETE FROM lost;
SELECT tombstone.hold('77', 'lost');
CREATE TABLE lent.old PARTITION OF lost_tombstone FOR VALUES FROM ('2001-01-01') TO ('2002-01-01');
ALTER TABLE lost_tombstone DISABLE TRIGGER "00_tombstone_delete";
DELETE FROM lost_tombstone;
CREATE TABLE free (id int PRIMARY KEY);
SELECT tombstone.manage('free');
CREATE TABLE free_old PARTITION OF free_tombstone FOR VALUES FROM ('2001-01-01') TO ('2002-01-01');
DROP TABLE free_old;
CREATE TABLE thing_old PARTITION OF thing_tombstone FOR VALUES FROM ('2001-01-01') TO ('2002-01-01');
DROP TABLE thing_old;
DROP TABLE free CASCADE;
CREATE ROLE regress_ddl_lender;
ALTER SCHEMA lent OWNER TO regress_ddl_lender;
SET ROLE regress_ddl_lender;
DROP SCHEMA lent CASCADE;
RESET ROLE;
DROP SCHEMA lent CASCADE;
SELECT tombstone.release('77', 'lost');
DROP SCHEMA lent CASCADE;
DROP TABLE lost CASCADE;
DROP ROLE regress_ddl_lender;
SELECT tombstone.release('2', 'thing');
-- Without a hold a partition is its owner's to take away.
ALTER TABLE thing_tombstone DETACH PARTITION thing_tombstone_open;
ALTER TABLE thing_tombstone ATTACH PARTITION thing_tombstone_open DEFAULT;
-- One made by hand is guarded like any other.
CREATE TABLE old PARTITION OF thing_tombstone FOR VALUES FROM ('2001-01-01') TO ('2002-01-01');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'old'::regclass ORDER BY 1;
DROP TABLE old;

--
-- DROP TABLE
--

SET client_min_messages = notice;
DROP TABLE thing;
SELECT count(*) FROM thing_tombstone;
CREATE TABLE other (id int PRIMARY KEY);
SELECT tombstone.manage('other');
INSERT INTO other VALUES (1);
DELETE FROM other;
SELECT tombstone.hold('1', 'other');
DROP TABLE other CASCADE;
\echo :SQLSTATE
SELECT tombstone.release('1', 'other');
DROP TABLE other CASCADE;
SELECT to_regclass('other_tombstone');
-- A schema takes along all that is in it.
CREATE TABLE elsewhere.last (id int PRIMARY KEY);
SELECT tombstone.manage('elsewhere.last');
SET client_min_messages = warning;
DROP SCHEMA elsewhere CASCADE;
SELECT count(*) FROM tombstone.managed;

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA ddl CASCADE;

-- A copy of the schema alone (pg_dump --schema-only, structure.sql, a database for CI) has the triggers and the bins, and not the rows that say
-- what is managed. The triggers say what to run, and one call manages everything as it was. tests/client/tests/dump_restore.rs does so with
-- pg_dump; here the rows are taken away.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA adopt;
CREATE ROLE adopter;
GRANT ALL ON SCHEMA adopt TO adopter;
SET search_path = adopt;

CREATE TABLE customer (id int PRIMARY KEY, email text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer ON DELETE CASCADE);
CREATE TABLE note (id int PRIMARY KEY, body text, gone timestamptz);
CREATE TABLE visit (id int, place text, PRIMARY KEY (id, place)) PARTITION BY LIST (place);
CREATE TABLE visit_here PARTITION OF visit FOR VALUES IN ('here');
SELECT tombstone.manage('customer', redact => '{"email": "it''s \"gone\""}', retention => NULL, kind => $$'customer ' || this.id$$, tree => true);
SELECT tombstone.manage('note', deleted_at => 'gone', events => 'all', mute => '{expiry,retention}', retention => '1 mon 7 days 01:00:00',
                        expire_after => '0', expire_from => 'gone', max_purge => 100);
SELECT tombstone.manage('visit', id => '{id}', truncate => 'refuse');
-- What is configured later, or converted, is kept as well.
SELECT tombstone.configure('orders', 'payload', 'full'), tombstone.configure('note', 'redact', '{"body": null}');
CREATE TABLE old (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('old');
CALL tombstone.convert('old', 'archive');
CREATE TABLE before AS SELECT to_jsonb(t) - 'archive' AS options, archive::text FROM tombstone.tables t ORDER BY relation::text;
CREATE TABLE triggers AS SELECT tgrelid, tgname, tgenabled FROM pg_trigger WHERE tgname ~ 'tombstone';
-- In the comment of a trigger, as configure() takes them.
SELECT left(comment, 26) AS comment, option.* FROM pg_trigger, obj_description(oid, 'pg_trigger') AS comment,
       jsonb_each_text(substr(comment, 28)::jsonb) AS option (name, value)
WHERE tgrelid = 'note'::regclass AND tgname = 'zz_tombstone_update' AND name IN ('id', 'deleted_at', 'mute', 'retention', 'expire_after', 'redact');

DELETE FROM tombstone.managed;
\c -
SET search_path = adopt;
\set SHOW_CONTEXT never
SET client_min_messages = warning;

-- Whatever would delete says what to run.
INSERT INTO customer VALUES (1, 'ada@example.org');
DELETE FROM customer;
\echo :SQLSTATE
INSERT INTO note VALUES (1, 'x');
\echo :SQLSTATE
TRUNCATE visit_here;
\echo :SQLSTATE
SELECT tombstone.soft_delete('1', 'customer');
\echo :SQLSTATE

-- Everybody adopts what is theirs.
SET ROLE adopter;
SELECT tombstone.adopt();
RESET ROLE;
SELECT tombstone.adopt() AS adopted;
SELECT count(*) AS differ FROM (
    SELECT to_jsonb(t) - 'archive', archive::text FROM tombstone.tables t EXCEPT ALL TABLE before
) AS other;
SELECT count(*) FROM tombstone.tables JOIN before ON before.archive = tables.archive::text;
-- A guard of a partition says its table's number, which is another one now; all else is the same.
SELECT regexp_replace(tgname, '\d+$', 'n') AS tgname, tgrelid::regclass, tgenabled FROM pg_trigger WHERE tgname ~ 'tombstone'
EXCEPT ALL SELECT regexp_replace(tgname, '\d+$', 'n'), tgrelid::regclass, tgenabled FROM triggers;
SELECT tgrelid::regclass, count(*) FROM pg_trigger WHERE tgname ~ 'partition_of' GROUP BY 1;
SELECT tombstone.adopt();

INSERT INTO orders VALUES (1, 1);
DELETE FROM customer;
SELECT id, email FROM customer_tombstone;
SELECT outcome FROM tombstone.undo((SELECT deletion FROM customer_tombstone));
INSERT INTO note VALUES (1, 'x');
SELECT tombstone.soft_delete('1', 'note') > 0 AS deleted;
SELECT relation, id, op, kind FROM tombstone.replay(NULL);
TRUNCATE visit;
\echo :SQLSTATE

-- By hand it is done with manage(), which uses what has come along: the bin, and what is in it.
DELETE FROM tombstone.managed;
\c -
SET search_path = adopt;
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT tombstone.manage('orders', events => 'none'), tombstone.manage('customer');
DELETE FROM customer;
SELECT (SELECT count(*) FROM customer_tombstone) AS customers, (SELECT count(*) FROM orders_tombstone) AS orders;
-- In another layout than it was in: the bin is of no use then.
SELECT tombstone.manage('old', layout => 'in_place');
INSERT INTO old VALUES (1);
UPDATE old SET deleted_at = now();
SELECT tgname FROM pg_trigger WHERE tgrelid = 'old'::regclass AND NOT tgisinternal ORDER BY 1;
-- A bin that does not fit is told.
ALTER TABLE visit_tombstone DROP COLUMN place;
SELECT tombstone.manage('visit', id => '{id}');
\echo :SQLSTATE
-- Without comments (pg_dump --no-comments) the layout is known, and other options are what they are by default.
ALTER TABLE visit_tombstone ADD COLUMN place text;
COMMENT ON TRIGGER zz_tombstone_update ON note IS NULL;
COMMENT ON TRIGGER zz_tombstone_update ON visit IS NULL;
SELECT tombstone.adopt();
\echo :SQLSTATE
SELECT tombstone.manage('note', deleted_at => 'gone');
SELECT tombstone.adopt();
SELECT relation, layout, deleted_at, archive, redact FROM tombstone.tables ORDER BY relation::text;

-- unmanage leaves a bin that is a table like any other: nobody adopts that.
SELECT tombstone.unmanage('visit');
SELECT tombstone.adopt();
SELECT tombstone.manage('visit', id => '{id}');
\echo :SQLSTATE

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA adopt CASCADE;
DROP ROLE adopter;

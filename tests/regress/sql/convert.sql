-- CALL convert(): tombstones move from the table to an archive, and back; deletions, holds and undo stay what they are.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
DROP SCHEMA IF EXISTS moving CASCADE;
CREATE SCHEMA moving;
SET search_path = moving;
SET client_min_messages = notice;
\set VERBOSITY default

-- A shop that has soft-deleted by itself for years, and was put under management as it was.
CREATE TABLE customer (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email      text UNIQUE,
    name       text,
    initial    text GENERATED ALWAYS AS (left(name, 1)) STORED,
    deleted_at timestamptz
);
CREATE TABLE orders (
    id         bigint PRIMARY KEY,
    customer   bigint NOT NULL REFERENCES customer ON DELETE CASCADE,
    deleted_at timestamptz
);
CREATE TABLE line (
    orders     bigint REFERENCES orders ON DELETE CASCADE,
    number     integer,
    price      numeric NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (orders, number)
);
CREATE TABLE invoice (id bigint PRIMARY KEY, customer bigint REFERENCES customer);
INSERT INTO customer (email, name) SELECT chr(96 + i) || '@example.org', upper(chr(96 + i)) || 'a' FROM generate_series(1, 6) i;
INSERT INTO orders SELECT c * 10 + o, c FROM generate_series(1, 6) c, generate_series(1, 2) o;
INSERT INTO line SELECT id, n, n * 1.50 FROM orders, generate_series(1, 2) n;
UPDATE customer SET deleted_at = '2024-02-02' WHERE id = 5;
UPDATE orders SET deleted_at = '2024-02-02' WHERE customer = 5;
UPDATE line SET deleted_at = '2024-02-02' WHERE orders IN (51, 52);
UPDATE line SET deleted_at = '2024-01-01' WHERE orders = 61 AND number = 2;
SELECT tombstone.manage('customer', redact => '{"name": "gone"}', truncate => 'refuse'), tombstone.manage('orders'), tombstone.manage('line', events => 'all');

-- What the application's triggers would say, nobody is to hear.
CREATE TABLE heard (what text);
CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO moving.heard VALUES (format('%s of %s', TG_OP, TG_TABLE_NAME)); RETURN COALESCE(NEW, OLD); END $$;
CREATE TRIGGER hears BEFORE INSERT OR DELETE ON customer FOR EACH ROW EXECUTE FUNCTION hear();
CREATE TRIGGER hears_always AFTER INSERT OR DELETE ON customer FOR EACH ROW EXECUTE FUNCTION hear();
CREATE TRIGGER hears_statements AFTER INSERT OR DELETE ON orders EXECUTE FUNCTION hear();
CREATE TRIGGER sleeps BEFORE INSERT OR DELETE ON line FOR EACH ROW EXECUTE FUNCTION hear();
ALTER TABLE customer ENABLE ALWAYS TRIGGER hears_always;
ALTER TABLE line DISABLE TRIGGER sleeps;

SELECT tombstone.soft_delete('1', 'customer', 'asked for it') AS one \gset
UPDATE customer SET deleted_at = now() WHERE id IN (2, 3);
SELECT max(deletion) AS two_three FROM tombstone.deletions \gset
SELECT tombstone.soft_delete('41', 'orders') AS an_order \gset
SELECT tombstone.hold('2', 'customer');
INSERT INTO invoice VALUES (1, 1);

-- What is refused.
CALL tombstone.convert(NULL, 'archive');
CALL tombstone.convert('customer', 'elsewhere');
CALL tombstone.convert('customer', NULL);
CALL tombstone.convert('invoice', 'archive');
BEGIN;
CALL tombstone.convert('customer', 'archive');
ROLLBACK;
CREATE ROLE regress_convert_stranger;
GRANT USAGE ON SCHEMA moving TO regress_convert_stranger;
SET ROLE regress_convert_stranger;
CALL tombstone.convert('customer', 'archive');
RESET ROLE;
CALL tombstone.convert('customer', 'in_place');
CREATE TABLE orders_tombstone ();
CALL tombstone.convert('orders', 'archive');
DROP TABLE orders_tombstone;
-- A live row refers to a tombstone, which is about to leave.
CALL tombstone.convert('customer', 'archive');
SELECT relation, layout, archive FROM tombstone.tables;
DELETE FROM invoice;
-- A table that is tied to it is somebody else's.
GRANT regress_convert_stranger TO current_user;
GRANT CREATE ON SCHEMA moving TO regress_convert_stranger;
ALTER TABLE customer OWNER TO regress_convert_stranger;
SET ROLE regress_convert_stranger;
CALL tombstone.convert('customer', 'archive');
RESET ROLE;
ALTER TABLE customer OWNER TO CURRENT_USER;
REVOKE CREATE, USAGE ON SCHEMA moving FROM regress_convert_stranger;
DROP ROLE regress_convert_stranger;

-- There.
SELECT tombstone.cursor() AS cursor \gset
CALL tombstone.convert('customer', 'archive');
SELECT relation, layout, deleted_at, truncate, archive FROM tombstone.tables;
SELECT action, relation, due, records, outcome FROM tombstone.runs JOIN tombstone.run USING (run, action, records, outcome) ORDER BY run;
TABLE heard;
SELECT * FROM tombstone.replay(:'cursor');
SELECT id, name FROM customer ORDER BY id;
SELECT count(*) AS orders, (SELECT count(*) FROM line) AS lines FROM orders;
SELECT id, email, name, initial, deletion = :one AS one, deletion = :two_three AS two_three, actor = current_user AS by_me, cause, reason,
       deleted_at IS NULL AS blank, extract(year FROM tombstone_deleted_at) = 2024 AS old
FROM customer_tombstone ORDER BY id;
-- What the log does not know is told apart by stamp, whichever tables bear it; what fell with its parent says so.
SELECT 'customer' AS relation, id::text, dense_rank() OVER (ORDER BY deletion) AS deletion, actor, cause, tombstone_deleted_at FROM customer_tombstone WHERE actor = 'unknown'
UNION ALL SELECT 'orders', id::text, 1 + dense_rank() OVER (ORDER BY deletion), actor, cause, tombstone_deleted_at FROM orders_tombstone WHERE actor = 'unknown'
UNION ALL SELECT 'line', orders || '/' || number, dense_rank() OVER (ORDER BY deletion), actor, cause, tombstone_deleted_at FROM line_tombstone WHERE actor = 'unknown'
ORDER BY 1, 2;
SELECT count(DISTINCT deletion) AS one_deletion
FROM (SELECT deletion FROM customer_tombstone WHERE id = 5 UNION ALL SELECT deletion FROM orders_tombstone WHERE customer = 5
      UNION ALL SELECT deletion FROM line_tombstone WHERE orders = 51) AS d;
SELECT id, tombstone.state(id::text, 'customer') FROM generate_series(1, 6) AS id;
SELECT id, reason FROM tombstone.holds;
CALL tombstone.convert('customer', 'archive');

-- The same deletions, to be undone.
SELECT relation, id, outcome, detail FROM tombstone.undo(:two_three, dry_run => true);
SELECT tombstone.undo(:two_three);
SELECT tombstone.release('2', 'customer');
SELECT relation, id, outcome, detail FROM tombstone.undo(:two_three);
SELECT tombstone.restore('5', 'customer');
SELECT tombstone.restore('41', 'orders', :an_order);
SELECT id, name FROM customer ORDER BY id;
SELECT count(*) AS orders, (SELECT count(*) FROM line) AS lines FROM orders;
SELECT relations, reason, undone_at IS NOT NULL AS undone FROM tombstone.deletions ORDER BY deletion;
-- And DELETE is the soft delete.
TRUNCATE heard;
DELETE FROM customer WHERE id = 6;
SELECT id, cause FROM orders_tombstone ORDER BY id;
TABLE heard;
-- An old application still marks what it thinks deleted.
UPDATE customer SET deleted_at = now() WHERE id = 4;

-- And back, with the parents above it.
CALL tombstone.convert('line', 'in_place');
UPDATE customer SET deleted_at = NULL WHERE id = 4;
CREATE UNIQUE INDEX ON line (price) WHERE orders IN (61, 62);
TRUNCATE heard;
SELECT tombstone.cursor() AS cursor \gset
CALL tombstone.convert('line', 'in_place');
TABLE heard;
DROP INDEX line_price_idx;
CALL tombstone.convert('line', 'in_place');
SELECT relation, layout, deleted_at, truncate, archive FROM tombstone.tables;
TABLE heard;
SELECT * FROM tombstone.replay(:'cursor');
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgrelid IN ('customer'::regclass, 'orders'::regclass, 'line'::regclass) AND NOT tgisinternal ORDER BY 1, 2;
SELECT to_regclass('customer_tombstone') AS bin, count(*) FILTER (WHERE deleted_at IS NULL) AS live, count(deleted_at) AS deleted FROM customer;
SELECT id, name, initial, deleted_at IS NOT NULL AS deleted FROM customer ORDER BY id;
-- The log knows the deletion that the archive has taken.
SELECT deletion FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1 \gset
SELECT relation, id, outcome FROM tombstone.undo(:deletion);
SELECT tombstone.restore('1', 'customer');

-- The column may go: the archive's own has its name back. Without it there is no way back.
CALL tombstone.convert('customer', 'archive');
ALTER TABLE customer DROP COLUMN deleted_at;
DELETE FROM customer WHERE id = 1;
SELECT column_name FROM information_schema.columns WHERE table_schema = 'moving' AND table_name = 'customer_tombstone' ORDER BY ordinal_position;
CALL tombstone.convert('customer', 'in_place');
ALTER TABLE customer ADD COLUMN deleted_at date;
CALL tombstone.convert('customer', 'in_place');
ALTER TABLE customer DROP COLUMN deleted_at, ADD COLUMN deleted_at timestamptz;
-- Nor where a record would stand in the table twice.
INSERT INTO customer (id, email) OVERRIDING SYSTEM VALUE VALUES (1, 'other@example.org');
CALL tombstone.convert('customer', 'in_place');
DELETE FROM customer_tombstone WHERE id = 1;
CALL tombstone.convert('customer', 'in_place');

-- Nobody was deleted at the end of time, nor before its beginning.
CREATE TABLE odd (id int PRIMARY KEY, deleted_at timestamptz);
INSERT INTO odd VALUES (1, 'infinity'), (2, '-infinity'), (3, '0001-01-01 UTC');
SELECT tombstone.manage('odd', retention => NULL);
CALL tombstone.convert('odd', 'archive');
UPDATE odd SET deleted_at = now() WHERE deleted_at > now();
CALL tombstone.convert('odd', 'archive');
DELETE FROM odd WHERE id = 2;
CALL tombstone.convert('odd', 'archive');
SELECT tombstone.configure('odd', 'retention', '1 month');
SET client_min_messages = warning;
CALL tombstone.maintain('odd');
SET client_min_messages = notice;
SELECT id, c.relispartition FROM odd_tombstone o JOIN pg_class c ON c.oid = o.tableoid;

-- What refers to tombstones by another foreign key goes first.
CREATE TABLE depot (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE parcel (id int PRIMARY KEY, depot int REFERENCES depot, deleted_at timestamptz);
INSERT INTO depot VALUES (1), (2);
INSERT INTO parcel VALUES (1, 1);
SELECT tombstone.manage('depot'), tombstone.manage('parcel');
UPDATE parcel SET deleted_at = now();
UPDATE depot SET deleted_at = now() WHERE id = 1;
CALL tombstone.convert('depot', 'archive');
CALL tombstone.convert('parcel', 'archive');
CALL tombstone.convert('depot', 'archive');
-- And comes back last.
CALL tombstone.convert('parcel', 'in_place');
CALL tombstone.convert('depot', 'in_place');
CALL tombstone.convert('parcel', 'in_place');

-- A child that was converted by itself: its parent's deletions are its own.
CREATE TABLE shelf (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE book (id int PRIMARY KEY, shelf int REFERENCES shelf ON DELETE CASCADE, deleted_at timestamptz);
INSERT INTO shelf SELECT i, '2023-01-01'::timestamptz + i * interval '1 hour' FROM generate_series(1, 3) i;
INSERT INTO book SELECT id, id, deleted_at FROM shelf WHERE id > 1;
SELECT tombstone.manage('shelf', retention => NULL), tombstone.manage('book', retention => NULL);
CALL tombstone.convert('book', 'archive');
SELECT tombstone.restore('2', 'shelf');
UPDATE shelf SET deleted_at = '2023-01-01' WHERE id = 2;
CALL tombstone.convert('shelf', 'archive');
SELECT id, actor = current_user AS by_me, cause FROM shelf_tombstone ORDER BY id;
SELECT id, s.deletion = b.deletion AS same FROM book_tombstone b JOIN shelf_tombstone s USING (id) ORDER BY id;
SELECT tombstone.restore('3', 'shelf');

-- One that is broken off: whoever has made the bin fit less than its table.
CREATE FUNCTION spoil() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass('moving.half_tombstone') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'too_old') THEN
        ALTER TABLE moving.half_tombstone ADD CONSTRAINT too_old CHECK (id > 0);
    END IF;
END $$;
CREATE TABLE half (id int PRIMARY KEY, body text, deleted_at timestamptz);
INSERT INTO half SELECT i, 'text ' || i, '2024-01-01' FROM generate_series(-4, 4) i;
SELECT tombstone.manage('half', retention => NULL);
UPDATE half SET deleted_at = NULL WHERE id IN (0, 3);
UPDATE half SET deleted_at = now() WHERE id = 3;
CREATE EVENT TRIGGER spoil ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION spoil();
\set VERBOSITY terse
CALL tombstone.convert('half', 'archive');
\set VERBOSITY default
DROP EVENT TRIGGER spoil;
SELECT relation, layout, archive FROM tombstone.tables WHERE relation = 'half'::regclass;
SELECT records, outcome FROM tombstone.runs WHERE relation = 'half'::regclass;
SELECT id FROM half_tombstone ORDER BY id;
-- Nothing has changed so far: what is in the bin are copies, and whatever is done to the table is done to them.
SELECT tombstone.restore('-4', 'half'), tombstone.state('3', 'half'), tombstone.state('0', 'half');
ALTER TABLE half RENAME COLUMN body TO words;
ALTER TABLE half ADD COLUMN more int DEFAULT 7;
ALTER TABLE half RENAME TO whole;
DROP TABLE whole_tombstone;
-- Somebody empties the bin, or fills it.
TRUNCATE whole_tombstone_open;
ALTER TABLE whole_tombstone DROP CONSTRAINT too_old;
INSERT INTO whole_tombstone (id, words, deletion, tombstone_deleted_at, actor, cause) VALUES (2, 'forged', 1, '2024-01-01', 'me', 'user'), (99, 'more', 1, now(), 'me', 'user');
UPDATE whole SET words = 'changed' WHERE id = 1;
CALL tombstone.convert('whole', 'archive');
SELECT id, words, more, dense_rank() OVER (ORDER BY deletion), actor FROM whole_tombstone ORDER BY id;
SELECT id, words, more FROM whole ORDER BY id;
DELETE FROM whole WHERE id = 0;
SELECT tombstone.restore('0', 'whole');
-- Ended by asking for what was before; by unmanage(), which wants no tombstones; and by DROP TABLE.
CALL tombstone.convert('whole', 'in_place');
CREATE EVENT TRIGGER spoil ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION spoil();
ALTER TABLE whole RENAME TO half;
\set VERBOSITY terse
CALL tombstone.convert('half', 'archive');
CALL tombstone.convert('half', 'in_place');
SELECT relation, layout, archive, to_regclass('half_tombstone') FROM tombstone.tables WHERE relation = 'half'::regclass;
CALL tombstone.convert('half', 'archive');
SELECT tombstone.unmanage('half', discard => true);
SELECT to_regclass('half_tombstone');
INSERT INTO half VALUES (-1, 'again');
SELECT tombstone.manage('half');
UPDATE half SET deleted_at = now() WHERE id = -1;
CALL tombstone.convert('half', 'archive');
DROP TABLE half;
DROP EVENT TRIGGER spoil;

-- Rows that nothing tells apart.
CREATE TABLE loose (id int NOT NULL, year int, deleted_at timestamptz) PARTITION BY LIST (year);
SELECT tombstone.manage('loose', id => '{id}');
\set VERBOSITY default
CALL tombstone.convert('loose', 'archive');
\set VERBOSITY terse

-- Partitions, versions, names and types of all kinds.
CREATE TABLE "Part Ed" (
    id         uuid,
    version    integer,
    year       integer,
    "Body"     bytea,
    tags       text[],
    amount     numeric,
    removed_at timestamptz,
    PRIMARY KEY (id, version, year)
) PARTITION BY LIST (year);
CREATE TABLE part_a PARTITION OF "Part Ed" FOR VALUES IN (2025);
CREATE TABLE part_b (amount numeric, removed_at timestamptz, year integer NOT NULL, id uuid NOT NULL, version integer NOT NULL, tags text[], "Body" bytea);
ALTER TABLE "Part Ed" ATTACH PARTITION part_b FOR VALUES IN (2026);
CREATE TRIGGER hears BEFORE INSERT OR DELETE ON "Part Ed" FOR EACH ROW EXECUTE FUNCTION hear();
ALTER TABLE part_b DISABLE TRIGGER hears;
INSERT INTO "Part Ed" SELECT ('00000000-0000-0000-0000-00000000000' || i)::uuid, v, 2025 + v % 2, '\x00', '[5:6]={a,NULL}', 'NaN'
FROM generate_series(1, 3) i, generate_series(1, 3) v;
SELECT tombstone.manage('"Part Ed"', id => '{id}', version => 'version', deleted_at => 'removed_at', redact => '{"Body": ""}', retention => NULL);
TRUNCATE heard;
SELECT tombstone.soft_delete('00000000-0000-0000-0000-000000000001', '"Part Ed"') AS versions \gset
UPDATE "Part Ed" SET removed_at = '2020-01-01' WHERE id::text LIKE '%2' AND version < 3;
CALL tombstone.convert('"Part Ed"', 'archive');
SELECT right(id::text, 1) AS id, version, year, "Body", tags, amount, cause, actor = current_user AS by_me FROM "Part Ed_tombstone" ORDER BY id, version;
SELECT right(id::text, 1) AS id, version, tableoid::regclass FROM "Part Ed" ORDER BY id, version;
ALTER TABLE "Part Ed" RENAME COLUMN removed_at TO deleted_at;
CALL tombstone.convert('"Part Ed"', 'in_place');
SELECT right(id::text, 1) AS id, version, year, "Body", tags, amount, deleted_at IS NOT NULL AS deleted FROM "Part Ed" ORDER BY id, version;
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgname = 'hears' AND tgrelid::regclass::text ~* 'part' ORDER BY 1, 2;
TABLE heard;
SELECT right(id, 1), outcome, detail FROM tombstone.undo(:versions);

-- A rule that keeps tombstones out of the table would have them lost with the archive.
CREATE TABLE ruled (id int PRIMARY KEY, deleted_at timestamptz);
CREATE RULE "no dead" AS ON INSERT TO ruled WHERE NEW.deleted_at IS NOT NULL DO INSTEAD NOTHING;
INSERT INTO ruled SELECT generate_series(1, 5);
SELECT tombstone.manage('ruled');
UPDATE ruled SET deleted_at = now() WHERE id <= 2;
CALL tombstone.convert('ruled', 'archive');
\set VERBOSITY default
CALL tombstone.convert('ruled', 'in_place');
\set VERBOSITY terse
SELECT count(*), (SELECT count(*) FROM ruled) AS live, (SELECT layout FROM tombstone.tables WHERE relation = 'ruled'::regclass) FROM ruled_tombstone;
ALTER TABLE ruled DISABLE RULE "no dead";
CALL tombstone.convert('ruled', 'in_place');
SELECT count(*), count(deleted_at), to_regclass('ruled_tombstone') FROM ruled;

-- A rule that has its own soft delete done instead of a DELETE leaves the archive empty: who goes there is told.
CREATE TABLE buried (id int PRIMARY KEY, deleted_at timestamptz);
CREATE RULE bury AS ON DELETE TO buried DO INSTEAD UPDATE buried SET deleted_at = now() WHERE id = OLD.id;
CREATE RULE tell AS ON DELETE TO buried DO ALSO NOTHING;
SELECT tombstone.manage('buried');
\set VERBOSITY default
CALL tombstone.convert('buried', 'archive');
SELECT tombstone.unmanage('buried');
DROP TABLE buried_tombstone;
SELECT tombstone.manage('buried', layout => 'archive');
SELECT tombstone.unmanage('buried');
DROP TABLE buried_tombstone;
DROP RULE bury ON buried;
SELECT tombstone.manage('buried', layout => 'archive');
\set VERBOSITY terse

-- Many batches, and records that refer to each other.
CREATE TABLE tree (id int PRIMARY KEY, above int REFERENCES tree ON DELETE CASCADE, deleted_at timestamptz);
INSERT INTO tree SELECT i, nullif(i / 10, 0) FROM generate_series(1, 12000) i;
UPDATE tree SET deleted_at = timestamptz '2024-01-01' + id % 3 * interval '1 day' WHERE id > 6000;
SELECT tombstone.manage('tree', retention => NULL, notify => 'none');
UPDATE tree SET deleted_at = now() WHERE id = 300;
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
CALL tombstone.convert('tree', 'archive');
SELECT count(*), count(DISTINCT id), count(DISTINCT deletion), count(*) FILTER (WHERE deletion = :deletion) AS by_me, (SELECT count(*) FROM tree) AS live FROM tree_tombstone;
SELECT count(*) FILTER (WHERE outcome = 'restored') AS restored, count(*) FROM tombstone.undo(:deletion);
CALL tombstone.convert('tree', 'in_place');
SELECT count(deleted_at), count(*) FROM tree;

\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA moving CASCADE;

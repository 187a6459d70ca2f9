-- live_view(): a view of the live rows of a table in place. An application that reads and writes it never meets a tombstone.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA seen;
SET search_path = seen;

CREATE TABLE customer (id int PRIMARY KEY, name text, deleted_at timestamptz);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer ON DELETE CASCADE, deleted_at timestamptz);
SELECT tombstone.manage('customer', redact => '{"name": null}');
SELECT tombstone.manage('orders');
INSERT INTO customer VALUES (1, 'Ada'), (2, 'Bob'), (3, 'Cleo'), (4, 'Dan');
INSERT INTO orders VALUES (10, 1), (20, 2);
SELECT tombstone.soft_delete('4', 'customer') > 0 AS deleted;

SELECT tombstone.live_view('customer', 'customers');
SELECT :SERVER_VERSION_NUM < 150000 AS is_refused \gset
\if :is_refused
    DROP SCHEMA seen CASCADE;
    \quit
\endif
\d customers
SELECT reloptions FROM pg_class WHERE oid = 'customers'::regclass;

--
-- Read and written like the table
--

SELECT * FROM customers ORDER BY id;
INSERT INTO customers VALUES (5, 'Eve') RETURNING *;
INSERT INTO customers (id, name) VALUES (5, 'Eve') ON CONFLICT (id) DO UPDATE SET name = 'Eva';
UPDATE customers SET name = upper(name) WHERE id > 2 RETURNING id, name;
-- A tombstone is not there to be updated.
UPDATE customers SET name = 'Dan again' WHERE id = 4 RETURNING *;

-- A DELETE is a soft delete, with all that follows from one. What it returns is the row as it was, and it counts what it deleted.
\set QUIET off
DELETE FROM customers WHERE id = 1 RETURNING id, name;
DELETE FROM customers WHERE id = 1;
DELETE FROM customers USING orders WHERE orders.customer = customers.id AND orders.id = 20;
\set QUIET on
SELECT id, name, deleted_at IS NOT NULL AS deleted FROM customer ORDER BY id;
SELECT id, deleted_at IS NOT NULL AS deleted FROM orders ORDER BY id;
SELECT relations, cause FROM tombstone.deletions ORDER BY deletion;
SELECT count(*) FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions));
SELECT id FROM customers ORDER BY id;
-- So is an UPDATE of deleted_at, as some ORMs send it.
UPDATE customers SET deleted_at = now() WHERE id = 2;
SELECT id FROM customers ORDER BY id;
-- On hold it stays.
SELECT tombstone.hold('3', 'customer');
DELETE FROM customers;
\echo :SQLSTATE
SELECT id FROM customers ORDER BY id;
SELECT tombstone.release('3', 'customer');
-- A statement sees each row once.
WITH gone AS (DELETE FROM customers WHERE id = 5 RETURNING id) SELECT id, (SELECT count(*) FROM customers) FROM gone;

--
-- With the rights of whoever reads and writes
--

CREATE ROLE seen_owner;
CREATE ROLE seen_app;
GRANT USAGE ON SCHEMA seen TO seen_app, seen_owner;
SET ROLE seen_app;
SELECT tombstone.live_view('customer', 'mine');
\echo :SQLSTATE
RESET ROLE;
-- Both are asked for: rights on the view, and on the table.
GRANT SELECT, DELETE ON customers TO seen_app;
SET ROLE seen_app;
SELECT id FROM customers;
\echo :SQLSTATE
RESET ROLE;
GRANT SELECT ON customer TO seen_app;
SET ROLE seen_app;
SELECT id FROM customers;
DELETE FROM customers WHERE id = 3;
\echo :SQLSTATE
RESET ROLE;
GRANT UPDATE (deleted_at) ON customer TO seen_app;
-- A policy that hides tombstones does not stand in the way.
ALTER TABLE customer ENABLE ROW LEVEL SECURITY;
CREATE POLICY live ON customer FOR SELECT USING (deleted_at IS NULL);
CREATE POLICY written ON customer FOR UPDATE USING (true);
SET ROLE seen_app;
DELETE FROM customers WHERE id = 3 RETURNING id;
RESET ROLE;
ALTER TABLE customer DISABLE ROW LEVEL SECURITY;
SELECT tombstone.restore('3', 'customer');

--
-- Its columns follow the table's
--

COMMENT ON VIEW customers IS 'Whom we serve.';
GRANT UPDATE (name) ON customers TO seen_app WITH GRANT OPTION;
ALTER TABLE customer ADD COLUMN email text DEFAULT 'none', ADD COLUMN age int;
ALTER TABLE customer RENAME COLUMN name TO "Full Name";
SELECT tombstone.configure('customer', 'redact', '{"Full Name": null}');
SELECT * FROM customers;
-- Postgres keeps a column that a view shows, and its type. So the view is made anew, with its comment and its rights.
ALTER TABLE customer DROP COLUMN email;
ALTER TABLE customer ALTER COLUMN age TYPE bigint, ADD COLUMN town text;
SELECT * FROM customers;
SELECT obj_description('customers'::regclass), (SELECT reloptions FROM pg_class WHERE oid = 'customers'::regclass);
SELECT grantee, privilege_type, is_grantable FROM information_schema.table_privileges
    WHERE table_name = 'customers' AND grantee LIKE 'seen%' ORDER BY 1, 2;
SELECT grantee, column_name, privilege_type, is_grantable FROM information_schema.column_privileges
    WHERE table_name = 'customers' AND grantee LIKE 'seen%' AND privilege_type = 'UPDATE' ORDER BY 1, 2;
DELETE FROM customers WHERE id = 3;
SELECT tombstone.state('3', 'customer');
-- What fails leaves the view as it was.
ALTER TABLE customer ALTER COLUMN town TYPE int USING 1 / 0;
ALTER TABLE customer DROP COLUMN nothing;
SELECT count(*) FROM customers;
-- Where another view stands on it, or somebody has added to it, it cannot be made anew.
CREATE VIEW adults AS SELECT id FROM customers WHERE age > 17;
ALTER TABLE customer DROP COLUMN town;
\echo :SQLSTATE
DROP VIEW adults;
CREATE RULE welcome AS ON INSERT TO customers DO ALSO NOTIFY welcome;
ALTER TABLE customer DROP COLUMN town;
\echo :SQLSTATE
DROP RULE welcome ON customers;
ALTER TABLE customer DROP COLUMN town;
\d customers
-- The column that marks tombstones is renamed: the view goes on, and its next change waits until manage() knows.
ALTER TABLE customer RENAME COLUMN deleted_at TO gone_at;
SELECT * FROM customers;
ALTER TABLE customer DROP COLUMN age;
\echo :SQLSTATE
SELECT tombstone.configure('customer', 'deleted_at', 'gone_at');
ALTER TABLE customer DROP COLUMN age;
SELECT * FROM customers;
ALTER TABLE customer RENAME COLUMN gone_at TO deleted_at;
SELECT tombstone.configure('customer', 'deleted_at', 'deleted_at');
-- With layout archive whatever is in the table is live; back in place the view leaves tombstones out again.
CALL tombstone.convert('customer', 'archive');
ALTER TABLE customer ADD COLUMN origin text;
DELETE FROM customers WHERE id = 5;
SELECT id FROM customer_tombstone ORDER BY id;
SET client_min_messages = error;
CALL tombstone.convert('customer', 'in_place');
SET client_min_messages = warning;
SELECT id FROM customers;
SELECT tombstone.restore('5', 'customer');

-- Neither the table's name nor the view's matters; nor who owns them.
ALTER TABLE customer RENAME TO client;
ALTER VIEW customers RENAME TO "Clients";
ALTER VIEW "Clients" OWNER TO seen_owner;
ALTER TABLE client ADD COLUMN note text;
DELETE FROM "Clients" WHERE id = 5 RETURNING *;
ALTER TABLE client DROP COLUMN origin;
SELECT relowner::regrole FROM pg_class WHERE oid = '"Clients"'::regclass;

-- What somebody has said of the view in its WITH stays.
ALTER VIEW "Clients" SET (security_barrier = true);
ALTER TABLE client ADD COLUMN "two  words" text;
ALTER TABLE client DROP COLUMN "two  words";
SELECT reloptions FROM pg_class WHERE oid = '"Clients"'::regclass;
-- A view that the application has made with our trigger, of fewer columns or rows, is its own: nothing is made of it.
CREATE VIEW notes AS SELECT id, note FROM client WHERE deleted_at IS NULL AND note <> '';
CREATE TRIGGER tombstone_delete INSTEAD OF DELETE ON notes FOR EACH ROW EXECUTE FUNCTION tombstone.on_live_delete();
CREATE VIEW every AS SELECT id AS number FROM client;
CREATE TRIGGER gone INSTEAD OF DELETE ON every FOR EACH ROW EXECUTE FUNCTION tombstone.on_live_delete();
INSERT INTO client (id, note) VALUES (20, 'a note');
ALTER TABLE client ADD COLUMN phone text;
DELETE FROM notes WHERE id = 20 RETURNING *;
SELECT tombstone.state('20', 'client');
SELECT count(*) FROM information_schema.columns WHERE table_schema = 'seen' AND table_name IN ('notes', 'every');
ALTER TABLE client DROP COLUMN note;
\echo :SQLSTATE
DROP VIEW notes;

--
-- Versions, keys of several columns, partitions
--

CREATE TABLE page (site text, path text, version int, body text, deleted_at timestamptz, PRIMARY KEY (site, path, version))
    PARTITION BY LIST (site);
CREATE TABLE page_a PARTITION OF page FOR VALUES IN ('a');
SELECT tombstone.manage('page', version => 'version', redact => '{"body": ""}');
INSERT INTO page VALUES ('a', '/', 1, 'one'), ('a', '/', 2, 'two'), ('a', '/x', 1, 'x');
SELECT tombstone.live_view('page', 'pages');
DELETE FROM pages WHERE version = 1 AND path = '/' RETURNING body;
SELECT path, version, body, deleted_at IS NOT NULL AS deleted FROM page ORDER BY path, version;
DELETE FROM pages RETURNING path, version;

--
-- The end
--

-- Unmanaged, the view is a view like any other, and a delete through it is a delete.
SELECT tombstone.purge(id::text, 'client') FROM client WHERE deleted_at IS NOT NULL;
RESET client_min_messages;
SELECT tombstone.unmanage('client');
SET client_min_messages = warning;
SELECT tgname FROM pg_trigger WHERE tgrelid = '"Clients"'::regclass;
INSERT INTO client (id) VALUES (30);
DELETE FROM every;
\echo :SQLSTATE
DROP VIEW every;

--
-- What it refuses
--

SELECT tombstone.live_view('client', 'others');
\echo :SQLSTATE
SELECT tombstone.live_view('page', 'orders');
\echo :SQLSTATE
SELECT tombstone.live_view('page', NULL);
\echo :SQLSTATE
CREATE TABLE memo (id int PRIMARY KEY);
SELECT tombstone.manage('memo');
SELECT tombstone.live_view('memo', 'memos');
\echo :SQLSTATE

SET client_min_messages = error;
DROP SCHEMA seen CASCADE;
DROP ROLE seen_owner;
DROP ROLE seen_app;

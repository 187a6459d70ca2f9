-- One pooled role is what applications have. For whom they act, and why, they say in two settings, which go with every deletion and
-- restore of the transaction, by whichever road: into the log, the view deletions, replay and the bins.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA shop;
SET search_path = shop;
CREATE ROLE web;
GRANT ALL ON SCHEMA shop TO web;

CREATE TABLE customer (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer ON DELETE CASCADE);
CREATE TABLE author (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE post (id int PRIMARY KEY, author int REFERENCES author ON DELETE CASCADE, deleted_at timestamptz);
SELECT tombstone.manage(relation) FROM unnest('{orders,customer,post,author}'::regclass[]) AS relation;
INSERT INTO customer SELECT generate_series(1, 9);
INSERT INTO orders SELECT i, i FROM generate_series(1, 9) AS i;
INSERT INTO author SELECT generate_series(1, 9);
INSERT INTO post SELECT i, i FROM generate_series(1, 9) AS i;
GRANT ALL ON ALL TABLES IN SCHEMA shop TO web;

--
-- Every road
--

-- Anybody may set it. It ends with the transaction.
SET ROLE web;
BEGIN;
SET LOCAL tombstone.actor = 'user 42';
SET LOCAL tombstone.reason = 'asked to leave';
DELETE FROM customer WHERE id = 1;
UPDATE author SET deleted_at = now() WHERE id = 1;
COMMIT;
DELETE FROM customer WHERE id = 2;
RESET ROLE;
SELECT actor, app_actor, reason, relations FROM tombstone.deletions ORDER BY deletion;
TABLE tombstone.deletions LIMIT 0;
SELECT id, actor, app_actor, cause, reason FROM customer_tombstone ORDER BY id;
SELECT id, actor, app_actor, cause, reason FROM orders_tombstone ORDER BY id;
SELECT relation, id, op, cause, actor, app_actor, reason FROM tombstone.replay(NULL);
SELECT deletion AS first FROM customer_tombstone WHERE id = 1 \gset

-- A reason that a function is given comes before the one that is set.
SELECT tombstone.cursor() AS here \gset
BEGIN;
SET LOCAL tombstone.actor = 'user 43';
SET LOCAL tombstone.reason = 'spring clean';
SELECT tombstone.soft_delete('3', 'author', reason => 'a duplicate') > 0 AS deleted;
SELECT tombstone.soft_delete('4', 'customer') > 0 AS deleted;
SELECT * FROM tombstone.soft_delete_many('{5,6}', 'customer', reason => 'inactive');
COMMIT;
-- Restores, undo and purges say it as well.
BEGIN;
SET LOCAL tombstone.actor = 'support';
SELECT tombstone.restore('3', 'author');
SELECT relation, id, outcome FROM tombstone.undo(:first);
SELECT tombstone.purge('5', 'customer');
UPDATE author SET deleted_at = NULL WHERE deleted_at IS NOT NULL;
DELETE FROM customer_tombstone WHERE id = 6;
TRUNCATE customer CASCADE;
COMMIT;
SELECT relation, id, op, deletion_type AS type, cause, app_actor, reason FROM tombstone.replay(:'here');
SELECT id, app_actor, reason FROM customer_tombstone ORDER BY id;
-- A deletion of which several things were said names all of them.
SELECT app_actor, reason, relations FROM tombstone.deletions ORDER BY deletion DESC LIMIT 2;

--
-- What is said changes in the middle
--

-- Statement by statement, and row by row: each record has what was said when it was deleted.
SELECT tombstone.cursor() AS here \gset
BEGIN;
SET LOCAL tombstone.actor = 'one';
UPDATE author SET deleted_at = now() WHERE id = 2;
SET LOCAL tombstone.actor = 'two';
UPDATE author SET deleted_at = now() WHERE id = 4;
UPDATE author SET deleted_at = now() WHERE id IN (5, 6, 7) AND set_config('tombstone.actor', 'row ' || id, true) IS NOT NULL;
COMMIT;
SELECT relation, id, cause, app_actor FROM tombstone.replay(:'here') ORDER BY id, relation::text;
-- So with children that fall by a foreign key.
CREATE FUNCTION says() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('tombstone.actor', 'for order ' || OLD.id, true); RETURN OLD; END $$;
CREATE TRIGGER says AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION says();
INSERT INTO customer VALUES (1);
INSERT INTO orders VALUES (91, 1), (92, 1), (93, 1);
BEGIN;
DELETE FROM customer WHERE id = 1;
COMMIT;
SELECT id, cause, app_actor FROM orders_tombstone WHERE id > 90 ORDER BY id;
SELECT id, cause, app_actor FROM tombstone.replay(NULL) WHERE relation = 'orders'::regclass AND id::int > 90 ORDER BY id;
DROP TRIGGER says ON orders;

--
-- What it may be
--

-- An empty one says nothing. One that is too long is refused, where it is set.
BEGIN;
SET LOCAL tombstone.actor = '';
UPDATE author SET deleted_at = now() WHERE id = 8;
SET LOCAL tombstone.actor = 'Ω "quoted", {in} braces';
UPDATE author SET deleted_at = now() WHERE id = 9;
COMMIT;
SELECT id, app_actor FROM tombstone.replay(NULL, relations => '{author}') WHERE id IN ('8', '9');
SELECT set_config('tombstone.actor', repeat('x', 1000), true) IS NOT NULL AS fits;
CREATE FUNCTION refusal(setting text, value text) RETURNS TABLE (sqlstate text, message text, detail text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config(setting, value, true);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS sqlstate = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    message := replace(message, value, '…');
    RETURN NEXT;
END $$;
SELECT r.* FROM unnest('{actor,reason}'::text[]) AS setting, refusal('tombstone.' || setting, repeat('x', 1001)) AS r;

-- A table may have a column of that name; the bin's own is called otherwise then.
CREATE TABLE play (id int PRIMARY KEY, app_actor text);
SELECT tombstone.manage('play');
INSERT INTO play VALUES (1, 'Sarah Bernhardt');
BEGIN;
SET LOCAL tombstone.actor = 'user 42';
DELETE FROM play;
COMMIT;
SELECT id, app_actor, tombstone_app_actor FROM play_tombstone;

-- It goes along from one layout to the other: what the log knows of it.
CREATE TABLE page (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('page');
INSERT INTO page VALUES (1), (2), (3);
BEGIN;
SET LOCAL tombstone.actor = 'user 42';
SET LOCAL tombstone.reason = 'stale';
UPDATE page SET deleted_at = now() WHERE id = 1;
SET LOCAL tombstone.actor = 'user 43';
UPDATE page SET deleted_at = now() WHERE id = 2;
COMMIT;
CALL tombstone.convert('page', 'archive');
SELECT id, app_actor, reason FROM page_tombstone ORDER BY id;

-- Maintenance is a session like any other: what the session says is said of what it takes. A worker says nothing.
SELECT tombstone.configure('page', 'expire_from', 'deleted_at'), tombstone.configure('page', 'expire_after', '0');
UPDATE page SET deleted_at = now() - interval '1 day';
SET tombstone.actor = 'cron';
CALL tombstone.maintain('page');
RESET tombstone.actor;
SELECT id, cause, app_actor, reason FROM page_tombstone WHERE id = 3;

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA shop CASCADE;
DROP ROLE web;

-- An id may be given in a type of its own: an integer that a driver binds, a uuid, a column; and the many of soft_delete_many() as an
-- array of them. Text, and what has no type yet, is what it has always been.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE EXTENSION IF NOT EXISTS citext;
CREATE SCHEMA ids;
SET search_path = ids, public;

CREATE TABLE post (id bigint PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('post');
INSERT INTO post SELECT generate_series(1, 9);

--
-- Every door
--

SELECT tombstone.soft_delete(7, 'post') > 0 AS deleted;
SELECT tombstone.state(7, 'post'), tombstone.state('7', 'post'), tombstone.state(8::smallint, 'post');
SELECT tombstone.restore(7, 'post');
SELECT tombstone.hold(7, 'post'), tombstone.release(7, 'post');
SELECT tombstone.soft_delete(id => 7, relation => 'post', reason => 'by name') > 0 AS deleted;
SELECT tombstone.purge(7, 'post');
SELECT tombstone.state(7, 'post'), tombstone.state(70, 'post');
SELECT id, tombstone.state(p.id, 'post') FROM post p WHERE id < 3;
SELECT count(tombstone.soft_delete(p.id, 'post')) FROM post p WHERE id < 3;
SELECT * FROM tombstone.soft_delete_many(ARRAY[2, 3, NULL, 70], 'post');
SELECT id, outcome FROM tombstone.soft_delete_many((SELECT array_agg(p.id ORDER BY id) FROM post p WHERE id IN (4, 5)), 'post');
SELECT left(id, 3) AS id, outcome FROM tombstone.soft_delete_many('{5, 6, x}'::text[] || repeat('long', 99), 'post');
SELECT * FROM tombstone.soft_delete_many('{5, 6, x}', 'post');
SELECT * FROM tombstone.soft_delete_many(ARRAY['8'], 'post');
SELECT * FROM tombstone.soft_delete_many('{}'::int[], 'post');
SELECT * FROM tombstone.soft_delete_many(NULL, 'post');
SELECT * FROM tombstone.soft_delete_many(NULL::int[], 'post');
-- It is no id at all:
SELECT tombstone.soft_delete(NULL, 'post');
SELECT tombstone.soft_delete(NULL::int, 'post');
SELECT tombstone.soft_delete(7.5, 'post');
\echo :SQLSTATE
SELECT tombstone.soft_delete(ARRAY[1, 2], 'post');

-- Versions.
CREATE TABLE akd (label bytea, epoch bigint, value bytea, deleted_at timestamptz, PRIMARY KEY (label, epoch));
CREATE TABLE record (id int, version int, deleted_at timestamptz, PRIMARY KEY (id, version));
SELECT tombstone.manage('akd', version => 'epoch', redact => '{"value": ""}'), tombstone.manage('record', version => 'version');
INSERT INTO akd SELECT 'alice', epoch, 'key' FROM generate_series(1, 3) AS epoch;
INSERT INTO akd SELECT '\xff00', epoch, 'key' FROM generate_series(1, 3) AS epoch;
INSERT INTO record SELECT 1, version FROM generate_series(1, 4) AS version;
SELECT tombstone.tombstone_value_states('alice', 1, 'akd'), tombstone.tombstone_value_states('alice'::text, 2, 'akd'),
       tombstone.tombstone_value_states('alice'::bytea, 3, 'akd'), tombstone.tombstone_value_states('\xff00'::bytea, 1, 'akd'),
       tombstone.tombstone_value_states('\xff00', 2, 'akd');
SELECT tombstone.purge_versions(1, lim => 1, relation => 'record');
SELECT tombstone.purge_versions(1, ids => ARRAY[2, 3], relation => 'record');

--
-- Every type
--

CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE TABLE by_int (id int PRIMARY KEY);
CREATE TABLE by_uuid (id uuid PRIMARY KEY);
CREATE TABLE by_text (id text PRIMARY KEY);
CREATE TABLE by_varchar (id varchar(8) PRIMARY KEY);
CREATE TABLE by_char (id char(8) PRIMARY KEY);
CREATE TABLE by_citext (id citext PRIMARY KEY);
CREATE TABLE by_domain (id even PRIMARY KEY);
CREATE TABLE by_enum (id colour PRIMARY KEY);
CREATE TABLE by_bytea (id bytea PRIMARY KEY);
CREATE TABLE by_numeric (id numeric PRIMARY KEY);
CREATE TABLE by_moment (id timestamptz PRIMARY KEY);
CREATE TABLE by_interval (id interval PRIMARY KEY);
INSERT INTO by_int VALUES (2); INSERT INTO by_uuid VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'); INSERT INTO by_text VALUES ('a');
INSERT INTO by_varchar VALUES ('a'); INSERT INTO by_char VALUES ('a'); INSERT INTO by_citext VALUES ('a'); INSERT INTO by_domain VALUES (2);
INSERT INTO by_enum VALUES ('red'); INSERT INTO by_bytea VALUES ('\x00ff'); INSERT INTO by_numeric VALUES (1.50);
INSERT INTO by_moment VALUES ('2026-01-01 00:00 UTC'); INSERT INTO by_interval VALUES ('1 day 02:00');
CREATE VIEW keyed AS SELECT relname, oid::regclass AS relation FROM pg_class WHERE relname ~ '^by_' AND relkind = 'r' AND relnamespace = 'ids'::regnamespace
    AND relname !~ '_tombstone';
SELECT count(tombstone.manage(relation)) FROM keyed;
-- Each names its row in its own type, whatever the settings, and in text.
SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape';
DO $$
DECLARE
    name regclass;
    typed bool;
    many text;
BEGIN
    FOR name IN SELECT relation FROM keyed ORDER BY 1 LOOP
        EXECUTE format('SELECT tombstone.state(id, %1$L) = ''live'' FROM %1$s', name) INTO typed;
        EXECUTE format('SELECT outcome FROM tombstone.soft_delete_many((SELECT array_agg(id) FROM %1$s), %1$L)', name) INTO many;
        RAISE INFO '%: typed %, many %', name, typed, many;
        EXECUTE format('SELECT tombstone.restore(id, %1$L) FROM %1$s_tombstone', name);
    END LOOP;
END $$;
RESET DateStyle; RESET TimeZone; RESET IntervalStyle; RESET bytea_output;

-- A key of several columns: a JSON object, as text, json or jsonb.
CREATE TABLE seat (hall text, number int, PRIMARY KEY (hall, number));
SELECT tombstone.manage('seat');
INSERT INTO seat VALUES ('A', 1), ('A', 2), ('B', 1);
SELECT tombstone.soft_delete(jsonb_build_object('hall', hall, 'number', number), 'seat') > 0 AS deleted FROM seat WHERE hall = 'B';
SELECT tombstone.state('{"hall": "B", "number": 1}', 'seat'), tombstone.state('{"hall": "B", "number": 1}'::json, 'seat');
SELECT * FROM tombstone.soft_delete_many((SELECT array_agg(to_jsonb(seat) ORDER BY number) FROM seat), 'seat');

--
-- Parameters
--

-- What has no type yet becomes text, as with every driver that leaves the type to the server.
PREPARE untyped AS SELECT tombstone.state($1, 'post');
PREPARE untyped_many AS SELECT * FROM tombstone.soft_delete_many($1, 'post');
PREPARE small (int2) AS SELECT tombstone.state($1, 'post');
PREPARE long (int8) AS SELECT tombstone.state($1, 'post');
PREPARE char_varying (varchar) AS SELECT tombstone.state($1, 'post');
PREPARE longs (int8[]) AS SELECT * FROM tombstone.soft_delete_many($1, 'post');
SELECT name, parameter_types FROM pg_prepared_statements ORDER BY name;
EXECUTE untyped(9); EXECUTE untyped('8'); EXECUTE small(9); EXECUTE long(8); EXECUTE char_varying('9');
EXECUTE untyped_many('{9, 70}'); EXECUTE longs('{9, 70}');
DEALLOCATE ALL;
SELECT tombstone.restore(9, 'post');

-- The source of a watcher is asked after ids of any type, too.
CREATE TABLE source (id bigint PRIMARY KEY);
CREATE FUNCTION in_source(asked text[]) RETURNS SETOF text LANGUAGE sql
    BEGIN ATOMIC SELECT id::text FROM ids.source WHERE id::text = ANY (asked); END;
SELECT tombstone.watch('post', 'in_source(text[])', every => NULL);
SELECT asked, missing FROM tombstone.reconcile('post', ARRAY[9], dry_run => true);
SELECT asked, missing FROM tombstone.reconcile('post', (SELECT array_agg(id) FROM post), dry_run => true, confirm => true);
SELECT asked, missing FROM tombstone.reconcile('post', '{9}', dry_run => true);
SELECT asked, missing FROM tombstone.reconcile('post', dry_run => true);
SELECT tombstone.reconcile_open('post', ARRAY[9::bigint]) > 0 AS opened;

--
-- An id in another spelling
--

-- What the key's type calls equal is the same record: live, deleted, and after a purge, too, whose event has the spelling of the row.
CREATE TABLE spelt_citext (id citext PRIMARY KEY);
CREATE TABLE spelt_numeric (id numeric PRIMARY KEY);
CREATE TABLE spelt_interval (id interval PRIMARY KEY);
CREATE TABLE spelt_several (name citext, size numeric, at timestamptz, PRIMARY KEY (name, size, at));
SELECT count(tombstone.manage(format('spelt_%s', kind)::regclass)) FROM unnest('{citext, numeric, interval, several}'::text[]) AS kind;
INSERT INTO spelt_citext VALUES ('Ada'), ('Bob'); INSERT INTO spelt_numeric VALUES (1.5), (2.50); INSERT INTO spelt_interval VALUES ('1 day'), ('2 days');
INSERT INTO spelt_several VALUES ('Ada', 1.5, '2026-01-01 00:00 UTC'), ('Bob', 1, '2026-01-01 00:00 UTC');
CREATE VIEW spelling AS SELECT * FROM (VALUES
    ('spelt_citext'::regclass, 'ADA'), ('spelt_numeric', '1.500'), ('spelt_interval', '24:00'),
    ('spelt_several', '{"size": 1.50, "name": "ADA", "at": "2026-01-01 09:00+09"}')) AS spelling (relation, id);
CREATE VIEW states AS SELECT relation, tombstone.state(id, relation) FROM spelling;
TABLE states;
SELECT count(tombstone.soft_delete(id, relation)) FROM spelling;
TABLE states;
SELECT count(tombstone.purge(id, relation)) FROM spelling;
TABLE states;
SELECT tombstone.state('Carl', 'spelt_citext'), tombstone.state(1.51, 'spelt_numeric'), tombstone.state('23:59'::interval, 'spelt_interval'),
       tombstone.state('{"size": 1, "name": "ADA", "at": "2026-01-01"}', 'spelt_several');

-- A deletion is named with it as well.
CREATE TABLE kept (id citext PRIMARY KEY, deleted_at timestamp);
SELECT tombstone.manage('kept');
INSERT INTO kept VALUES ('Ada');
SELECT tombstone.soft_delete('ADA', 'kept') AS deletion \gset
SELECT tombstone.restore('aDA', 'kept', :deletion);
-- It is another one's by now:
UPDATE kept SET deleted_at = '2026-01-01';
SELECT tombstone.restore('Ada', 'kept', :deletion);
\echo :SQLSTATE

--
-- What cannot be a key
--

CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN strict_pair AS pair CHECK ((VALUE).a > 0);
CREATE TABLE by_pair (id pair PRIMARY KEY, other strict_pair UNIQUE NOT NULL, list int[] UNIQUE NOT NULL, plain int UNIQUE NOT NULL);
SELECT tombstone.manage('by_pair');
\echo :SQLSTATE
SELECT tombstone.manage('by_pair', id => '{other}');
SELECT tombstone.manage('by_pair', id => '{list}');
SELECT tombstone.manage('by_pair', id => '{plain}');
-- Not later either: until it is changed back nothing is deleted.
INSERT INTO by_pair VALUES ('(1,x)', '(1,x)', '{1}', 1);
ALTER TABLE by_pair ALTER plain TYPE pair USING (plain, 'x')::pair;
DELETE FROM by_pair;
\echo :SQLSTATE
ALTER TABLE by_pair ALTER plain TYPE int USING (plain).a;
DELETE FROM by_pair;
SELECT tombstone.state(1, 'by_pair');
-- A key that is checked late is told apart from none.
CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, name text NOT NULL CONSTRAINT "Names" UNIQUE DEFERRABLE INITIALLY DEFERRED);
SELECT tombstone.manage('late');
\echo :SQLSTATE
SELECT tombstone.manage('late', id => '{name}');
CREATE TABLE none (id int NOT NULL);
SELECT tombstone.manage('none');
SELECT tombstone.manage('none', id => '{id}');
-- As the hint says:
ALTER TABLE ids.late DROP CONSTRAINT late_pkey, ADD CONSTRAINT late_pkey PRIMARY KEY (id);
SELECT tombstone.manage('late');

--
-- One function each
--

-- So a GRANT needs no list of types, and nothing is ambiguous.
SELECT proname, count(*), bool_and(obj_description(oid, 'pg_proc') IS NOT NULL) AS commented FROM pg_proc
WHERE pronamespace = 'tombstone'::regnamespace GROUP BY proname HAVING count(*) > 1 OR NOT bool_and(obj_description(oid, 'pg_proc') IS NOT NULL);
SELECT oid::regprocedure, has_function_privilege('public', oid, 'EXECUTE') AS everybody FROM pg_proc
WHERE pronamespace = 'tombstone'::regnamespace AND proargtypes[0]::regtype IN ('anycompatible', 'anycompatiblearray') OR
    pronamespace = 'tombstone'::regnamespace AND proargtypes[1]::regtype = 'anycompatiblearray'::regtype
ORDER BY proname;

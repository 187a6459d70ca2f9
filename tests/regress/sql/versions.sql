-- Tables with a version column: purge_versions removes old versions of a record for ever, never the latest;
-- tombstone_value_states turns the versions up to an epoch into tombstones, in one call and one statement.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA versions;
SET search_path = versions;

CREATE TABLE record (id text, version bigint, data text, owner text, deleted_at timestamptz, PRIMARY KEY (id, version));
SELECT tombstone.manage('record', version => 'version', redact => '{"data": ""}');

-- The records a, with versions 1 to 4, and b, with 1 to 5, as they were before each of the calls below.
CREATE FUNCTION refill() RETURNS void LANGUAGE sql AS $$
    DELETE FROM versions.record;
    INSERT INTO versions.record SELECT 'a', v, 'a' || v, 'regress_alice' FROM generate_series(1, 4) AS v;
    INSERT INTO versions.record SELECT 'b', v, 'b' || v, 'regress_bob' FROM generate_series(1, 5) AS v;
    INSERT INTO versions.record VALUES ('single', 1, 'x', 'regress_alice');
$$;

--
-- purge_versions: which ones go
--

SELECT refill() \gset
-- lim: that many of the oldest
SELECT tombstone.purge_versions('a', lim => 2);
SELECT version FROM record WHERE id = 'a' ORDER BY version;

SELECT refill() \gset
-- from: that version and the older ones
SELECT tombstone.purge_versions('a', "from" => 2);

SELECT refill() \gset
-- from the latest: all the older ones
SELECT tombstone.purge_versions('a', "from" => 4);

SELECT refill() \gset
-- both: lim versions, up to from
SELECT tombstone.purge_versions('a', lim => 2, "from" => 3);
SELECT version FROM record WHERE id = 'a' ORDER BY version;

SELECT refill() \gset
-- from the latest, which stays
SELECT tombstone.purge_versions('b', lim => 2, "from" => 5);

SELECT refill() \gset
-- ids: exactly these, in any order, and named twice is named once
SELECT tombstone.purge_versions('b', ids => '{4, 1, 4}');

SELECT refill() \gset
-- ids win over lim and from
SELECT tombstone.purge_versions('a', "from" => 99, lim => -1, ids => '{3}');

SELECT refill() \gset
-- all but the latest
SELECT tombstone.purge_versions('a', lim => 3);
SELECT version FROM record WHERE id = 'a';

-- Versions are numbers: 9 is older than 10. There need not be one for every number.
SELECT refill() \gset
INSERT INTO record SELECT 'n', v, '' FROM unnest('{100, 9, 10, -5}'::bigint[]) AS v;
SELECT tombstone.purge_versions('n', lim => 2);

-- What went is in the log: one hard delete for each version, all in one deletion.
SELECT op, deletion_type, ids, ARRAY(SELECT unnest(versions) ORDER BY 1) AS versions FROM tombstone.event ORDER BY seq DESC LIMIT 1;
SELECT relations, records FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1;

-- It works on deleted records just the same.
SELECT tombstone.soft_delete('a', 'record') > 0 AS deleted;
SELECT tombstone.purge_versions('a', lim => 1);
SELECT version, deleted_at IS NOT NULL AS deleted FROM record WHERE id = 'a' ORDER BY version;

--
-- purge_versions: each refusal, and which of two comes first
--

SELECT refill() \gset
CREATE ROLE regress_alice;
CREATE ROLE regress_bob;
CREATE ROLE regress_admin;
GRANT USAGE ON SCHEMA versions TO regress_alice, regress_bob, regress_admin;
GRANT EXECUTE ON FUNCTION tombstone.purge_versions TO regress_alice, regress_admin;
SELECT tombstone.configure('record', 'owners', 'owner');
SET ROLE regress_alice;

-- 1. An id that is none, a table without versions, none of from, lim and ids
SELECT tombstone.purge_versions(NULL, lim => 1);
\echo :SQLSTATE
SELECT tombstone.purge_versions('nobody');
\echo :SQLSTATE
-- 2. No such record
SELECT tombstone.purge_versions('nobody', lim => 0);
\echo :SQLSTATE
-- 3. Somebody else's record
SELECT tombstone.purge_versions('b', lim => 0);
\echo :SQLSTATE
-- 4. Its only version
SELECT tombstone.purge_versions('single', ids => '{}');
\echo :SQLSTATE
-- 5. ids: too many, none, the latest, unknown ones
SELECT tombstone.purge_versions('a', ids => ARRAY(SELECT generate_series(1, 51)));
\echo :SQLSTATE
SELECT tombstone.purge_versions('a', ids => '{}');
\echo :SQLSTATE
SELECT tombstone.purge_versions('a', ids => '{1, 4, 7}');
\echo :SQLSTATE
SELECT tombstone.purge_versions('a', ids => '{1, 9, 7, 2}');
\echo :SQLSTATE
SELECT tombstone.purge_versions('a', ids => '{1, NULL}');
\echo :SQLSTATE
-- 6. lim: nothing, or more than there are older ones
SELECT tombstone.purge_versions('a', lim => 0, "from" => 9);
\echo :SQLSTATE
SELECT tombstone.purge_versions('a', lim => -1);
\echo :SQLSTATE
SELECT tombstone.purge_versions('a', lim => 4);
\echo :SQLSTATE
-- 7. from: unknown
SELECT tombstone.purge_versions('a', "from" => 9, lim => 3);
\echo :SQLSTATE
-- 8. lim: more than from allows
SELECT tombstone.purge_versions('a', "from" => 2, lim => 3);
\echo :SQLSTATE

-- Nothing went. 50 in one call are allowed.
RESET ROLE;
SELECT id, count(*) FROM record GROUP BY id ORDER BY id;
INSERT INTO record SELECT 'many', v, '', 'regress_alice' FROM generate_series(1, 60) AS v;
SET ROLE regress_alice;
SELECT count(*) FROM tombstone.purge_versions('many', ids => ARRAY(SELECT generate_series(1, 50)));
SELECT tombstone.purge_versions('many', lim => 10);
\echo :SQLSTATE
RESET ROLE;

--
-- purge_versions: who may
--

-- It takes both: EXECUTE on the function, which few have …
SET ROLE regress_bob;
SELECT tombstone.purge_versions('b', lim => 1);
\echo :SQLSTATE
-- … and the record itself. An administrator who does not own it may not.
SET ROLE regress_admin;
SELECT tombstone.purge_versions('b', lim => 1);
\echo :SQLSTATE
-- To be a member of an owning role is to own it; no right on the table is needed.
RESET ROLE;
GRANT regress_bob TO regress_admin;
SET ROLE regress_admin;
SELECT tombstone.purge_versions('b', lim => 1);
RESET ROLE;
REVOKE regress_bob FROM regress_admin;

-- Owners may be several, and are those of the latest version.
SELECT tombstone.configure('record', 'owners', 'string_to_array(owner, '','')');
UPDATE record SET owner = 'regress_bob,regress_admin' WHERE id = 'b' AND version = 5;
SET ROLE regress_admin;
SELECT tombstone.purge_versions('b', lim => 1);
RESET ROLE;
UPDATE record SET owner = NULL WHERE id = 'b';
SET ROLE regress_admin;
SELECT tombstone.purge_versions('b', lim => 1);
\echo :SQLSTATE
RESET ROLE;

-- Without an owners expression the table's owner owns its records.
SELECT tombstone.configure('record', 'owners', NULL);
SET ROLE regress_admin;
SELECT tombstone.purge_versions('b', lim => 1);
\echo :SQLSTATE
RESET ROLE;
ALTER TABLE record OWNER TO regress_alice;
SET ROLE regress_alice;
SELECT tombstone.purge_versions('b', lim => 1);
RESET ROLE;

--
-- tombstone_value_states: everything up to an epoch
--

CREATE TABLE value_state (username bytea, epoch bigint, data bytea, deleted_at timestamptz, PRIMARY KEY (username, epoch));
INSERT INTO value_state SELECT 'alice', e, 'secret' FROM generate_series(0, 5) AS e;
INSERT INTO value_state VALUES ('bob', 1, 'secret'), ('\xff', 1, 'secret');
-- An application of old has blanked this one already.
UPDATE value_state SET data = '' WHERE username = 'alice' AND epoch = 1;
SELECT tombstone.manage('value_state', version => 'epoch', redact => '{"data": ""}', retention => NULL);
CREATE VIEW states AS
    SELECT username, epoch, convert_from(data, 'UTF8') AS data, deleted_at IS NOT NULL AS deleted FROM value_state ORDER BY username, epoch;

-- Two tables have versions: a call says which, or a setting does.
SELECT tombstone.tombstone_value_states('alice', 3);
\echo :SQLSTATE
SET tombstone.default_table = 'versions.value_state';

-- The bound counts; what is blank already is not written again; the answer is how many rows were.
SELECT ctid, epoch FROM value_state WHERE username = 'alice' AND epoch = 1 \gset before_
SELECT tombstone.tombstone_value_states('alice', 3);
SELECT * FROM states;
SELECT ctid = :'before_ctid' AS untouched FROM value_state WHERE username = 'alice' AND epoch = 1;

-- A second call writes nothing.
SELECT array_agg(ctid::text || xmin ORDER BY epoch) AS rows FROM value_state \gset before_
SELECT tombstone.tombstone_value_states('alice', 3);
SELECT array_agg(ctid::text || xmin ORDER BY epoch) = :'before_rows' AS untouched FROM value_state;

-- The latest version has no privilege here; rows, epochs and other users stay.
SELECT tombstone.tombstone_value_states('alice', 9223372036854775807);
SELECT * FROM states;

-- A user may be named by text or by bytes.
SELECT tombstone.tombstone_value_states('\xff'::bytea, 1);
SELECT tombstone.tombstone_value_states(convert_to('bob', 'UTF8'), 0);
SELECT tombstone.tombstone_value_states('bob'::text, 1);

-- One that nobody knows has no states. A bound below every epoch is a mistake.
SELECT tombstone.tombstone_value_states('carol', 3);
SELECT tombstone.tombstone_value_states('alice', -1);
\echo :SQLSTATE
SELECT tombstone.tombstone_value_states('alice', NULL);
\echo :SQLSTATE
SELECT tombstone.tombstone_value_states(NULL::text, 3);
\echo :SQLSTATE

-- One call, one deletion.
SELECT e.deletion_type, e.ids, ARRAY(SELECT unnest(e.versions) ORDER BY 1) AS versions FROM tombstone.event e JOIN tombstone.managed m USING (managed)
WHERE m.relation = 'value_state'::regclass ORDER BY seq;

-- All or nothing: a hold on the record, or an error half way, leaves every state as it was.
INSERT INTO value_state VALUES ('dora', 1, 'secret'), ('dora', 2, 'secret');
SELECT tombstone.hold('dora', 'value_state');
SELECT tombstone.tombstone_value_states('dora', 2);
\echo :SQLSTATE
SELECT tombstone.release('dora', 'value_state');
CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'epoch % stays', NEW.epoch; END $$;
CREATE TRIGGER stays AFTER UPDATE ON value_state FOR EACH ROW WHEN (NEW.epoch = 2) EXECUTE FUNCTION stays();
SELECT tombstone.tombstone_value_states('dora', 2);
\echo :SQLSTATE
SELECT * FROM states WHERE username = 'dora';

--
-- Records with versions, elsewhere
--

-- A record of many versions lives while one of them does.
SELECT tombstone.state('dora');
DROP TRIGGER stays ON value_state;
SELECT tombstone.tombstone_value_states('dora', 1);
SELECT tombstone.state('dora');
SELECT tombstone.tombstone_value_states('dora', 2);
SELECT tombstone.state('dora');
-- Deleting or restoring the record is deleting or restoring all its versions.
SELECT tombstone.restore('dora');
SELECT tombstone.soft_delete('dora') > 0 AS deleted;
SELECT * FROM states WHERE username = 'dora';
SELECT tombstone.purge('dora');
SELECT tombstone.state('dora');

-- The functions are for tables with versions.
CREATE TABLE note (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('note');
SELECT tombstone.tombstone_value_states('1'::text, 1, 'note');
\echo :SQLSTATE
SELECT tombstone.purge_versions('1', lim => 1, relation => 'note');
\echo :SQLSTATE

DROP SCHEMA versions CASCADE;
DROP OWNED BY regress_alice, regress_admin;
DROP ROLE regress_alice, regress_bob, regress_admin;

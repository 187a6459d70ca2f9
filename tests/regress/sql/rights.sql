-- Who may do what: every function acts with its caller's rights on the table, row security included;
-- and code that a table's owner has left lying about runs with the owner's rights, never the caller's.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE ROLE regress_owner;
CREATE ROLE regress_writer;
CREATE ROLE regress_reader;
CREATE ROLE regress_nobody;
CREATE SCHEMA rights AUTHORIZATION regress_owner;
GRANT USAGE ON SCHEMA rights TO regress_writer, regress_reader, regress_nobody;
SET search_path = rights;

SET ROLE regress_owner;
CREATE TABLE note (id int PRIMARY KEY, body text, deleted_at timestamptz);
SELECT tombstone.manage('note', redact => '{"body": ""}');
INSERT INTO note SELECT i, 'text' FROM generate_series(1, 10) AS i;
GRANT SELECT ON note TO regress_reader;
-- All that deleting takes: to see the key and deleted_at, and to change deleted_at. Redaction asks for no more.
GRANT SELECT (id, deleted_at), UPDATE (deleted_at) ON note TO regress_writer;
RESET ROLE;

--
-- Grants
--

-- PUBLIC may call everything but the two functions that cannot be undone.
SELECT p.oid::regproc AS "not for PUBLIC" FROM pg_proc p
WHERE pronamespace = 'tombstone'::regnamespace AND NOT has_function_privilege('regress_nobody', oid, 'EXECUTE') ORDER BY 1;
-- PUBLIC may look at the views, which show each what concerns them, and at nothing else.
SELECT relname, relkind FROM pg_class
WHERE relnamespace = 'tombstone'::regnamespace AND relkind IN ('r', 'p', 'v') AND has_table_privilege('regress_nobody', oid, 'SELECT')
ORDER BY 1;
SELECT relname FROM pg_class
WHERE relnamespace = 'tombstone'::regnamespace AND relkind IN ('r', 'p', 'v')
  AND has_table_privilege('regress_nobody', oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
SELECT has_schema_privilege('regress_nobody', 'tombstone', 'CREATE') AS may_create;

-- Only the functions write what the extension keeps.
SET ROLE regress_owner;
INSERT INTO tombstone.managed (relation) VALUES ('note');
UPDATE tombstone.event SET actor = 'somebody else';
DELETE FROM tombstone.held;
SELECT nextval('tombstone.event_seq_seq');
\echo :SQLSTATE

-- One who may update deleted_at may delete and restore, by function or in SQL …
SET ROLE regress_writer;
SELECT tombstone.soft_delete('1', 'note');
UPDATE note SET deleted_at = now() WHERE id = 2;
SELECT * FROM tombstone.soft_delete_many('{2, 3, 99}', 'note');
SELECT tombstone.restore('1', 'note');
SELECT outcome FROM tombstone.undo(2);
SELECT tombstone.state('1', 'note');
-- … but not purge.
DELETE FROM note WHERE id = 2;
\echo :SQLSTATE
SELECT tombstone.purge('2', 'note');
\echo :SQLSTATE
-- One who may only read, may only look.
SET ROLE regress_reader;
SELECT tombstone.state('3', 'note');
SELECT tombstone.soft_delete('4', 'note');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{4, 99}', 'note');
SELECT tombstone.restore('3', 'note');
\echo :SQLSTATE
SELECT tombstone.undo(3);
\echo :SQLSTATE
-- One who may not even read, learns nothing, not even what exists.
SET ROLE regress_nobody;
SELECT tombstone.state('3', 'note');
\echo :SQLSTATE
SELECT tombstone.state('99', 'note');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{4, 99}', 'note');
RESET ROLE;

-- purge takes EXECUTE, and the table. It needs no DELETE privilege of the caller's own.
GRANT EXECUTE ON FUNCTION tombstone.purge TO regress_writer, regress_owner;
SET ROLE regress_writer;
SELECT tombstone.purge('2', 'note');
\echo :SQLSTATE
SET ROLE regress_owner;
SELECT tombstone.purge('2', 'note');
RESET ROLE;

-- A SECURITY DEFINER function lends its owner's rights; the log names who acted.
SET ROLE regress_owner;
CREATE FUNCTION forget(id int) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
    $$ SELECT tombstone.soft_delete(id::text, 'rights.note') $$;
SET ROLE regress_nobody;
SELECT forget(5) > 0 AS deleted;
RESET ROLE;
SELECT actor FROM tombstone.event ORDER BY seq DESC LIMIT 1;

--
-- The views
--

SET ROLE regress_owner;
SELECT tombstone.hold('6', 'note', 'case 17');
CREATE TABLE secret (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('secret');
INSERT INTO secret VALUES (1), (2);
BEGIN;
SELECT tombstone.soft_delete('7', 'note', 'tidying up') > 0 AS deleted;
SELECT tombstone.soft_delete('1', 'secret', 'not for everybody') > 0 AS deleted;
COMMIT;
SELECT relation FROM tombstone.tables;
SELECT actor, cause, reason, relations, records FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1;
SELECT relation, id, reason FROM tombstone.holds;
-- Of a deletion that also took what a reader may not see, the reader sees the rest.
SET ROLE regress_reader;
SELECT relation FROM tombstone.tables;
SELECT actor, cause, reason, relations, records FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1;
SELECT relation, id, reason FROM tombstone.holds;
SET ROLE regress_nobody;
SELECT relation FROM tombstone.tables;
SELECT * FROM tombstone.deletions;
SELECT * FROM tombstone.holds;
RESET ROLE;

--
-- Row security
--

SET ROLE regress_owner;
CREATE TABLE tenant_note (id int PRIMARY KEY, tenant name NOT NULL, body text, deleted_at timestamptz);
INSERT INTO tenant_note SELECT i, CASE WHEN i < 6 THEN 'regress_reader' ELSE 'regress_writer' END, 'text'
    FROM generate_series(1, 10) AS i;
SELECT tombstone.manage('tenant_note', redact => '{"body": ""}');
-- To each tenant its own, and tombstones to nobody.
CREATE POLICY tenants ON tenant_note USING (tenant = current_user);
CREATE POLICY the_living ON tenant_note AS RESTRICTIVE FOR SELECT USING (deleted_at IS NULL);
ALTER TABLE tenant_note ENABLE ROW LEVEL SECURITY;
GRANT SELECT, UPDATE, DELETE ON tenant_note TO regress_writer;
GRANT SELECT ON tenant_note TO regress_reader;

SET ROLE regress_writer;
SELECT count(*) FROM tenant_note;
-- Such a policy refuses the UPDATE that would make a row invisible: that is how Postgres is.
UPDATE tenant_note SET deleted_at = now() WHERE id = 6;
\echo :SQLSTATE
-- The function does what is meant.
SELECT tombstone.soft_delete('6', 'tenant_note') > 0 AS deleted;
SELECT count(*) FROM tenant_note;
-- It reaches no further than the tenant's own UPDATE does.
SELECT tombstone.soft_delete('1', 'tenant_note');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{1, 6, 7, 8, 99}', 'tenant_note');
-- What is hidden is unknown, be it live, deleted or purged.
SELECT id, tombstone.state(id::text, 'tenant_note') FROM unnest('{1, 6, 9}'::int[]) AS id;
DELETE FROM tenant_note WHERE id = 9;
SELECT tombstone.state('9', 'tenant_note');
SELECT tombstone.restore('6', 'tenant_note');
\echo :SQLSTATE
SELECT relations FROM tombstone.deletions WHERE relations ? 'tenant_note';
-- Row security is about rows; the privilege on the column is needed as well.
SET ROLE regress_reader;
SELECT tombstone.soft_delete('1', 'tenant_note');
\echo :SQLSTATE
-- The owner is not bound by it, and brings the tombstone back.
SET ROLE regress_owner;
SELECT id, tenant, body, deleted_at IS NOT NULL AS deleted FROM tenant_note WHERE id > 4 ORDER BY id;
SELECT tombstone.restore('6', 'tenant_note');
-- Unless it is forced upon the owner: then the owner is a tenant like the others.
ALTER TABLE tenant_note FORCE ROW LEVEL SECURITY;
SELECT tombstone.soft_delete('6', 'tenant_note');
\echo :SQLSTATE
SET ROLE regress_writer;
SELECT tombstone.soft_delete('6', 'tenant_note') > 0 AS deleted;
RESET ROLE;

--
-- The owner of a table is not to be trusted with its visitors' rights
--

CREATE ROLE regress_mallory;
CREATE SCHEMA trap AUTHORIZATION regress_mallory;
SET ROLE regress_mallory;
CREATE TABLE trap.seen (by_whom name, what text);
-- Whatever mallory's function tries, it reports as whom.
CREATE FUNCTION trap.spring(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO trap.seen VALUES (current_user, what);
    BEGIN
        PERFORM set_config('role', 'none', true);
        INSERT INTO trap.seen VALUES (current_user, what || ': role set');
    EXCEPTION WHEN OTHERS THEN INSERT INTO trap.seen VALUES (current_user, SQLERRM);
    END;
    BEGIN
        PERFORM set_config('session_authorization', session_user, true);
        INSERT INTO trap.seen VALUES (current_user, what || ': session authorization set');
    EXCEPTION WHEN OTHERS THEN INSERT INTO trap.seen VALUES (current_user, SQLERRM);
    END;
    BEGIN
        ALTER ROLE regress_mallory SUPERUSER;
        INSERT INTO trap.seen VALUES (current_user, what || ': superuser');
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
    RETURN 'regress_mallory';
END $$;
CREATE TABLE trap.bait (id int PRIMARY KEY, body text, deleted_at timestamptz);
INSERT INTO trap.bait SELECT generate_series(1, 9);
SELECT tombstone.manage('trap.bait', owners => 'trap.spring(''owners'')');
TRUNCATE trap.seen;
RESET ROLE;
-- A superuser comes by.
SELECT tombstone.soft_delete('1', 'trap.bait') > 0 AS deleted;
SELECT tombstone.restore('1', 'trap.bait');
SELECT tombstone.purge('1', 'trap.bait');
SELECT outcome FROM tombstone.soft_delete_many('{2, 3}', 'trap.bait');
SELECT tombstone.configure('trap.bait', 'kind', 'trap.spring(''kind'')');
SELECT tombstone.configure('trap.bait', 'expire_from', 'trap.spring(''expire_from'')::date');
SELECT by_whom, what, count(*) > 0 AS seen FROM trap.seen GROUP BY by_whom, what ORDER BY what;
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_mallory';

-- Nothing in the way of a search_path, and no temporary table, takes the place of what is meant.
SET ROLE regress_writer;
CREATE TEMP TABLE note (id int PRIMARY KEY, body text, deleted_at timestamptz);
CREATE TEMP TABLE managed AS SELECT 1;
CREATE TEMP TABLE event AS SELECT 1;
CREATE TEMP TABLE held AS SELECT 1;
CREATE TEMP TABLE pg_class (oid oid, relname name);
SET search_path = pg_temp, rights, tombstone, pg_catalog;
SELECT tombstone.soft_delete('8', 'rights.note') > 0 AS deleted;
SELECT tombstone.state('8', 'rights.note');
SELECT tombstone.soft_delete('6', 'rights.note');
DROP TABLE pg_temp.note, pg_temp.managed, pg_temp.event, pg_temp.held, pg_temp.pg_class;
RESET ROLE;
SET search_path = rights;

SELECT tombstone.release('6', 'note');
DROP SCHEMA rights, trap CASCADE;
DROP OWNED BY regress_owner, regress_writer;
DROP ROLE regress_owner, regress_writer, regress_reader, regress_nobody, regress_mallory;

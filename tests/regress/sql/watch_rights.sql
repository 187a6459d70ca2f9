-- Who may have a table watched, with whose rights its source is asked and its records are deleted, and who sees what.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE watch_owner;
CREATE ROLE watch_group;
GRANT watch_group TO watch_owner;
CREATE ROLE watch_member IN ROLE watch_owner;
CREATE ROLE watch_stranger;
CREATE ROLE watch_monitor IN ROLE pg_monitor;
CREATE SCHEMA watch_rights;
GRANT USAGE, CREATE ON SCHEMA watch_rights TO watch_owner, watch_stranger, watch_monitor;
SET search_path = watch_rights;

SET ROLE watch_owner;
CREATE TABLE record (id int PRIMARY KEY, deleted_at timestamptz);
INSERT INTO record SELECT generate_series(1, 20);
SELECT tombstone.manage('record', notify => 'none');
GRANT SELECT, UPDATE, DELETE ON record TO watch_stranger, watch_monitor;
-- It says who asks, and what it may do then.
CREATE TABLE asked (who name, session name, path text);
CREATE FUNCTION probe(ids text[]) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO watch_rights.asked VALUES (current_user, session_user, current_setting('search_path'));
    RETURN cardinality(ids) - ('7' = ANY (ids))::int;
END $$;
SELECT tombstone.watch('watch_rights.record', 'watch_rights.probe(text[])', every => NULL);

-- A stranger may read and write the rows, but what its source has not is the owner's business.
SET ROLE watch_stranger;
SELECT tombstone.watch('record', 'watch_rights.probe(text[])');
SELECT tombstone.unwatch('record');
SELECT tombstone.watch_now('record');
SELECT * FROM tombstone.reconcile('record', '{1}');
SELECT tombstone.reconcile_open('record');
SELECT * FROM tombstone.watches;
SELECT * FROM tombstone.runs;
SELECT * FROM tombstone.watched;
SELECT * FROM tombstone.vanished;
SELECT * FROM tombstone.inquiry;
SELECT * FROM tombstone.batch;
SELECT * FROM tombstone.suspect;
RESET ROLE;

-- A member of the owner, and a superuser: it is the owner who asks and deletes. (The session is whose it is.)
SET ROLE watch_member;
SELECT asked, missing, outcome FROM tombstone.reconcile('record', dry_run => true);
RESET ROLE;
SELECT asked, missing, outcome FROM tombstone.reconcile('record');
SELECT DISTINCT who, path FROM asked;
SELECT id FROM record WHERE deleted_at IS NOT NULL;
SELECT actor = session_user AS by_caller, cause FROM tombstone.deletions;

-- Who monitors sees how it goes, not which records.
SET ROLE watch_monitor;
SELECT relation, every, batch FROM tombstone.watches;
SELECT action, asked, missing, detail FROM tombstone.runs ORDER BY run;
SELECT * FROM tombstone.suspects;
SELECT tombstone.unwatch('watch_rights.record');
RESET ROLE;

-- A run that the owner has opened is nobody else's to answer.
SET ROLE watch_owner;
SELECT tombstone.reconcile_open('record', '{1,2,3}') AS run \gset
RESET ROLE;
SET ROLE watch_stranger;
SELECT * FROM tombstone.reconcile_questions(:run);
SELECT tombstone.reconcile_answer(:run, 1073741824, 0);
SELECT tombstone.reconcile_close(:run);
RESET ROLE;
SET ROLE watch_member;
SELECT ids FROM tombstone.reconcile_questions(:run);
RESET ROLE;

-- A probe that its owner has taken away, or never granted.
CREATE SCHEMA watch_secret;
CREATE FUNCTION watch_secret.probe(ids text[]) RETURNS bigint LANGUAGE sql RETURN 0;
SELECT tombstone.watch('record', 'watch_secret.probe(text[])');
GRANT USAGE ON SCHEMA watch_secret TO watch_owner;
SELECT tombstone.watch('record', 'watch_secret.probe(text[])');
REVOKE EXECUTE ON FUNCTION watch_secret.probe FROM PUBLIC;
SELECT tombstone.watch('record', 'watch_secret.probe(text[])');
SELECT * FROM tombstone.reconcile('record', '{1}');
DROP SCHEMA watch_secret CASCADE;

-- A hostile owner's probe and trigger, when a superuser maintains: they stay who they are, and leave nothing behind.
SET ROLE watch_owner;
CREATE FUNCTION climb(ids text[]) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE 'SET ROLE watch_group';
    EXCEPTION WHEN OTHERS THEN INSERT INTO watch_rights.asked VALUES (current_user, 'set role', SQLSTATE);
    END;
    BEGIN
        EXECUTE 'SET SESSION AUTHORIZATION DEFAULT';
    EXCEPTION WHEN OTHERS THEN INSERT INTO watch_rights.asked VALUES (current_user, 'session', SQLSTATE);
    END;
    BEGIN
        EXECUTE 'CREATE TEMP TABLE left_behind ()';
    EXCEPTION WHEN OTHERS THEN INSERT INTO watch_rights.asked VALUES (current_user, 'temp', SQLSTATE);
    END;
    BEGIN
        EXECUTE 'ALTER ROLE watch_owner SUPERUSER';
    EXCEPTION WHEN OTHERS THEN INSERT INTO watch_rights.asked VALUES (current_user, 'alter role', SQLSTATE);
    END;
    PERFORM set_config('search_path', 'watch_rights', false), set_config('row_security', 'off', false);
    RETURN cardinality(ids) - ('9' = ANY (ids))::int;
END $$;
CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', 'watch_rights', false);
    BEGIN
        EXECUTE 'SET ROLE watch_group';
    EXCEPTION WHEN OTHERS THEN INSERT INTO watch_rights.asked VALUES (current_user, 'trigger', SQLSTATE);
    END;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER climb AFTER UPDATE ON record DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION climb();
SELECT tombstone.watch('record', 'watch_rights.climb(text[])');
RESET ROLE;
TRUNCATE asked;
SET search_path = public;
CALL tombstone.maintain('watch_rights.record');
SELECT current_user = session_user AS nobody_else, current_setting('search_path') AS path, current_setting('row_security') AS row_security;
SET search_path = watch_rights;
SELECT DISTINCT who, session AS what, path AS refused FROM asked ORDER BY what;
SELECT rolsuper FROM pg_roles WHERE rolname = 'watch_owner';
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;
-- The same by reconcile(), when a superuser calls it.
SET ROLE watch_owner;
UPDATE record SET deleted_at = NULL WHERE id = 9;
TRUNCATE asked;
RESET ROLE;
SET search_path = public;
SELECT asked, missing, outcome FROM tombstone.reconcile('watch_rights.record');
SELECT current_user = session_user AS nobody_else, current_setting('search_path') AS path;
SET search_path = watch_rights;
SELECT DISTINCT who, session AS what, path AS refused FROM asked ORDER BY what;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;

-- Row security hides nothing from the watcher: it is the owner.
SET ROLE watch_owner;
DROP TRIGGER climb ON record;
ALTER TABLE record ENABLE ROW LEVEL SECURITY;
ALTER TABLE record FORCE ROW LEVEL SECURITY;
CREATE POLICY few ON record USING (id < 5 AND deleted_at IS NULL);
UPDATE record SET deleted_at = NULL;
CREATE FUNCTION without_12(ids text[]) RETURNS bigint LANGUAGE sql RETURN cardinality(ids) - ('12' = ANY (ids))::int;
SELECT tombstone.watch('record', 'watch_rights.without_12(text[])');
CALL tombstone.maintain('record');
RESET ROLE;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;

DROP SCHEMA watch_rights CASCADE;
DROP ROLE watch_member, watch_owner, watch_group, watch_stranger, watch_monitor;

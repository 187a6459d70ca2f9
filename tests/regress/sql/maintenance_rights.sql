-- Maintenance acts with the table owner's rights and with no others, whoever calls it: here a superuser, like the worker. What a
-- hostile owner has put in its way gains nothing, neither at once nor later.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_hostile;
CREATE ROLE regress_watcher IN ROLE pg_monitor;
CREATE ROLE regress_bystander;
CREATE SCHEMA hostile AUTHORIZATION regress_hostile;
GRANT USAGE ON SCHEMA hostile TO regress_watcher, regress_bystander;
CREATE TABLE public.said (what text);
GRANT INSERT ON public.said TO PUBLIC;
CREATE TABLE public.secret (text text);
SET search_path = hostile;

-- Who maintains what.
SET ROLE regress_hostile;
CREATE TABLE note (id int PRIMARY KEY, body text, at timestamptz DEFAULT now() - interval '2 days', deleted_at timestamptz);
SELECT tombstone.manage('note', retention => '1 day');
INSERT INTO note (id, deleted_at) VALUES (1, now() - interval '2 days'), (2, NULL);
SET ROLE regress_bystander;
SELECT * FROM tombstone.preview();
SELECT * FROM tombstone.backlog;
SELECT * FROM tombstone.preview('hostile.note');
\echo :SQLSTATE
CALL tombstone.maintain('hostile.note');
\echo :SQLSTATE
SELECT tombstone.pause('hostile.note');
\echo :SQLSTATE
SELECT tombstone.resume('hostile.note');
\echo :SQLSTATE
SELECT tombstone.pause();
CALL tombstone.maintain();
SET ROLE regress_watcher;
SELECT relation, action, due FROM tombstone.backlog;
CALL tombstone.maintain('hostile.note');
\echo :SQLSTATE
SET ROLE regress_hostile;
SELECT paused FROM tombstone.tables;
CALL tombstone.maintain();
SELECT id FROM note;
SET ROLE regress_bystander;
SELECT * FROM tombstone.runs;
SET ROLE regress_watcher;
SELECT relation, action, records, outcome FROM tombstone.runs;
RESET ROLE;

-- What the owner's code tries, as whom it runs, and what comes of each try.
CREATE FUNCTION public.try(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE what;
    RETURN format('%s: %s', current_user, what);
EXCEPTION WHEN OTHERS THEN
    RETURN format('%s: %s: %s', current_user, what, SQLSTATE);
END $$;
SET ROLE regress_hostile;
CREATE FUNCTION attack() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    what text;
BEGIN
    FOREACH what IN ARRAY ARRAY[
        'SET ROLE postgres', 'RESET ROLE', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION',
        'ALTER ROLE regress_hostile SUPERUSER', 'CREATE ROLE regress_made SUPERUSER', 'DELETE FROM public.secret',
        'CREATE TEMP TABLE note (id int)', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'LISTEN tombstone',
        'SET search_path = hostile, pg_catalog', 'SET session_replication_role = replica', 'SET lock_timeout = 1',
        'SET default_transaction_read_only = on', 'COMMIT'] LOOP
        INSERT INTO public.said VALUES (public.try(what));
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER attack AFTER DELETE ON note FOR EACH STATEMENT EXECUTE FUNCTION attack();
INSERT INTO note (id, deleted_at) VALUES (3, now() - interval '2 days');
RESET ROLE;
CALL tombstone.maintain('note');
TABLE public.said;
TRUNCATE public.said;
SELECT current_user = session_user AS still_us, rolsuper AS hostile_is_super FROM pg_roles WHERE rolname = 'regress_hostile';
SELECT current_setting('search_path'), current_setting('lock_timeout'), current_setting('default_transaction_read_only');
DROP TRIGGER attack ON note;

-- A deferred trigger would run at the commit, with nobody's rights but the caller's. It runs at once, as the owner; one that is
-- made to wait again is refused.
SET ROLE regress_hostile;
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.said VALUES (public.try('DELETE FROM public.secret'));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER later AFTER DELETE ON note DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION later();
INSERT INTO note (id, deleted_at) VALUES (4, now() - interval '2 days');
RESET ROLE;
CALL tombstone.maintain('note');
TABLE public.said;
TRUNCATE public.said;
SET ROLE regress_hostile;
CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NULL; END $$;
CREATE TRIGGER a_defer BEFORE DELETE ON note FOR EACH STATEMENT EXECUTE FUNCTION defer();
INSERT INTO note (id, deleted_at) VALUES (5, now() - interval '2 days');
RESET ROLE;
CALL tombstone.maintain('note');
\echo :SQLSTATE
TABLE public.said;
SELECT outcome, records, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;
SET ROLE regress_watcher;
SELECT outcome, records, detail IS NULL AS not_for_watchers FROM tombstone.runs ORDER BY run DESC LIMIT 1;
RESET ROLE;
DROP TRIGGER a_defer ON note;
DROP TRIGGER later ON note;

-- Expressions, operators and casts, as they are evaluated: by a look, by preview(), by the view.
SET ROLE regress_hostile;
CREATE FUNCTION when_born(note) RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING '% %', current_user, public.try('DELETE FROM public.secret');
    RETURN $1.at;
END $$;
SELECT tombstone.configure('note', 'expire_from', 'hostile.when_born(note)');
SELECT tombstone.configure('note', 'expire_after', '1 day');
SELECT tombstone.configure('note', 'retention', 'forever');
RESET ROLE;
SELECT action, records FROM tombstone.preview('note');
SELECT relation, due FROM tombstone.backlog;
CALL tombstone.maintain('note');

-- A key whose parts have checks: to read the text of a hold is to run them.
SET ROLE regress_hostile;
CREATE FUNCTION is_fine(int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING '%', public.try('DELETE FROM public.secret');
    RETURN true;
END $$;
CREATE DOMAIN checked AS int CHECK (hostile.is_fine(value));
CREATE TYPE span AS RANGE (subtype = checked);
CREATE TABLE spanned (id span PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('spanned', retention => '1 day');
SET client_min_messages = error;
INSERT INTO spanned VALUES ('[1,1]', pg_catalog.now());
SELECT tombstone.hold('[1,1]', 'spanned');
RESET ROLE;
SET client_min_messages = warning;
CALL tombstone.maintain('spanned');
SELECT action, records FROM tombstone.preview('spanned');
SELECT tombstone.state('[1,1]', 'spanned');
SELECT tombstone.release('[1,1]', 'spanned');
DROP TABLE spanned;

-- The search path is nobody's to choose, and the caller's own least of all.
SET ROLE regress_hostile;
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured'; END $$;
CREATE FUNCTION less(timestamptz, timestamptz) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured'; END $$;
CREATE OPERATOR < (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = hostile.less);
CREATE TABLE plain (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('plain', retention => '1 day');
INSERT INTO plain VALUES (1, pg_catalog.now() - interval '2 days');
RESET ROLE;
SET search_path = hostile, pg_catalog;
CALL tombstone.maintain('plain');
SELECT count(*) FROM plain;
RESET search_path;

SET ROLE regress_hostile;
DROP SCHEMA hostile CASCADE;
RESET ROLE;
DROP TABLE public.said, public.secret;
DROP FUNCTION public.try;
DROP ROLE regress_hostile, regress_watcher, regress_bystander;

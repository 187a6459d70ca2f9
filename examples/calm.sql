-- A catalogue's deletion watcher (Calm). The catalogue's API never says what was deleted; all it can do is search: how many of
-- these ids do you have? So from time to time every record is asked after, a thousand at once. Where the number is short, further
-- searches find out which are missing, few for many records; these are flagged here, and consumers are told.
--
-- psql -f examples/calm.sql, in a database with UTF8 encoding; everything happens in the schema calm. An outside API is a table
-- here: what would be a web request stands in calm.search().
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tombstone;
DROP SCHEMA IF EXISTS calm CASCADE;
CREATE SCHEMA calm;
SET search_path = calm;

-- What we have of the catalogue.
CREATE TABLE record (
    id   text PRIMARY KEY,
    data jsonb NOT NULL
);
-- The catalogue itself, out there.
CREATE TABLE catalogue (id text PRIMARY KEY);

INSERT INTO catalogue SELECT format('calm-%s', lpad(n::text, 5, '0')) FROM generate_series(1, 3000) n;
INSERT INTO record SELECT id, '{}' FROM catalogue;

-- The probe: how many of these ids are there. In life it asks over HTTP, with plpython3u or the like, or a foreign table.
CREATE FUNCTION search(ids text[]) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = calm
    RETURN (SELECT count(*) FROM catalogue WHERE id = ANY (ids));

-- Two calls. A pass each week, by a background worker; where there is none, CALL tombstone.maintain().
SELECT tombstone.manage('record', layout => 'in_place', kind => $$'calm'$$, retention => '90 days', channel => 'calm');
SELECT tombstone.watch('record', 'calm.search(text[])', every => '7 days');

-- Consumers LISTEN calm, and keep their place in the log.
SELECT tombstone.cursor() AS place \gset

-- Three records are deleted out there, and nobody says so. The pass is due: three batches of a thousand are asked after with one
-- question each, and those in which some are missing with some more.
DELETE FROM catalogue WHERE id IN ('calm-00007', 'calm-00008', 'calm-02500');
CALL tombstone.maintain('record');
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;
SELECT action, asked, missing, records AS deleted, questions < 50 AS few_questions, outcome, detail FROM tombstone.runs;

-- Consumers replay from where they were: the transformer makes Deleted works of these.
SELECT id, kind, op, deletion_type, cause FROM tombstone.replay(:'place') ORDER BY id;

-- Each batch's records are one deletion, which can be undone; the reason says which run it was.
SELECT cause, relations, reason FROM tombstone.deletions ORDER BY deletion;

-- Somebody knows that a record is gone: it need not wait for a week. Of one record all are missing, which is what an outage looks
-- like, too; so that has to be confirmed.
DELETE FROM catalogue WHERE id = 'calm-00100';
SELECT * FROM tombstone.reconcile('record', '{calm-00100}');
SELECT asked, missing, outcome FROM tombstone.reconcile('record', '{calm-00100}', confirm => true);

-- A record was deleted by mistake, and is put back out there: the next pass restores it here.
INSERT INTO catalogue VALUES ('calm-02500');
SELECT tombstone.watch_now('record');
CALL tombstone.maintain('record');
SELECT deleted_at IS NULL AS is_back FROM record WHERE id = 'calm-02500';
SELECT asked, missing, restored, outcome FROM tombstone.runs ORDER BY run DESC LIMIT 1;

-- The API is down, and finds nothing. That deletes nothing.
CREATE OR REPLACE FUNCTION search(ids text[]) RETURNS bigint LANGUAGE sql RETURN 0;
SELECT tombstone.watch_now('record');
CALL tombstone.maintain('record');
SELECT count(*) FROM record WHERE deleted_at IS NULL;
SELECT outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;

-- An API that only an application can reach: it fetches the questions, asks them, and hands in the answers. Here a loop does; any
-- number of processes may, at the same time, and any of them may go on where another one has stopped.
DELETE FROM catalogue WHERE id IN ('calm-00200', 'calm-00300');
SELECT tombstone.reconcile_open('record', batch => 500) AS run \gset
SELECT set_config('calm.run', :'run', false) = :'run' AS opened;
DO $$
DECLARE
    asked record;
BEGIN
    LOOP
        SELECT * INTO asked FROM tombstone.reconcile_questions(current_setting('calm.run')::bigint) LIMIT 1;
        EXIT WHEN NOT FOUND;
        PERFORM tombstone.reconcile_answer(current_setting('calm.run')::bigint, asked.question,
                                           (SELECT count(*) FROM calm.catalogue WHERE id = ANY (asked.ids)));
    END LOOP;
END
$$;
SELECT asked, missing, records AS deleted, outcome FROM tombstone.runs WHERE run = :run;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;

-- Delete events (the Storage service of OSDU). Who is told that a record was deleted is told how: soft, so that it can be
-- revived and what is derived from it had better be kept; or hard, so that all of it can go. Nobody has to ask back.
--
-- psql -f examples/osdu_events.sql, in a database with UTF8 encoding; everything happens in the schema osdu_events.
-- What psql prints as "Asynchronous notification" is what every listener gets.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tombstone;
DROP SCHEMA IF EXISTS osdu_events CASCADE;
CREATE SCHEMA osdu_events;
SET search_path = osdu_events;

CREATE TABLE record (
    id   text  PRIMARY KEY,
    kind text  NOT NULL,
    data jsonb NOT NULL
);
INSERT INTO record
SELECT 'opendes:Wellbore:id' || n, 'opendes:wks:master-data--Wellbore:1.0.0', jsonb_build_object('depth', 1000 * n)
FROM generate_series(1, 4) AS n;

-- One call. The kind that events name is a column; it could be any expression over the row.
SELECT tombstone.manage('record', layout => 'in_place', kind => 'kind', channel => 'record_changed');

-- A consumer: it listens, and remembers its place in the log, for what it misses while it is away.
LISTEN record_changed;
SELECT tombstone.cursor() AS place \gset

-- POST /records/{id}:delete, the logical deletion.
SELECT tombstone.soft_delete('opendes:Wellbore:id1', 'record') IS NOT NULL AS deleted;
-- The same, by somebody who knows nothing of tombstone.*: an ORM, or an administrator in psql.
UPDATE record SET deleted_at = now() WHERE id = 'opendes:Wellbore:id2';

-- DELETE /records/{id}, the purge; also of records that were deleted logically before. And the same in plain SQL.
SELECT tombstone.purge('opendes:Wellbore:id1', 'record');
DELETE FROM record WHERE id = 'opendes:Wellbore:id3';

-- Revived: an update, marked as what it is.
SELECT tombstone.restore('opendes:Wellbore:id2', 'record');

-- What did not happen is told to nobody.
BEGIN;
SELECT tombstone.soft_delete('opendes:Wellbore:id4', 'record') IS NOT NULL AS deleted;
ROLLBACK;

-- The consumer was away, and goes on from its place: it gets the same, in order. What was purged has left the log's stream:
-- of record 1 there is its purge, and not that it was deleted logically before.
SELECT id, kind, op, deletion_type AS "deletionType", restored FROM tombstone.replay(:'place');

-- What a consumer with derived records does with it, in one statement: soft for soft, hard for hard.
CREATE TABLE derived (record text PRIMARY KEY, deleted boolean NOT NULL DEFAULT false);
INSERT INTO derived SELECT 'opendes:Wellbore:id' || n, n = 2 FROM generate_series(1, 4) AS n;
WITH last AS (
    SELECT DISTINCT ON (e.id) e.id, e.deletion_type
    FROM tombstone.replay(:'place') WITH ORDINALITY AS e (cursor, at, relation, id, kind, op, deletion_type, version, deleted_at, cause, actor, data, restored, deletion, app_actor, reason, n)
    ORDER BY e.id, e.n DESC
), kept AS (
    UPDATE derived SET deleted = last.deletion_type IS NOT NULL
    FROM last WHERE derived.record = last.id AND last.deletion_type IS DISTINCT FROM 'hard'
)
DELETE FROM derived USING last WHERE derived.record = last.id AND last.deletion_type = 'hard';
SELECT * FROM derived ORDER BY record;
UNLISTEN record_changed;

-- The column that marks tombstones may be a timestamptz or a timestamp, of any precision: as Rails, Prisma, TypeORM, SQLAlchemy,
-- Drizzle, Ecto, Laravel and Hibernate make it. A timestamp is UTC, as all of them keep it, whatever the time zone of the session.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA types;
SET search_path = types;
SET TimeZone = 'Asia/Tokyo';

--
-- Each type
--

CREATE TABLE rails (id bigint PRIMARY KEY, deleted_at timestamp(6));
CREATE TABLE prisma (id bigint PRIMARY KEY, deleted_at timestamp(3));
CREATE TABLE sqlalchemy (id bigint PRIMARY KEY, deleted_at timestamp);
CREATE TABLE ecto (id bigint PRIMARY KEY, deleted_at timestamp(0));
CREATE TABLE typeorm (id bigint PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE drizzle (id bigint PRIMARY KEY, deleted_at timestamptz(3));
CREATE TABLE laravel (id bigint PRIMARY KEY, deleted_at timestamptz(0));
CREATE VIEW tables AS SELECT unnest('{rails, prisma, sqlalchemy, ecto, typeorm, drizzle, laravel}'::regclass[]) AS relation;
CREATE FUNCTION fill() RETURNS void LANGUAGE plpgsql AS $$
DECLARE name regclass;
BEGIN
    FOR name IN TABLE tables LOOP EXECUTE format('INSERT INTO %s VALUES (1), (2)', name); END LOOP;
END $$;
SELECT count(tombstone.manage(relation)) FROM tables;
SELECT fill();

-- A soft delete stamps now; the log has what the column holds, and a stamp is read back as the moment it is.
BEGIN;
SELECT bool_and(tombstone.soft_delete('1', relation) > 0) FROM tables;
SELECT now() AS began \gset
SELECT to_char(deleted_at, 'YYYY-MM-DD HH24:MI') = to_char(:'began'::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
    OR extract(second FROM :'began'::timestamptz) > 59 AS utc FROM rails WHERE id = 1;
COMMIT;
SELECT r.relation, r.deleted_at - :'began' BETWEEN '-0.5 s' AND '0.5 s' AS now, tombstone.state(r.id, r.relation)
FROM tombstone.replay(NULL) r ORDER BY r.relation::text COLLATE "C";
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
SELECT relation, id, outcome FROM tombstone.undo(:deletion) ORDER BY relation::text COLLATE "C";

-- restore() of the last deletion, and of one that is named.
SELECT relation, tombstone.restore('2', relation, tombstone.soft_delete('2', relation)) AS restored FROM tables;
SELECT relation, tombstone.soft_delete('2', relation) > 0 AS deleted, tombstone.restore('2', relation) AS restored FROM tables;

--
-- Two deletions that the column cannot tell apart
--

-- Both fall within one second. The log knows which of them was the last.
CREATE TABLE coarse (id int PRIMARY KEY, deleted_at timestamp(0));
SELECT tombstone.manage('coarse');
INSERT INTO coarse VALUES (1), (2);
UPDATE coarse SET deleted_at = '2026-01-01 10:00:00.2';
SELECT tombstone.restore('1', 'coarse');
UPDATE coarse SET deleted_at = '2026-01-01 10:00:00.4' WHERE id = 1;
TABLE coarse ORDER BY id;
SELECT min(deletion) AS first, max(deletion) AS last FROM tombstone.deletions WHERE relations::text LIKE '%coarse%' \gset
SELECT tombstone.restore('1', 'coarse', :first);
\echo :SQLSTATE
SELECT id, outcome, detail FROM tombstone.undo(:first) ORDER BY id;
SELECT id, outcome FROM tombstone.undo(:last) ORDER BY id;
TABLE coarse ORDER BY id;

--
-- Parents and children of different types
--

CREATE TABLE author (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE post (id int PRIMARY KEY, author int NOT NULL REFERENCES author ON DELETE CASCADE, deleted_at timestamp(0));
CREATE TABLE comment (id int PRIMARY KEY, post int NOT NULL REFERENCES post ON DELETE CASCADE, deleted_at timestamptz(3));
SELECT tombstone.manage('author'), tombstone.manage('post'), tombstone.manage('comment');
INSERT INTO author VALUES (1);
INSERT INTO post VALUES (11, 1), (12, 1);
INSERT INTO comment VALUES (111, 11), (112, 11);
UPDATE comment SET deleted_at = '2026-01-01 09:00:00 UTC' WHERE id = 112;
UPDATE author SET deleted_at = '2026-01-01 10:00:00.654321 UTC';
SELECT 'author' AS "table", id, deleted_at AT TIME ZONE 'UTC' AS deleted_at FROM author
UNION ALL SELECT 'post', id, deleted_at FROM post UNION ALL SELECT 'comment', id, deleted_at AT TIME ZONE 'UTC' FROM comment
ORDER BY id;
-- They come back as they fell; what fell before stays.
SELECT tombstone.restore('1', 'author');
SELECT id, tombstone.state(id::text, 'comment') FROM comment ORDER BY id;
-- A parent that is deleted keeps its child from coming back.
SELECT tombstone.soft_delete('11', 'post') > 0 AS deleted;
SELECT tombstone.restore('111', 'comment');
\echo :SQLSTATE

--
-- Maintenance
--

-- Retention counts in UTC, to the microsecond, strictly; expire_from may be a timestamp as well, and UTC too.
CREATE TABLE aged (id int PRIMARY KEY, made timestamp, deleted_at timestamp);
SELECT tombstone.manage('aged', retention => '7 days', expire_after => '1 day', expire_from => 'made');
BEGIN;
INSERT INTO aged
SELECT n, timezone('UTC', now()) - '1 day'::interval * (n <= 3)::int + '1 microsecond'::interval * (n - 2),
       CASE WHEN n > 3 THEN timezone('UTC', now()) - '7 days'::interval + '1 microsecond'::interval * (n - 5) END
FROM generate_series(1, 6) AS n;
SELECT relation, action, records, now() - oldest AS oldest, now() - newest AS newest FROM tombstone.preview('aged');
ROLLBACK;
INSERT INTO aged
SELECT id, CASE WHEN id < 3 THEN timezone('UTC', now()) - age ELSE 'infinity' END, CASE WHEN id > 2 THEN timezone('UTC', now()) - age END
FROM (VALUES (1, '25 hours'::interval), (2, '23 hours'), (3, '169 hours'), (4, '167 hours')) AS row (id, age);
CALL tombstone.maintain('aged');
SELECT id, tombstone.state(id::text, 'aged') FROM generate_series(1, 4) AS id;
SELECT timezone('UTC', deleted_at) BETWEEN now() - '10 minutes'::interval AND now() AS just_now FROM aged WHERE id = 1;
-- A column of dates reaches further than any timestamp, both ways; what lies beyond is never due, or was long ago.
CREATE TABLE dated (id int PRIMARY KEY, day date, deleted_at timestamptz);
SELECT tombstone.manage('dated', expire_after => '1 day', expire_from => 'day');
INSERT INTO dated VALUES (1, '5874897-12-31'), (2, '294277-01-01'), (3, 'infinity'), (4, '-infinity'), (5, '4713-01-01 BC'), (6, '2020-01-01'),
    (7, NULL);
SELECT relation, action, records, newest FROM tombstone.preview('dated');
CALL tombstone.maintain('dated');
SELECT id, tombstone.state(id::text, 'dated') FROM dated ORDER BY id;

--
-- ALTER TYPE
--

-- The moments stay what they are, whatever the time zone; what is deleted is restored, and undone, as before.
CREATE TABLE altered (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('altered');
INSERT INTO altered VALUES (1), (2), (3);
UPDATE altered SET deleted_at = '2026-01-01 10:00:00.654321 UTC' WHERE id < 3;
ALTER TABLE altered ALTER deleted_at TYPE timestamp;
TABLE altered ORDER BY id;
SELECT tombstone.state('1', 'altered'), tombstone.state('3', 'altered');
ALTER TABLE altered ALTER deleted_at TYPE timestamptz(3);
SELECT id, deleted_at AT TIME ZONE 'UTC' AS deleted_at FROM altered ORDER BY id;
DO $$ BEGIN ALTER TABLE types.altered ALTER deleted_at TYPE timestamp(0), ALTER id TYPE bigint; END $$;
TABLE altered ORDER BY id;
-- Digits do not come back; what is left of a stamp is known all the same.
ALTER TABLE altered ALTER deleted_at TYPE timestamptz;
SELECT id, deleted_at AT TIME ZONE 'UTC' AS deleted_at FROM altered ORDER BY id;
SELECT max(deletion) AS deletion FROM tombstone.deletions WHERE relations::text LIKE '%altered%' \gset
SELECT tombstone.restore('1', 'altered', :deletion);
SELECT id, outcome FROM tombstone.undo(:deletion) ORDER BY id;
-- Who says how has it so.
UPDATE altered SET deleted_at = '2026-01-01 10:00:00 UTC' WHERE id = 1;
ALTER TABLE altered ALTER deleted_at TYPE timestamp USING deleted_at AT TIME ZONE 'Asia/Tokyo';
TABLE altered ORDER BY id;
-- Another type cannot mark a tombstone.
ALTER TABLE altered ALTER deleted_at TYPE date;
SELECT tombstone.soft_delete('2', 'altered');
\echo :SQLSTATE
ALTER TABLE altered ALTER deleted_at TYPE timestamp;
SELECT tombstone.soft_delete('2', 'altered') > 0 AS deleted;

--
-- Into an archive, and back
--

CREATE TABLE moved (id int PRIMARY KEY, deleted_at timestamp(0));
CREATE TABLE part (id int PRIMARY KEY, moved int NOT NULL REFERENCES moved ON DELETE CASCADE, deleted_at timestamp);
INSERT INTO moved VALUES (0, '2026-01-01 09:00');
INSERT INTO part VALUES (1, 0, '2026-01-01 09:00');
SELECT tombstone.manage('moved'), tombstone.manage('part');
INSERT INTO moved VALUES (1), (2), (3);
INSERT INTO part VALUES (11, 1), (21, 2);
UPDATE moved SET deleted_at = '2026-01-01 10:00:00.2' WHERE id = 1;
UPDATE moved SET deleted_at = '2026-01-01 10:00:00.4' WHERE id = 2;
INSERT INTO moved VALUES (4, 'infinity');
CALL tombstone.convert('moved', 'archive');
DELETE FROM moved WHERE id > 3;
CALL tombstone.convert('moved', 'archive');
-- What the log tells keeps its number; what it does not is one deletion for each stamp.
SELECT id, tombstone_deleted_at AT TIME ZONE 'UTC' AS deleted_at, cause, dense_rank() OVER (ORDER BY deletion) AS deletion
FROM (SELECT id, tombstone_deleted_at, cause, deletion FROM moved_tombstone
      UNION ALL SELECT id, tombstone_deleted_at, cause, deletion FROM part_tombstone) AS tombstone ORDER BY id;
DELETE FROM moved WHERE id = 3;
SELECT max(deletion) AS last FROM tombstone.deletions WHERE relations::text LIKE '%moved%' \gset
SELECT relation, layout FROM tombstone.tables WHERE relation IN ('moved'::regclass, 'part'::regclass) ORDER BY relation::text;
SET client_min_messages = notice;
CALL tombstone.convert('moved', 'in_place');
SET client_min_messages = warning;
SELECT relation, layout FROM tombstone.tables WHERE relation IN ('moved'::regclass, 'part'::regclass) ORDER BY relation::text;
SELECT id, deleted_at FROM moved WHERE id < 3 UNION ALL SELECT id, deleted_at FROM part ORDER BY id;
SELECT deleted_at = timezone('UTC', at)::timestamp(0) AS rounded FROM moved, tombstone.deletions WHERE id = 3 AND deletion = :last;
-- The log has the microseconds that the column has not.
SELECT id, outcome FROM tombstone.undo(:last);

--
-- A watcher
--

-- What it has deleted it restores, though the column has no more than the second in which it did.
CREATE TABLE listed (id int PRIMARY KEY, deleted_at timestamp(0));
CREATE TABLE source (id text PRIMARY KEY);
CREATE FUNCTION in_source(ids text[]) RETURNS SETOF text LANGUAGE sql
    BEGIN ATOMIC SELECT id FROM types.source WHERE id = ANY (ids); END;
SELECT tombstone.manage('listed', notify => 'none');
INSERT INTO listed VALUES (1), (2);
INSERT INTO source VALUES (1);
SELECT tombstone.watch('listed', 'in_source(text[])', every => NULL, max_missing => 1, restore => true);
SELECT missing, outcome FROM tombstone.reconcile('listed');
INSERT INTO source VALUES (2);
SELECT missing, outcome FROM tombstone.reconcile('listed');
SELECT id, tombstone.state(id::text, 'listed') FROM listed ORDER BY id;

--
-- What cannot mark a tombstone
--

CREATE DOMAIN moment AS timestamptz;
CREATE TABLE wrong (id int PRIMARY KEY, deleted boolean DEFAULT false, day date, seconds bigint, moment moment);
SELECT tombstone.manage('wrong', deleted_at => 'deleted');
\echo :SQLSTATE
-- What is proposed keeps the moments, whatever the time zone.
SELECT tombstone.manage('wrong', deleted_at => 'day');
\echo :SQLSTATE
INSERT INTO wrong (id, day) VALUES (1, '2026-01-01');
ALTER TABLE types.wrong ALTER COLUMN day TYPE timestamptz USING day::timestamp AT TIME ZONE 'UTC';
SELECT day AT TIME ZONE 'UTC' AS day FROM wrong;
SELECT tombstone.manage('wrong', deleted_at => 'moment');
SELECT tombstone.manage('wrong', deleted_at => 'seconds');
-- As the hint of the boolean says:
SELECT tombstone.manage('wrong', layout => 'archive');
UPDATE wrong SET deleted = true;
DELETE FROM wrong WHERE deleted;
SELECT tombstone.state('1', 'wrong');

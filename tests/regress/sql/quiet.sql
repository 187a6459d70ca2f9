-- What nobody is to hear of: events => 'none' logs nothing of a table; mute leaves causes out of the notifications, and in the log.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA quiet;
SET search_path = quiet;
LISTEN tombstone;

--
-- mute: causes that are not announced
--

CREATE TABLE channel (id int PRIMARY KEY, at timestamptz DEFAULT now());
CREATE TABLE message (id int PRIMARY KEY, channel int REFERENCES channel ON DELETE CASCADE);
SELECT tombstone.manage('message', kind => $$'message'$$),
       tombstone.manage('channel', kind => $$'channel'$$, expire_after => '90 days', expire_from => 'at', mute => '{expiry,retention}');
INSERT INTO channel SELECT i, now() - i * interval '60 days' FROM generate_series(1, 2) AS i;
INSERT INTO message VALUES (11, 1), (21, 2);
SELECT mute FROM tombstone.tables ORDER BY relation::text;
-- Notifications name the server process, which is another one each time: sed takes that away. So this is not echoed.
\set ECHO none
\o | sed 's/ received from server process.*//'
\qecho '-- What a user does is heard. What expires is not; its messages are, as their own table says nothing of it.'
DELETE FROM channel WHERE id = 1;
CALL tombstone.maintain('channel');
\qecho '-- Whoever mutes a cause there hears nothing of what follows from it either.'
SELECT relation, id, outcome FROM tombstone.deletions, tombstone.undo(deletion) WHERE cause = 'expiry';
SELECT tombstone.configure('message', 'mute', 'expiry');
CALL tombstone.maintain('channel');
\qecho '-- What a user makes cascade is heard still.'
INSERT INTO channel VALUES (3);
INSERT INTO message VALUES (31, 3);
DELETE FROM channel WHERE id = 3;
\qecho '-- A purge by retention likewise; one by hand is heard.'
UPDATE channel_tombstone SET deleted_at = deleted_at - interval '31 days' WHERE id = 2;
CALL tombstone.maintain('channel');
DELETE FROM channel_tombstone;
\o
\set ECHO all

-- All of it is in the log.
SELECT relation, id, op, deletion_type AS type, cause FROM tombstone.replay(NULL);
-- Only causes can be muted; NULL mutes none.
SELECT tombstone.configure('channel', 'mute', '{expiry,noise}');
\echo :SQLSTATE
SELECT tombstone.configure('channel', 'mute', '{user,cascade,undo,expiry,retention,reconcile}');
INSERT INTO channel VALUES (5);
DELETE FROM channel;
UNLISTEN tombstone;
SELECT tombstone.configure('channel', 'mute', NULL);
SELECT outcome FROM tombstone.undo((SELECT deletion FROM channel_tombstone));
SELECT mute FROM tombstone.tables ORDER BY relation::text;

--
-- events => 'none'
--

LISTEN tombstone;
-- In an archive everything is as ever but what the log tells: the bin knows what a deletion took, and its number.
CREATE TABLE visit (id int PRIMARY KEY);
CREATE TABLE step (id int PRIMARY KEY, visit int REFERENCES visit ON DELETE CASCADE);
SELECT tombstone.manage('step', events => 'none'), tombstone.manage('visit', events => 'none');
INSERT INTO visit SELECT generate_series(1, 5);
INSERT INTO step SELECT i, i FROM generate_series(1, 5) AS i;
SELECT tombstone.cursor() AS here \gset
DELETE FROM visit WHERE id < 4;
SELECT deletion FROM visit_tombstone LIMIT 1 \gset
SELECT id, cause FROM step_tombstone ORDER BY id;
SELECT tombstone.restore('1', 'visit');
SELECT relation, id, outcome FROM tombstone.undo(:deletion);
SELECT tombstone.undo(:deletion);
\echo :SQLSTATE
SELECT tombstone.soft_delete('5', 'visit') > 0 AS deleted;
SELECT tombstone.purge('5', 'visit');
SELECT tombstone.hold('4', 'visit');
DELETE FROM visit;
\echo :SQLSTATE
TRUNCATE step;
SELECT count(*) FROM step_tombstone;
-- What was purged is not known any more. And who asks the log hears of none of it.
SELECT tombstone.state('5', 'visit'), tombstone.state('4', 'visit');
SELECT count(*) FROM tombstone.replay(:'here');
SELECT count(*) FROM tombstone.deletions WHERE relations ?| '{visit,step}';

-- In place undo goes by the log: there is none. restore goes by the row.
CREATE TABLE author (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE post (id int PRIMARY KEY, author int REFERENCES author ON DELETE CASCADE, deleted_at timestamptz);
SELECT tombstone.manage('post', events => 'none'), tombstone.manage('author', events => 'none');
INSERT INTO author VALUES (1), (2);
INSERT INTO post VALUES (1, 1), (2, 2);
SELECT tombstone.soft_delete('1', 'author') AS deletion \gset
SELECT count(*) FROM post WHERE deleted_at IS NOT NULL;
SELECT tombstone.undo(:deletion);
\echo :SQLSTATE
SELECT tombstone.restore('1', 'author');
UNLISTEN tombstone;
-- So of a deletion that the log knows in part it undoes that part.
SELECT tombstone.configure('author', 'events', NULL);
SELECT tombstone.soft_delete('2', 'author') AS deletion \gset
SELECT relation, id, outcome FROM tombstone.undo(:deletion);
SELECT (SELECT count(*) FROM author WHERE deleted_at IS NOT NULL) AS authors, (SELECT count(*) FROM post WHERE deleted_at IS NOT NULL) AS posts;
SELECT tombstone.restore('2', 'post');
-- With archives it undoes all of it, whichever of the tables the log tells of.
CREATE TABLE trip (id int PRIMARY KEY);
CREATE TABLE leg (id int PRIMARY KEY, trip int REFERENCES trip ON DELETE CASCADE);
SELECT tombstone.manage('leg', events => 'none'), tombstone.manage('trip');
INSERT INTO trip VALUES (1);
INSERT INTO leg VALUES (11, 1);
DELETE FROM trip;
SELECT relation, id, outcome FROM tombstone.undo((SELECT deletion FROM trip_tombstone));
SELECT tombstone.configure('trip', 'events', 'none'), tombstone.configure('leg', 'events', NULL);
DELETE FROM trip;
SELECT relation, id, outcome FROM tombstone.undo((SELECT deletion FROM trip_tombstone));

-- What the log knew before, it knows until it is trimmed; with no word of a purge the deletes stay in the stream.
SELECT tombstone.configure('visit', 'events', 'all'), tombstone.release('4', 'visit');
INSERT INTO visit VALUES (6);
DELETE FROM visit WHERE id = 6;
SELECT tombstone.configure('visit', 'events', 'none');
DELETE FROM visit_tombstone;
INSERT INTO visit VALUES (7);
SELECT id, op, deletion_type FROM tombstone.replay(NULL, relations => '{visit}');

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA quiet CASCADE;

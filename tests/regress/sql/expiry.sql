-- Expiry at the moment that a row itself says; tombstones that are kept for no time at all; and expressions that name their own table,
-- which may be renamed.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA expiry;
SET search_path = expiry;
SET TimeZone = 'UTC';

--
-- expire_after => '0': at the moment that expire_from says
--

CREATE TABLE invitation (id int PRIMARY KEY, expires_at timestamptz);
SELECT tombstone.manage('invitation', expire_after => '0', expire_from => 'expires_at');
INSERT INTO invitation VALUES
    (1, now() - interval '1 second'), (2, now() + interval '1 hour'), (3, NULL), (4, 'infinity'), (5, '-infinity');
SELECT relation, action, records FROM tombstone.preview('invitation') WHERE action = 'expire';
SELECT action, due, lag >= interval '1 second' AS late FROM tombstone.backlog WHERE action = 'expire';
CALL tombstone.maintain('invitation');
SELECT id FROM invitation ORDER BY id;
SELECT id, cause FROM invitation_tombstone ORDER BY id;
-- It is an age like any other: no less than nothing, and it has to count from somewhere.
SELECT tombstone.configure('invitation', 'expire_after', '-1 second');
\echo :SQLSTATE
SELECT tombstone.configure('invitation', 'expire_after', '1 month -30 days');
\echo :SQLSTATE
SELECT tombstone.configure('invitation', 'expire_from', NULL);
\echo :SQLSTATE

--
-- retention => '0': no tombstone is kept
--

-- What expires is purged by the pass that finds it, in either layout.
CREATE TABLE session (id int PRIMARY KEY, expires_at timestamptz);
CREATE TABLE token (id int PRIMARY KEY, expires_at timestamptz, deleted_at timestamptz);
SELECT tombstone.manage('session', expire_after => '0', expire_from => 'expires_at', retention => '0'),
       tombstone.manage('token', expire_after => '0', expire_from => 'expires_at', retention => '0');
INSERT INTO session SELECT i, now() + i * interval '1 hour' FROM generate_series(-2, 2) AS i;
INSERT INTO token TABLE session;
CALL tombstone.maintain('session');
CALL tombstone.maintain('token');
SELECT id FROM session ORDER BY id;
SELECT id FROM token ORDER BY id;
SELECT count(*) FROM session_tombstone;
SELECT relation, op, deletion_type, cause, id FROM tombstone.replay(NULL, relations => '{session,token}');
SELECT relation, action, records, outcome FROM tombstone.runs WHERE relation IN ('session'::regclass, 'token'::regclass) ORDER BY run;
-- What somebody deletes is a tombstone until the next pass, and can be undone until then.
DELETE FROM session WHERE id = 1;
UPDATE token SET deleted_at = now() WHERE id = 1;
SELECT relation, id, outcome FROM tombstone.deletions CROSS JOIN LATERAL tombstone.undo(deletion) WHERE cause = 'user' ORDER BY 1;
DELETE FROM session WHERE id = 2;
UPDATE token SET deleted_at = now() WHERE id = 2;
CALL tombstone.maintain('session');
CALL tombstone.maintain('token');
SELECT (SELECT count(*) FROM session_tombstone) AS archived, (SELECT array_agg(id) FROM session) AS session,
       (SELECT array_agg(id) FROM token) AS token;
-- A hold is a hold.
INSERT INTO token VALUES (3, now() - interval '1 hour');
SELECT tombstone.hold('3', 'token');
CALL tombstone.maintain('token');
SELECT id FROM token ORDER BY id;

-- Where a foreign key refers to the table the tombstone comes first: children are kept for as long as their own table says.
CREATE TABLE basket (id int PRIMARY KEY, expires_at timestamptz);
CREATE TABLE item (id int PRIMARY KEY, basket int REFERENCES basket ON DELETE CASCADE);
SELECT tombstone.manage('item'), tombstone.manage('basket', expire_after => '0', expire_from => 'expires_at', retention => '0');
INSERT INTO basket VALUES (1, now() - interval '1 hour');
INSERT INTO item VALUES (1, 1), (2, 1);
CALL tombstone.maintain('basket');
CALL tombstone.maintain('basket');
SELECT (SELECT count(*) FROM basket_tombstone) AS baskets, (SELECT count(*) FROM item_tombstone) AS items;
SELECT relation, id, deletion_type, cause FROM tombstone.replay(NULL, relations => '{basket,item}');
-- In place the same: an item that nobody manages keeps the basket's row, but it does not keep it alive.
CREATE TABLE cart (id int PRIMARY KEY, expires_at timestamptz, deleted_at timestamptz);
CREATE TABLE line (id int PRIMARY KEY, cart int REFERENCES cart);
SELECT tombstone.manage('cart', expire_after => '0', expire_from => 'expires_at', retention => '0');
INSERT INTO cart VALUES (1, now() - interval '1 hour');
INSERT INTO line VALUES (1, 1);
CALL tombstone.maintain('cart');
SELECT id, deleted_at IS NOT NULL AS deleted FROM cart;
DELETE FROM line;
CALL tombstone.maintain('cart');
SELECT count(*) FROM cart;

--
-- Expressions call their row this, or by the table's name
--

-- A channel expires when its last message is old. The name this says which id is meant, and stays when the table is renamed.
CREATE TABLE message (id int PRIMARY KEY, channel int, sent_at timestamptz);
CREATE TABLE channel (id int PRIMARY KEY, owner text DEFAULT current_user);
CREATE VIEW last_message AS SELECT channel AS id, max(sent_at) AS sent_at FROM message GROUP BY channel;
SELECT tombstone.manage('channel', expire_after => '90 days',
    expire_from => '(SELECT m.sent_at FROM expiry.last_message m WHERE m.id = this.id)',
    kind => $$'channel ' || this.id$$, owners => 'THIS.owner');
INSERT INTO channel SELECT generate_series(1, 4);
INSERT INTO message SELECT i, i, now() - i * interval '60 days' FROM generate_series(1, 4) AS i;
ALTER TABLE channel RENAME TO room;
CALL tombstone.maintain('room');
SELECT id FROM room;
SELECT id, kind, cause FROM tombstone.replay(NULL, relations => '{room}') ORDER BY id;
SELECT tombstone.restore('2', 'room');
TRUNCATE room;
SELECT id, kind FROM tombstone.replay(NULL, relations => '{room}') WHERE cause = 'user' AND NOT restored ORDER BY id;
-- By the table's name it has to be said anew. Until then the run fails, and says why.
SELECT tombstone.configure('room', 'expire_from', '(SELECT m.sent_at FROM expiry.last_message m WHERE m.id = room.id)');
ALTER TABLE room RENAME TO place;
CALL tombstone.maintain('place');
SELECT outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;
SELECT tombstone.configure('place', 'expire_from', '(SELECT m.sent_at FROM expiry.last_message m WHERE m.id = this.id)');
CALL tombstone.maintain('place');
-- Who calls it this calls it so everywhere in that expression.
SELECT tombstone.configure('place', 'expire_from', '(SELECT m.sent_at FROM expiry.last_message m WHERE m.id = this.id OR m.id = place.id)');
\echo :SQLSTATE
-- A table may be called so itself.
CREATE TABLE this (id int PRIMARY KEY, at timestamptz);
SELECT tombstone.manage('this', expire_after => '1 day', expire_from => 'this.at');
INSERT INTO this VALUES (1, now() - interval '2 days'), (2, now());
CALL tombstone.maintain('this');
SELECT id FROM this;

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA expiry CASCADE;

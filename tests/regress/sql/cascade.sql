-- Soft delete and restore follow the foreign keys between managed tables, as the keys are declared:
-- CASCADE takes the children along and brings them back, RESTRICT and NO ACTION refuse, SET NULL waits for the purge.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA tree;
SET search_path = tree;
CREATE VIEW log AS
    SELECT e.deletion, m.relation, e.op, e.deletion_type, ARRAY(SELECT unnest(e.ids) COLLATE "C" ORDER BY 1) AS ids, e.cause, e.reason
    FROM tombstone.event e JOIN tombstone.managed m USING (managed) ORDER BY e.seq;

--
-- CASCADE: two levels
--

CREATE TABLE channel (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE message (id int PRIMARY KEY, channel int NOT NULL REFERENCES channel ON DELETE CASCADE, body text, deleted_at timestamptz);
CREATE TABLE reaction (message int REFERENCES message ON DELETE CASCADE, emoji text, deleted_at timestamptz, PRIMARY KEY (message, emoji));
SELECT tombstone.manage('channel');
SELECT tombstone.manage('message', redact => '{"body": ""}');
SELECT tombstone.manage('reaction');
INSERT INTO channel VALUES (1), (2), (3);
INSERT INTO message VALUES (11, 1, 'one'), (12, 1, 'two'), (21, 2, 'three');
INSERT INTO reaction VALUES (11, '+1'), (11, '-1'), (21, '+1');
CREATE VIEW dead AS
    SELECT 'channel' AS of, id::text FROM channel WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'message', id::text FROM message WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'reaction', concat_ws(' ', message, emoji) FROM reaction WHERE deleted_at IS NOT NULL ORDER BY 1, 2;

-- The children go in the same deletion, and for the same reason.
SELECT tombstone.soft_delete('1', 'channel', 'closed');
SELECT * FROM dead;
SELECT * FROM log;
SELECT deletion, cause, reason, relations, records FROM tombstone.deletions;
-- Restoring the parent brings them back.
SELECT tombstone.restore('1', 'channel');
SELECT * FROM dead;

-- Plain SQL does the same, for many parents at once.
UPDATE channel SET deleted_at = now() WHERE id IN (1, 2, 3);
SELECT * FROM dead;
UPDATE channel SET deleted_at = NULL;
SELECT * FROM dead;

-- What was deleted before the parent was, by itself, stays deleted when the parent returns.
SELECT tombstone.soft_delete('12', 'message');
SELECT tombstone.soft_delete('1', 'channel');
SELECT tombstone.restore('1', 'channel');
SELECT * FROM dead;
SELECT tombstone.restore('12', 'message');

-- A child of a deleted parent stays deleted: first the parent, then the child.
SELECT tombstone.soft_delete('1', 'channel') > 0 AS deleted;
SELECT tombstone.restore('12', 'message');
\echo :SQLSTATE
UPDATE message SET deleted_at = NULL WHERE id = 12;
\echo :SQLSTATE
SELECT tombstone.restore('{"message": 11, "emoji": "+1"}', 'reaction');
\echo :SQLSTATE
SELECT tombstone.restore('1', 'channel');

-- A restore half way down the tree brings back what is below.
SELECT tombstone.soft_delete('11', 'message') > 0 AS deleted;
SELECT * FROM dead;
SELECT tombstone.restore('11', 'message');

-- A purge is left to the foreign keys themselves, and logged all the same.
SELECT tombstone.purge('1', 'channel');
SELECT relation, op, deletion_type, ids FROM log WHERE deletion = (SELECT max(deletion) FROM log);
SELECT tombstone.state('11', 'message');

--
-- A table that refers to itself
--

CREATE TABLE folder (id int PRIMARY KEY, parent int REFERENCES folder ON DELETE CASCADE, deleted_at timestamptz);
SELECT tombstone.manage('folder');
INSERT INTO folder VALUES (1, NULL), (2, 1), (3, 2), (4, 2), (5, 1), (6, NULL);
SELECT tombstone.soft_delete('5', 'folder') > 0 AS deleted;
SELECT tombstone.soft_delete('1', 'folder') > 0 AS deleted;
SELECT id FROM folder WHERE deleted_at IS NULL;
SELECT tombstone.restore('3', 'folder');
\echo :SQLSTATE
SELECT tombstone.restore('1', 'folder');
SELECT id FROM folder WHERE deleted_at IS NULL ORDER BY id;
-- A circle ends where it began.
UPDATE folder SET parent = 4 WHERE id = 1;
SELECT tombstone.soft_delete('2', 'folder') > 0 AS deleted;
SELECT id FROM folder WHERE deleted_at IS NULL ORDER BY id;

SELECT tombstone.restore('2', 'folder');
SELECT id FROM folder WHERE deleted_at IS NULL ORDER BY id;

--
-- Tables that refer to each other in a circle
--

-- A restore brings all of it back, from wherever it begins. It needs no log.
CREATE TABLE club (id int PRIMARY KEY, chair int, deleted_at timestamptz);
CREATE TABLE seat (id int PRIMARY KEY, club int REFERENCES club ON DELETE CASCADE, deleted_at timestamptz);
CREATE TABLE sitter (id int PRIMARY KEY, seat int REFERENCES seat ON DELETE CASCADE, deleted_at timestamptz);
ALTER TABLE club ADD FOREIGN KEY (chair) REFERENCES sitter ON DELETE CASCADE;
SELECT tombstone.manage('club'), tombstone.manage('seat'), tombstone.manage('sitter');
INSERT INTO club VALUES (1, NULL), (2, NULL);
INSERT INTO seat VALUES (10, 1), (20, 2);
INSERT INTO sitter VALUES (100, 10), (200, 20);
UPDATE club SET chair = id * 100;
CREATE VIEW gone AS
    SELECT 'club' AS of, id FROM club WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'seat', id FROM seat WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'sitter', id FROM sitter WHERE deleted_at IS NOT NULL ORDER BY 1, 2;
SELECT tombstone.soft_delete('1', 'club') > 0 AS deleted;
TABLE gone;
TRUNCATE tombstone.event;
SELECT tombstone.restore('1', 'club');
TABLE gone;
SELECT tombstone.soft_delete('1', 'club') > 0 AS deleted;
SELECT tombstone.restore('100', 'sitter');
TABLE gone;
-- In plain SQL, too.
UPDATE seat SET deleted_at = now();
UPDATE club SET deleted_at = NULL WHERE id = 2;
TABLE gone;
UPDATE club SET deleted_at = NULL;
TABLE gone;
-- A circle that was broken by another deletion does not come back from behind that.
SELECT tombstone.soft_delete('100', 'sitter') > 0 AS deleted;
UPDATE club SET chair = NULL WHERE id = 1;
SELECT tombstone.restore('1', 'club');
SELECT tombstone.soft_delete('10', 'seat') > 0 AS deleted;
UPDATE club SET chair = 100 WHERE id = 1;
SELECT tombstone.soft_delete('1', 'club') > 0 AS deleted;
SELECT tombstone.restore('1', 'club');
\echo :SQLSTATE
TABLE gone;
SELECT tombstone.restore('10', 'seat');
\echo :SQLSTATE

-- A circle below a parent: each of the two waits for the other, and comes back with it. Their other children come back as well.
CREATE TABLE buyer (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE purchase (id int PRIMARY KEY, buyer int REFERENCES buyer ON DELETE CASCADE, latest int, deleted_at timestamptz);
CREATE TABLE item (id int PRIMARY KEY, purchase int REFERENCES purchase ON DELETE CASCADE, deleted_at timestamptz);
ALTER TABLE purchase ADD FOREIGN KEY (latest) REFERENCES item ON DELETE CASCADE;
CREATE TABLE remark (id int PRIMARY KEY, purchase int REFERENCES purchase ON DELETE CASCADE, item int REFERENCES item ON DELETE CASCADE);
SELECT tombstone.manage('buyer'), tombstone.manage('purchase'), tombstone.manage('item'), tombstone.manage('remark', 'in_place');
INSERT INTO buyer VALUES (1);
INSERT INTO purchase VALUES (10, 1, NULL), (20, 1, NULL), (30, 1, NULL);
INSERT INTO item VALUES (11, 10), (12, 10), (21, 20), (31, 30);
UPDATE purchase SET latest = id + 1;
INSERT INTO remark VALUES (1, 10, 11), (2, 10, 12), (3, 20, 11);
CREATE VIEW left_over AS
    SELECT 'buyer' AS of, id FROM buyer WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'purchase', id FROM purchase WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'item', id FROM item WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'remark', id FROM remark WHERE deleted_at IS NOT NULL ORDER BY 1, 2;
SELECT tombstone.soft_delete('1', 'buyer') > 0 AS deleted;
SELECT of, count(*) FROM left_over GROUP BY of ORDER BY of;
SELECT tombstone.restore('1', 'buyer');
TABLE left_over;
-- Where one of them cannot come back, neither do those that need it; the others do.
SELECT tombstone.soft_delete('21', 'item') > 0 AS deleted;
TABLE left_over;
SELECT tombstone.soft_delete('1', 'buyer') > 0 AS deleted;
SELECT tombstone.restore('1', 'buyer');
TABLE left_over;
SELECT tombstone.restore('21', 'item');
TABLE left_over;

--
-- Keys of several columns, keys other than the id, keys of other types
--

CREATE TABLE book (isbn text PRIMARY KEY, shelf int, place int, deleted_at timestamptz, UNIQUE (shelf, place));
CREATE TABLE label (id int PRIMARY KEY, shelf bigint, place smallint, deleted_at timestamptz,
    FOREIGN KEY (shelf, place) REFERENCES book (shelf, place) ON DELETE CASCADE);
SELECT tombstone.manage('book');
SELECT tombstone.manage('label');
INSERT INTO book VALUES ('a', 1, 1), ('b', 1, 2), ('c', NULL, NULL);
INSERT INTO label VALUES (1, 1, 1), (2, 1, 2), (3, 1, NULL), (4, NULL, NULL);
SELECT * FROM tombstone.soft_delete_many('{a, c}', 'book');
SELECT id FROM label WHERE deleted_at IS NOT NULL;
SELECT tombstone.restore('1', 'label');
\echo :SQLSTATE
SELECT tombstone.restore('a', 'book');
SELECT id FROM label WHERE deleted_at IS NOT NULL;

--
-- RESTRICT and NO ACTION: live children keep their parent alive
--

CREATE TABLE customer (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer ON DELETE RESTRICT, deleted_at timestamptz);
CREATE TABLE invoice (id int PRIMARY KEY, customer int REFERENCES customer, deleted_at timestamptz);
SELECT tombstone.manage('customer');
SELECT tombstone.manage('orders');
SELECT tombstone.manage('invoice');
INSERT INTO customer VALUES (1), (2), (3);
INSERT INTO orders VALUES (10, 1);
INSERT INTO invoice VALUES (20, 2);
SELECT tombstone.soft_delete('1', 'customer');
\echo :SQLSTATE
UPDATE customer SET deleted_at = now() WHERE id = 2;
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{1, 2, 3}', 'customer');
-- Deleted children do not, but neither do they come back without it.
SELECT tombstone.soft_delete('10', 'orders') > 0 AS deleted;
SELECT tombstone.soft_delete('1', 'customer') > 0 AS deleted;
SELECT tombstone.restore('10', 'orders');
\echo :SQLSTATE
-- They do come back after it; RESTRICT brings nothing back by itself.
SELECT tombstone.restore('1', 'customer');
SELECT tombstone.state('10', 'orders');
SELECT tombstone.restore('10', 'orders');
-- Both in one statement will do as well.
WITH o AS (UPDATE orders SET deleted_at = now() WHERE customer = 1)
UPDATE customer SET deleted_at = now() WHERE id = 1;
SELECT tombstone.state('1', 'customer'), tombstone.state('10', 'orders');

--
-- SET NULL, SET DEFAULT: nothing until the purge
--

CREATE TABLE team (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE member (id int PRIMARY KEY, team int REFERENCES team ON DELETE SET NULL, deleted_at timestamptz);
SELECT tombstone.manage('team');
SELECT tombstone.manage('member');
INSERT INTO team VALUES (1);
INSERT INTO member VALUES (10, 1), (11, 1);
SELECT tombstone.soft_delete('1', 'team') > 0 AS deleted;
SELECT tombstone.soft_delete('11', 'member') > 0 AS deleted;
-- A member of a deleted team may return, as there may be one that never left.
SELECT tombstone.restore('11', 'member');
SELECT * FROM member ORDER BY id;
SELECT tombstone.purge('1', 'team');
SELECT * FROM member ORDER BY id;

--
-- Tables that are not managed
--

-- A soft delete is an UPDATE: to a child that is not managed it is nothing at all.
CREATE TABLE badge (id int PRIMARY KEY, member int REFERENCES member ON DELETE CASCADE);
INSERT INTO badge VALUES (100, 10);
SELECT tombstone.soft_delete('10', 'member') > 0 AS deleted;
SELECT * FROM badge;
SELECT tombstone.restore('10', 'member');
-- Managed from now on, it follows.
SELECT tombstone.manage('badge', 'in_place');
SELECT tombstone.soft_delete('10', 'member') > 0 AS deleted;
SELECT tombstone.state('100', 'badge');

--
-- Rights: a cascade is the foreign key's doing, and needs no right of the user's on the child
--

CREATE ROLE regress_moderator;
GRANT USAGE ON SCHEMA tree TO regress_moderator;
GRANT SELECT, UPDATE ON channel TO regress_moderator;
INSERT INTO channel VALUES (7);
INSERT INTO message VALUES (71, 7, 'seven');
SET ROLE regress_moderator;
SELECT * FROM message;
SELECT tombstone.soft_delete('7', 'channel', 'off topic') > 0 AS deleted;
RESET ROLE;
SELECT tombstone.state('71', 'message');
SELECT relation, e.cause, e.actor, e.reason FROM tombstone.event e JOIN tombstone.managed m USING (managed) ORDER BY seq DESC LIMIT 2;
SET ROLE regress_moderator;
SELECT tombstone.restore('7', 'channel');
RESET ROLE;
SELECT tombstone.state('71', 'message');

-- With the tables' owners different people, each acts on their own.
CREATE ROLE regress_author;
GRANT USAGE, CREATE ON SCHEMA tree TO regress_author;
ALTER TABLE message OWNER TO regress_author;
GRANT REFERENCES, SELECT ON channel TO regress_author;
SET ROLE regress_moderator;
SELECT tombstone.soft_delete('7', 'channel') > 0 AS deleted;
RESET ROLE;
SELECT tombstone.state('71', 'message');

DROP SCHEMA tree CASCADE;
DROP ROLE regress_moderator;
DROP ROLE regress_author;

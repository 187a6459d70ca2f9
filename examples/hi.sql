-- A chat (hi). Messages expire 90 days after they were sent, channels 90 days after their last message. What is deleted is
-- blanked at once and kept for a week, so that clients who were away can be told; then it goes. Clients begin with a
-- snapshot, and follow a stream of events from there.
--
-- psql -f examples/hi.sql, in a database with UTF8 encoding; everything happens in the schema hi.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tombstone;
DROP SCHEMA IF EXISTS hi CASCADE;
CREATE SCHEMA hi;
SET search_path = hi;

CREATE TABLE channel (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE message (
    id      text PRIMARY KEY,
    channel text NOT NULL REFERENCES channel ON DELETE CASCADE,
    sender  text NOT NULL,
    body    text NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT now()
);

-- Two calls. With events => 'all' creates are in the stream as well; event_retention => NULL keeps them for as long as the
-- record lives. Expiry, and the purge after a week, are a background worker's; where there is none, CALL tombstone.maintain().
SELECT tombstone.manage('channel', layout => 'in_place', kind => $$'channel'$$, redact => '{"name": ""}',
                        retention => '7 days', expire_after => '90 days',
                        expire_from => '(SELECT COALESCE(max(m.sent_at), created_at) FROM hi.message m WHERE m.channel = channel.id)',
                        events => 'all', channel => 'hi', event_retention => NULL);
SELECT tombstone.manage('message', layout => 'in_place', kind => $$'message'$$, redact => '{"body": ""}',
                        retention => '7 days', expire_after => '90 days', expire_from => 'sent_at',
                        events => 'all', channel => 'hi', event_retention => NULL);

INSERT INTO channel VALUES ('C1', 'general'), ('C2', 'gossip');
INSERT INTO message VALUES ('M1', 'C1', 'ada', 'hello'), ('M2', 'C2', 'bob', 'have you heard?');

-- GET /api/boot: what there is, and the place in the stream that belongs to it, in one snapshot.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tombstone.cursor() AS place \gset
SELECT id, name FROM channel WHERE deleted_at IS NULL ORDER BY id;
SELECT id, channel, sender, body FROM message WHERE deleted_at IS NULL ORDER BY id;
COMMIT;

-- GET /api/events: the stream from a place on, in hi's own words. The data is read when the stream is, with the reader's
-- rights: that of a deleted channel or message is blank.
CREATE FUNCTION events(place text) RETURNS TABLE (type text, event text, id text, content text, deleted boolean)
LANGUAGE sql STABLE AS $$
    SELECT kind,
           CASE op WHEN 'create' THEN CASE kind WHEN 'channel' THEN 'created' ELSE 'sent' END
                   WHEN 'delete' THEN CASE deletion_type WHEN 'soft' THEN 'deleted' ELSE 'purged' END
                   ELSE op END,
           id,
           CASE op WHEN 'create' THEN '"' || COALESCE(data ->> 'name', data ->> 'body') || '"' END,
           CASE op WHEN 'create' THEN deleted_at IS NOT NULL END
    FROM tombstone.replay(place, with_data => true)
$$;

INSERT INTO message VALUES ('M3', 'C2', 'ada', 'no, tell me!');
SELECT * FROM events(:'place');

-- DELETE /api/channels/C2: the name is blank at once, and so are the bodies of the messages that fall with it.
SELECT tombstone.soft_delete('C2', 'channel') IS NOT NULL AS deleted;
SELECT c.id, c.name, m.id AS message, m.body FROM channel c JOIN message m ON m.channel = c.id WHERE c.id = 'C2' ORDER BY m.id;

-- A client that was connected gets the deletions. One that begins with the stream's beginning gets tombstones for what was
-- created: deleted, and blank; then the deletions.
SELECT * FROM events(:'place') WHERE event = 'deleted';
SELECT * FROM events(NULL);

-- 410 Gone, and 404 Not Found.
SELECT tombstone.state('C2', 'channel'), tombstone.state('C3', 'channel');

-- A client loses its connection here, and knows C1, and M1 in it.
SELECT tombstone.cursor() AS away \gset
INSERT INTO channel VALUES ('C4', 'secrets');
INSERT INTO message VALUES ('M4', 'C4', 'eve', 'psst'), ('M5', 'C1', 'bob', 'anybody here?');
SELECT tombstone.soft_delete('M1', 'message') IS NOT NULL AND tombstone.soft_delete('C4', 'channel') IS NOT NULL AS deleted;

-- Seven days later they are purged. (Whoever cannot wait for that long puts them eight days back.)
UPDATE channel SET deleted_at = deleted_at - interval '8 days' WHERE deleted_at IS NOT NULL;
UPDATE message SET deleted_at = deleted_at - interval '8 days' WHERE deleted_at IS NOT NULL;
SELECT relation, action, records FROM tombstone.preview();
CALL tombstone.maintain();

-- Their creation and deletion have left the stream: it says of them that they are gone, and nothing else.
SELECT * FROM events(NULL);

-- The client is back. C4 came and went while it was away, M1 was deleted and purged: it ends with the picture that whoever
-- begins now gets.
CREATE TABLE client (id text PRIMARY KEY);
INSERT INTO client VALUES ('C1'), ('M1');
INSERT INTO client SELECT id FROM events(:'away') WHERE event IN ('created', 'sent') AND NOT deleted;
DELETE FROM client USING events(:'away') e WHERE e.id = client.id AND e.event IN ('deleted', 'purged');
SELECT id FROM client ORDER BY id;
SELECT id FROM channel WHERE deleted_at IS NULL UNION SELECT id FROM message WHERE deleted_at IS NULL ORDER BY id;

-- Ninety days later all is silent but for one message in C1, sent in time. What was said before that expires; C1 stays for
-- that message's sake, C5, where nobody ever said anything, does not.
INSERT INTO channel VALUES ('C5', 'void', now() - interval '91 days');
UPDATE channel SET created_at = created_at - interval '1 year' WHERE id = 'C1';
UPDATE message SET sent_at = sent_at - interval '91 days' WHERE channel = 'C1';
INSERT INTO message VALUES ('M6', 'C1', 'bob', 'still here');
SELECT relation, action, records FROM tombstone.preview() WHERE action = 'expire';
CALL tombstone.maintain();
SELECT id, name, deleted_at IS NOT NULL AS deleted FROM channel ORDER BY id;
SELECT id, body, deleted_at IS NOT NULL AS deleted FROM message ORDER BY id;
SELECT relation, action, records, outcome FROM tombstone.runs ORDER BY run;

-- Nothing of what was said is left anywhere: the log never had it.
SELECT count(*) AS secrets FROM tombstone.event e WHERE e::text ~ 'psst|secrets|gossip|heard';

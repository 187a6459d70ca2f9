-- Expiry and purge: what is due goes, strictly, in the order children first, and nothing else does. What a worker does by
-- itself CALL tombstone.maintain() does now.

SET client_min_messages = warning; -- how far it has come is told in seconds
\set SHOW_CONTEXT never
SET TimeZone = 'UTC';
CREATE SCHEMA maintenance;
SET search_path = maintenance;

CREATE TABLE author (id int PRIMARY KEY, name text, deleted_at timestamptz);
CREATE TABLE post (
    id int PRIMARY KEY, author int REFERENCES author ON DELETE CASCADE, body text, sent_at timestamptz NOT NULL,
    deleted_at timestamptz
);
SELECT tombstone.manage('author', retention => '7 days'),
       tombstone.manage('post', retention => '7 days', redact => '{"body": ""}', expire_after => '90 days', expire_from => 'sent_at');

--
-- Bounds
--

-- What is exactly as old as the limit is not due; a moment older is. In one transaction now() stands still.
INSERT INTO author VALUES (1, 'ada', NULL), (2, 'bob', NULL);
BEGIN;
INSERT INTO post VALUES
    (1, 1, 'exactly as old', now() - interval '90 days'),
    (2, 1, 'older', now() - interval '90 days 1 microsecond'),
    (3, 1, 'newer', now() - interval '90 days' + interval '1 microsecond');
INSERT INTO post VALUES
    (4, 2, 'exactly', now(), now() - interval '7 days'),
    (5, 2, 'older', now(), now() - interval '7 days 1 microsecond'),
    (6, 2, 'newer', now(), now() - interval '7 days' + interval '1 microsecond');
SELECT relation, action, records, now() - oldest AS oldest, now() - newest AS newest FROM tombstone.preview();
SELECT relation, action, due, lag FROM tombstone.backlog;
ROLLBACK;

-- An expiry is a soft delete: redacted, in the log, undone like any other. A purge is a hard delete.
INSERT INTO post VALUES
    (1, 1, 'young', now(), NULL), (2, 1, 'old', now() - interval '91 days', NULL), (3, 2, 'old', now() - interval '92 days', NULL),
    (4, 2, 'tombstone', now(), now() - interval '8 days');
SELECT relation, action, records FROM tombstone.preview('post');
CALL tombstone.maintain();
SELECT id, body, deleted_at IS NOT NULL AS deleted FROM post ORDER BY id;
SELECT id, op, deletion_type, cause, actor = current_user AS by_us FROM tombstone.replay(NULL) ORDER BY id;
SELECT relation, action, records, outcome, detail FROM tombstone.runs ORDER BY run;
SELECT outcome, count(*) FROM tombstone.deletions CROSS JOIN LATERAL tombstone.undo(deletion) WHERE cause = 'expiry' GROUP BY outcome;

-- With nothing to do there is no run.
UPDATE post SET sent_at = now();
CALL tombstone.maintain();
SELECT count(*) FROM tombstone.runs;

--
-- What is left alone
--

-- A hold, also on a child that would go along.
INSERT INTO author VALUES (10, 'held', now() - interval '8 days'), (11, 'whose post is held', now() - interval '8 days'),
                          (12, 'free', now() - interval '8 days');
INSERT INTO post VALUES (11, 11, 'held', now(), now() - interval '8 days'), (12, 12, 'free', now(), now() - interval '1 day');
SELECT tombstone.hold('10', 'author'), tombstone.hold('11', 'post');
SELECT relation, action, records FROM tombstone.preview();
CALL tombstone.maintain();
SELECT id FROM author WHERE id >= 10 ORDER BY id;
SELECT id FROM post WHERE id >= 10 ORDER BY id;
SELECT relation, action, records, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;
SELECT tombstone.release('10', 'author'), tombstone.release('11', 'post');
CALL tombstone.maintain();
SELECT id FROM author WHERE id >= 10 ORDER BY id;

-- A table that is not managed keeps the tombstone that it refers to, and only that.
CREATE TABLE invoice (id int PRIMARY KEY, author int REFERENCES author);
INSERT INTO author SELECT g, 'gone', now() - interval '8 days' FROM generate_series(20, 60) g;
INSERT INTO invoice VALUES (1, 33), (2, 47);
CALL tombstone.maintain('author');
SELECT id FROM author WHERE id >= 20 ORDER BY id;
SELECT records, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;
DROP TABLE invoice;
CALL tombstone.maintain('author');

-- A trigger of the table that cancels, and one that fails for some rows.
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.name = 'fails' THEN
        RAISE EXCEPTION 'not %', OLD.id USING ERRCODE = 'XX123';
    END IF;
    RETURN CASE OLD.name WHEN 'cancelled' THEN NULL ELSE OLD END;
END $$;
CREATE TRIGGER keep BEFORE DELETE ON author FOR EACH ROW EXECUTE FUNCTION keep();
INSERT INTO author VALUES (70, 'goes', now() - interval '8 days'), (71, 'cancelled', now() - interval '8 days'),
                          (72, 'fails', now() - interval '8 days'), (73, 'goes', now() - interval '8 days');
CALL tombstone.maintain('author');
SELECT id, name FROM author WHERE id >= 70 ORDER BY id;
SELECT records, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;
DROP TRIGGER keep ON author;
CALL tombstone.maintain('author');

-- More than max_purge: none.
INSERT INTO author SELECT g, 'many', now() - interval '8 days' FROM generate_series(80, 89) g;
SELECT tombstone.configure('author', 'max_purge', '9');
CALL tombstone.maintain();
SELECT count(*) FROM author WHERE id >= 80;
SELECT records, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;
SELECT tombstone.configure('author', 'max_purge', '10');
CALL tombstone.maintain();
SELECT count(*) FROM author WHERE id >= 80;
SELECT tombstone.configure('author', 'max_purge', '-1');
\echo :SQLSTATE
SELECT tombstone.configure('author', 'max_purge', 'many');
\echo :SQLSTATE
SELECT tombstone.configure('author', 'max_purge', '110%');
\echo :SQLSTATE
SELECT tombstone.configure('author', 'max_purge', NULL);

-- Or than a share of the rows, live and deleted, as the planner has them. manage() takes a number without quotes, too.
CREATE TABLE limited (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('limited', max_purge => 10);
INSERT INTO limited SELECT g, CASE WHEN g < 12 THEN now() - interval '31 days' END FROM generate_series(1, 100) g;
VACUUM ANALYZE limited;
CALL tombstone.maintain('limited');
SELECT tombstone.configure('limited', 'max_purge', '10.50%');
SELECT max_purge FROM tombstone.tables WHERE relation = 'limited'::regclass;
CALL tombstone.maintain('limited');
SELECT records, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;
SELECT tombstone.configure('limited', 'max_purge', '11%');
CALL tombstone.maintain('limited');
SELECT count(*) FROM limited;
-- With an archive the rows of the bin count as well.
SELECT tombstone.unmanage('limited');
ALTER TABLE limited DROP COLUMN deleted_at;
SELECT tombstone.manage('limited', retention => '1 microsecond', max_purge => '10%');
DELETE FROM limited WHERE id > 91;
VACUUM ANALYZE limited;
ANALYZE limited_tombstone;
CALL tombstone.maintain('limited');
SELECT tombstone.configure('limited', 'max_purge', '20%');
CALL tombstone.maintain('limited');
SELECT tombstone.unmanage('limited');
DROP TABLE limited, limited_tombstone;
-- A small table is counted: of one that was never analyzed the planner supposes ten pages, and 10% of those may be more than all there is.
CREATE TABLE limited (id int PRIMARY KEY, deleted_at timestamptz);
ALTER TABLE limited SET (autovacuum_enabled = false);
SELECT tombstone.manage('limited', max_purge => '10%');
INSERT INTO limited SELECT n, now() - interval '31 days' FROM generate_series(1, 30) AS n;
CALL tombstone.maintain('limited');
SELECT count(*) FROM limited;
SELECT tombstone.unmanage('limited', discard => true);
DROP TABLE limited;
CREATE TABLE limited (id int PRIMARY KEY);
SELECT tombstone.manage('limited', max_purge => 12.5);
\echo :SQLSTATE
DROP TABLE limited;

-- What is paused, until it is resumed; preview() tells all the same.
INSERT INTO author VALUES (90, 'paused', now() - interval '8 days');
SELECT tombstone.pause('author');
SELECT relation, paused, why_paused ~ '^pause\(\) by \w+, ' AS why FROM tombstone.tables;
SELECT records FROM tombstone.preview('author');
CALL tombstone.maintain();
SELECT tombstone.pause(), tombstone.pause();
SELECT relation, paused FROM tombstone.tables;
CALL tombstone.maintain();
SELECT count(*) FROM author WHERE id >= 90;
SELECT tombstone.resume();
SELECT relation, paused, why_paused FROM tombstone.tables;
CALL tombstone.maintain();
SELECT count(*) FROM author WHERE id >= 90;

--
-- Expressions
--

-- hi's rule: a channel's age counts from its last message. Dates and times without a zone are UTC, whatever the session has set.
CREATE TABLE channel (id text PRIMARY KEY, created timestamp NOT NULL, deleted_at timestamptz);
CREATE TABLE message (id int PRIMARY KEY, channel text NOT NULL REFERENCES channel ON DELETE CASCADE, day date NOT NULL, deleted_at timestamptz);
SELECT tombstone.manage('channel', expire_after => '90 days', retention => NULL,
           expire_from => '(SELECT COALESCE(max(m.day), created) FROM maintenance.message m WHERE m.channel = channel.id)'),
       tombstone.manage('message', retention => NULL);
SET TimeZone = 'Asia/Tokyo';
INSERT INTO channel SELECT id, (now() AT TIME ZONE 'UTC') - age FROM (VALUES
    ('empty', interval '91 days'), ('new', interval '0'), ('read', interval '1 year'), ('silent', interval '1 year')) v (id, age);
INSERT INTO message VALUES (1, 'read', current_date - 300), (2, 'read', current_date - 2), (3, 'silent', current_date - 92);
SELECT action, records FROM tombstone.preview('channel');
CALL tombstone.maintain('channel');
SELECT id, deleted_at IS NOT NULL AS deleted FROM channel ORDER BY id;
SELECT id, deleted_at IS NOT NULL AS deleted FROM message ORDER BY id;
-- Cascades are counted with their table in the log, not in the run.
SELECT relation, records FROM tombstone.runs ORDER BY run DESC LIMIT 1;
SELECT relations, cause FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1;
SET TimeZone = 'UTC';

-- Names of ours that the table has as well, the whole row, a composite key, a function of the row.
CREATE TABLE k (n int, c0 timestamptz, k text, deleted_at timestamptz, PRIMARY KEY (k, n));
CREATE FUNCTION born(k) RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT $1.c0';
SELECT tombstone.manage('k', expire_after => '1 day', expire_from => 'maintenance.born(k.*)', retention => '1 day');
INSERT INTO k VALUES (1, now(), 'a', NULL), (2, now() - interval '2 days', 'a', NULL), (1, now() - interval '3 days', 'b', NULL),
                     (3, now(), 'c', now() - interval '2 days');
CALL tombstone.maintain('k');
SELECT k, n, deleted_at IS NOT NULL AS deleted FROM k ORDER BY k, n;
SELECT tombstone.configure('k', 'expire_from', 'c0'), tombstone.restore('{"k": "a", "n": 2}', 'k');
CALL tombstone.maintain('k');
SELECT k, n, deleted_at IS NOT NULL AS deleted FROM k ORDER BY k, n;

-- One that fails stops its table, and no other.
CREATE TABLE fragile (id int PRIMARY KEY, age int NOT NULL, deleted_at timestamptz);
SELECT tombstone.manage('fragile', expire_after => '1 day', expire_from => 'now() - interval ''1 day'' / age');
INSERT INTO fragile VALUES (1, 0);
INSERT INTO author VALUES (95, 'gone', now() - interval '8 days');
SELECT relation, action, records FROM tombstone.preview();
SELECT * FROM tombstone.preview('fragile');
\echo :SQLSTATE
CALL tombstone.maintain();
SELECT count(*) FROM author WHERE id >= 95;
SELECT relation, action, records, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 2;
CALL tombstone.maintain('fragile');
\echo :SQLSTATE

-- An age beyond all dates never comes.
SELECT tombstone.configure('fragile', 'expire_after', '100000 years'), tombstone.configure('fragile', 'expire_from', 'now() - interval ''3000 years''');
CALL tombstone.maintain('fragile');
SELECT id, deleted_at FROM fragile;

DROP TABLE fragile;

--
-- Versions and partitions
--

CREATE TABLE state (id bytea, epoch bigint, value bytea, at timestamptz, deleted_at timestamptz, PRIMARY KEY (id, epoch));
SELECT tombstone.manage('state', version => 'epoch', redact => '{"value": ""}', retention => '1 day',
                        expire_after => '10 days', expire_from => 'at');
INSERT INTO state SELECT 'u', g, 'v', now() - (12 - g) * interval '1 day' FROM generate_series(1, 4) g;
UPDATE state SET deleted_at = now() - interval '2 days' WHERE epoch = 1;
CALL tombstone.maintain('state');
SELECT epoch, value, deleted_at IS NOT NULL AS deleted FROM state ORDER BY epoch;
SELECT id, version, deletion_type, cause FROM tombstone.replay(NULL, relations => '{state}') ORDER BY version, deletion_type;

CREATE TABLE part (id int, place int, deleted_at timestamptz, PRIMARY KEY (id, place)) PARTITION BY LIST (place);
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
SELECT tombstone.manage('part', id => '{id}', retention => '1 day');
-- Rows of one place in their files, in both partitions: the live ones stay.
INSERT INTO part SELECT g, 1, now() - interval '2 days' FROM generate_series(1, 5) g;
INSERT INTO part SELECT g, 2 FROM generate_series(1, 10) g;
CALL tombstone.maintain('part');
SELECT place, count(*) FROM part GROUP BY place;

-- More keys than fit into work_mem, of variable length.
CREATE TABLE big (id text PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('big', retention => '1 day');
INSERT INTO big SELECT g || repeat('x', 60), CASE WHEN g > 10 THEN now() - interval '2 days' END FROM generate_series(1, 20000) g;
SET work_mem = '64kB';
SET tombstone.rate = 0;
CALL tombstone.maintain('big');
RESET work_mem;
RESET tombstone.rate;
SELECT count(*) FROM big;
SELECT records, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;
DROP TABLE big;

-- A row that has lost its name is nobody's record.
CREATE TABLE named (id text NOT NULL UNIQUE, deleted_at timestamptz);
SELECT tombstone.manage('named', id => '{id}', retention => '1 day');
ALTER TABLE named ALTER id DROP NOT NULL;
INSERT INTO named VALUES (NULL, now() - interval '2 days'), ('a', now() - interval '2 days');
CALL tombstone.maintain('named');
SELECT * FROM named WHERE id IS NOT NULL;
SELECT count(*) FROM named;
DROP TABLE named;

-- Rows of a table that inherits from it, made while nobody looked, are not its own: no trigger of ours sees them.
ALTER EVENT TRIGGER tombstone_on_partition DISABLE;
CREATE TABLE heir () INHERITS (author);
ALTER EVENT TRIGGER tombstone_on_partition ENABLE;
INSERT INTO heir VALUES (200, 'not managed', now() - interval '8 days');
INSERT INTO author VALUES (201, 'managed', now() - interval '8 days');
CALL tombstone.maintain('author');
SELECT id FROM author WHERE id >= 200;
DROP TABLE heir;

-- A tree in one table, roots first: its leaves go, and then what they hung on.
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree, deleted_at timestamptz);
SELECT tombstone.manage('tree', retention => '1 day');
INSERT INTO tree SELECT g, CASE WHEN g > 150 THEN g - 150 END, now() - interval '2 days' FROM generate_series(1, 450) g;
CALL tombstone.maintain('tree');
SELECT records > 0 AS some, outcome, detail ~ 'could not be: update or delete on table "tree"' AS why FROM tombstone.runs ORDER BY run DESC LIMIT 1;
CALL tombstone.maintain('tree');
CALL tombstone.maintain('tree');
SELECT count(*) FROM tree;
DROP TABLE tree;

-- A hold outlives the renaming of its key's columns; one that names nothing any more stops the table.
CREATE TABLE pair (tenant text, n numeric, deleted_at timestamptz, PRIMARY KEY (tenant, n));
SELECT tombstone.manage('pair', retention => '1 day');
INSERT INTO pair SELECT 'a', g, now() - interval '2 days' FROM generate_series(1, 3) g;
SELECT tombstone.hold('{"tenant": "a", "n": 1}', 'pair');
ALTER TABLE pair RENAME tenant TO org;
SELECT tombstone.configure('pair', 'id', '{org,n}');
SELECT id FROM tombstone.holds;
CALL tombstone.maintain('pair');
SELECT org, n FROM pair;
DELETE FROM pair;
\echo :SQLSTATE
ALTER TABLE pair ALTER n TYPE date USING date '2026-01-01' + n::int;
INSERT INTO pair VALUES ('b', '2026-01-01', now() - interval '2 days');
CALL tombstone.maintain('pair');
\echo :SQLSTATE
SELECT count(*) FROM pair;
SELECT tombstone.release('{"org": "a", "n": 1}', 'pair');
SELECT tombstone.release(id, 'pair') FROM tombstone.holds;
CALL tombstone.maintain('pair');
SELECT count(*) FROM pair;

--
-- Deferred constraints are checked at once; triggers that sleep are noticed
--

ALTER TABLE post ALTER CONSTRAINT post_author_fkey DEFERRABLE INITIALLY DEFERRED;
INSERT INTO author VALUES (96, 'with posts', now() - interval '8 days');
INSERT INTO post VALUES (96, 96, '', now(), now() - interval '8 days'), (97, 96, '', now(), now() - interval '1 day');
CALL tombstone.maintain();
SELECT id FROM author WHERE id >= 96 UNION ALL SELECT id FROM post WHERE id >= 96;

INSERT INTO author VALUES (98, 'unseen', now() - interval '8 days');
ALTER TABLE author DISABLE TRIGGER USER;
CALL tombstone.maintain('author');
\echo :SQLSTATE
SELECT id FROM author WHERE id >= 98;
ALTER TABLE author ENABLE TRIGGER USER;
CALL tombstone.maintain('author');

-- Code of an owner's that says it was cancelled, and was not, stops its own table and no other.
CREATE FUNCTION cancels(at timestamptz) RETURNS timestamptz LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'not really' USING ERRCODE = 'query_canceled'; END $$;
CREATE TABLE canceller (id int PRIMARY KEY, at timestamptz DEFAULT '2000-01-01', deleted_at timestamptz);
INSERT INTO canceller VALUES (1);
SELECT tombstone.manage('canceller', expire_after => '1 day', expire_from => 'maintenance.cancels(at)');
INSERT INTO author VALUES (97, 'gone', now() - interval '8 days');
SET client_min_messages = error;
CALL tombstone.maintain();
SELECT count(*) FROM author WHERE id = 97;
SELECT outcome, detail FROM tombstone.runs WHERE relation = 'canceller'::regclass;
SET client_min_messages = warning;
DROP TABLE canceller;

--
-- Mistakes
--

BEGIN;
CALL tombstone.maintain();
\echo :SQLSTATE
ROLLBACK;
DO $$ BEGIN CALL tombstone.maintain('author'); END $$;
CALL tombstone.maintain(max_runtime => '0');
\echo :SQLSTATE
CALL tombstone.maintain(max_runtime => NULL);
CREATE TABLE plain (id int PRIMARY KEY);
CALL tombstone.maintain('plain');
\echo :SQLSTATE
SELECT * FROM tombstone.preview('plain');
SELECT tombstone.pause('plain');

-- The session goes on as it was, whatever its default.
SET default_transaction_isolation = 'serializable';
INSERT INTO author VALUES (99, 'gone', now() - interval '8 days');
CALL tombstone.maintain('author');
SELECT count(*) FROM author WHERE id = 99;
BEGIN;
SHOW transaction_isolation;
SHOW search_path;
SHOW lock_timeout;
COMMIT;
RESET default_transaction_isolation;

DROP SCHEMA maintenance CASCADE;

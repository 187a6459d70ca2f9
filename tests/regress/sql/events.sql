-- What becomes an event, and how the log tells it: by every road into a table, with versions, kinds, partitions, cascades
-- and TRUNCATE. What reads the log is in replay.sql, MERGE in merge.sql.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA events;
SET search_path = events;

-- What the log has got since the last time, entry by entry: one for all records that a statement did the same to.
PREPARE news AS
WITH gone AS (DELETE FROM tombstone.event RETURNING *)
SELECT m.relation, CASE WHEN e.restored THEN 'restore' ELSE concat_ws(' ', e.deletion_type, e.op) END AS what,
       ARRAY(SELECT id || COALESCE('@' || version, '') || COALESCE(' is ' || kind, '')
             FROM (SELECT e.ids[least(i, cardinality(e.ids))], e.versions[i], e.kinds[least(i, cardinality(e.kinds))]
                   FROM generate_series(1, greatest(cardinality(e.ids), cardinality(e.versions))) AS i) AS r (id, version, kind)
             ORDER BY id COLLATE "C", version) AS records,
       e.cause
FROM gone e JOIN tombstone.managed m USING (managed) ORDER BY e.seq;

--
-- Deletes only, or everything
--

CREATE TABLE note (id int PRIMARY KEY, body text, deleted_at timestamptz);
SELECT tombstone.manage('note', redact => '{"body": ""}');

-- By default what begins or ends a deletion is an event, and nothing else is.
INSERT INTO note SELECT i, 'text' FROM generate_series(1, 9) AS i;
UPDATE note SET body = 'changed';
UPDATE note SET deleted_at = now() WHERE id < 4;
UPDATE note SET deleted_at = NULL WHERE id = 1;
DELETE FROM note WHERE id = 2;
EXECUTE news;
-- An INSERT has no trigger of ours to pay for, until all events are wanted.
SELECT tgname FROM pg_trigger WHERE tgrelid = 'note'::regclass AND NOT tgisinternal ORDER BY 1;
SELECT tombstone.configure('note', 'events', 'all');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'note'::regclass AND NOT tgisinternal ORDER BY 1;

-- With all of them, live records that are written are events too; 3 is a tombstone, and stays one.
INSERT INTO note VALUES (10, 'text');
INSERT INTO note VALUES (11, 'text'), (12, 'text');
UPDATE note SET body = 'changed again' WHERE id IN (1, 3, 10);
EXECUTE news;
-- A statement that did several things is an entry for each; one that did nothing is none.
UPDATE note SET deleted_at = CASE WHEN deleted_at IS NULL AND id < 11 THEN now() END WHERE id IN (3, 10, 11);
UPDATE note SET body = 'nobody' WHERE id = 99;
DELETE FROM note WHERE id = 99;
INSERT INTO note SELECT * FROM note WHERE id = 99;
EXECUTE news;
-- An update that changes nothing is an update.
UPDATE note SET body = body WHERE id = 11;
-- A row that is born a tombstone is a create; there was nothing to delete.
INSERT INTO note VALUES (13, 'text', '2020-01-01 00:00Z');
-- Under another key it is another record. The log tells of that one, not of the key that is free now.
UPDATE note SET id = 14 WHERE id = 12;
EXECUTE news;
-- The functions take the same road.
SELECT tombstone.soft_delete('14', 'note') > 0 AS deleted;
SELECT tombstone.restore('14', 'note');
SELECT tombstone.purge('14', 'note');
EXECUTE news;

-- Off again, and off for good.
SELECT tombstone.configure('note', 'events', NULL);
INSERT INTO note VALUES (15, 'text');
UPDATE note SET body = 'x' WHERE id = 15;
SELECT tombstone.configure('note', 'events', 'all');
SELECT tombstone.configure('note', 'events', 'all');
INSERT INTO note VALUES (16, 'text');
SELECT tombstone.configure('note', 'events', 'delete');
INSERT INTO note VALUES (17, 'text');
EXECUTE news;
SELECT tombstone.configure('note', 'events', 'some');
\echo :SQLSTATE
SELECT tombstone.configure('note', 'events', 'all');
SELECT tombstone.unmanage('note', discard => true);
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'note'::regclass AND NOT tgisinternal;
INSERT INTO note VALUES (18, 'text');
DROP TABLE note;
DELETE FROM tombstone.event;

--
-- Roads in
--

CREATE TABLE item (id int PRIMARY KEY, n int DEFAULT 0, deleted_at timestamptz);
SELECT tombstone.manage('item', events => 'all');

-- COPY runs no statement of the executor: what it did is logged when the next statement or the transaction ends.
COPY item (id) FROM stdin;
1
2
\.
EXECUTE news;
BEGIN;
COPY item (id) FROM stdin;
3
4
\.
COPY item (id) FROM stdin;
5
\.
UPDATE item SET n = 1 WHERE id = 5;
SAVEPOINT s;
COPY item (id) FROM stdin;
6
\.
ROLLBACK TO s;
COMMIT;
EXECUTE news;
COPY item (id) FROM stdin;
7
1
\.
SELECT count(*) FROM item WHERE id = 7;
EXECUTE news;

-- More records than an entry holds are several entries, and a COPY of many is not kept for its end.
INSERT INTO item SELECT i FROM generate_series(10001, 30000) AS i;
UPDATE item SET deleted_at = now() WHERE id > 10000;
SELECT op, count(*) AS entries, sum(cardinality(ids)) AS records, count(DISTINCT deletion) AS deletions
FROM tombstone.event GROUP BY op ORDER BY op;
DELETE FROM item WHERE id > 10000;
DELETE FROM tombstone.event;

-- An upsert is what it came to, row by row.
INSERT INTO item VALUES (1), (8) ON CONFLICT DO NOTHING;
INSERT INTO item VALUES (1), (9) ON CONFLICT (id) DO UPDATE SET n = 2;
INSERT INTO item VALUES (1), (9) ON CONFLICT (id) DO UPDATE SET n = 3 WHERE item.id = 9;
INSERT INTO item VALUES (1), (2) ON CONFLICT (id) DO UPDATE SET deleted_at = now() WHERE item.deleted_at IS NULL;
INSERT INTO item VALUES (1), (2) ON CONFLICT (id) DO UPDATE SET n = 4;
INSERT INTO item VALUES (1), (2) ON CONFLICT (id) DO UPDATE SET deleted_at = NULL;
EXECUTE news;

-- Several statements in one: each in its own entry.
WITH born AS (INSERT INTO item VALUES (20), (21) RETURNING id),
     changed AS (UPDATE item SET n = 5 WHERE id = 3 RETURNING id),
     gone AS (UPDATE item SET deleted_at = now() WHERE id = 4 RETURNING id),
     purged AS (DELETE FROM item WHERE id = 5 RETURNING id)
SELECT count(*) FROM (TABLE born UNION TABLE changed UNION TABLE gone UNION TABLE purged) AS all_of_them;
SELECT op, deletion_type, ids FROM tombstone.event ORDER BY op, deletion_type;
SELECT count(DISTINCT deletion) AS deletions FROM tombstone.event;
DELETE FROM tombstone.event;

-- UPDATE … FROM, DELETE … USING, a cursor, a view, a rule, a function.
UPDATE item SET n = 6 FROM (VALUES (1), (2)) AS v (id) WHERE item.id = v.id;
DELETE FROM item USING (VALUES (20), (21)) AS v (id) WHERE item.id = v.id;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM item WHERE id IN (2, 3) ORDER BY id FOR UPDATE;
FETCH c;
UPDATE item SET deleted_at = now() WHERE CURRENT OF c;
FETCH c;
DELETE FROM item WHERE CURRENT OF c;
COMMIT;
CREATE VIEW living AS SELECT id, n FROM item WHERE deleted_at IS NULL;
INSERT INTO living VALUES (22, 0);
UPDATE living SET n = 7 WHERE id = 22;
CREATE RULE bury AS ON DELETE TO living DO INSTEAD UPDATE item SET deleted_at = now() WHERE id = OLD.id;
DELETE FROM living WHERE id = 22;
CREATE PROCEDURE write_twice() LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO events.item VALUES (23);
    COMMIT;
    UPDATE events.item SET n = 8 WHERE id = 23;
END $$;
CALL write_twice();
EXECUTE news;

-- What is taken back has not happened: by a savepoint, a handler, a transaction.
BEGIN;
INSERT INTO item VALUES (30);
SAVEPOINT s;
INSERT INTO item VALUES (31);
UPDATE item SET n = 1 WHERE id = 30;
ROLLBACK TO s;
INSERT INTO item VALUES (32);
RELEASE s;
SAVEPOINT t;
INSERT INTO item VALUES (33);
RELEASE t;
COMMIT;
DO $$ BEGIN
    INSERT INTO events.item VALUES (34);
    BEGIN
        INSERT INTO events.item VALUES (35);
        DELETE FROM events.item WHERE id = 30;
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        INSERT INTO events.item VALUES (36);
    END;
END $$;
BEGIN;
INSERT INTO item VALUES (37);
ROLLBACK;
INSERT INTO item VALUES (38), (1);
EXECUTE news;

-- Triggers that write: what they do to other records is told when their own statement ends.
CREATE TABLE audit (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('audit', events => 'all');
CREATE FUNCTION note_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO events.audit VALUES (NEW.id);
    RETURN NEW;
END $$;
CREATE TRIGGER note_down AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION note_down();
INSERT INTO item VALUES (40), (41);
DROP TRIGGER note_down ON item;
CREATE TRIGGER note_down BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION note_down();
INSERT INTO item VALUES (42), (43);
DROP TRIGGER note_down ON item;
-- A constraint trigger that waits for the commit is in time.
CREATE CONSTRAINT TRIGGER note_down AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_down();
INSERT INTO item VALUES (44);
BEGIN;
COPY item (id) FROM stdin;
45
\.
COMMIT;
DROP TRIGGER note_down ON item;
SELECT relation, op, ids FROM tombstone.event JOIN tombstone.managed USING (managed) ORDER BY relation::text, ids;
DELETE FROM tombstone.event;
-- One that cancels the row: no event.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO item VALUES (50);
COPY item (id) FROM stdin;
51
\.
UPDATE item SET n = 9;
DELETE FROM item;
EXECUTE news;
DROP TABLE item, audit CASCADE;

--
-- Partitions
--

CREATE TABLE visit (id int, region text, note text, deleted_at timestamptz, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE visit_eu PARTITION OF visit FOR VALUES IN ('eu');
-- One with its columns in another order, and one that it has lost.
CREATE TABLE visit_us (note text, lost int, deleted_at timestamptz, region text NOT NULL, id int NOT NULL);
ALTER TABLE visit_us DROP COLUMN lost;
ALTER TABLE visit ATTACH PARTITION visit_us FOR VALUES IN ('us');
SELECT tombstone.manage('visit', id => '{id}', events => 'all', kind => 'upper(region) || '' visit''', redact => '{"note": ""}');
-- One that came later, with partitions of its own.
CREATE TABLE visit_more PARTITION OF visit DEFAULT PARTITION BY RANGE (id);
CREATE TABLE visit_low PARTITION OF visit_more FOR VALUES FROM (0) TO (100);

-- Whichever table the statement names, it is the managed table's event.
INSERT INTO visit VALUES (1, 'eu'), (2, 'us'), (3, 'asia');
INSERT INTO visit_eu VALUES (4, 'eu');
INSERT INTO visit_us (id, region) VALUES (5, 'us');
INSERT INTO visit_low VALUES (6, 'asia');
COPY visit (id, region) FROM stdin;
7	eu
8	us
\.
COPY visit_us (id, region) FROM stdin;
9	us
\.
EXECUTE news;
UPDATE visit SET note = 'hello' WHERE id IN (1, 2, 3);
UPDATE visit_us SET deleted_at = now() WHERE id = 2;
UPDATE visit_more SET deleted_at = now() WHERE id = 3;
DELETE FROM visit_us WHERE id = 5;
DELETE FROM visit_low WHERE id = 6;
EXECUTE news;
-- A row that moves is neither deleted nor created: it is updated.
UPDATE visit SET region = 'us' WHERE id IN (1, 4);
UPDATE visit SET region = 'eu' WHERE id = 1;
EXECUTE news;
-- The row inserted next is a new one, even after a move that was rolled back.
BEGIN;
UPDATE visit SET region = 'us' WHERE id = 1;
ROLLBACK;
INSERT INTO visit VALUES (10, 'eu');
UPDATE visit SET region = 'asia' WHERE id = 10;
INSERT INTO visit VALUES (11, 'us');
-- Within one statement as well.
WITH moved AS (UPDATE visit SET region = 'eu' WHERE id IN (10, 11) RETURNING id)
INSERT INTO visit SELECT id + 10, 'eu' FROM moved;
EXECUTE news;
-- Deleted and moved in one, and back: a soft delete and a restore. A tombstone that moves is no event.
UPDATE visit SET region = 'us', note = 'secret', deleted_at = now() WHERE id = 1;
SELECT tableoid::regclass, note FROM visit WHERE id = 1;
UPDATE visit SET region = 'asia' WHERE id = 1;
UPDATE visit SET region = 'eu', deleted_at = NULL WHERE id = 1;
EXECUTE news;
-- An upsert cannot move a row; it can delete it where it is.
INSERT INTO visit VALUES (1, 'eu') ON CONFLICT (id, region) DO UPDATE SET deleted_at = now();
INSERT INTO visit VALUES (1, 'eu') ON CONFLICT (id, region) DO UPDATE SET deleted_at = NULL, note = 'hello';
EXECUTE news;
-- TRUNCATE of one partition, of a partitioned one, of all.
TRUNCATE visit_eu;
TRUNCATE visit_more;
TRUNCATE visit;
EXECUTE news;
-- DETACH and DROP are about tables, not records.
INSERT INTO visit VALUES (1, 'eu'), (2, 'us');
ALTER TABLE visit DETACH PARTITION visit_eu;
INSERT INTO visit_eu VALUES (3, 'eu');
DELETE FROM visit_eu;
DROP TABLE visit_us;
EXECUTE news;
DROP TABLE visit, visit_eu;

--
-- Along foreign keys
--

-- A tree of folders, the letters in them, and stamps that only lose what they refer to.
CREATE TABLE folder (id int PRIMARY KEY, up int REFERENCES folder ON DELETE CASCADE, deleted_at timestamptz);
CREATE TABLE letter (id int PRIMARY KEY, folder int REFERENCES folder ON DELETE CASCADE, deleted_at timestamptz);
CREATE TABLE stamp (id int PRIMARY KEY, letter int REFERENCES letter ON DELETE SET NULL, deleted_at timestamptz);
SELECT tombstone.manage(t::regclass, events => 'all') FROM unnest('{folder, letter, stamp}'::text[]) AS t;
CREATE PROCEDURE fill() LANGUAGE sql AS $$
    INSERT INTO events.folder VALUES (1, NULL), (2, 1), (3, 2), (4, NULL);
    INSERT INTO events.letter VALUES (11, 1), (12, 2), (13, 3), (14, 4);
    INSERT INTO events.stamp VALUES (21, 11), (23, 13), (24, 14);
$$;
CALL fill();
EXECUTE news;
-- A soft delete that cascades is one deletion; what the user asked for is one thing, what followed another. So is its restore.
SELECT tombstone.soft_delete('1', 'folder') > 0 AS deleted;
SELECT count(DISTINCT deletion) FROM tombstone.event;
EXECUTE news;
SELECT tombstone.restore('1', 'folder');
EXECUTE news;
-- A purge leaves it to the foreign keys themselves, here over three generations of one table. SET NULL updates.
DELETE FROM folder WHERE id = 1;
SELECT relation, concat_ws(' ', deletion_type, op) AS what, record, cause
FROM tombstone.event JOIN tombstone.managed USING (managed), unnest(ids) AS record ORDER BY relation::text, record;
SELECT count(DISTINCT deletion) FROM tombstone.event;
DELETE FROM tombstone.event;
SELECT * FROM stamp ORDER BY id;
-- In one statement both what was asked for and what would have followed anyway.
TRUNCATE folder, letter, stamp;
DELETE FROM tombstone.event;
CALL fill();
DELETE FROM tombstone.event;
DELETE FROM folder WHERE id IN (1, 2);
SELECT relation, record, cause FROM tombstone.event JOIN tombstone.managed USING (managed), unnest(ids) AS record
WHERE op = 'delete' ORDER BY relation::text, record;
DELETE FROM tombstone.event;
-- ON UPDATE CASCADE writes the children too.
ALTER TABLE letter DROP CONSTRAINT letter_folder_fkey, ADD FOREIGN KEY (folder) REFERENCES folder ON UPDATE CASCADE ON DELETE CASCADE;
UPDATE folder SET id = 5 WHERE id = 4;
EXECUTE news;

--
-- TRUNCATE is a purge of every row
--

TRUNCATE folder, letter, stamp;
CALL fill();
DELETE FROM tombstone.event;
UPDATE stamp SET deleted_at = now() WHERE id = 24;
-- Tombstones too. One statement, one deletion, also where CASCADE adds tables.
TRUNCATE folder CASCADE;
SELECT count(DISTINCT deletion) FROM tombstone.event WHERE deletion_type = 'hard';
SELECT relation, deletion_type, ids, cause FROM tombstone.event JOIN tombstone.managed USING (managed) ORDER BY relation::text, ids;
SELECT tombstone.state('1', 'folder'), tombstone.state('24', 'stamp');
DELETE FROM tombstone.event;
-- An empty table has nothing to lose; what is rolled back is not lost; what was not committed yet is lost as well.
TRUNCATE folder CASCADE;
CALL fill();
DELETE FROM tombstone.event;
BEGIN;
TRUNCATE stamp;
ROLLBACK;
EXECUTE news;
BEGIN;
INSERT INTO stamp VALUES (25);
SAVEPOINT s;
TRUNCATE stamp;
ROLLBACK TO s;
INSERT INTO stamp VALUES (26);
TRUNCATE stamp RESTART IDENTITY;
COMMIT;
EXECUTE news;
DROP TABLE folder, letter, stamp;

-- Each version is named.
CREATE TABLE page (id int, v int, body text, deleted_at timestamptz, PRIMARY KEY (id, v));
SELECT tombstone.manage('page', version => 'v', events => 'all', kind => '''page''', redact => '{"body": ""}');
INSERT INTO page SELECT id, v, 'text' FROM generate_series(1, 2) AS id, generate_series(1, 3) AS v;
EXECUTE news;
TRUNCATE page;
EXECUTE news;

--
-- Versions
--

INSERT INTO page SELECT 1, v, 'text' FROM generate_series(1, 6) AS v;
INSERT INTO page VALUES (2, 1, 'text');
UPDATE page SET body = 'new' WHERE v = 1;
EXECUTE news;
-- One record's versions name it once.
SELECT tombstone.purge_versions('1', lim => 2, relation => 'page');
SELECT tombstone.tombstone_value_states('1', 4, 'page');
SELECT tombstone.tombstone_value_states('1', 4, 'page');
SELECT tombstone.soft_delete('1', 'page') > 0 AS deleted;
SELECT ids, versions, kinds FROM tombstone.event ORDER BY seq;
EXECUTE news;
SELECT tombstone.restore('1', 'page');
SELECT tombstone.purge('1', 'page');
EXECUTE news;
-- A version that gets another number is the record still.
UPDATE page SET v = 2;
EXECUTE news;
DROP TABLE page;

--
-- Kinds
--

CREATE TABLE thing (id int PRIMARY KEY, kind text, "Kind" varchar(20), n int, deleted_at timestamptz);
CREATE TABLE label (n int PRIMARY KEY, name text);
INSERT INTO label VALUES (1, 'first'), (2, 'second');
SELECT tombstone.manage('thing', events => 'all', kind => 'kind', redact => '{"kind": null, "Kind": "", "n": 0}');
-- A column. The event of a soft delete has the kind that redaction takes away; what comes back has none.
INSERT INTO thing VALUES (1, 'a', 'A', 1), (2, 'b', 'B', 2), (3, NULL, NULL, NULL);
UPDATE thing SET kind = kind || kind;
UPDATE thing SET deleted_at = now(), kind = 'x' WHERE id < 3;
UPDATE thing SET deleted_at = NULL WHERE id = 2;
UPDATE thing SET deleted_at = NULL, kind = 'c' WHERE id = 1;
DELETE FROM thing WHERE id = 1;
DELETE FROM thing WHERE id > 1;
EXECUTE news;
-- One of another name.
SELECT tombstone.configure('thing', 'kind', '"Kind"');
INSERT INTO thing VALUES (1, 'a', 'A', 1), (2, 'b', 'B', 2), (3, NULL, NULL, NULL);
SELECT tombstone.soft_delete('2', 'thing') > 0 AS deleted;
TRUNCATE thing;
EXECUTE news;
-- A constant, with whatever is in it.
SELECT tombstone.configure('thing', 'kind', '''it''''s a "thing"\''');
INSERT INTO thing VALUES (1, 'a', 'A', 1), (2, 'b', 'B', 2);
SELECT tombstone.soft_delete('2', 'thing') > 0 AS deleted;
TRUNCATE thing;
EXECUTE news;
-- An expression, read for many rows at once: 1,500 is more than it keeps waiting.
SELECT tombstone.configure('thing', 'kind', 'CASE n WHEN 3 THEN NULL ELSE kind || n -- a remark');
SELECT tombstone.configure('thing', 'kind', 'CASE n WHEN 3 THEN NULL ELSE kind || n END -- a remark');
INSERT INTO thing VALUES (1, 'a', 'A', 1), (2, 'b', 'B', 2), (3, 'c', 'C', 3);
UPDATE thing SET deleted_at = now() WHERE id > 1;
UPDATE thing SET deleted_at = NULL WHERE id > 1;
TRUNCATE thing;
EXECUTE news;
INSERT INTO thing SELECT i, 'k', 'K', i FROM generate_series(1, 1500) AS i;
SELECT cardinality(ids) AS records, bool_and(kind IS NOT DISTINCT FROM CASE id WHEN '3' THEN NULL ELSE 'k' || id END) AS right_kinds
FROM tombstone.event, unnest(ids, kinds) AS r (id, kind) GROUP BY 1;
DELETE FROM thing;
DELETE FROM tombstone.event;
-- One that asks another table, by its own name, and with the owner's rights.
SELECT tombstone.configure('thing', 'kind', '(SELECT name FROM events.label WHERE label.n = thing.n)');
INSERT INTO thing VALUES (1, 'a', 'A', 1), (2, 'b', 'B', 2), (3, 'c', 'C', 3);
CREATE ROLE regress_ed;
GRANT USAGE ON SCHEMA events TO regress_ed;
GRANT ALL ON thing TO regress_ed;
SET ROLE regress_ed;
UPDATE events.thing SET n = 2 WHERE id = 1;
TRUNCATE events.thing;
RESET ROLE;
EXECUTE news;
-- The row as a whole.
SELECT tombstone.configure('thing', 'kind', 'to_jsonb(thing) ->> ''Kind''');
INSERT INTO thing VALUES (1, 'a', 'A', 1), (2, 'b', 'B', 2);
CREATE FUNCTION kind_of(events.thing) RETURNS text LANGUAGE sql AS $$ SELECT $1.kind || ' by function' $$;
SELECT tombstone.configure('thing', 'kind', 'events.kind_of(thing)');
INSERT INTO thing VALUES (3, 'c', 'C', 3);
TRUNCATE thing;
EXECUTE news;
-- One that fails, fails the statement, and nothing has happened.
INSERT INTO thing VALUES (1, 'a', 'A', 1), (2, 'b', 'B', 0);
DELETE FROM tombstone.event;
SELECT tombstone.configure('thing', 'kind', '(1 / n)::text');
UPDATE thing SET deleted_at = now();
\echo :SQLSTATE
INSERT INTO thing VALUES (3, 'c', 'C', 0);
\echo :SQLSTATE
COPY thing (id, n) FROM stdin;
4	0
\.
TRUNCATE thing;
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{1, 2}', 'thing');
SELECT id, deleted_at IS NOT NULL AS deleted FROM thing ORDER BY id;
EXECUTE news;
-- A kind that is no text is shown as one; a row is none.
SELECT tombstone.configure('thing', 'kind', 'n');
SELECT tombstone.configure('thing', 'kind', 'id > 1');
SELECT tombstone.configure('thing', 'kind', 'ROW(id, n)');
\echo :SQLSTATE
SELECT tombstone.configure('thing', 'kind', 'count(*)');
\echo :SQLSTATE
DELETE FROM thing;
EXECUTE news;
-- In a partition, whatever the order of its columns.
CREATE TABLE part (id int PRIMARY KEY, kind text, deleted_at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE part_low (lost int, deleted_at timestamptz, kind text, id int NOT NULL);
ALTER TABLE part_low DROP COLUMN lost;
ALTER TABLE part ATTACH PARTITION part_low FOR VALUES FROM (0) TO (10);
CREATE TABLE part_high PARTITION OF part FOR VALUES FROM (10) TO (20);
CREATE FUNCTION kind_of(events.part) RETURNS text LANGUAGE sql AS $$ SELECT $1.kind || ' by function' $$;
SELECT tombstone.manage('part', events => 'all', kind => 'part.kind || ''!''');
INSERT INTO part VALUES (1, 'low'), (11, 'high');
UPDATE part SET deleted_at = now() WHERE id = 1;
SELECT tombstone.configure('part', 'kind', 'events.kind_of(part)');
UPDATE part SET deleted_at = now() WHERE id = 11;
UPDATE part SET id = 12, deleted_at = NULL WHERE id = 1;
TRUNCATE part_high;
SELECT tombstone.configure('part', 'kind', 'kind');
INSERT INTO part VALUES (1, 'low'), (11, 'high');
TRUNCATE part;
SELECT op, id, kind FROM tombstone.event e, unnest(ids) WITH ORDINALITY AS r (id, i), LATERAL (
    SELECT kinds[least(i, cardinality(kinds))] AS kind) AS k ORDER BY seq, i;

DROP SCHEMA events CASCADE;
DROP ROLE regress_ed;

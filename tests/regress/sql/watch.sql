-- The watcher: who may have what watched, how missing records are found, and what keeps them from being deleted. The outside source
-- is a table here; what a real one does on its own (be slow, be down, change in between) is in the client tests.
\set SHOW_CONTEXT never
\set VERBOSITY default
SET client_min_messages = error; -- what is told besides, runs say as well
DROP EXTENSION IF EXISTS pg_tombstone CASCADE; -- runs are numbered from 1
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA watching;
SET search_path = watching;

CREATE TABLE source (id text PRIMARY KEY);
CREATE FUNCTION counted(ids text[]) RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM watching.source WHERE id = ANY (ids));
CREATE FUNCTION listed(ids text[]) RETURNS SETOF text LANGUAGE sql
    BEGIN ATOMIC SELECT id FROM watching.source WHERE id = ANY (ids); END;

CREATE TABLE record (id int PRIMARY KEY, body text, deleted_at timestamptz);
SELECT tombstone.manage('record', retention => '1 day', notify => 'none');
-- What the last run was, without what differs from time to time.
CREATE VIEW last_run AS
    SELECT action, asked, missing, records, restored, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;
-- A fresh start: records 1 to n, all of them in the source.
CREATE FUNCTION begin_anew(n int) RETURNS void LANGUAGE sql AS $$
    DELETE FROM watching.record; DELETE FROM watching.source;
    INSERT INTO watching.record SELECT g, 'body' FROM generate_series(1, n) g;
    INSERT INTO watching.source SELECT g::text FROM generate_series(1, n) g;
$$;

--
-- The doors
--

SELECT tombstone.watch('record', 'counted(text[])', every => NULL);
SELECT relation, probe, every, batch, max_missing, restore, strategy, timeout, due_at FROM tombstone.watches;
SELECT tombstone.watch('record', 'listed(text[])', '1 hour', 10, 0.5, false, 'tracker', '2 s');
SELECT relation, probe, every, batch, max_missing, restore, strategy, timeout, due_at <= now() AS is_due FROM tombstone.watches;

SELECT tombstone.watch('source', 'counted(text[])');
SELECT tombstone.watch('record', NULL);
SELECT tombstone.watch('record', 'counted(text[])', every => '0');
SELECT tombstone.watch('record', 'counted(text[])', batch => 0);
SELECT tombstone.watch('record', 'counted(text[])', batch => 100001);
SELECT tombstone.watch('record', 'counted(text[])', max_missing => 1.1);
SELECT tombstone.watch('record', 'counted(text[])', max_missing => 'NaN');
SELECT tombstone.watch('record', 'counted(text[])', restore => NULL);
SELECT tombstone.watch('record', 'counted(text[])', strategy => 'guess');
SELECT tombstone.watch('record', 'counted(text[])', timeout => '-1 s');
SELECT tombstone.watch('record', 'counted(text[])', timeout => '301 s');
-- What is no probe.
SELECT tombstone.watch('record', 'lower(text)');
SELECT tombstone.watch('record', 'array_to_string(anyarray, text)');
CREATE FUNCTION words(ids text[]) RETURNS text LANGUAGE sql RETURN 'many';
CREATE FUNCTION variable(VARIADIC ids text[]) RETURNS bigint LANGUAGE sql RETURN 1;
CREATE PROCEDURE procedure(ids text[]) LANGUAGE sql AS '';
SELECT tombstone.watch('record', 'words(text[])');
SELECT tombstone.watch('record', 'variable(text[])');
SELECT tombstone.watch('record', 'procedure(text[])');
-- What pg_upgrade refuses is in none of the extension's tables: a function's name is kept, not its number.
SELECT attrelid::regclass, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'tombstone'::regnamespace AND relkind = 'r'
  AND atttypid IN ('regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype, 'regconfig'::regtype,
                   'regdictionary'::regtype, 'regcollation'::regtype, 'regnamespace'::regtype);
-- It was none of these.
SELECT probe, batch FROM tombstone.watches;

SELECT tombstone.unwatch('record');
SELECT tombstone.unwatch('record');
SELECT * FROM tombstone.reconcile('record', '{1}');
SELECT * FROM tombstone.watches;

--
-- Found by counting, and by listing
--

SELECT begin_anew(200);
DELETE FROM source WHERE id IN ('7', '8', '111');
SELECT tombstone.watch('record', 'counted(text[])', batch => 50);
-- Named by hand: what is missing, what is there, what is no record, what could be none; some of them twice. 2 of 9 are too many.
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', '{7,8,1,2,3,4,5,6,9,7,1000,x,NULL}');
SELECT * FROM tombstone.suspects ORDER BY id;
-- Said, not done; what would go is to be looked at. What an earlier run has found is so as well, until a pass begins.
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', dry_run => true);
TABLE last_run;
SELECT * FROM tombstone.suspects ORDER BY run, id;
-- Confirmed can only be what is named: no ids are all ids, and an outage has none of them.
SELECT * FROM tombstone.reconcile('record', (SELECT array_agg(id) FROM tombstone.suspects WHERE run = 1000), confirm => true);
SELECT asked, missing, outcome FROM tombstone.reconcile('record', ARRAY(SELECT id FROM tombstone.suspects WHERE run = 1000), confirm => true);
-- A transaction that keeps its snapshot would not see a second answer.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM tombstone.reconcile('record', '{1}');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT asked, missing, outcome FROM tombstone.reconcile('record', '{1}', dry_run => true);
ROLLBACK;
SELECT count(*) FROM record WHERE deleted_at IS NOT NULL;
TABLE last_run;
-- Done. What is deleted already is not asked after again, but for what the watcher itself has deleted.
SELECT asked, missing, questions, outcome, detail FROM tombstone.reconcile('record');
SELECT asked, missing, questions, outcome, detail FROM tombstone.reconcile('record');
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;
SELECT id, op, deletion_type, cause FROM tombstone.replay(NULL, relations => '{record}') WHERE cause = 'reconcile' ORDER BY id;
-- Each batch is a deletion of its own, also within one transaction, and undone by itself.
SELECT relations, cause FROM tombstone.deletions WHERE cause = 'reconcile' ORDER BY deletion;
SELECT outcome, count(*) FROM tombstone.undo((SELECT min(deletion) FROM tombstone.deletions WHERE cause = 'reconcile')) GROUP BY outcome;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;

-- What the same transaction deletes after it is none of a watcher's business.
DELETE FROM source WHERE id = '150';
BEGIN;
SELECT asked, missing, outcome FROM tombstone.reconcile('record');
SELECT tombstone.soft_delete('151', 'record') > 0 AS deleted;
COMMIT;
SELECT relations, cause FROM tombstone.deletions ORDER BY deletion DESC LIMIT 2;

-- One question a batch, and two more where something is missing, where the source says which it has.
SELECT begin_anew(200);
DELETE FROM source WHERE id IN ('7', '8', '111');
SELECT tombstone.watch('record', 'listed(text[])', batch => 50);
SELECT asked, missing, questions, rounds, outcome FROM tombstone.reconcile('record');
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;

-- A key that is spelt in two ways is one: it does not lack its twin.
CREATE TABLE amount (id numeric PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('amount', notify => 'none');
INSERT INTO amount SELECT generate_series(1, 7);
CREATE FUNCTION counted_amounts(ids text[]) RETURNS bigint LANGUAGE sql
    RETURN (SELECT count(*) FROM generate_series(1, 7) n WHERE n = ANY (ids::numeric[]));
SELECT tombstone.watch('amount', 'counted_amounts(text[])', every => NULL);
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('amount', '{1,1.0,2,3,4,5,6,7.00}');
SELECT count(*) FROM amount WHERE deleted_at IS NOT NULL;
SELECT tombstone.watch_now('amount');
SELECT tombstone.watch_now('source');
DROP TABLE amount;

-- By a pass, with each strategy; the last batches are even. It is due at once, then after a week.
CREATE PROCEDURE pass(strategy text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM begin_anew(205);
    DELETE FROM source WHERE id::int % 9 = 0;
    PERFORM tombstone.watch('record', 'counted(text[])', batch => 100, strategy => pass.strategy);
    COMMIT;
END $$;
CALL pass('level');
CALL tombstone.maintain('record');
TABLE last_run;
SELECT count(*), bool_and(id % 9 = 0) FROM record WHERE deleted_at IS NOT NULL;
SELECT due_at > now() + interval '6 days' AS next_week FROM tombstone.watches;
SELECT count(*) AS runs FROM tombstone.runs \gset
CALL tombstone.maintain('record');
SELECT count(*) - :runs AS more FROM tombstone.runs;
CALL pass('level*');
CALL tombstone.maintain('record');
TABLE last_run;
SELECT count(*), bool_and(id % 9 = 0) FROM record WHERE deleted_at IS NOT NULL;
CALL pass('tracker');
CALL tombstone.maintain('record');
TABLE last_run;
SELECT count(*), bool_and(id % 9 = 0) FROM record WHERE deleted_at IS NOT NULL;
DROP PROCEDURE pass;
-- A table without records is soon asked after.
SELECT begin_anew(0);
SELECT tombstone.watch('record', 'counted(text[])');
CALL tombstone.maintain('record');
TABLE last_run;

--
-- What keeps records from being deleted
--

-- Too many of one batch: nothing of the whole run.
SELECT begin_anew(100);
DELETE FROM source WHERE id = '1' OR id::int > 95;
SELECT tombstone.watch('record', 'counted(text[])', batch => 20);
CALL tombstone.maintain('record');
TABLE last_run;
SELECT count(*) FROM record WHERE deleted_at IS NOT NULL;
-- Somebody has looked at them, and confirms it.
SELECT id FROM tombstone.suspects ORDER BY id::int;
SELECT asked, missing, outcome FROM tombstone.reconcile('record', ARRAY(SELECT id FROM tombstone.suspects), confirm => true);
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;

-- A little more than may be; exactly as many.
SELECT begin_anew(100);
DELETE FROM source WHERE id::int % 7 = 0;
SELECT tombstone.watch('record', 'counted(text[])', batch => 50, max_missing => 0.13);
CALL tombstone.maintain('record');
TABLE last_run;
SELECT tombstone.watch('record', 'counted(text[])', batch => 50, max_missing => 0.14);
CALL tombstone.maintain('record');
TABLE last_run;

-- A source that has nothing at all is down, or empty.
SELECT begin_anew(100);
TRUNCATE source;
SELECT tombstone.watch('record', 'counted(text[])', max_missing => 1);
CALL tombstone.maintain('record');
TABLE last_run;
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SELECT count(*) FROM record WHERE deleted_at IS NOT NULL;

-- Answers that cannot be, and none. A batch is tried a few times, then left; a source that fails thrice in a row is given up.
CREATE FUNCTION odd(ids text[]) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    CASE current_setting('watching.how')
        WHEN 'too many' THEN RETURN cardinality(ids) + 1;
        WHEN 'less than nothing' THEN RETURN -1;
        WHEN 'null' THEN RETURN NULL;
        WHEN 'error' THEN RAISE 'the source says 503';
        WHEN 'cancelled there' THEN RAISE 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled';
        WHEN 'asleep' THEN PERFORM pg_sleep(60);
        -- One is missing, says the first answer; and then all are there, or none.
        WHEN 'contradicts' THEN RETURN cardinality(ids) - (cardinality(ids) = 10)::int;
        WHEN 'goes down' THEN RETURN CASE cardinality(ids) WHEN 10 THEN 9 ELSE 0 END;
        -- Somebody is at the door no more when it comes to the last questions.
        WHEN 'goes down at last' THEN
            IF cardinality(ids) < 4 THEN RAISE 'the source says 503'; END IF;
            RETURN cardinality(ids) - ('1' = ANY (ids))::int;
        WHEN 'is back' THEN RETURN cardinality(ids) - ('1' = ANY (ids))::int;
        -- Nobody reads record 3.
        WHEN 'unreadable' THEN
            IF ids && '{3}' THEN RAISE 'record 3 is broken'; END IF;
            RETURN (SELECT count(*) FROM watching.source WHERE id = ANY (ids));
    END CASE;
    RETURN 0;
END $$;
-- The same by one that lists: so that the search has no small questions.
CREATE FUNCTION odd_lists(ids text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM watching.odd(ids);
    RETURN QUERY SELECT i FROM unnest(ids) i WHERE i <> '1';
END $$;
SELECT begin_anew(10);
SELECT tombstone.watch('record', 'odd(text[])', timeout => '50 ms');
SET watching.how = 'too many';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SET watching.how = 'less than nothing';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SET watching.how = 'null';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SET watching.how = 'error';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SET watching.how = 'cancelled there';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SET watching.how = 'asleep';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SET watching.how = 'contradicts';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SET watching.how = 'goes down';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
CALL tombstone.maintain('record');
TABLE last_run;
-- The next pass is as due as this one was.
SELECT due_at <= now() AS is_due FROM tombstone.watches;
SELECT begin_anew(100);
SELECT tombstone.watch('record', 'odd(text[])', batch => 10);
SET watching.how = 'error';
CALL tombstone.maintain('record');
TABLE last_run;
SELECT count(*) FROM record WHERE deleted_at IS NOT NULL;
-- One batch fails, the others do not.
SET watching.how = 'unreadable';
DELETE FROM source WHERE id IN ('4', '50');
CALL tombstone.maintain('record');
TABLE last_run;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;

-- Down when it comes to the last questions: the pass waits, and goes on where it was.
SELECT begin_anew(8);
SELECT tombstone.watch('record', 'odd_lists(text[])');
SET watching.how = 'goes down at last';
CALL tombstone.maintain('record');
TABLE last_run;
SELECT id FROM tombstone.suspects;
SET watching.how = 'is back';
CALL tombstone.maintain('record');
TABLE last_run;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;
-- Down in the midst of them: it has answered some, and is waited for all the same.
CREATE SEQUENCE last_questions;
CREATE FUNCTION goes_down(ids text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(ids) < 4 AND nextval('watching.last_questions') BETWEEN 3 AND 99 THEN RAISE 'the source says 503'; END IF;
    RETURN QUERY SELECT i FROM unnest(ids) i WHERE i::int % 10 <> 1;
END $$;
SELECT begin_anew(30);
SELECT tombstone.watch('record', 'goes_down(text[])', batch => 10);
CALL tombstone.maintain('record');
TABLE last_run;
SELECT id FROM tombstone.suspects;
SELECT setval('last_questions', 99);
CALL tombstone.maintain('record');
TABLE last_run;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;

-- Suspects stay until none of them is left, however their ids are spelt.
SELECT begin_anew(20);
SELECT tombstone.watch('record', 'counted(text[])');
DELETE FROM source WHERE id IN ('1', '2', '3', '4', '5');
SELECT asked, missing, outcome FROM tombstone.reconcile('record');
SELECT tombstone.hold('3', 'record');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', '{1,2,3,4,5}', confirm => true);
SELECT count(*) FROM tombstone.suspects;
SELECT tombstone.release('3', 'record');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', '{1,2,03,4,5}', confirm => true);
SELECT count(*) FROM tombstone.suspects;

-- One that names what it was not asked after, or nothing that there is.
CREATE FUNCTION spelt(ids text[]) RETURNS SETOF text LANGUAGE sql RETURN unnest(ids) || ' ';
CREATE FUNCTION null_among(ids text[]) RETURNS SETOF text LANGUAGE sql RETURN unnest('{1,NULL}'::text[]);
SELECT begin_anew(10);
SELECT tombstone.watch('record', 'spelt(text[])');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SELECT tombstone.watch('record', 'null_among(text[])');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
-- One that lists something else each time: what it has named once it has not denied.
CREATE FUNCTION changes_its_mind(ids text[]) RETURNS SETOF text LANGUAGE sql
    RETURN unnest(CASE cardinality(ids) WHEN 10 THEN '{1,2,3,4,6,7,8,9,10}' WHEN 2 THEN '{5}' ELSE ids END);
SELECT tombstone.watch('record', 'changes_its_mind(text[])');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
-- Names are not looked for in anybody's search_path.
CREATE FUNCTION unqualified(ids text[]) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM source WHERE id = ANY (ids)';
SELECT tombstone.watch('record', 'unqualified(text[])');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
-- A statement that times out is the caller's, not the probe's.
SELECT tombstone.watch('record', 'odd(text[])');
SET watching.how = 'asleep';
SET statement_timeout = '100 ms';
SELECT * FROM tombstone.reconcile('record');
RESET statement_timeout;
-- A probe that is gone.
SELECT tombstone.watch('record', 'spelt(text[])');
DROP FUNCTION spelt(text[]);
SELECT * FROM tombstone.reconcile('record');
CALL tombstone.maintain('record');
TABLE last_run;

-- On hold; referred to by a child that may not go along; changed since it was asked after, or deleted; kept by a trigger.
CREATE TABLE child (id int PRIMARY KEY, record int REFERENCES record, deleted_at timestamptz);
SELECT tombstone.manage('child', notify => 'none');
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER keep BEFORE UPDATE ON record FOR EACH ROW WHEN (OLD.body = 'kept') EXECUTE FUNCTION keep();
CREATE FUNCTION changing(ids text[]) RETURNS bigint LANGUAGE plpgsql SET search_path = watching AS $$
BEGIN
    UPDATE record SET body = 'changed' WHERE id = 4 AND body = 'body';
    UPDATE record SET deleted_at = now() WHERE id = 5;
    RETURN counted(ids);
END $$;
SELECT begin_anew(100);
DELETE FROM source WHERE id IN ('1', '2', '3', '4', '5', '6');
INSERT INTO child VALUES (1, 2);
UPDATE record SET body = 'kept' WHERE id = 3;
SELECT tombstone.hold('1', 'record');
SELECT tombstone.watch('record', 'changing(text[])');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', dry_run => true);
CALL tombstone.maintain('record');
TABLE last_run;
SELECT id, body, deleted_at IS NOT NULL AS deleted FROM record WHERE id < 7 ORDER BY id;
-- What is on hold is not counted: nothing follows from it, whatever share it is.
SELECT tombstone.watch('record', 'counted(text[])', max_missing => 0.01);
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', '{1,7,8,9,10,11,12,13,14,15}');
-- Nothing keeps them any more.
SELECT tombstone.watch('record', 'changing(text[])');
SELECT tombstone.release('1', 'record');
DELETE FROM child;
DROP TRIGGER keep ON record;
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;
DROP TABLE child;

-- A trigger that calls itself not ready, about one record, is not ours: the others go.
CREATE FUNCTION not_ready() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'order % is not closed', OLD.id USING ERRCODE = 'object_not_in_prerequisite_state'; END $$;
CREATE TRIGGER not_ready BEFORE UPDATE ON record FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION not_ready();
SELECT begin_anew(40);
DELETE FROM source WHERE id IN ('7', '23', '33');
SELECT tombstone.watch('record', 'counted(text[])', batch => 10);
CALL tombstone.maintain('record');
TABLE last_run;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;
DROP TRIGGER not_ready ON record;

-- Our triggers are disabled: nothing can be deleted, and the run says so.
SELECT begin_anew(20);
DELETE FROM source WHERE id = '1';
ALTER TABLE record DISABLE TRIGGER USER;
SELECT tombstone.watch('record', 'counted(text[])');
CALL tombstone.maintain('record');
TABLE last_run;
ALTER TABLE record ENABLE TRIGGER USER;
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');

--
-- What re-appears
--

CREATE UNIQUE INDEX record_body ON record (body) WHERE deleted_at IS NULL AND body <> 'body';
SELECT begin_anew(100);
UPDATE record SET body = 'unique' WHERE id = 3;
DELETE FROM source WHERE id::int <= 6;
SELECT tombstone.watch('record', 'counted(text[])');
CALL tombstone.maintain('record');
-- One was restored by hand and deleted again, one purged, one is on hold, one's place is taken; the other two may come back.
SELECT tombstone.restore('1', 'record'), tombstone.soft_delete('1', 'record') > 0 AS deleted, tombstone.purge('2', 'record'), tombstone.hold('4', 'record');
INSERT INTO record VALUES (200, 'unique');
INSERT INTO source VALUES ('1'), ('2'), ('3'), ('4'), ('5'), ('6'), ('200');
SELECT tombstone.cursor() AS place \gset
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', dry_run => true);
SELECT tombstone.watch('record', 'counted(text[])');
CALL tombstone.maintain('record');
TABLE last_run;
SELECT id, deleted_at IS NULL AS live FROM record WHERE id <= 6 ORDER BY id;
SELECT id, op, cause FROM tombstone.replay(:'place', relations => '{record}') WHERE restored AND cause = 'reconcile' ORDER BY id;
-- One that a trigger keeps from coming back comes back when it does not.
CREATE TRIGGER keep BEFORE UPDATE ON record FOR EACH ROW WHEN (OLD.id = 4) EXECUTE FUNCTION keep();
SELECT tombstone.release('4', 'record');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', '{4}');
DROP TRIGGER keep ON record;
-- By name, however it is spelt; and not where nobody wants it.
SELECT tombstone.watch('record', 'counted(text[])', restore => false);
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', '{4}');
SELECT tombstone.watch('record', 'counted(text[])');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', '{04}');
SELECT id, deleted_at IS NULL AS live FROM record WHERE id <= 6 ORDER BY id;
DROP INDEX record_body;
-- What redaction has blanked does not come back with it.
SELECT tombstone.configure('record', 'redact', '{"body": ""}');
DELETE FROM source WHERE id = '50';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
INSERT INTO source VALUES ('50');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', '{50}');
SELECT body FROM record WHERE id = 50;
-- The list of what a watcher has deleted does not outlast the tombstones.
DELETE FROM source WHERE id IN ('51', '52');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record');
SELECT id FROM tombstone.vanished ORDER BY id;
UPDATE tombstone.vanished SET deleted_at = deleted_at - interval '2 days' WHERE id <> '52';
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('record', '{60}');
SELECT id FROM tombstone.vanished ORDER BY id;

--
-- Keys of several columns, versions, partitions
--

CREATE TABLE line (tenant text, number int, deleted_at timestamptz, PRIMARY KEY (tenant, number));
SELECT tombstone.manage('line', notify => 'none');
INSERT INTO line SELECT t, n FROM (VALUES ('a'), ('b'), ('"c"')) AS t (t), generate_series(1, 40) n;
INSERT INTO source SELECT json_build_object('tenant', tenant, 'number', number)::text FROM line;
CREATE FUNCTION counted_lines(ids text[]) RETURNS bigint LANGUAGE sql
    RETURN (SELECT count(*) FROM watching.source s, unnest(ids) i WHERE s.id LIKE '{%' AND s.id::jsonb = i::jsonb);
DELETE FROM source WHERE id LIKE '{%' AND id::json ->> 'number' = '17';
SELECT tombstone.watch('line', 'counted_lines(text[])', batch => 25);
CALL tombstone.maintain('line');
TABLE last_run;
SELECT tenant, number FROM line WHERE deleted_at IS NOT NULL ORDER BY tenant;

CREATE TABLE version (id text, epoch int, body text, deleted_at timestamptz, PRIMARY KEY (id, epoch));
SELECT tombstone.manage('version', version => 'epoch', notify => 'none');
INSERT INTO version SELECT 'v' || n, e, 'body' FROM generate_series(1, 60) n, generate_series(1, 3) e;
INSERT INTO source SELECT DISTINCT id FROM version;
DELETE FROM source WHERE id IN ('v5', 'v50');
SELECT tombstone.watch('version', 'counted(text[])', batch => 25);
CALL tombstone.maintain('version');
TABLE last_run;
SELECT id, count(*) FROM version WHERE deleted_at IS NOT NULL GROUP BY id ORDER BY id;
INSERT INTO source VALUES ('v5');
SELECT asked, missing, outcome, detail FROM tombstone.reconcile('version');
SELECT id, count(*) FROM version WHERE deleted_at IS NOT NULL GROUP BY id ORDER BY id;

CREATE TABLE part (id int, day date, deleted_at timestamptz, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT tombstone.manage('part', id => '{id}', notify => 'none');
INSERT INTO part SELECT n, date '2026-01-01' + n FROM generate_series(1, 50) n;
-- An id that two partitions have is asked after once.
INSERT INTO part VALUES (45, '2026-02-27');
SELECT begin_anew(50);
DELETE FROM source WHERE id IN ('20', '45');
SELECT tombstone.watch('part', 'counted(text[])', batch => 20);
CALL tombstone.maintain('part');
TABLE last_run;
SELECT id, day FROM part WHERE deleted_at IS NOT NULL ORDER BY id, day;

--
-- Around it
--

-- What is to be done, and since when: also a pass.
SELECT tombstone.watch('part', 'counted(text[])', every => '1 day');
SELECT relation, action, due, lag > '0' AS overdue FROM tombstone.backlog WHERE action = 'watch' AND relation = 'part'::regclass;
-- Nothing of passes that are over is kept, but what somebody is to look at.
SELECT count(*) FROM tombstone.batch;

-- A table that is paused is not asked after by itself; one that is not watched, by nobody; one that is gone takes it all along.
SELECT tombstone.pause('part');
SELECT tombstone.watch('part', 'counted(text[])');
SELECT count(*) AS runs FROM tombstone.runs \gset
CALL tombstone.maintain('part');
SELECT count(*) - :runs AS more FROM tombstone.runs;
SELECT tombstone.resume('part');
SELECT tombstone.unwatch('part');
CALL tombstone.maintain('part');
SELECT count(*) - :runs AS more FROM tombstone.runs;
SELECT tombstone.unmanage('line', discard => true);
DROP TABLE version;
SELECT relation FROM tombstone.watches ORDER BY relation::text;

DROP SCHEMA watching CASCADE;
SELECT count(*) FROM tombstone.watches;

-- Inquiries led by an outside client: what it is asked, what becomes of its answers, and what keeps records from being deleted. The
-- client is psql here; real ones, several at once, are in the client tests.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE; -- runs are numbered from 1
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA outside;
SET search_path = outside;

CREATE TABLE source (id text PRIMARY KEY);
CREATE TABLE record (id int PRIMARY KEY, body text, deleted_at timestamptz);
SELECT tombstone.manage('record', notify => 'none');
INSERT INTO record SELECT g, 'body' FROM generate_series(1, 100) g;
INSERT INTO source SELECT g::text FROM generate_series(1, 100) g;
CREATE VIEW last_run AS
    SELECT action, asked, missing, records, restored, outcome, detail FROM tombstone.runs ORDER BY run DESC LIMIT 1;

-- Answers all questions of a run, each with what the source has; says how many it was asked.
CREATE FUNCTION answer(run bigint) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    asked record;
    answered int := 0;
BEGIN
    LOOP
        SELECT * INTO asked FROM tombstone.reconcile_questions(run) LIMIT 1;
        EXIT WHEN NOT FOUND;
        PERFORM tombstone.reconcile_answer(run, asked.question, (SELECT count(*) FROM source WHERE id = ANY (asked.ids)));
        answered := answered + 1;
    END LOOP;
    RETURN answered;
END $$;

-- The table need not be watched. One question about each batch to begin with; where nothing is missing that is all.
SELECT tombstone.reconcile_open('record', batch => 30) AS run \gset
SELECT cardinality(ids), ids[1], ids[cardinality(ids)] FROM tombstone.reconcile_questions(:run) ORDER BY ids[1]::int;
SELECT cardinality(ids) > 0 AS asked FROM tombstone.reconcile_questions(:run, lim => 1);
SELECT outcome FROM tombstone.runs WHERE run = :run;
SELECT answer(:run);
TABLE last_run;
SELECT count(*) FROM tombstone.reconcile_questions(:run);

-- Two are missing of the first batch, one of the last: questions get smaller, and the last ones are about those that are found,
-- with one that is there.
DELETE FROM source WHERE id IN ('3', '20', '99');
SELECT tombstone.reconcile_open('record', batch => 25) AS run \gset
SELECT count(tombstone.reconcile_answer(:run, question, (SELECT count(*) FROM source WHERE id = ANY (ids)))) FROM tombstone.reconcile_questions(:run);
SELECT cardinality(ids), ids[1], ids[cardinality(ids)] FROM tombstone.reconcile_questions(:run) ORDER BY ids[1]::int;
SELECT question, ids FROM tombstone.reconcile_questions(:run) ORDER BY ids[1]::int LIMIT 1 \gset
-- Once taken, the same answer is nobody's need any more.
SELECT tombstone.reconcile_answer(:run, :question, (SELECT count(*) FROM source WHERE id = ANY (:'ids')));
SELECT tombstone.reconcile_answer(:run, :question, (SELECT count(*) FROM source WHERE id = ANY (:'ids')));
SELECT answer(:run) > 5 AS answered;
TABLE last_run;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;
-- Each batch is a deletion of its own, though all were answered in one transaction.
SELECT relations FROM tombstone.deletions ORDER BY records DESC;
SELECT tombstone.reconcile_answer(:run, :question, 0);

-- What is there again is restored; what is named by hand is what is asked after.
INSERT INTO source VALUES ('3');
SELECT tombstone.reconcile_open('record', '{3,4,5,20,x}') AS run \gset
SELECT ids FROM tombstone.reconcile_questions(:run) ORDER BY ids;
SELECT answer(:run) > 0 AS answered;
TABLE last_run;
SELECT id FROM record WHERE deleted_at IS NOT NULL ORDER BY id;
SELECT tombstone.reconcile_open('record', '{x,1000}') AS run \gset
TABLE last_run;

--
-- What keeps records from being deleted
--

-- Three of four, and then none of them: that was two questions, for nothing.
SELECT tombstone.reconcile_open('record', '{91,92,93,94}') AS run \gset
SELECT tombstone.reconcile_answer(:run, question, 3) FROM tombstone.reconcile_questions(:run);
SELECT tombstone.reconcile_answer(:run, question, 0) FROM tombstone.reconcile_questions(:run, 1);
SELECT questions FROM tombstone.runs WHERE run = :run;
SELECT tombstone.reconcile_close(:run);

-- The last questions, answered too far apart each time: not for ever.
DELETE FROM source WHERE id = '77';
SELECT tombstone.reconcile_open('record', batch => 50) AS run \gset
DO $$
DECLARE
    this bigint := (SELECT max(run) FROM tombstone.runs);
    asked record;
BEGIN
    FOR i IN 1 .. 200 LOOP
        SELECT * INTO asked FROM tombstone.reconcile_questions(this, 1);
        EXIT WHEN NOT FOUND;
        PERFORM tombstone.reconcile_answer(this, asked.question, (SELECT count(*) FROM outside.source WHERE id = ANY (asked.ids)));
        UPDATE tombstone.suspect SET confirmed_at = confirmed_at - interval '6 min';
    END LOOP;
END $$;
TABLE last_run;
INSERT INTO source VALUES ('77');

-- Too many missing: the run ends at once, whatever else there was to ask. Unless it is confirmed.
DELETE FROM source WHERE id::int BETWEEN 30 AND 39;
SELECT tombstone.reconcile_open('record', batch => 25) AS run \gset
SELECT answer(:run) > 0 AS answered;
SELECT outcome, detail LIKE '%the source lacks %, and max_missing is 0.15; see tombstone.suspects for run ' || :run || '%' AS says_why
FROM last_run;
SELECT count(*) FROM tombstone.suspects;
SELECT count(*) FROM record WHERE id BETWEEN 30 AND 39 AND deleted_at IS NOT NULL;
SELECT tombstone.reconcile_open('record', ARRAY(SELECT id FROM tombstone.suspects WHERE id::int BETWEEN 30 AND 39), confirm => true) AS run \gset
SELECT answer(:run) > 0 AS answered;
SELECT missing = records AS all, outcome FROM last_run;

-- Answers that contradict each other: the batch is asked about anew, and after a few times given up.
SELECT tombstone.reconcile_open('record', '{40,41,42,43,44,45,46,47}') AS run \gset
SELECT question FROM tombstone.reconcile_questions(:run) \gset
SELECT tombstone.reconcile_answer(:run, :question, 7);
SELECT question AS next, ids FROM tombstone.reconcile_questions(:run) \gset
SELECT :'ids' AS ids;
-- Of four, three or four must be there.
SELECT tombstone.reconcile_answer(:run, :next, 2);
SELECT question, ids FROM tombstone.reconcile_questions(:run) \gset
SELECT :'ids' AS ids;
-- Two clients who disagree.
SELECT tombstone.reconcile_answer(:run, :question, 7);
SELECT tombstone.reconcile_answer(:run, :question, 8);
SELECT question FROM tombstone.reconcile_questions(:run) \gset
SELECT tombstone.reconcile_answer(:run, :question, 7);
SELECT tombstone.reconcile_answer(:run, :question, 6);
SELECT question FROM tombstone.reconcile_questions(:run) \gset
SELECT tombstone.reconcile_answer(:run, :question, 7);
SELECT tombstone.reconcile_answer(:run, :question, 6);
TABLE last_run;

-- What nobody could ask is no matter where somebody else has asked it.
SELECT tombstone.reconcile_open('record', '{40,41,42,43,44,45,46,47}') AS run \gset
SELECT question FROM tombstone.reconcile_questions(:run) \gset
SELECT tombstone.reconcile_answer(:run, :question, 7);
SELECT tombstone.reconcile_answer(:run, :question, NULL);
SELECT attempt FROM tombstone.batch WHERE run = :run;
SELECT tombstone.reconcile_close(:run);
-- What cannot be asked is tried a few times, and left; the others are not kept by it.
DELETE FROM source WHERE id = '46';
SELECT tombstone.reconcile_open('record', ARRAY(SELECT g::text FROM generate_series(40, 59) g), batch => 10) AS run \gset
DO $$
DECLARE
    inquiry bigint := (SELECT max(run) FROM tombstone.runs);
    asked record;
BEGIN
    LOOP
        SELECT * INTO asked FROM tombstone.reconcile_questions(inquiry);
        EXIT WHEN NOT FOUND;
        PERFORM tombstone.reconcile_answer(inquiry, asked.question,
            CASE WHEN '55' <> ALL (asked.ids) THEN (SELECT count(*) FROM source WHERE id = ANY (asked.ids)) END);
    END LOOP;
END $$;
TABLE last_run;

-- The source changes at the last moment: nothing is deleted that is there again.
DELETE FROM source WHERE id = '50';
SELECT tombstone.reconcile_open('record', '{50,51,52,53,54,55,56,57}') AS run \gset
DO $$
DECLARE
    inquiry bigint := (SELECT max(run) FROM tombstone.runs);
    asked record;
BEGIN
    FOR round IN 1..4 LOOP
        FOR asked IN SELECT * FROM tombstone.reconcile_questions(inquiry) LOOP
            PERFORM tombstone.reconcile_answer(inquiry, asked.question, (SELECT count(*) FROM source WHERE id = ANY (asked.ids)));
        END LOOP;
    END LOOP;
END $$;
SELECT ids FROM tombstone.reconcile_questions(:run);
INSERT INTO source VALUES ('50');
SELECT answer(:run);
TABLE last_run;
-- The first of the last questions counts for five minutes.
DELETE FROM source WHERE id = '50';
SELECT tombstone.reconcile_open('record', '{50,51,52,53,54,55,56,57}') AS run \gset
DO $$
DECLARE
    inquiry bigint := (SELECT max(run) FROM tombstone.runs);
    asked record;
BEGIN
    LOOP
        SELECT * INTO asked FROM tombstone.reconcile_questions(inquiry);
        EXIT WHEN asked.ids = '{51}';
        PERFORM tombstone.reconcile_answer(inquiry, asked.question, (SELECT count(*) FROM source WHERE id = ANY (asked.ids)));
    END LOOP;
END $$;
SELECT question, ids FROM tombstone.reconcile_questions(:run) \gset
UPDATE tombstone.suspect SET confirmed_at = confirmed_at - interval '5 min' WHERE run = :run;
INSERT INTO source VALUES ('50');
SELECT ids FROM tombstone.reconcile_questions(:run);
SELECT tombstone.reconcile_answer(:run, :question, 1);
SELECT answer(:run) > 0 AS answered;
TABLE last_run;
-- One of those who answer finds nothing at all, whichever of the last questions it is.
DELETE FROM source WHERE id = '50';
SELECT tombstone.reconcile_open('record', '{50,51,52,53,54,55,56,57}') AS run \gset
DO $$
DECLARE
    inquiry bigint := (SELECT max(run) FROM tombstone.runs);
    asked record;
BEGIN
    LOOP
        SELECT * INTO asked FROM tombstone.reconcile_questions(inquiry);
        EXIT WHEN NOT FOUND;
        PERFORM tombstone.reconcile_answer(inquiry, asked.question, CASE
            WHEN asked.question % 16777216 > 100 AND cardinality(asked.ids) = 1 THEN 0
            ELSE (SELECT count(*) FROM source WHERE id = ANY (asked.ids)) END);
    END LOOP;
END $$;
TABLE last_run;

-- The same where its witness goes at that very moment: the two are asked after one by one.
DELETE FROM source WHERE id = '50';
SELECT tombstone.reconcile_open('record', '{50,51,52,53,54,55,56,57}') AS run \gset
DO $$
DECLARE
    inquiry bigint := (SELECT max(run) FROM tombstone.runs);
    asked record;
BEGIN
    LOOP
        SELECT * INTO asked FROM tombstone.reconcile_questions(inquiry);
        EXIT WHEN asked.question % 16777216 > 100; -- the search is over
        PERFORM tombstone.reconcile_answer(inquiry, asked.question, (SELECT count(*) FROM source WHERE id = ANY (asked.ids)));
    END LOOP;
END $$;
SELECT ids FROM tombstone.reconcile_questions(:run);
INSERT INTO source VALUES ('50');
DELETE FROM source WHERE id = '51';
SELECT answer(:run);
TABLE last_run;
INSERT INTO source VALUES ('51');
SELECT count(*) FROM record WHERE id IN (50, 51) AND deleted_at IS NOT NULL;

-- Changed, deleted or held since it was asked after.
DELETE FROM source WHERE id IN ('60', '61', '62', '63');
SELECT tombstone.reconcile_open('record', (SELECT array_agg(id::text) FROM record WHERE id BETWEEN 51 AND 90)) AS run \gset
UPDATE record SET body = 'changed' WHERE id = 60;
SELECT tombstone.hold('61', 'record'), tombstone.soft_delete('62', 'record') > 0 AS deleted;
SELECT answer(:run) > 0 AS answered;
TABLE last_run;
SELECT id, body, deleted_at IS NOT NULL AS deleted FROM record WHERE id BETWEEN 60 AND 63 ORDER BY id;

--
-- What is no question, and no answer
--

SELECT tombstone.reconcile_open('record', '{70,71,72,73}') AS run \gset
SELECT question FROM tombstone.reconcile_questions(:run) \gset
SELECT tombstone.reconcile_answer(:run, :question, 5);
SELECT tombstone.reconcile_answer(:run, :question, -1);
SELECT tombstone.reconcile_answer(:run, NULL, 1);
SELECT tombstone.reconcile_answer(:run, 0, 1);
SELECT tombstone.reconcile_answer(:run, -9223372036854775808, 1);
SELECT tombstone.reconcile_answer(:run, 9223372036854775807, 1);
SELECT tombstone.reconcile_answer(-1, :question, 1);
SELECT * FROM tombstone.reconcile_questions(-1);
SELECT * FROM tombstone.reconcile_questions(NULL);
SELECT * FROM tombstone.reconcile_questions(:run, 0);
SELECT tombstone.reconcile_open('record', batch => 0);
SELECT tombstone.reconcile_open('source');
SELECT tombstone.reconcile_open('record', confirm => true);
SELECT outcome FROM tombstone.runs WHERE run = :run;
SELECT answer(:run);
-- A watch whose probe is gone is none of its business.
CREATE FUNCTION gone(ids text[]) RETURNS bigint LANGUAGE sql RETURN 0;
SELECT tombstone.watch('record', 'gone(text[])', batch => 50);
DROP FUNCTION gone;
SELECT tombstone.reconcile_open('record') AS run \gset
SELECT count(*) FROM tombstone.reconcile_questions(:run);
SELECT tombstone.reconcile_close(:run);
-- A pass of a watcher is no outside client's.
CREATE FUNCTION nothing(ids text[]) RETURNS bigint LANGUAGE sql RETURN 0;
SELECT tombstone.watch('record', 'nothing(text[])');
SET client_min_messages = error;
CALL tombstone.maintain('record');
SELECT max(run) AS run FROM tombstone.runs \gset pass_
SELECT tombstone.reconcile_answer(:pass_run, 1073741824, 1);

-- What nobody is to go on with is closed, once.
SELECT tombstone.reconcile_open('record') AS run \gset
SELECT tombstone.reconcile_close(:run);
SELECT tombstone.reconcile_close(:run);
SELECT count(*) FROM tombstone.reconcile_questions(:run);
SELECT outcome, detail FROM tombstone.runs WHERE run = :run;
SELECT tombstone.reconcile_close(NULL);
-- What is begun and never answered goes with the table.
SELECT tombstone.reconcile_open('record') AS run \gset
SELECT tombstone.release('61', 'record');
DROP TABLE record CASCADE;
SELECT * FROM tombstone.reconcile_questions(:run);
DROP SCHEMA outside CASCADE;

-- The watcher: managed tables that mirror an outside source which never says what it has deleted. Who watches what, how far
-- inquiries have come, and the doors. Written by watch(), unwatch(), maintenance and the reconcile functions alone. What is
-- watched and what watchers have deleted is carried by pg_dump; inquiries are not.

CREATE TABLE tombstone.watched (
    managed     integer      PRIMARY KEY REFERENCES tombstone.managed ON DELETE CASCADE,
    probe       text         NOT NULL, -- not regprocedure, which pg_upgrade refuses
    every       interval     CHECK (every > interval '0'),
    batch       integer      NOT NULL CHECK (batch BETWEEN 1 AND 100000),
    max_missing numeric      NOT NULL CHECK (max_missing BETWEEN 0 AND 1),
    restore     boolean      NOT NULL,
    strategy    text         NOT NULL CHECK (strategy IN ('level', 'level*', 'tracker')),
    timeout     interval     NOT NULL CHECK (timeout > interval '0'),
    due_at      timestamptz  NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE tombstone.watched IS
    'Which managed tables are watched, and how. Read it through the view tombstone.watches; change it with watch() and unwatch().';
COMMENT ON COLUMN tombstone.watched.managed IS 'The managed table.';
COMMENT ON COLUMN tombstone.watched.probe IS 'The function that asks the source, by schema and name: (ids text[]) → how many of them it has, or which.';
COMMENT ON COLUMN tombstone.watched.every IS 'How long after a pass the next one is due; NULL: none is by itself.';
COMMENT ON COLUMN tombstone.watched.batch IS 'The most ids in one question.';
COMMENT ON COLUMN tombstone.watched.max_missing IS 'The share of a batch that may be missing; where more is, nothing is deleted.';
COMMENT ON COLUMN tombstone.watched.restore IS 'Whether what a watcher has deleted is restored when the source has it again.';
COMMENT ON COLUMN tombstone.watched.strategy IS 'How the missing are found by counting: level, level* or tracker.';
COMMENT ON COLUMN tombstone.watched.timeout IS 'How long one question may take.';
COMMENT ON COLUMN tombstone.watched.due_at IS 'When the next pass is due, where every is not NULL.';

CREATE TABLE tombstone.vanished (
    managed    integer     NOT NULL REFERENCES tombstone.managed ON DELETE CASCADE,
    id         text        NOT NULL,
    deleted_at timestamptz NOT NULL,
    PRIMARY KEY (managed, id)
);

COMMENT ON TABLE tombstone.vanished IS
    'What watchers have deleted: each pass asks whether the source has it again. An entry goes when its tombstone is found gone, or is older than the table''s retention.';
COMMENT ON COLUMN tombstone.vanished.managed IS 'The managed table.';
COMMENT ON COLUMN tombstone.vanished.id IS 'The record, as text.';
COMMENT ON COLUMN tombstone.vanished.deleted_at IS 'The stamp of the watcher''s own deletion: one of somebody else''s is not taken back.';

SELECT pg_catalog.pg_extension_config_dump('tombstone.watched', '');
SELECT pg_catalog.pg_extension_config_dump('tombstone.vanished', '');

CREATE TABLE tombstone.inquiry (
    run         bigint  PRIMARY KEY REFERENCES tombstone.run ON DELETE CASCADE,
    phase       text    NOT NULL CHECK (phase IN ('reappeared', 'missing', 'deleting')),
    position    text,
    max_missing numeric CHECK (max_missing BETWEEN 0 AND 1),
    strategy    text    NOT NULL CHECK (strategy IN ('level', 'level*', 'tracker')),
    restore     boolean NOT NULL,
    asked       bigint  NOT NULL DEFAULT 0 CHECK (asked >= 0),
    missing     bigint  NOT NULL DEFAULT 0 CHECK (missing BETWEEN 0 AND asked),
    restored    bigint  NOT NULL DEFAULT 0 CHECK (restored >= 0),
    questions   bigint  NOT NULL DEFAULT 0 CHECK (questions >= 0),
    rounds      bigint  NOT NULL DEFAULT 0 CHECK (rounds >= 0),
    kept        bigint  NOT NULL DEFAULT 0 CHECK (kept >= 0),
    lost        bigint  NOT NULL DEFAULT 0 CHECK (lost >= 0),
    remarks     text[]  NOT NULL DEFAULT '{}'
);

COMMENT ON TABLE tombstone.inquiry IS
    'How far the runs that ask a source have come: enough for any process to go on. Read it through the views runs and activity.';
COMMENT ON COLUMN tombstone.inquiry.run IS 'The run.';
COMMENT ON COLUMN tombstone.inquiry.phase IS 'reappeared: asks after what watchers have deleted; missing: asks after live records; deleting: asks once more, and deletes.';
COMMENT ON COLUMN tombstone.inquiry.position IS 'Of a pass: the id up to which this phase has come.';
COMMENT ON COLUMN tombstone.inquiry.max_missing IS 'The share that may be missing; NULL: somebody has confirmed that any may.';
COMMENT ON COLUMN tombstone.inquiry.strategy IS 'How the missing are found by counting.';
COMMENT ON COLUMN tombstone.inquiry.restore IS 'Whether what re-appears is restored.';
COMMENT ON COLUMN tombstone.inquiry.asked IS 'Live records that the source has answered for.';
COMMENT ON COLUMN tombstone.inquiry.missing IS 'Of these, the records that it has not.';
COMMENT ON COLUMN tombstone.inquiry.restored IS 'Records that it has again, and that were restored.';
COMMENT ON COLUMN tombstone.inquiry.questions IS 'Questions put to it.';
COMMENT ON COLUMN tombstone.inquiry.rounds IS 'Rounds of questions, each known only from the answers to the one before.';
COMMENT ON COLUMN tombstone.inquiry.kept IS 'Records that are missing, and were not deleted all the same.';
COMMENT ON COLUMN tombstone.inquiry.lost IS 'Batches that could not be asked about.';
COMMENT ON COLUMN tombstone.inquiry.remarks IS 'Which of them, and which batches could not be asked about, and why; the first few.';

CREATE TABLE tombstone.batch (
    run      bigint   NOT NULL REFERENCES tombstone.inquiry ON DELETE CASCADE,
    batch    integer  NOT NULL CHECK (batch > 0),
    is_live  boolean  NOT NULL,
    ids      text[]   NOT NULL CHECK (cardinality(ids) > 0),
    marks    text[]   NOT NULL,
    attempt  integer  NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    answers  bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (run, batch),
    CONSTRAINT marks_pair_with_ids CHECK (cardinality(marks) = CASE WHEN is_live THEN cardinality(ids) ELSE 0 END)
);

COMMENT ON TABLE tombstone.batch IS
    'Batches that outlive a process: those that an outside client is being asked about, where what is to be asked next follows from the ids and the answers so far; and those of a pass that have failed, and are to be asked about again.';
COMMENT ON COLUMN tombstone.batch.run IS 'The run.';
COMMENT ON COLUMN tombstone.batch.batch IS 'Counts the batches of a run.';
COMMENT ON COLUMN tombstone.batch.is_live IS 'Whether these are live records, and not tombstones that may have re-appeared in the source.';
COMMENT ON COLUMN tombstone.batch.ids IS 'The records, in the order of their keys.';
COMMENT ON COLUMN tombstone.batch.marks IS 'What tells whether a live record was changed since, parallel to ids.';
COMMENT ON COLUMN tombstone.batch.attempt IS 'How often answers have contradicted each other, and were thrown away.';
COMMENT ON COLUMN tombstone.batch.answers IS 'How many are present, question by question; NULL: not answered yet.';

CREATE TABLE tombstone.suspect (
    run     bigint  NOT NULL REFERENCES tombstone.inquiry ON DELETE CASCADE,
    batch   integer NOT NULL,
    ids     text[]  NOT NULL CHECK (cardinality(ids) > 0),
    marks   text[]  NOT NULL,
    witness text,
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    confirmed_at timestamptz,
    PRIMARY KEY (run, batch),
    CONSTRAINT marks_pair_with_ids CHECK (cardinality(marks) = cardinality(ids))
);

COMMENT ON TABLE tombstone.suspect IS
    'Records that a source has not, before they are deleted; of a run that was refused, for somebody to look at. Read it through the view tombstone.suspects.';
COMMENT ON COLUMN tombstone.suspect.run IS 'The run.';
COMMENT ON COLUMN tombstone.suspect.batch IS 'The batch they were asked in; they are deleted together, as one deletion.';
COMMENT ON COLUMN tombstone.suspect.ids IS 'The records.';
COMMENT ON COLUMN tombstone.suspect.marks IS 'What tells whether a record was changed since, parallel to ids.';
COMMENT ON COLUMN tombstone.suspect.witness IS 'A record of the same batch that the source has: it is asked after together with them, and then alone, so that a source that is down is found out.';
COMMENT ON COLUMN tombstone.suspect.attempt IS 'How often the last questions about them were answered otherwise than expected.';
COMMENT ON COLUMN tombstone.suspect.confirmed_at IS 'Of an outside client''s run: when the first of these two questions was answered as expected; for five minutes that counts.';

CREATE FUNCTION tombstone.watch(
    relation    regclass,
    probe       regprocedure,
    every       interval DEFAULT '7 days',
    batch       integer  DEFAULT 1000,
    max_missing numeric  DEFAULT 0.15,
    restore     boolean  DEFAULT true,
    strategy    text     DEFAULT 'level',
    timeout     interval DEFAULT '30 s'
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'watch_wrapper';
COMMENT ON FUNCTION tombstone.watch IS
    'Has a managed table that you own watched, or watched otherwise than before: passes ask the source after every live record, and soft-delete what it has not. probe: a function (ids text[]) → bigint, how many of them it has, or → setof text, which; called with the table owner''s rights and search_path = pg_catalog, pg_temp. The first pass is due at once. every NULL: only reconcile() asks. batch: the most ids in one question. max_missing: where a greater share of a batch is missing, nothing is deleted. restore: whether what a watcher deleted is restored when the source has it again. strategy: level; level*, for many missing at random; tracker, fewest questions for more computing. timeout: for one question, at most 5 minutes.';

CREATE FUNCTION tombstone.watch_now(relation regclass) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'watch_now_wrapper';
COMMENT ON FUNCTION tombstone.watch_now IS
    'The next pass of a watched table that you own is due now: a worker begins it within a naptime, or after the one that is under way, or once it has rested after one that failed, up to an hour; CALL maintain() at once.';

CREATE FUNCTION tombstone.unwatch(relation regclass) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'unwatch_wrapper';
COMMENT ON FUNCTION tombstone.unwatch IS
    'Ends the watch of a table that you own. What it has deleted stays deleted, and is restored by nobody but you, also if it is watched again.';

CREATE FUNCTION tombstone.reconcile(
    relation regclass,
    ids      anycompatiblearray DEFAULT NULL::pg_catalog.text[],
    dry_run  boolean DEFAULT false,
    confirm  boolean DEFAULT false
) RETURNS TABLE (asked bigint, missing bigint, questions bigint, rounds bigint, outcome text, detail text, run bigint)
    LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'reconcile_wrapper';
COMMENT ON FUNCTION tombstone.reconcile IS
    'Asks the source of a watched table that you own after these records now, and soft-deletes what it has not, in this transaction; NULL: after all. dry_run: only says what it would do. confirm: whatever share of the named ids is missing. Not in a transaction that keeps its snapshot (REPEATABLE READ), but as a dry run. Outcomes: done; dry_run; refused, as too much is missing; failed, as the source could not be asked: then nothing was deleted.';

CREATE FUNCTION tombstone.reconcile_open(
    relation regclass,
    ids      anycompatiblearray DEFAULT NULL::pg_catalog.text[],
    batch    integer DEFAULT NULL,
    confirm  boolean DEFAULT false
) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'reconcile_open_wrapper';
COMMENT ON FUNCTION tombstone.reconcile_open IS
    'Begins a run whose questions an outside client asks: for sources that the server cannot reach. Of these records of a managed table that you own, or of all. batch: the most ids in one question; as watch() has it, or 1000. confirm: delete whatever share of the named ids is missing. Returns the run.';

CREATE FUNCTION tombstone.reconcile_questions(run bigint, lim integer DEFAULT 100)
    RETURNS TABLE (question bigint, ids text[])
    LANGUAGE c ROWS 100 AS 'MODULE_PATHNAME', 'reconcile_questions_wrapper';
COMMENT ON FUNCTION tombstone.reconcile_questions IS
    'Questions of a run that may be asked now, in any order and all at once: how many of these ids does the source have? At most lim, from a random one on, so that several clients mostly get different ones. None: the run is over.';

CREATE FUNCTION tombstone.reconcile_answer(run bigint, question bigint, present bigint) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'reconcile_answer_wrapper';
COMMENT ON FUNCTION tombstone.reconcile_answer(bigint, bigint, bigint) IS
    'Answers a question of a run: so many of its ids are present in the source; NULL: it could not be asked, which after a few times means that its batch is left. True where it was taken; false where nobody needs it any more, as another client was faster. With the last answer of a batch its missing records are soft-deleted.';

CREATE FUNCTION tombstone.reconcile_close(run bigint) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'reconcile_close_wrapper';
COMMENT ON FUNCTION tombstone.reconcile_close IS
    'Ends a run of reconcile_open() that nobody is to go on with. What it has deleted stays deleted. False where it is over already.';

CREATE VIEW tombstone.watches WITH (security_barrier) AS
SELECT m.relation, w.probe, w.every, w.batch, w.max_missing, w.restore, w.strategy, w.timeout,
       CASE WHEN w.every IS NOT NULL THEN w.due_at END AS due_at
FROM tombstone.watched w
JOIN tombstone.managed m USING (managed)
JOIN pg_catalog.pg_class c ON c.oid = m.relation
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');

COMMENT ON VIEW tombstone.watches IS 'The watched tables that you own (pg_monitor: all), and how each is watched.';
COMMENT ON COLUMN tombstone.watches.relation IS 'The managed table.';
COMMENT ON COLUMN tombstone.watches.probe IS 'The function that asks its source, by schema and name.';
COMMENT ON COLUMN tombstone.watches.every IS 'How long after a pass the next one is due; NULL: none is by itself.';
COMMENT ON COLUMN tombstone.watches.batch IS 'The most ids in one question.';
COMMENT ON COLUMN tombstone.watches.max_missing IS 'The share of a batch that may be missing.';
COMMENT ON COLUMN tombstone.watches.restore IS 'Whether what re-appears is restored.';
COMMENT ON COLUMN tombstone.watches.strategy IS 'How the missing are found by counting.';
COMMENT ON COLUMN tombstone.watches.timeout IS 'How long one question may take.';
COMMENT ON COLUMN tombstone.watches.due_at IS 'When the next pass is due.';

GRANT SELECT ON tombstone.watches TO PUBLIC;

CREATE VIEW tombstone.suspects WITH (security_barrier) AS
SELECT r.run, m.relation, s.id
FROM tombstone.run r
JOIN (SELECT run, pg_catalog.unnest(ids) AS id FROM tombstone.suspect) s USING (run)
JOIN tombstone.managed m USING (managed)
JOIN pg_catalog.pg_class c ON c.oid = m.relation
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');

COMMENT ON VIEW tombstone.suspects IS
    'Records of the tables you own that a source has not, and that their run has not deleted: it is under way, was refused, has failed, or was a dry run. They stay until reconcile() has seen to all of them, and left none, or the next pass over the table begins.';
COMMENT ON COLUMN tombstone.suspects.run IS 'The run, as tombstone.runs has it.';
COMMENT ON COLUMN tombstone.suspects.relation IS 'The managed table.';
COMMENT ON COLUMN tombstone.suspects.id IS 'The record, as text.';

GRANT SELECT ON tombstone.suspects TO PUBLIC;

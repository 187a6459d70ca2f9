-- The log: what was deleted, restored and purged, and where wanted created and updated. Identity, never data.
-- Appended to by the capture of each statement, one row for the many records of a statement;
-- users read it through replay() and views. Not carried by pg_dump: a log describes one server's past.

CREATE TABLE tombstone.event (
    seq           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid           xid8        NOT NULL,
    at            timestamptz NOT NULL,
    managed       integer     NOT NULL,
    op            text        NOT NULL,
    deletion_type text,
    restored      boolean     NOT NULL,
    deletion      bigint,
    ids           text[]      NOT NULL,
    versions      bigint[],
    kinds         text[],
    deleted_at    timestamptz,
    redacted      boolean     NOT NULL,
    cause         text        NOT NULL,
    actor         text        NOT NULL,
    reason        text,
    channel       text,
    batched       boolean     NOT NULL,
    app_actor     text,
    full_payload  boolean     NOT NULL,
    CONSTRAINT op_is_known CHECK (op IN ('create', 'update', 'delete')),
    CONSTRAINT deletes_say_how CHECK (CASE op WHEN 'delete' THEN deletion_type IN ('soft', 'hard') AND deletion IS NOT NULL
                                              ELSE deletion_type IS NULL END),
    CONSTRAINT restores_are_updates CHECK (NOT restored OR op = 'update' AND deleted_at IS NOT NULL),
    CONSTRAINT soft_deletes_are_stamped CHECK ((deletion_type = 'soft') IS NOT TRUE OR deleted_at IS NOT NULL),
    CONSTRAINT only_soft_deletes_redact CHECK (NOT redacted OR deletion_type = 'soft'),
    CONSTRAINT names_records CHECK (cardinality(ids) > 0 AND array_position(ids, NULL) IS NULL),
    CONSTRAINT versions_pair_with_ids CHECK (versions IS NULL OR cardinality(ids) IN (1, cardinality(versions))),
    CONSTRAINT kinds_pair_with_records CHECK (kinds IS NULL OR cardinality(kinds) IN (1, greatest(cardinality(ids), cardinality(versions)))),
    CONSTRAINT only_the_relay_batches CHECK (NOT batched OR channel IS NOT NULL),
    CONSTRAINT only_the_relay_says_more CHECK (NOT full_payload OR channel IS NOT NULL)
);

-- Written straight into the table (src/log/event.rs), which wants no partial index. The primary key is the order of reading,
-- and finds a deletion by its number; this finds what a table has to tell of transactions that are over by now.
CREATE INDEX event_news ON tombstone.event (managed, xid, seq);
-- And what has left, or taken back, one stamp: equal stamps are not one deletion. Which the first is, and which the last, is found at
-- once, however many entries a deletion has that took its records one by one.
CREATE INDEX event_stamps ON tombstone.event (deleted_at, deletion_type, managed, deletion);
-- Never compressed as it is written: compressing 8,192 version numbers took longer than deleting the versions.
ALTER TABLE tombstone.event ALTER versions SET STORAGE EXTERNAL;
-- Where the server was built without LZ4 they stay with pglz, which takes a sixth of a bulk DELETE by bigint, half of one by uuid.
DO $$
BEGIN
    ALTER TABLE tombstone.event ALTER ids SET COMPRESSION lz4, ALTER kinds SET COMPRESSION lz4;
EXCEPTION
    WHEN feature_not_supported THEN NULL;
END
$$;

-- Archived rows bear the numbers of their deletions: after a dump is restored, no number may be given twice.
SELECT pg_catalog.pg_extension_config_dump('tombstone.event_seq_seq', '');

COMMENT ON TABLE tombstone.event IS
    'The log. One row holds the records one statement changed in one table: who and what, never a row''s data.';
COMMENT ON COLUMN tombstone.event.seq IS 'Order of writing; not of commit.';
COMMENT ON COLUMN tombstone.event.xid IS 'The writing transaction.';
COMMENT ON COLUMN tombstone.event.at IS 'Start of the writing transaction.';
COMMENT ON COLUMN tombstone.event.managed IS 'The managed table, as numbered in tombstone.managed.';
COMMENT ON COLUMN tombstone.event.op IS 'delete; update, of a restore; and with events => ''all'' create and every other update.';
COMMENT ON COLUMN tombstone.event.deletion_type IS 'soft or hard, of a delete.';
COMMENT ON COLUMN tombstone.event.restored IS 'True where a tombstone became a live record again.';
COMMENT ON COLUMN tombstone.event.deletion IS 'The deletion this belongs to, by the seq of its first entry; of a restore, the deletion that was undone.';
COMMENT ON COLUMN tombstone.event.ids IS 'The records, as text: parallel to versions, or the one record all the versions belong to.';
COMMENT ON COLUMN tombstone.event.versions IS 'The versions, where the table has a version column.';
COMMENT ON COLUMN tombstone.event.kinds IS 'The kinds, where the table has a kind: parallel to the records, or one for all.';
COMMENT ON COLUMN tombstone.event.deleted_at IS 'The stamp a soft delete put on these rows: what tells its tombstones from those of another deletion.';
COMMENT ON COLUMN tombstone.event.redacted IS 'True where the soft delete blanked columns.';
COMMENT ON COLUMN tombstone.event.cause IS 'user; cascade, of what followed a foreign key; undo; expiry and retention, of what was due; reconcile, of what an outside source has no more, or has again.';
COMMENT ON COLUMN tombstone.event.actor IS 'The role that acted, as SET ROLE or the login had it.';
COMMENT ON COLUMN tombstone.event.reason IS 'Why, as the caller of soft_delete() or the setting tombstone.reason said.';
COMMENT ON COLUMN tombstone.event.channel IS 'Where the relay is to announce it; NULL where its own transaction has notified, or nobody is to.';
COMMENT ON COLUMN tombstone.event.batched IS 'Whether the relay is to announce it in arrays, many records each.';
COMMENT ON COLUMN tombstone.event.app_actor IS 'For whom the application acted, as the setting tombstone.actor said: anybody may set it.';
COMMENT ON COLUMN tombstone.event.full_payload IS 'Whether the relay is to say cause, deletion, at and the application''s actor as well.';

CREATE TABLE tombstone.undone (
    deletion bigint      PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE tombstone.undone IS 'The deletions that were undone: each once.';
COMMENT ON COLUMN tombstone.undone.deletion IS 'The deletion.';
COMMENT ON COLUMN tombstone.undone.at IS 'Start of the transaction that undid it.';

CREATE TABLE tombstone.tick (
    tick bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen pg_snapshot NOT NULL
);

COMMENT ON TABLE tombstone.tick IS
    'Moments in the life of the log: what could be read by when. They tell how long ago an entry was committed.';
COMMENT ON COLUMN tombstone.tick.tick IS 'Order of the ticks.';
COMMENT ON COLUMN tombstone.tick.at IS 'When.';
COMMENT ON COLUMN tombstone.tick.seen IS 'The transactions that were over by then.';

CREATE TABLE tombstone.floor (
    managed integer     PRIMARY KEY REFERENCES tombstone.managed ON DELETE CASCADE,
    seen    pg_snapshot NOT NULL,
    last    xid8        NOT NULL,
    seq     bigint      NOT NULL,
    raised  bigint      GENERATED ALWAYS AS IDENTITY
);

COMMENT ON TABLE tombstone.floor IS
    'Up to where each table''s events have been trimmed: a cursor from before that is refused.';
COMMENT ON COLUMN tombstone.floor.managed IS 'The managed table, as numbered in tombstone.managed.';
COMMENT ON COLUMN tombstone.floor.seen IS 'Nothing but what these transactions wrote is gone.';
COMMENT ON COLUMN tombstone.floor.last IS 'The latest of those that had written anything.';
COMMENT ON COLUMN tombstone.floor.seq IS 'The highest number of an entry that is gone.';
COMMENT ON COLUMN tombstone.floor.raised IS 'Counts the times that something was trimmed, of any table.';

CREATE TABLE tombstone.relayed (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), -- a key, for a publication FOR ALL TABLES wants one
    cursor   text
);
INSERT INTO tombstone.relayed DEFAULT VALUES;

COMMENT ON TABLE tombstone.relayed IS
    'One row: how far what was left to the relay has been announced. Moves in the transaction that announces.';
COMMENT ON COLUMN tombstone.relayed.only_one IS 'There is no second row.';
COMMENT ON COLUMN tombstone.relayed.cursor IS 'What comes after it is still to be announced; NULL: from the beginning of the log.';

-- Everything shown of a deletion is taken from the events the caller may know of: those of tables it may read, and where
-- row security filters what it reads, none.
CREATE VIEW tombstone.deletions WITH (security_barrier) AS
WITH visible AS (
    SELECT e.*, m.relation
    FROM tombstone.event e
    JOIN tombstone.managed m USING (managed)
    WHERE (e.op = 'delete' OR e.restored)
      AND pg_catalog.has_table_privilege(m.relation::pg_catalog.oid, 'SELECT')
      AND NOT pg_catalog.row_security_active(m.relation::pg_catalog.oid)
), said AS (
    SELECT deletion,
           pg_catalog.min(at) AS at,
           -- What somebody deleted, before what fell with it: of a large DELETE that may have been logged first.
           (pg_catalog.array_agg(actor ORDER BY cause = 'cascade', seq))[1] AS actor,
           (pg_catalog.array_agg(cause ORDER BY cause = 'cascade', seq))[1] AS cause,
           pg_catalog.string_agg(DISTINCT reason, '; ') AS reason,
           pg_catalog.string_agg(DISTINCT app_actor, '; ') AS app_actor,
           CASE pg_catalog.count(DISTINCT deletion_type) WHEN 1 THEN pg_catalog.min(deletion_type) ELSE 'mixed' END AS deletion_type
    FROM visible
    WHERE op = 'delete'
    GROUP BY deletion
), tally AS (
    SELECT deletion,
           pg_catalog.jsonb_object_agg(relation::pg_catalog.text, n) AS relations,
           pg_catalog.sum(n)::pg_catalog.int8 AS records
    FROM (SELECT v.deletion, v.relation, pg_catalog.count(DISTINCT r.id) AS n
          FROM visible v CROSS JOIN LATERAL pg_catalog.unnest(v.ids) AS r (id)
          WHERE v.op = 'delete'
          GROUP BY v.deletion, v.relation) per_table
    GROUP BY deletion
), touched AS (
    SELECT DISTINCT managed, deleted_at FROM visible WHERE restored
), taken AS (
    -- A row has come back from a deletion if that is what happened to it next, with the stamp that the deletion left. Where nothing came
    -- back to a table with that stamp, its entries need not be read row by row.
    SELECT v.deletion, v.op, pg_catalog.lead(v.restored) OVER next AS is_back, pg_catalog.lead(v.at) OVER next AS back_at
    FROM visible v
    LEFT JOIN touched t USING (managed, deleted_at)
    LEFT JOIN LATERAL ROWS FROM (pg_catalog.unnest(v.ids), pg_catalog.unnest(v.versions)) AS r (id, version) ON t.managed IS NOT NULL
    WINDOW next AS (PARTITION BY v.managed, v.deleted_at, COALESCE(r.id, v.ids[1]) COLLATE pg_catalog."C", r.version ORDER BY v.seq)
), taken_back AS (
    SELECT deletion, pg_catalog.max(back_at) AS at
    FROM taken
    WHERE op = 'delete'
    GROUP BY deletion
    HAVING pg_catalog.bool_and(is_back IS TRUE)
)
SELECT said.deletion, said.at, said.actor, said.cause, said.reason, tally.relations, tally.records,
       LEAST(u.at, b.at) AS undone_at, said.deletion_type, said.app_actor
FROM said JOIN tally USING (deletion)
LEFT JOIN tombstone.undone u USING (deletion)
LEFT JOIN taken_back b USING (deletion);

COMMENT ON VIEW tombstone.deletions IS
    'Who deleted what, when and why: one row for each transaction that deleted, counted per table, of the tables you may read.';
COMMENT ON COLUMN tombstone.deletions.deletion IS 'The number undo() takes.';
COMMENT ON COLUMN tombstone.deletions.at IS 'Start of the deleting transaction.';
COMMENT ON COLUMN tombstone.deletions.actor IS 'Who deleted: the role.';
COMMENT ON COLUMN tombstone.deletions.reason IS 'Why, as soft_delete() or the setting tombstone.reason said; of reconcile, which run.';
COMMENT ON COLUMN tombstone.deletions.cause IS 'What began it: user, cascade, expiry, retention, or reconcile, of an outside source.';
COMMENT ON COLUMN tombstone.deletions.relations IS 'Records deleted in each table, as {"table": count}.';
COMMENT ON COLUMN tombstone.deletions.records IS 'Records deleted in all.';
COMMENT ON COLUMN tombstone.deletions.undone_at IS 'When it was taken back as a whole, as far as you may know: by undo(), or with the last of its records that was restored; whatever became of them since.';
COMMENT ON COLUMN tombstone.deletions.deletion_type IS 'soft: it left tombstones; hard: it purged; mixed: some of each.';
COMMENT ON COLUMN tombstone.deletions.app_actor IS 'For whom the application deleted, as the setting tombstone.actor said: anybody may set it.';

GRANT SELECT ON tombstone.deletions TO PUBLIC;

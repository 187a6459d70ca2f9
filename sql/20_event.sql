-- The log: what was deleted, restored and purged. Identity, never data.
-- Appended to by the capture of each statement, one row for the many records of a statement;
-- users read it through views. Not carried by pg_dump: a log describes one server's past.

CREATE SEQUENCE tombstone.deletion AS bigint;

COMMENT ON SEQUENCE tombstone.deletion IS
    'Numbers deletions: one number for all that one transaction deletes.';

CREATE TABLE tombstone.event (
    seq           bigint      GENERATED ALWAYS AS IDENTITY,
    xid           xid8        NOT NULL DEFAULT pg_current_xact_id(),
    at            timestamptz NOT NULL DEFAULT now(),
    managed       integer     NOT NULL,
    op            text        NOT NULL,
    deletion_type text,
    restored      boolean     NOT NULL DEFAULT false,
    deletion      bigint,
    ids           text[]      NOT NULL,
    versions      bigint[],
    deleted_at    timestamptz,
    redacted      boolean     NOT NULL DEFAULT false,
    cause         text        NOT NULL,
    actor         text        NOT NULL,
    reason        text,
    CONSTRAINT op_is_known CHECK (op IN ('update', 'delete')),
    CONSTRAINT deletes_say_how CHECK (CASE op WHEN 'delete' THEN deletion_type IN ('soft', 'hard') AND deletion IS NOT NULL
                                              ELSE deletion_type IS NULL END),
    CONSTRAINT updates_restore CHECK (restored = (op = 'update')),
    CONSTRAINT soft_deletes_are_stamped CHECK ((deletion_type = 'soft') IS NOT TRUE OR deleted_at IS NOT NULL),
    CONSTRAINT only_soft_deletes_redact CHECK (NOT redacted OR deletion_type = 'soft'),
    CONSTRAINT names_records CHECK (cardinality(ids) > 0 AND array_position(ids, NULL) IS NULL),
    CONSTRAINT versions_pair_with_ids CHECK (versions IS NULL OR cardinality(ids) IN (1, cardinality(versions)))
);

CREATE INDEX event_deletion ON tombstone.event (deletion) WHERE deletion IS NOT NULL;

COMMENT ON TABLE tombstone.event IS
    'The log. One row holds the records one statement changed in one table: who and what, never a row''s data.';
COMMENT ON COLUMN tombstone.event.seq IS 'Order of writing; not of commit.';
COMMENT ON COLUMN tombstone.event.xid IS 'The writing transaction.';
COMMENT ON COLUMN tombstone.event.at IS 'Start of the writing transaction.';
COMMENT ON COLUMN tombstone.event.managed IS 'The managed table, as numbered in tombstone.managed.';
COMMENT ON COLUMN tombstone.event.op IS 'delete, or update for a restore.';
COMMENT ON COLUMN tombstone.event.deletion_type IS 'soft or hard, of a delete.';
COMMENT ON COLUMN tombstone.event.restored IS 'True where a tombstone became a live record again.';
COMMENT ON COLUMN tombstone.event.deletion IS 'The deletion this belongs to; of a restore, the deletion that was undone.';
COMMENT ON COLUMN tombstone.event.ids IS 'The records, as text: parallel to versions, or the one record all the versions belong to.';
COMMENT ON COLUMN tombstone.event.versions IS 'The versions, where the table has a version column.';
COMMENT ON COLUMN tombstone.event.deleted_at IS 'The stamp a soft delete put on these rows: what tells its tombstones from those of another deletion.';
COMMENT ON COLUMN tombstone.event.redacted IS 'True where the soft delete blanked columns.';
COMMENT ON COLUMN tombstone.event.cause IS 'user, or cascade from a deleted parent, or undo.';
COMMENT ON COLUMN tombstone.event.actor IS 'The role that acted, as SET ROLE or the login had it.';
COMMENT ON COLUMN tombstone.event.reason IS 'What the caller of soft_delete() gave as the reason.';

-- Deletions are grouped before they are shown, so the visibility test stands on each event:
-- a table the caller may not read, or reads through row security, takes no part.
CREATE VIEW tombstone.deletions WITH (security_barrier) AS
WITH record AS (
    SELECT e.deletion, m.relation, r.id
    FROM tombstone.event e
    JOIN tombstone.managed m USING (managed)
    CROSS JOIN LATERAL unnest(e.ids) AS r (id)
    WHERE e.op = 'delete' AND has_table_privilege(m.relation, 'SELECT') AND NOT row_security_active(m.relation)
    GROUP BY e.deletion, m.relation, r.id
), tally AS (
    SELECT deletion, jsonb_object_agg(relation, n) AS relations, sum(n)::bigint AS records
    FROM (SELECT deletion, relation, count(*) AS n FROM record GROUP BY deletion, relation) per_table
    GROUP BY deletion
), said AS (
    SELECT deletion,
           min(at) FILTER (WHERE op = 'delete') AS at,
           (array_agg(actor ORDER BY seq) FILTER (WHERE op = 'delete'))[1] AS actor,
           (array_agg(cause ORDER BY seq) FILTER (WHERE op = 'delete'))[1] AS cause,
           string_agg(DISTINCT reason, '; ') AS reason,
           min(at) FILTER (WHERE restored) AS undone_at
    FROM tombstone.event
    WHERE deletion IS NOT NULL
    GROUP BY deletion
)
SELECT said.deletion, said.at, said.actor, said.cause, said.reason, tally.relations, tally.records, said.undone_at
FROM said JOIN tally USING (deletion);

COMMENT ON VIEW tombstone.deletions IS
    'Who deleted what, when and why: one row for each transaction that deleted, counted per table, of the tables you may read.';
COMMENT ON COLUMN tombstone.deletions.deletion IS 'The number undo() takes.';
COMMENT ON COLUMN tombstone.deletions.cause IS 'What began it: user, or cascade.';
COMMENT ON COLUMN tombstone.deletions.relations IS 'Records deleted in each table, as {"table": count}.';
COMMENT ON COLUMN tombstone.deletions.records IS 'Records deleted in all.';
COMMENT ON COLUMN tombstone.deletions.undone_at IS 'When undo() took it back.';

GRANT SELECT ON tombstone.deletions TO PUBLIC;

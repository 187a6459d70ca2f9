-- Expiry, purge and the trimming of the log: by background workers, or by CALL; what there is to do. tombstone.run says what was
-- done, and how far what is being done has come; it is not carried by pg_dump.

CREATE TABLE tombstone.run (
    run           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    managed       integer     NOT NULL,
    action        text        NOT NULL CHECK (action IN ('expire', 'purge', 'watch', 'reconcile', 'convert')),
    pid           integer,
    backend_start timestamptz,
    due           bigint      NOT NULL CHECK (due >= 0),
    records       bigint      NOT NULL DEFAULT 0 CHECK (records >= 0),
    ended         timestamptz,
    outcome       text        CHECK (outcome IN ('done', 'ended', 'refused', 'failed', 'interrupted')),
    detail        text,
    CONSTRAINT ends_with_an_outcome CHECK ((ended IS NULL) = (outcome IS NULL)),
    CONSTRAINT only_questions_wait CHECK (pid IS NOT NULL OR action IN ('watch', 'reconcile')),
    CONSTRAINT a_process_has_begun CHECK ((pid IS NULL) = (backend_start IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX run_last ON tombstone.run (managed, action, run);
CREATE INDEX run_open ON tombstone.run (pid) WHERE ended IS NULL;
-- Of several processes that find a pass due, one begins it.
CREATE UNIQUE INDEX run_pass ON tombstone.run (managed) WHERE action = 'watch' AND ended IS NULL;

COMMENT ON TABLE tombstone.run IS
    'Runs of maintenance that had something to do, or failed: the last 10,000, of the last 30 days. Read it through the views runs and activity.';
COMMENT ON COLUMN tombstone.run.run IS 'Order of beginning.';
COMMENT ON COLUMN tombstone.run.at IS 'When it began.';
COMMENT ON COLUMN tombstone.run.managed IS 'The managed table, as numbered in tombstone.managed.';
COMMENT ON COLUMN tombstone.run.action IS 'expire; purge; watch, a pass of a watcher; reconcile, of records named by hand or asked about by an outside client; convert, tombstones on their way to another layout.';
COMMENT ON COLUMN tombstone.run.pid IS 'The process; NULL: none is at it, and it waits for one, or for an outside client''s answers.';
COMMENT ON COLUMN tombstone.run.backend_start IS 'When that process began: process numbers come again.';
COMMENT ON COLUMN tombstone.run.due IS 'Records that were due when it looked; of a watcher, those it is to ask about.';
COMMENT ON COLUMN tombstone.run.records IS 'Records taken so far: moves in the transaction that takes them.';
COMMENT ON COLUMN tombstone.run.ended IS 'When it ended; NULL while it is under way.';
COMMENT ON COLUMN tombstone.run.outcome IS 'done; ended, as somebody wanted it to; refused by max_purge; failed; interrupted.';
COMMENT ON COLUMN tombstone.run.detail IS 'What was left, or what went wrong.';

CREATE FUNCTION tombstone.preview(relation regclass DEFAULT NULL)
    RETURNS TABLE (relation regclass, action text, records bigint, oldest timestamptz, newest timestamptz)
    LANGUAGE c AS 'MODULE_PATHNAME', 'preview_wrapper';
COMMENT ON FUNCTION tombstone.preview IS
    'What expiry and purge would take now of a table that you own, or of all of them: records on their own account, not what their cascades take along. oldest, newest: the moments their age counts from. Reads the whole table where no index fits.';

CREATE FUNCTION tombstone.pause(relation regclass DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'pause_wrapper';
COMMENT ON FUNCTION tombstone.pause IS
    'Keeps expiry, purge and watchers'' passes away from a table that you own, or from all of them, from the next batch on.';

CREATE FUNCTION tombstone.resume(relation regclass DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION tombstone.resume IS
    'Ends the pause of a table that you own, or of all of them: that of pause(), and that of tables restored from a dump.';

CREATE PROCEDURE tombstone.maintain(relation regclass DEFAULT NULL, max_runtime interval DEFAULT '5 min')
    LANGUAGE c AS 'MODULE_PATHNAME', 'maintain_wrapper';
COMMENT ON PROCEDURE tombstone.maintain IS
    'What a worker does, now: expires and purges what is due of the tables you own, asks the sources of those whose pass is due, and trims the log. Commits batch by batch; tells how far it is; stops at a cancellation, keeping what it has done.';

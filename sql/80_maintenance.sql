-- Expiry, purge and the trimming of the log: by background workers, or by CALL; what there is to do, what is being done, what
-- was done. tombstone.run is written by maintenance alone, and not carried by pg_dump.

CREATE TABLE tombstone.run (
    run           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    managed       integer     NOT NULL,
    action        text        NOT NULL CHECK (action IN ('expire', 'purge')),
    pid           integer     NOT NULL,
    backend_start timestamptz NOT NULL,
    due           bigint      NOT NULL CHECK (due >= 0),
    records       bigint      NOT NULL DEFAULT 0 CHECK (records >= 0),
    ended         timestamptz,
    outcome       text        CHECK (outcome IN ('done', 'ended', 'refused', 'failed', 'interrupted')),
    detail        text,
    CONSTRAINT ends_with_an_outcome CHECK ((ended IS NULL) = (outcome IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX run_last ON tombstone.run (managed, action, run);
CREATE INDEX run_open ON tombstone.run (pid) WHERE ended IS NULL;

CREATE TRIGGER on_replicated BEFORE INSERT OR UPDATE OR DELETE ON tombstone.run
    FOR EACH ROW EXECUTE FUNCTION tombstone.on_replicated();
ALTER TABLE tombstone.run ENABLE REPLICA TRIGGER on_replicated;

COMMENT ON TABLE tombstone.run IS
    'Runs of maintenance that had something to do, or failed: the last 10,000, of the last 30 days. Read it through the views runs and activity.';
COMMENT ON COLUMN tombstone.run.run IS 'Order of beginning.';
COMMENT ON COLUMN tombstone.run.at IS 'When it began.';
COMMENT ON COLUMN tombstone.run.managed IS 'The managed table, as numbered in tombstone.managed.';
COMMENT ON COLUMN tombstone.run.action IS 'expire or purge.';
COMMENT ON COLUMN tombstone.run.pid IS 'The process.';
COMMENT ON COLUMN tombstone.run.backend_start IS 'When that process began: process numbers come again.';
COMMENT ON COLUMN tombstone.run.due IS 'Records that were due when it looked.';
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
    'Keeps expiry and purge away from a table that you own, or from all of them, from the next batch on.';

CREATE FUNCTION tombstone.resume(relation regclass DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'resume_wrapper';
COMMENT ON FUNCTION tombstone.resume IS
    'Ends the pause of a table that you own, or of all of them: that of pause(), and that of tables restored from a dump.';

CREATE PROCEDURE tombstone.maintain(relation regclass DEFAULT NULL, max_runtime interval DEFAULT '5 min')
    LANGUAGE c AS 'MODULE_PATHNAME', 'maintain_wrapper';
COMMENT ON PROCEDURE tombstone.maintain IS
    'What a worker does, now: expires and purges what is due of the tables you own, and trims the log. Commits batch by batch; tells how far it is; stops at a cancellation, keeping what it has done.';

CREATE VIEW tombstone.backlog WITH (security_barrier) AS
SELECT p.relation, p.action, p.records AS due, p.oldest,
       CASE WHEN p.records > 0 AND pg_catalog.isfinite(p.oldest) THEN
           pg_catalog.now() - (p.oldest + CASE p.action WHEN 'expire' THEN t.expire_after ELSE t.retention END) END AS lag
FROM tombstone.preview() p
JOIN tombstone.managed t USING (relation);

COMMENT ON VIEW tombstone.backlog IS
    'What is due and not yet taken, of the tables you own (pg_monitor: of all). Reads the tables, as preview() does.';
COMMENT ON COLUMN tombstone.backlog.relation IS 'The managed table.';
COMMENT ON COLUMN tombstone.backlog.action IS 'expire or purge.';
COMMENT ON COLUMN tombstone.backlog.due IS 'Records that are due.';
COMMENT ON COLUMN tombstone.backlog.oldest IS 'The moment from which the age of the oldest of them counts.';
COMMENT ON COLUMN tombstone.backlog.lag IS 'How long ago the oldest of them became due.';

GRANT SELECT ON tombstone.backlog TO PUBLIC;

CREATE VIEW tombstone.runs WITH (security_barrier) AS
SELECT r.run, r.at, m.relation, r.action, r.records, GREATEST(COALESCE(r.ended, pg_catalog.clock_timestamp()) - r.at, '0') AS duration,
       COALESCE(r.outcome, 'running') AS outcome,
       CASE WHEN pg_catalog.pg_has_role(c.relowner, 'USAGE') THEN r.detail END AS detail
FROM tombstone.run r
JOIN tombstone.managed m USING (managed)
JOIN pg_catalog.pg_class c ON c.oid = m.relation
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');

COMMENT ON VIEW tombstone.runs IS
    'What maintenance has done to the tables you own (pg_monitor: to all), where it had something to do or failed: the last 10,000 runs, of the last 30 days.';
COMMENT ON COLUMN tombstone.runs.run IS 'Order of beginning.';
COMMENT ON COLUMN tombstone.runs.at IS 'When it began.';
COMMENT ON COLUMN tombstone.runs.relation IS 'The managed table.';
COMMENT ON COLUMN tombstone.runs.action IS 'expire or purge.';
COMMENT ON COLUMN tombstone.runs.records IS 'Records taken, without what their cascades took along.';
COMMENT ON COLUMN tombstone.runs.duration IS 'How long it took, or has taken so far.';
COMMENT ON COLUMN tombstone.runs.outcome IS 'running; done; ended (paused, unmanaged, out of time); refused (max_purge); failed; interrupted (cancelled, or its process is gone).';
COMMENT ON COLUMN tombstone.runs.detail IS 'What was left, or what went wrong; shown to the table''s owner.';

GRANT SELECT ON tombstone.runs TO PUBLIC;

CREATE VIEW tombstone.activity WITH (security_barrier) AS
SELECT p.pid, pg_catalog.current_database() AS datname, r.relation,
       COALESCE(r.action, p.query) AS phase, r.records AS done, r.due AS total, COALESCE(r.at, p.state_change) AS since
FROM pg_catalog.pg_stat_activity p
LEFT JOIN (
    SELECT r.pid, m.relation, r.action, r.records, r.due, r.at
    FROM tombstone.run r
    JOIN tombstone.managed m USING (managed)
    JOIN pg_catalog.pg_class c ON c.oid = m.relation
    WHERE r.ended IS NULL
      AND (pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE'))
) r USING (pid)
WHERE p.datid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND (r.pid IS NOT NULL OR p.backend_type LIKE 'pg\_tombstone %');

COMMENT ON VIEW tombstone.activity IS
    'What maintenance is doing in this database now: a line for each run under way, and one for each worker without one.';
COMMENT ON COLUMN tombstone.activity.pid IS 'The process, as pg_stat_activity, pg_cancel_backend() and pg_terminate_backend() name it.';
COMMENT ON COLUMN tombstone.activity.datname IS 'The database.';
COMMENT ON COLUMN tombstone.activity.relation IS 'The managed table; NULL where it works on none.';
COMMENT ON COLUMN tombstone.activity.phase IS 'expire or purge; else what the process did last.';
COMMENT ON COLUMN tombstone.activity.done IS 'Records taken so far.';
COMMENT ON COLUMN tombstone.activity.total IS 'Records that were due when it looked.';
COMMENT ON COLUMN tombstone.activity.since IS 'Since when.';

GRANT SELECT ON tombstone.activity TO PUBLIC;

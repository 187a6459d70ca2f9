-- What there is to do, what maintenance and watchers are doing, and what they have done.

CREATE VIEW tombstone.backlog WITH (security_barrier) AS
SELECT p.relation, p.action, p.records AS due, p.oldest,
       CASE WHEN p.records > 0 AND pg_catalog.isfinite(p.oldest) THEN
           pg_catalog.now() - (p.oldest + CASE p.action WHEN 'expire' THEN t.expire_after ELSE t.retention END) END AS lag
FROM tombstone.preview() p
JOIN tombstone.managed t USING (relation)
UNION ALL
SELECT w.relation, 'watch', NULL, w.due_at, CASE WHEN w.due_at < pg_catalog.now() THEN pg_catalog.now() - w.due_at END
FROM tombstone.watches w
WHERE w.every IS NOT NULL;

COMMENT ON VIEW tombstone.backlog IS
    'What is due and not yet taken, of the tables you own (pg_monitor: of all). Reads the tables, as preview() does.';
COMMENT ON COLUMN tombstone.backlog.relation IS 'The managed table.';
COMMENT ON COLUMN tombstone.backlog.action IS 'expire, purge or watch.';
COMMENT ON COLUMN tombstone.backlog.due IS 'Records that are due; NULL of a watch, which asks after all.';
COMMENT ON COLUMN tombstone.backlog.oldest IS 'The moment from which the age of the oldest of them counts; of a watch, when its next pass is due.';
COMMENT ON COLUMN tombstone.backlog.lag IS 'How long ago the oldest of them, or the pass, became due.';

GRANT SELECT ON tombstone.backlog TO PUBLIC;

CREATE VIEW tombstone.runs WITH (security_barrier) AS
SELECT r.run, r.at, m.relation, r.action, r.records, GREATEST(COALESCE(r.ended, pg_catalog.clock_timestamp()) - r.at, '0') AS duration,
       COALESCE(r.outcome, CASE WHEN r.pid IS NULL THEN 'waiting' ELSE 'running' END) AS outcome,
       CASE WHEN pg_catalog.pg_has_role(c.relowner, 'USAGE') THEN r.detail END AS detail,
       i.asked, i.missing, i.questions, i.rounds, i.restored, i.kept, i.lost
FROM tombstone.run r
LEFT JOIN tombstone.inquiry i USING (run)
JOIN tombstone.managed m USING (managed)
JOIN pg_catalog.pg_class c ON c.oid = m.relation
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');

COMMENT ON VIEW tombstone.runs IS
    'What maintenance and watchers have done to the tables you own (pg_monitor: to all), where it had something to do or failed: the last 10,000 runs, of the last 30 days.';
COMMENT ON COLUMN tombstone.runs.run IS 'Order of beginning.';
COMMENT ON COLUMN tombstone.runs.at IS 'When it began.';
COMMENT ON COLUMN tombstone.runs.relation IS 'The managed table.';
COMMENT ON COLUMN tombstone.runs.action IS 'expire, purge, watch, reconcile or convert.';
COMMENT ON COLUMN tombstone.runs.records IS 'Records taken, without what their cascades took along; of a watcher, those soft-deleted.';
COMMENT ON COLUMN tombstone.runs.duration IS 'How long it took, or has taken so far.';
COMMENT ON COLUMN tombstone.runs.outcome IS 'running; waiting, for the next call or for answers; done; ended (paused, unmanaged, out of time); refused (max_purge, max_missing); failed; interrupted (cancelled, or its process is gone).';
COMMENT ON COLUMN tombstone.runs.detail IS 'What was left, or what went wrong; shown to the table''s owner.';
COMMENT ON COLUMN tombstone.runs.asked IS 'Of a watcher: live records whose source has answered for them.';
COMMENT ON COLUMN tombstone.runs.missing IS 'Of these, the records that the source has not.';
COMMENT ON COLUMN tombstone.runs.questions IS 'Questions put to the source, those that failed among them.';
COMMENT ON COLUMN tombstone.runs.rounds IS 'How often somebody had to wait for answers before the next questions could be known.';
COMMENT ON COLUMN tombstone.runs.restored IS 'Records that re-appeared in the source, and were restored.';
COMMENT ON COLUMN tombstone.runs.kept IS 'Records that are missing, and were not deleted all the same: detail names the first of them.';
COMMENT ON COLUMN tombstone.runs.lost IS 'Batches that could not be asked about.';

GRANT SELECT ON tombstone.runs TO PUBLIC;

CREATE VIEW tombstone.activity WITH (security_barrier) AS
SELECT p.pid, pg_catalog.current_database() AS datname, r.relation,
       COALESCE(r.phase, p.query) AS phase, r.done, r.due AS total, COALESCE(r.at, p.state_change) AS since
FROM pg_catalog.pg_stat_activity p
LEFT JOIN (
    SELECT r.pid, m.relation, pg_catalog.concat_ws(': ', r.action, i.phase) AS phase, COALESCE(i.asked, r.records) AS done, r.due, r.at
    FROM tombstone.run r
    LEFT JOIN tombstone.inquiry i USING (run)
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
COMMENT ON COLUMN tombstone.activity.phase IS 'expire, purge, or what a watcher is at; else what the process did last.';
COMMENT ON COLUMN tombstone.activity.done IS 'Records taken so far; of a watcher, asked about.';
COMMENT ON COLUMN tombstone.activity.total IS 'Records that were due when it looked; of a watcher, those it is to ask about.';
COMMENT ON COLUMN tombstone.activity.since IS 'Since when.';

GRANT SELECT ON tombstone.activity TO PUBLIC;

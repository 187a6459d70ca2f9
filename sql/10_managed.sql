-- What is managed: one row a table, one column an option.
-- Written only by manage(), configure() and unmanage(); carried by pg_dump.

-- Which log this is, drawn anew by each CREATE EXTENSION.
CREATE TABLE tombstone.log (
    incarnation uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO tombstone.log DEFAULT VALUES;

COMMENT ON TABLE tombstone.log IS
    'One row: which log this is. A cursor of another log is refused; tables managed beside another log came with a dump.';
COMMENT ON COLUMN tombstone.log.incarnation IS 'Drawn at random when the extension was created.';

CREATE TABLE tombstone.managed (
    managed         integer  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation        regclass NOT NULL UNIQUE,
    layout          text     NOT NULL CHECK (layout IN ('archive', 'in_place')),
    id              name[]   NOT NULL CHECK (cardinality(id) > 0 AND array_position(id, NULL) IS NULL),
    version         name     CHECK (version <> ALL (id)),
    deleted_at      name     CHECK (deleted_at <> ALL (id) AND (deleted_at = version) IS NOT TRUE),
    redact          jsonb    NOT NULL CHECK (jsonb_typeof(redact) = 'object'),
    kind            text,
    owners          text,
    retention       interval CHECK (retention >= interval '0'),
    expire_after    interval CHECK (expire_after >= interval '0'),
    expire_from     text,
    events          text     NOT NULL CHECK (events IN ('delete', 'all', 'none')),
    notify          text     NOT NULL CHECK (notify IN ('record', 'batch', 'none')),
    channel         name     NOT NULL CHECK (channel <> ''),
    event_retention interval CHECK (event_retention > interval '0'),
    max_purge       text     CHECK (max_purge ~ '^[0-9]+$|^[0-9.]+%$'),
    truncate        text     NOT NULL CHECK (truncate IN ('archive', 'refuse', 'purge') AND (truncate <> 'archive' OR layout = 'archive')),
    purge_events    text     NOT NULL CHECK (purge_events IN ('record', 'none')),
    on_delete       jsonb    NOT NULL CHECK (jsonb_typeof(on_delete) = 'object'),
    restore         text     NOT NULL CHECK (restore IN ('anyone', 'function')),
    payload         text     NOT NULL CHECK (payload IN ('short', 'full')),
    mute            text[]   NOT NULL CHECK (mute <@ '{user,cascade,undo,expiry,retention,reconcile}'),
    purge_after     text,
    keep_versions   integer  CHECK (keep_versions > 0),
    keep_versions_for interval CHECK (keep_versions_for > interval '0'),
    home            uuid     NOT NULL,
    paused_at       timestamptz,
    paused_by       text,
    archive         regclass UNIQUE,
    CONSTRAINT tombstones_are_somewhere CHECK (CASE layout WHEN 'archive' THEN archive IS NOT NULL AND deleted_at IS NULL
                                                           ELSE deleted_at IS NOT NULL END),
    CONSTRAINT paused_by_somebody CHECK ((paused_at IS NULL) = (paused_by IS NULL)),
    CONSTRAINT age_counts_from_somewhere CHECK (expire_after IS NULL AND keep_versions_for IS NULL OR expire_from IS NOT NULL),
    CONSTRAINT versions_are_told_apart CHECK (keep_versions IS NULL AND keep_versions_for IS NULL OR version IS NOT NULL)
);

COMMENT ON TABLE tombstone.managed IS
    'The managed tables and their options. Read it through the view tombstone.tables; change it with manage(), configure(), unmanage().';
COMMENT ON COLUMN tombstone.managed.managed IS
    'The number events and holds refer to: unlike a table''s OID it is never reused and survives dump and restore.';
COMMENT ON COLUMN tombstone.managed.relation IS 'The managed table; for a partitioned table, its root.';
COMMENT ON COLUMN tombstone.managed.layout IS 'Where tombstones live: archive, in a table beside it; in_place, the row stays in the table.';
COMMENT ON COLUMN tombstone.managed.id IS 'The columns that name a record.';
COMMENT ON COLUMN tombstone.managed.version IS 'The column that tells the versions of a record apart, if it has versions.';
COMMENT ON COLUMN tombstone.managed.deleted_at IS 'Layout in_place: the timestamptz column that is NULL while a record is live.';
COMMENT ON COLUMN tombstone.managed.redact IS 'Columns blanked by a soft delete, with the values they get. What redaction blanks is gone: no restore brings it back.';
COMMENT ON COLUMN tombstone.managed.kind IS 'SQL expression over the row: the kind named in events.';
COMMENT ON COLUMN tombstone.managed.owners IS 'SQL expression over the row: the role, or roles, that own the record.';
COMMENT ON COLUMN tombstone.managed.retention IS 'How long a tombstone stays; NULL: for ever; 0: not at all.';
COMMENT ON COLUMN tombstone.managed.expire_after IS 'Age at which a live record is soft-deleted; NULL: never; 0: at the moment that expire_from says.';
COMMENT ON COLUMN tombstone.managed.expire_from IS 'SQL expression over the row: the moment its age counts from.';
COMMENT ON COLUMN tombstone.managed.events IS 'Which changes become events: delete, all, or none.';
COMMENT ON COLUMN tombstone.managed.notify IS 'How events are announced: one NOTIFY a record, one a batch, or none.';
COMMENT ON COLUMN tombstone.managed.channel IS 'The NOTIFY channel.';
COMMENT ON COLUMN tombstone.managed.event_retention IS 'How long events stay; NULL: for ever.';
COMMENT ON COLUMN tombstone.managed.max_purge IS 'More records than this, or than such a share of the rows, no run expires or purges: it takes none, and says so; NULL: no limit.';
COMMENT ON COLUMN tombstone.managed.truncate IS 'What TRUNCATE does: archive the rows, purge them, or be refused.';
COMMENT ON COLUMN tombstone.managed.purge_events IS 'Whether maintenance logs each record it purges: record, or none.';
COMMENT ON COLUMN tombstone.managed.on_delete IS 'By the names of its foreign keys, what a soft delete of a parent in place does to live rows: cascade, restrict or ignore. The others do as declared.';
COMMENT ON COLUMN tombstone.managed.restore IS 'Layout in_place: who restores by clearing deleted_at: anyone who may, or the functions alone.';
COMMENT ON COLUMN tombstone.managed.payload IS 'What a NOTIFY says: short, what became of which record; full, also why, when and for whom.';
COMMENT ON COLUMN tombstone.managed.mute IS 'Causes of events that are not announced; they are in the log.';
COMMENT ON COLUMN tombstone.managed.purge_after IS 'SQL expression over the row: the age at which its tombstone is purged, if that is sooner than retention says.';
COMMENT ON COLUMN tombstone.managed.keep_versions IS 'So many of the newest live versions of a record stay; others expire, unless they are young; NULL: all stay, or age decides.';
COMMENT ON COLUMN tombstone.managed.keep_versions_for IS 'Versions that are younger by expire_from stay, and the newest; others expire.';
COMMENT ON COLUMN tombstone.managed.home IS 'The log beside which the table was managed or resumed; another one''s: it was restored from a dump, and waits for resume().';
COMMENT ON COLUMN tombstone.managed.paused_at IS 'Since when pause() keeps expiry and purge away; NULL: it does not.';
COMMENT ON COLUMN tombstone.managed.paused_by IS 'Who paused it.';
COMMENT ON COLUMN tombstone.managed.archive IS 'Layout archive: the table beside it that holds its tombstones. Layout in_place: the one that convert() is filling, if it is.';

-- A table's OID changes on dump and restore; regclass is dumped by name, and the number stays.
SELECT pg_catalog.pg_extension_config_dump('tombstone.managed', '');
SELECT pg_catalog.pg_extension_config_dump('tombstone.managed_managed_seq', '');

-- A backup restored today is not to be purged today: its tables wait until somebody has looked.
CREATE FUNCTION tombstone.on_restored() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    IF EXISTS (SELECT FROM restored WHERE home <> (SELECT incarnation FROM tombstone.log)) THEN
        -- A dump asks for no notices.
        RAISE WARNING USING
            MESSAGE = 'the managed tables of this dump are paused: nothing is expired or purged',
            HINT = 'When it may be: SELECT tombstone.resume(); what would go then: SELECT * FROM tombstone.preview();';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tombstone.on_restored() IS
    'Trigger of tombstone.managed: says, when a dump is restored, that its tables are paused.';
CREATE TRIGGER on_restored AFTER INSERT ON tombstone.managed
    REFERENCING NEW TABLE AS restored FOR EACH STATEMENT EXECUTE FUNCTION tombstone.on_restored();

CREATE VIEW tombstone.tables WITH (security_barrier) AS
SELECT m.relation, m.layout, m.id, m.version, m.deleted_at, m.redact, m.kind, m.owners,
       m.retention, m.expire_after, m.expire_from, m.events, m.notify, m.channel, m.event_retention, m.max_purge,
       m.truncate, m.purge_events, m.on_delete, m.restore, m.payload, m.mute, m.purge_after,
       m.keep_versions, m.keep_versions_for,
       m.paused_at IS NOT NULL OR m.home <> log.incarnation AS paused,
       CASE WHEN m.paused_at IS NOT NULL THEN pg_catalog.format('pause() by %s, %s', m.paused_by, m.paused_at)
            WHEN m.home <> log.incarnation THEN 'restored from a dump; resume() when it may be expired and purged' END AS why_paused,
       m.archive
FROM tombstone.managed m
JOIN pg_catalog.pg_class c ON c.oid = m.relation
CROSS JOIN tombstone.log
WHERE pg_catalog.has_any_column_privilege(c.oid, 'SELECT') OR pg_catalog.pg_has_role(c.relowner, 'USAGE')
ORDER BY m.managed;

COMMENT ON VIEW tombstone.tables IS
    'The managed tables you may read or own, and every option of each.';
COMMENT ON COLUMN tombstone.tables.relation IS 'The managed table; of a partitioned table, its root.';
COMMENT ON COLUMN tombstone.tables.layout IS 'Where its tombstones live.';
COMMENT ON COLUMN tombstone.tables.id IS 'The columns that name a record.';
COMMENT ON COLUMN tombstone.tables.version IS 'The column that tells versions apart, if it has versions.';
COMMENT ON COLUMN tombstone.tables.deleted_at IS 'Layout in_place: the column that is NULL while a record is live.';
COMMENT ON COLUMN tombstone.tables.redact IS 'What a soft delete blanks, and with what.';
COMMENT ON COLUMN tombstone.tables.kind IS 'Expression: the kind named in events.';
COMMENT ON COLUMN tombstone.tables.owners IS 'Expression: the roles that own a record.';
COMMENT ON COLUMN tombstone.tables.retention IS 'How long a tombstone stays; NULL: for ever; 0: not at all.';
COMMENT ON COLUMN tombstone.tables.expire_after IS 'Age at which a live record is soft-deleted; NULL: never; 0: at the moment that expire_from says.';
COMMENT ON COLUMN tombstone.tables.expire_from IS 'Expression: the moment its age counts from.';
COMMENT ON COLUMN tombstone.tables.events IS 'Which changes become events.';
COMMENT ON COLUMN tombstone.tables.notify IS 'How events are announced.';
COMMENT ON COLUMN tombstone.tables.channel IS 'On which channel.';
COMMENT ON COLUMN tombstone.tables.event_retention IS 'How long events stay; NULL: for ever.';
COMMENT ON COLUMN tombstone.tables.max_purge IS 'The most records that one run may expire or purge: a number, or a share of the rows; NULL: no limit.';
COMMENT ON COLUMN tombstone.tables.truncate IS 'What TRUNCATE does: archive the rows, purge them, or be refused.';
COMMENT ON COLUMN tombstone.tables.purge_events IS 'Whether maintenance logs each record it purges: record, or none.';
COMMENT ON COLUMN tombstone.tables.on_delete IS 'What a soft delete of a parent in place does to its live rows, by foreign key: cascade, restrict or ignore.';
COMMENT ON COLUMN tombstone.tables.restore IS 'Layout in_place: who restores by clearing deleted_at: anyone who may, or the functions alone.';
COMMENT ON COLUMN tombstone.tables.payload IS 'What a NOTIFY says: short or full.';
COMMENT ON COLUMN tombstone.tables.mute IS 'Causes of events that are not announced.';
COMMENT ON COLUMN tombstone.tables.purge_after IS 'Expression: the age at which a tombstone of the row is purged, if sooner than retention.';
COMMENT ON COLUMN tombstone.tables.keep_versions IS 'How many of the newest versions of a record stay; NULL: all, or age decides.';
COMMENT ON COLUMN tombstone.tables.keep_versions_for IS 'How long versions stay that are not among them; the latest stays in any case.';
COMMENT ON COLUMN tombstone.tables.paused IS 'Whether expiry, purge and watchers leave it alone.';
COMMENT ON COLUMN tombstone.tables.why_paused IS 'Who paused it and when, or that it came with a dump.';
COMMENT ON COLUMN tombstone.tables.archive IS 'Layout archive: the table that holds its tombstones, readable by the table''s owner. Layout in_place: the one that convert() is filling.';

GRANT SELECT ON tombstone.tables TO PUBLIC;

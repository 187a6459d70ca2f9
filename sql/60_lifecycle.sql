-- Doors to the lifecycle. relation NULL: tombstone.default_table, or the only managed table that fits.
-- An id is text for a one-column key and a JSON object for a composite key; or a value of any type, of which the text is taken. Of what
-- has no type yet, such as '7' or a parameter, anycompatible makes text, and anycompatiblearray text[].

CREATE FUNCTION tombstone.soft_delete(id anycompatible, relation regclass DEFAULT NULL, reason text DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'soft_delete_wrapper';
COMMENT ON FUNCTION tombstone.soft_delete IS
    'Soft-deletes a record and returns the deletion''s number. P0002: no such record, or deleted already. 55006: on hold. 23503: live children.';

CREATE FUNCTION tombstone.soft_delete_many(ids anycompatiblearray, relation regclass DEFAULT NULL, reason text DEFAULT NULL)
    RETURNS TABLE (id text, outcome text, detail text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'soft_delete_many_wrapper';
COMMENT ON FUNCTION tombstone.soft_delete_many IS
    'Soft-deletes records in one deletion and says for each: deleted, not_found, already_deleted, denied, held, children (live ones forbid it); of these three, why. One bad id never fails the good ones. It waits for nobody while it holds a lock.';

CREATE FUNCTION tombstone.restore(id anycompatible, relation regclass DEFAULT NULL, deletion bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'restore_wrapper';
COMMENT ON FUNCTION tombstone.restore IS
    'Brings a tombstone back to life, with the children that its deletion took; returns how many records. Of several tombstones of one id (layout archive) the latest, or the one that deletion left. What redaction blanked stays blank. P0002: no tombstone of that id. 23503: its parent is deleted.';

CREATE FUNCTION tombstone.undo(deletion bigint, dry_run boolean DEFAULT false)
    RETURNS TABLE (relation regclass, id text, outcome text, detail text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'undo_wrapper';
COMMENT ON FUNCTION tombstone.undo IS
    'Brings back exactly what a deletion took, or nothing; with dry_run says what it would do. Outcomes: restored, restored_redacted, already_live, deleted_later; conflicts, of which one stops all: purged, held, denied, unique, missing_parent, failed. Layout in_place: reaches back as far as event_retention; layout archive: as far as the bin does, whatever became of the log.';

CREATE FUNCTION tombstone.purge(id anycompatible, relation regclass DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'purge_wrapper';
REVOKE ALL ON FUNCTION tombstone.purge FROM PUBLIC;
COMMENT ON FUNCTION tombstone.purge IS
    'Hard delete of a record, live or deleted, with all its versions; returns how many rows went. Cannot be undone. For roles granted EXECUTE that own the record, or the table where it has no owners expression.';

CREATE FUNCTION tombstone.purge_versions(
    id anycompatible, "from" bigint DEFAULT NULL, lim integer DEFAULT NULL, ids bigint[] DEFAULT NULL, relation regclass DEFAULT NULL
) RETURNS SETOF bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'purge_versions_wrapper';
REVOKE ALL ON FUNCTION tombstone.purge_versions FROM PUBLIC;
COMMENT ON FUNCTION tombstone.purge_versions IS
    'Hard delete of versions of a record, never the latest: those listed in ids (at most 50), or the lim oldest, or from a version and older, or the lim versions up to from. Returns the versions that went. Cannot be undone. For roles granted EXECUTE that own the record, or the table where it has no owners expression.';

CREATE FUNCTION tombstone.tombstone_value_states("user" anycompatible, epoch bigint, relation regclass DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_value_states_wrapper';
COMMENT ON FUNCTION tombstone.tombstone_value_states IS
    'Soft-deletes every version up to and including epoch of one record: its redact columns get their tombstone values in the same write. Returns the rows newly tombstoned; those tombstoned already are not written again. 0A000 with layout archive, where tombstones leave the table.';

CREATE FUNCTION tombstone.state(id anycompatible, relation regclass DEFAULT NULL) RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'state_wrapper';
COMMENT ON FUNCTION tombstone.state IS
    'What has become of a record: live (200), deleted (410), purged (410, while the log remembers), unknown (404).';

CREATE FUNCTION tombstone.hold(id anycompatible, relation regclass DEFAULT NULL, reason text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'hold_wrapper';
COMMENT ON FUNCTION tombstone.hold IS
    'Puts a record, live or deleted, on legal hold: until release() it can be neither deleted, restored nor purged. You must own the table. Holding a held record keeps the hold, and takes a new reason if one is given.';

CREATE FUNCTION tombstone.release(id anycompatible, relation regclass DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'release_wrapper';
COMMENT ON FUNCTION tombstone.release IS
    'Ends a hold. You must own the table. P0002: the record is not on hold.';

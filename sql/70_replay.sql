-- Doors to the log: what happened after a cursor, and where the log ends now. Reading writes nothing: also on a standby.

CREATE FUNCTION tombstone.replay(
    after     text,
    lim       integer    DEFAULT 1000,
    relations regclass[] DEFAULT NULL,
    with_data boolean    DEFAULT false
) RETURNS TABLE (
    cursor text, at timestamptz, relation regclass, id text, kind text, op text, deletion_type text, version bigint,
    deleted_at timestamptz, cause text, actor text, data jsonb, restored boolean, deletion bigint,
    app_actor text, reason text
)
    LANGUAGE c AS 'MODULE_PATHNAME', 'replay_wrapper' ROWS 1000;
COMMENT ON FUNCTION tombstone.replay IS
    'The events after a cursor (NULL: from the beginning of the log), in order, at most lim; each with the cursor to go on from. Of the tables you may SELECT from, or of those named in relations. What was purged has left the stream, but for the purge. with_data: the row as it is now. 55000: the cursor is too old, or of another database.';

CREATE FUNCTION tombstone.cursor() RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'cursor_wrapper';
COMMENT ON FUNCTION tombstone.cursor IS
    'The log''s end now. In one REPEATABLE READ transaction take it and read the tables: replay from it brings all that came after, and nothing of what was read.';

-- The triggers: the lifecycle itself, fired by every road into a managed table.
-- manage() attaches the first four to the table; the event triggers follow its partitions, and clear up after DROP TABLE.

CREATE FUNCTION tombstone.on_update() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_update';
COMMENT ON FUNCTION tombstone.on_update() IS
    'Trigger of managed tables: a row whose deleted_at is set is redacted and recorded as deleted, one whose deleted_at is cleared as restored.';

CREATE FUNCTION tombstone.on_delete() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_delete';
COMMENT ON FUNCTION tombstone.on_delete() IS
    'Trigger of managed tables: a row that leaves the table is archived and recorded as deleted, or, with layout in_place, recorded as purged.';

CREATE FUNCTION tombstone.on_insert() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_insert';
COMMENT ON FUNCTION tombstone.on_insert() IS
    'Trigger of managed tables with events => ''all'': a new row is recorded as created.';

CREATE FUNCTION tombstone.on_return() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_return';
COMMENT ON FUNCTION tombstone.on_return() IS
    'Trigger of managed tables with layout archive: a row that restore() or undo() brings back is put back as it was, whatever other triggers made of it, and recorded as restored.';

CREATE FUNCTION tombstone.on_bin_update() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_bin_update';
COMMENT ON FUNCTION tombstone.on_bin_update() IS
    'Trigger of archives: the id of a tombstone on hold stays as it is.';

CREATE FUNCTION tombstone.on_bin_delete() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_bin_delete';
COMMENT ON FUNCTION tombstone.on_bin_delete() IS
    'Trigger of archives: a tombstone that leaves for ever is recorded as purged; one on hold stays.';

CREATE FUNCTION tombstone.on_bin_replicated() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_bin_replicated';
COMMENT ON FUNCTION tombstone.on_bin_replicated() IS
    'Trigger of archives: what a logical subscription brings twice, as a deletion and as the publisher''s tombstone of it, is archived once.';

CREATE FUNCTION tombstone.on_truncate() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_truncate';
COMMENT ON FUNCTION tombstone.on_truncate() IS
    'Trigger of managed tables and archives: every row is archived and recorded as deleted, or recorded as purged; refuses TRUNCATE while a record is on hold.';

CREATE FUNCTION tombstone.on_live_delete() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_live_delete';
COMMENT ON FUNCTION tombstone.on_live_delete() IS
    'Trigger of views that live_view() makes: a DELETE through the view soft-deletes the row, with the rights of whoever deletes.';

CREATE FUNCTION tombstone.on_drop() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'on_drop_wrapper';
COMMENT ON FUNCTION tombstone.on_drop() IS
    'Event trigger: a dropped table is managed no longer; refuses the drop while a record is on hold.';

-- Of every command: DROP TYPE … CASCADE takes typed tables along.
CREATE EVENT TRIGGER tombstone_on_drop ON sql_drop
    EXECUTE FUNCTION tombstone.on_drop();
COMMENT ON EVENT TRIGGER tombstone_on_drop IS
    'Takes dropped tables out of tombstone.managed, and protects held records from DROP.';

CREATE FUNCTION tombstone.on_partition() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'on_partition_wrapper';
COMMENT ON FUNCTION tombstone.on_partition() IS
    'Event trigger: a new partition of a managed table gets its guard against TRUNCATE; refuses tables that would inherit from one.';

-- CREATE SCHEMA makes tables; a foreign one, too, may be a partition, or inherit.
CREATE EVENT TRIGGER tombstone_on_partition ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'CREATE SCHEMA')
    EXECUTE FUNCTION tombstone.on_partition();
COMMENT ON EVENT TRIGGER tombstone_on_partition IS
    'Guards the held records in partitions created or attached later.';

-- A log, its holds and its options describe one database. A publication FOR ALL TABLES sends them to subscribers, too.
CREATE FUNCTION tombstone.on_replicated() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'tombstone_on_replicated';
COMMENT ON FUNCTION tombstone.on_replicated() IS
    'Trigger of the extension''s own tables: what a logical subscription brings of another database''s is left out.';

-- Doors to management: what is managed, and how.

CREATE FUNCTION tombstone.manage(
    relation        regclass,
    layout          text     DEFAULT NULL,
    id              name[]   DEFAULT NULL,
    version         name     DEFAULT NULL,
    deleted_at      name     DEFAULT NULL,
    redact          jsonb    DEFAULT NULL,
    kind            text     DEFAULT NULL,
    owners          text     DEFAULT NULL,
    retention       interval DEFAULT '30 days',
    expire_after    interval DEFAULT NULL,
    expire_from     text     DEFAULT NULL,
    events          text     DEFAULT 'delete',
    notify          text     DEFAULT 'record',
    channel         name     DEFAULT 'tombstone',
    event_retention interval DEFAULT '30 days',
    max_purge       "any"    DEFAULT NULL,
    truncate        text     DEFAULT NULL,
    purge_events    text     DEFAULT 'record',
    on_delete       jsonb    DEFAULT '{}',
    restore         text     DEFAULT 'anyone',
    payload         text     DEFAULT 'short',
    mute            text[]   DEFAULT '{}',
    purge_after     text     DEFAULT NULL,
    keep_versions   integer  DEFAULT NULL,
    keep_versions_for interval DEFAULT NULL,
    tree            boolean  DEFAULT false
) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'manage_wrapper';
COMMENT ON FUNCTION tombstone.manage IS
    'Puts a table under management. You must own it. Every option is checked now.
layout: archive, a DELETE moves its rows to <table>_tombstone, the default without a column deleted_at; in_place, they stay.
id: the primary key unless given.
deleted_at: the column of that name unless given, added where missing.
redact: {"column": value, …} blanked by a soft delete, for ever.
kind, owners, expire_from, purge_after: SQL expressions over the row, which may be called this (this.id), resolved with search_path = pg_catalog.
retention, event_retention: NULL keeps for ever; retention 0 keeps no tombstone.
expire_after: 0 is the moment that expire_from says.
events: delete; all, creates and updates, too; none, the log hears of nothing, and undo knows what archives hold.
payload: full, what is announced also says cause, deletion, at and the application''s actor.
mute: causes of events that are logged and not announced, and of what follows from those.
max_purge: a run that would expire or purge more records takes none; a number, or a share of the table''s rows such as ''10%''; NULL: no limit.
truncate: archive copies every row to the bin, the default with layout archive; purge empties the table for good, the default in_place; refuse is an error.
purge_events: record, an event of each record that maintenance purges; none, no event, and a partition of a bin is dropped at the same cost however full it is.
on_delete: {"foreign key": "cascade" | "restrict" | "ignore", …}, of foreign keys of this table, what a soft delete of a parent in place does to its live rows, whatever the key is declared as.
restore: in_place, anyone who may update deleted_at restores by clearing it; function, only restore(), undo() and watchers do, and an UPDATE that clears it is an error.
purge_after: an interval after which the row''s tombstone is purged, if that is sooner than retention; NULL: it is not.
keep_versions, keep_versions_for: of a record''s versions so many of the newest stay, and those that are younger by expire_from; the latest always; the others expire.
tree: with layout archive manages whatever the table''s ON DELETE actions reach as well; without it they are named in warnings.';

CREATE FUNCTION tombstone.configure(relation regclass, option text, value text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'configure_wrapper';
COMMENT ON FUNCTION tombstone.configure IS
    'Changes one option of a managed table you own; NULL resets it to manage()''s default. retention and event_retention take ''forever'' to keep for ever.';

CREATE FUNCTION tombstone.adopt() RETURNS SETOF regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'adopt_wrapper';
COMMENT ON FUNCTION tombstone.adopt IS
    'Manages again the tables that you own whose definitions were copied without the extension''s own rows, as pg_dump --schema-only copies them: with the triggers, bins and options that they had. Returns them.';

CREATE FUNCTION tombstone.unmanage(relation regclass, discard boolean DEFAULT false) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'unmanage_wrapper';
COMMENT ON FUNCTION tombstone.unmanage IS
    'Ends the management of a table you own. Layout archive: what was deleted stays in <table>_tombstone, a table like any other then. Layout in_place: refuses while tombstones remain, unless discard is true: then their rows are deleted. Refuses while a record is on hold.';

CREATE FUNCTION tombstone.unique_among_live(relation regclass, "constraint" name) RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'unique_among_live_wrapper';
COMMENT ON FUNCTION tombstone.unique_among_live IS
    'Layout in_place, of a table you own: makes of a unique constraint or index a unique index of the same name in which live rows alone take part, so that what a tombstone holds can be used again. Returns what ON CONFLICT has to say from then on to mean it. Refuses keys that foreign keys or the table''s id stand on, and DEFERRABLE ones, as Postgres cannot defer a partial index. Takes the table to itself while the index is built.';

CREATE FUNCTION tombstone.live_view(relation regclass, name name) RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'live_view_wrapper';
COMMENT ON FUNCTION tombstone.live_view IS
    'Layout in_place, of a table you own: makes a view of its live rows, beside it, that can be read and written like the table, with the rights of whoever does. A DELETE through it is a soft delete. Its columns are the table''s, and follow them. From PostgreSQL 15 on.';

CREATE PROCEDURE tombstone.convert(relation regclass, layout text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'convert_wrapper';
COMMENT ON PROCEDURE tombstone.convert IS
    'Moves the tombstones of a managed table you own to where the other layout has them: deletions, undo, holds and cursors stay what they are, and no trigger fires. archive: copies batch by batch, and changes the layout in one last short transaction; broken off, the next CALL goes on. in_place: in one transaction; needs the column deleted_at, and ends a conversion to archive that is under way. Tables that are tied to it by ON DELETE CASCADE are converted with it. Not inside a transaction block.';

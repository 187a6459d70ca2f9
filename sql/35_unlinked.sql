-- References that ON DELETE SET NULL or SET DEFAULT has overwritten, so that undo can put them back.
-- Keys only, never other data; written as the foreign keys act, read by restore() and undo(); carried by pg_dump, as archives are.

CREATE TABLE tombstone.unlinked (
    deletion   bigint      NOT NULL,
    managed    integer     NOT NULL REFERENCES tombstone.managed ON DELETE CASCADE,
    parent     integer     NOT NULL,
    reference  text        NOT NULL,
    id         text        NOT NULL,
    version    bigint,
    before     json        NOT NULL,
    after      json        NOT NULL,
    deleted_at timestamptz NOT NULL,
    UNIQUE (deletion, managed, reference, id, version)
);

COMMENT ON TABLE tombstone.unlinked IS
    'References that a deletion has overwritten by ON DELETE SET NULL or SET DEFAULT: restore() and undo() put them back where the child still has what the action wrote.';
COMMENT ON COLUMN tombstone.unlinked.deletion IS 'The deletion.';
COMMENT ON COLUMN tombstone.unlinked.managed IS 'The table of the child, as numbered in tombstone.managed.';
COMMENT ON COLUMN tombstone.unlinked.parent IS 'The table of the deleted parent, likewise.';
COMMENT ON COLUMN tombstone.unlinked.reference IS 'The foreign key.';
COMMENT ON COLUMN tombstone.unlinked.id IS 'The child, as text.';
COMMENT ON COLUMN tombstone.unlinked.version IS 'Its version, where the table has versions.';
COMMENT ON COLUMN tombstone.unlinked.before IS 'What the columns of the foreign key held, each as text.';
COMMENT ON COLUMN tombstone.unlinked.after IS 'What the action wrote to them.';
COMMENT ON COLUMN tombstone.unlinked.deleted_at IS 'The stamp of the deletion: these go when its tombstones are due.';

SELECT pg_catalog.pg_extension_config_dump('tombstone.unlinked', '');

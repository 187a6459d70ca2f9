-- The schema: who may look inside it.
-- Touches nothing but the schema's comment and its USAGE right.

COMMENT ON SCHEMA tombstone IS
    'pg_tombstone: the deletion lifecycle of managed tables. Doors are functions, places to look are views.';

GRANT USAGE ON SCHEMA tombstone TO PUBLIC;

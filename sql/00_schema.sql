-- The schema: whose it is, and who may look inside it.
-- Touches nothing but the schema's comment and its USAGE right.

-- A schema of that name that stands there already may hold functions that would pass for Postgres' own in what follows:
-- it must be the installer's, and empty.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace n
               WHERE n.nspname OPERATOR(pg_catalog.=) 'tombstone'
                 AND (n.nspowner OPERATOR(pg_catalog.<>) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)
                      OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                                 WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
                                   AND d.refobjid OPERATOR(pg_catalog.=) n.oid
                                   AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass))) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_schema',
            MESSAGE = 'schema "tombstone" exists, and is not an empty schema of yours',
            HINT = 'Drop it, or give it to the installing role and empty it.';
    END IF;
END
$$;

COMMENT ON SCHEMA tombstone IS
    'pg_tombstone: the deletion lifecycle of managed tables. Doors are functions, places to look are views.';

GRANT USAGE ON SCHEMA tombstone TO PUBLIC;

-- What holds for all of the extension's own tables: the last file, so that none is forgotten.

-- What a subscription would write to them is another database's.
DO $$
DECLARE
    own pg_catalog.regclass;
BEGIN
    FOR own IN
        SELECT c.oid
        FROM pg_catalog.pg_extension x
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = x.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
        WHERE x.extname = 'pg_tombstone' AND c.relkind = 'r'
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER on_replicated BEFORE INSERT OR UPDATE OR DELETE ON %s
                                   FOR EACH ROW EXECUTE FUNCTION tombstone.on_replicated()', own);
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE REPLICA TRIGGER on_replicated', own);
        -- A publication FOR ALL TABLES lets nobody delete a row that it cannot name.
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = own AND i.indisprimary) THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL', own);
        END IF;
    END LOOP;
END
$$;

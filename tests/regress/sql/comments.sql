-- Every object of the extension says what it is, so that \dx+ pg_tombstone and \df+ tombstone.* read as documentation:
-- tables and views with their columns, functions, sequences, event triggers. What is listed here has no comment.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;

CREATE TEMP VIEW object AS
    SELECT d.classid, d.objid, o.type, o.identity
    FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) AS o
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
      AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tombstone');

-- Of each kind there are some; no other kind has slipped in (the types behind tables count as members from 17 on).
SELECT type FROM object WHERE type <> 'type' GROUP BY type ORDER BY type COLLATE "C";

-- The sequence behind an identity column, or the type behind a table, goes without: its owner has the comment.
SELECT type, identity FROM object
WHERE COALESCE(obj_description(objid, classid::regclass::name), '') = ''
  AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = object.classid AND i.objid = object.objid AND i.deptype = 'i')
ORDER BY identity COLLATE "C";

SELECT type, identity, attname FROM object
JOIN pg_attribute a ON a.attrelid = objid AND attnum > 0 AND NOT attisdropped
WHERE classid = 'pg_class'::regclass AND type IN ('table', 'view') AND COALESCE(col_description(objid, attnum), '') = ''
ORDER BY identity COLLATE "C", attnum;

-- Functions of different names do different things.
SELECT obj_description(objid, 'pg_proc') AS comment, array_agg(identity ORDER BY identity COLLATE "C") AS functions
FROM object WHERE classid = 'pg_proc'::regclass
GROUP BY 1 HAVING count(DISTINCT (SELECT proname FROM pg_proc WHERE oid = objid)) > 1;

-- The extension and its schema.
SELECT obj_description(oid, 'pg_extension') IS NOT NULL AS extension, obj_description(extnamespace, 'pg_namespace') IS NOT NULL AS schema
FROM pg_extension WHERE extname = 'pg_tombstone';

DROP VIEW object;

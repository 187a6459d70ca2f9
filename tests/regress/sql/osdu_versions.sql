-- examples/osdu_versions.sql, records with versions: what its comments say is what happens,
-- and a second run begins anew.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;

\i examples/osdu_versions.sql

-- Once more: nothing is in its way.
\o /dev/null
\set ECHO none
\i examples/osdu_versions.sql
\o
\set ECHO all

RESET tombstone.default_table;
DROP SCHEMA osdu_versions CASCADE;
DROP OWNED BY "users.datalake.admins", "data.wells.owners";
DROP ROLE osdu_ann, osdu_ben, "users.datalake.admins", "data.wells.owners";

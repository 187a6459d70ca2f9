-- examples/undo.sql, the shop: what its comments say is what happens, and a second run begins anew.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;

\i examples/undo.sql

-- Once more: nothing is in its way.
\o /dev/null
\set ECHO none
\i examples/undo.sql
\o
\set ECHO all

DROP SCHEMA shop CASCADE;

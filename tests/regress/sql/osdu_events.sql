-- examples/osdu_events.sql, delete events: what its comments say is what happens, and a second run begins anew.
-- Notifications name the server process, which is another one each time: sed takes that away. So the example is not echoed.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;

\set ECHO none
\o | sed 's/ received from server process.*//'
\i examples/osdu_events.sql
\o
\o /dev/null
\i examples/osdu_events.sql
\o
\set ECHO all

DROP SCHEMA osdu_events CASCADE;

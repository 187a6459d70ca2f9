-- Records with versions (the Storage service of OSDU). Every change of a record adds a version; when there are too many of
-- them, old ones are removed for good, never the latest. Who does that must be an administrator, and own the record.
--
-- psql -f examples/osdu_versions.sql, as a superuser, in a database with UTF8 encoding; everything happens in the schema
-- osdu_versions, but for four roles: what a service would call groups and users.
\set ON_ERROR_STOP off
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tombstone;
DROP SCHEMA IF EXISTS osdu_versions CASCADE;
SELECT format('DROP OWNED BY %I', rolname), format('DROP ROLE %I', rolname)
FROM pg_roles WHERE rolname IN ('users.datalake.admins', 'data.wells.owners', 'osdu_ann', 'osdu_ben') ORDER BY rolname
\gexec
CREATE SCHEMA osdu_versions;
SET search_path = osdu_versions;

CREATE TABLE record (
    id      text   NOT NULL CHECK (id ~ '^[\w\-\.]+:[\w\-\.]+:[\w\-\.\:\%]+$'),
    version bigint NOT NULL,
    kind    text   NOT NULL,
    acl     jsonb  NOT NULL, -- {"owners": [role, …], "viewers": [role, …]}
    data    jsonb  NOT NULL,
    PRIMARY KEY (id, version)
);

-- One call. The id is what is left of the primary key without the version; owners is any expression over the row.
SELECT tombstone.manage('record', layout => 'in_place', version => 'version', kind => 'kind',
                        owners => $$ARRAY(SELECT jsonb_array_elements_text(acl -> 'owners'))$$);

-- The administrators' group may purge versions: nobody else may, until granted. Ann and Ben are both in it,
-- and Ann is in the group that owns the wells. Neither needs any right on the table.
CREATE ROLE "users.datalake.admins";
CREATE ROLE "data.wells.owners";
CREATE ROLE osdu_ann IN ROLE "users.datalake.admins", "data.wells.owners";
CREATE ROLE osdu_ben IN ROLE "users.datalake.admins";
GRANT EXECUTE ON FUNCTION tombstone.purge_versions TO "users.datalake.admins";
GRANT USAGE ON SCHEMA osdu_versions TO "users.datalake.admins", "data.wells.owners";

INSERT INTO record
SELECT 'opendes:well:' || name, version, 'osdu:wks:well:1.0.0', '{"owners": ["data.wells.owners"], "viewers": []}',
       jsonb_build_object('depth', 1000 + version)
FROM (VALUES ('alpha', 9), ('beta', 1)) AS well (name, versions), generate_series(1, versions) AS version;

-- Calls that name no table mean this one.
SET tombstone.default_table = 'osdu_versions.record';
SET ROLE osdu_ann;

-- The two oldest versions; version 4 and what is older; two versions from 6 downwards.
SELECT tombstone.purge_versions('opendes:well:alpha', lim => 2);
SELECT tombstone.purge_versions('opendes:well:alpha', "from" => 4);
SELECT tombstone.purge_versions('opendes:well:alpha', "from" => 6, lim => 2);
-- Or exactly these, at most fifty.
SELECT tombstone.purge_versions('opendes:well:alpha', ids => '{7}');

-- 400: a bad request is 22023. The latest version never goes, not even where it is the only one.
SELECT tombstone.purge_versions('opendes:well:alpha', ids => '{9}');
\echo :SQLSTATE
SELECT tombstone.purge_versions('opendes:well:beta', lim => 1);
\echo :SQLSTATE

-- 404: no such record is P0002.
SELECT tombstone.purge_versions('opendes:well:gamma', lim => 1);
\echo :SQLSTATE

-- 403: to be an administrator is not enough, nor is it to own the record; both refusals are 42501.
SET ROLE osdu_ben;
SELECT tombstone.purge_versions('opendes:well:alpha', lim => 1);
\echo :SQLSTATE
SET ROLE "data.wells.owners";
SELECT tombstone.purge_versions('opendes:well:alpha', lim => 1);
\echo :SQLSTATE
RESET ROLE;

-- What is left, and who removed something. There is no way back: undo has nothing to bring.
SELECT id, version, data FROM record ORDER BY id, version;
SELECT deletion, actor, cause, relations FROM tombstone.deletions WHERE relations ? 'record' ORDER BY deletion;
SELECT max(deletion) AS deletion FROM tombstone.deletions WHERE relations ? 'record' \gset
SELECT * FROM tombstone.undo(:deletion, dry_run => true);

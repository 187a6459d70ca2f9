-- How a table comes under management and out of it again: the options, each refusal and its way out,
-- and what becomes of a managed table that is renamed or dropped.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA shop;
SET search_path = shop;
SET intervalstyle = postgres;

--
-- One call
--

-- A table that has a column deleted_at needs to say no more than its name.
CREATE TABLE note (id bigint PRIMARY KEY, body text NOT NULL, deleted_at timestamptz);
SELECT tombstone.manage('note');

-- Every option has a value, and the view shows it.
\x on
SELECT * FROM tombstone.tables;
\x off

-- A table without that column says that its tombstones shall stay in it; the column is added.
CREATE TABLE customer (id int PRIMARY KEY, name text, email text, created_at timestamptz NOT NULL DEFAULT now());
SELECT tombstone.manage('customer', layout => 'in_place', redact => '{"name": null, "email": "gone"}',
    kind => $$'customer'$$, retention => '1 year', expire_after => '10 years', expire_from => 'created_at',
    events => 'all', notify => 'batch', channel => 'customers', event_retention => NULL);
INSERT INTO customer VALUES (1, 'Ada', 'ada@example.com');
SELECT deleted_at FROM customer;
\x on
SELECT * FROM tombstone.tables WHERE relation = 'customer'::regclass;
\x off

-- Twice is a mistake.
SELECT tombstone.manage('note');
\echo :SQLSTATE

--
-- Which table a call without one means
--

-- Several would fit: the call must say which.
SELECT tombstone.soft_delete('1');
\echo :SQLSTATE
SELECT tombstone.state('1', 'customer');

-- Or a setting does.
SET tombstone.default_table = 'customer';
SELECT tombstone.state('1');
SET tombstone.default_table = 'shop.nowhere';
SELECT tombstone.state('1');
\echo :SQLSTATE
SET tombstone.default_table = 'pg_class';
SELECT tombstone.state('1');
\echo :SQLSTATE
RESET tombstone.default_table;

-- Tables with versions and tables without never stand for each other.
SELECT tombstone.tombstone_value_states('alice', 1);
\echo :SQLSTATE
SELECT tombstone.unmanage('customer');
SELECT tombstone.state('1');
SELECT tombstone.unmanage('note');
SELECT tombstone.state('1');
\echo :SQLSTATE

--
-- configure: one option at a time, NULL for manage()'s default
--

SELECT tombstone.manage('note');
SELECT tombstone.configure('note', 'redact', '{"body": ""}');
SELECT tombstone.configure('note', 'retention', 'forever');
SELECT tombstone.configure('note', 'event_retention', '90 days');
SELECT tombstone.configure('note', 'kind', '''note/'' || length(body)');
SELECT tombstone.configure('note', 'owners', 'current_user');
SELECT tombstone.configure('note', 'events', 'all');
SELECT tombstone.configure('note', 'notify', 'none');
SELECT tombstone.configure('note', 'channel', 'notes');
SELECT redact, retention, event_retention, kind, owners, events, notify, channel FROM tombstone.tables;
SELECT count(tombstone.configure('note', option, NULL))
FROM unnest('{redact, retention, event_retention, kind, owners, events, notify, channel}'::text[]) AS option;
SELECT redact, retention, event_retention, kind, owners, events, notify, channel FROM tombstone.tables;

-- What is wrong is said before anything changes.
SELECT tombstone.configure('note', 'colour', 'blue');
\echo :SQLSTATE
SELECT tombstone.configure('note', NULL, 'blue');
\echo :SQLSTATE
SELECT tombstone.configure('note', 'retention', 'a while');
\echo :SQLSTATE
SELECT tombstone.configure('note', 'expire_after', 'forever');
\echo :SQLSTATE
SELECT tombstone.configure('note', 'redact', '{"body": ');
\echo :SQLSTATE
SELECT tombstone.configure('note', 'redact', '[]');
\echo :SQLSTATE
SELECT tombstone.configure('customer', 'events', 'all');
\echo :SQLSTATE
SELECT tombstone.configure(NULL, 'events', 'all');
\echo :SQLSTATE

-- What names records cannot change under their tombstones.
INSERT INTO note VALUES (1, 'hello');
SELECT tombstone.soft_delete('1') > 0 AS deleted;
ALTER TABLE note ADD COLUMN n int NOT NULL UNIQUE DEFAULT 7;
SELECT tombstone.configure('note', 'id', 'n');
\echo :SQLSTATE
SELECT tombstone.configure('note', 'deleted_at', 'removed_at');
\echo :SQLSTATE
SELECT tombstone.restore('1');
SELECT tombstone.configure('note', 'id', '{n}');
SELECT tombstone.state('7');
SELECT tombstone.configure('note', 'id', NULL);
SELECT tombstone.state('1');
SELECT tombstone.unmanage('note');

--
-- Every option is checked when it is set
--

CREATE TABLE thing (
    tenant     text,
    number     int,
    version    bigint NOT NULL,
    label      varchar(8) NOT NULL,
    extra      jsonb,
    weight     numeric,
    due        date,
    code       text UNIQUE,
    loose      int,
    shape      point NOT NULL,
    shout      text GENERATED ALWAYS AS (upper(label)) STORED,
    serial     int GENERATED ALWAYS AS IDENTITY,
    removed_at timestamptz,
    removed_on date,
    touched_at timestamptz DEFAULT now(),
    PRIMARY KEY (tenant, number, version)
);
CREATE TABLE part (id int PRIMARY KEY, code text REFERENCES thing (code));
CREATE TABLE bare (a int, b int);

-- layout
SELECT tombstone.manage('thing', 'elsewhere');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'archive', deleted_at => 'removed_at');
\echo :SQLSTATE

-- id
SELECT tombstone.manage('bare', 'in_place');
\echo :SQLSTATE
SELECT tombstone.manage('bare', 'in_place', id => '{a}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', id => '{nobody}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', id => '{}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', id => '{NULL}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', id => '{tenant}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', id => '{tenant, tenant}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', id => '{tenant, version}', version => 'version');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', id => '{shape}');
\echo :SQLSTATE

-- version
SELECT tombstone.manage('thing', 'in_place', version => 'edition');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', version => 'label');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', version => 'loose');
\echo :SQLSTATE

-- deleted_at
SELECT tombstone.manage('thing', 'in_place', deleted_at => 'removed_on');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', deleted_at => 'touched_at');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', deleted_at => 'number');
\echo :SQLSTATE

-- redact
SELECT tombstone.manage('thing', 'in_place', redact => '"label"');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', redact => '{"titel": ""}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', redact => '{"label": null}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', redact => '{"label": "much too long"}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', redact => '{"label": {"a": 1}}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', redact => '{"weight": "heavy"}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', redact => '{"tenant": "x"}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', version => 'version', redact => '{"version": 0}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', deleted_at => 'removed_at', redact => '{"removed_at": null}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', redact => '{"shout": ""}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', redact => '{"serial": 0}');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', redact => '{"code": null}');
\echo :SQLSTATE

-- intervals
SELECT tombstone.manage('thing', 'in_place', retention => '-1 day');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', retention => '1 month -30 days');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', event_retention => '0');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', expire_after => '-1 day', expire_from => 'touched_at');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', expire_after => '0');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', expire_after => '1 day');
\echo :SQLSTATE

-- events, notify, channel
SELECT tombstone.manage('thing', 'in_place', events => 'some');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', notify => 'loudly');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', payload => 'long');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', channel => '');
\echo :SQLSTATE

--
-- Expressions over the row
--

-- They must parse now, with search_path = pg_catalog, and be of the type their use asks for.
SELECT tombstone.manage('thing', 'in_place', kind => 'colour');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => '');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => '1 +');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'count(*)');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'row_number() OVER ()');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'generate_series(1, 2)');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', owners => 'number');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', expire_after => '1 day', expire_from => 'label');
\echo :SQLSTATE

-- They are one expression, and no more.
SELECT tombstone.manage('thing', 'in_place', kind => 'label, tenant');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => '*');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'label) FROM shop.thing --');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'label FROM shop.thing');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'label), (tenant');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => '1); DROP TABLE shop.thing; SELECT (1');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'label) UNION SELECT (tenant');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'label) INTO loot --');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'label /*');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => '$1');
\echo :SQLSTATE
SELECT tombstone.manage('thing', 'in_place', kind => 'DEFAULT');
\echo :SQLSTATE

-- One expression may still ask other tables, and end in a comment.
SELECT tombstone.manage('thing', 'in_place', deleted_at => 'removed_at',
    kind => '(SELECT max(p.id) FROM shop.part p WHERE p.code = thing.code) -- the latest part',
    owners => 'ARRAY[tenant, ''admin'']', expire_from => 'due', expire_after => '1 year');
SELECT kind, owners, expire_from FROM tombstone.tables;
SELECT tombstone.unmanage('thing');

--
-- What can be managed
--

CREATE VIEW a_view AS SELECT * FROM customer;
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM customer;
CREATE SEQUENCE a_sequence;
CREATE TABLE ancestor (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE heir () INHERITS (ancestor);
CREATE TABLE parted (id int PRIMARY KEY, deleted_at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
SELECT tombstone.manage('a_view');
\echo :SQLSTATE
SELECT tombstone.manage('a_matview');
\echo :SQLSTATE
SELECT tombstone.manage('a_sequence');
\echo :SQLSTATE
SELECT tombstone.manage('note_pkey');
\echo :SQLSTATE
SELECT tombstone.manage('ancestor');
\echo :SQLSTATE
SELECT tombstone.manage('parted_1');
\echo :SQLSTATE
SELECT tombstone.manage('parted_2');
\echo :SQLSTATE
SELECT tombstone.manage('pg_class', 'in_place');
\echo :SQLSTATE
SELECT tombstone.manage('tombstone.event', 'in_place');
\echo :SQLSTATE
SELECT tombstone.manage('nowhere');
\echo :SQLSTATE
SELECT tombstone.manage(NULL);
\echo :SQLSTATE
SELECT tombstone.manage(0);
\echo :SQLSTATE

-- Of a temporary table, whose schema's name changes from session to session, only the last words.
CREATE TEMP TABLE a_temp (id int PRIMARY KEY, deleted_at timestamptz);
DO $$ BEGIN
    PERFORM tombstone.manage('a_temp');
EXCEPTION WHEN invalid_parameter_value THEN
    RAISE WARNING '%', regexp_replace(SQLERRM, '^pg_temp\w*', 'pg_temp');
END $$;

-- These can: a partitioned table, an unlogged one, the heir of another, which has triggers of its own.
SELECT tombstone.manage('parted');
SELECT tombstone.unmanage('parted');
CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('scratch');
SELECT tombstone.unmanage('scratch');
SELECT tombstone.manage('heir', id => '{id}');
\echo :SQLSTATE
ALTER TABLE heir ADD PRIMARY KEY (id);
SELECT tombstone.manage('heir');
SELECT tombstone.unmanage('heir');

-- What manage() refuses, nobody makes later, by whichever command. To be a child, and managed, is fine; so is ALTER of it.
CREATE TABLE testator (id int PRIMARY KEY);
SELECT tombstone.manage('testator');
CREATE TABLE late () INHERITS (testator);
\echo :SQLSTATE
CREATE TABLE late (id int NOT NULL);
ALTER TABLE late INHERIT testator;
\echo :SQLSTATE
CREATE SCHEMA late CREATE TABLE later () INHERITS (shop.testator);
CREATE FOREIGN DATA WRAPPER regress_manage;
CREATE SERVER regress_manage FOREIGN DATA WRAPPER regress_manage;
CREATE FOREIGN TABLE far () INHERITS (testator) SERVER regress_manage;
CREATE FOREIGN TABLE far (id int NOT NULL) SERVER regress_manage;
ALTER FOREIGN TABLE far INHERIT testator;
DROP FOREIGN DATA WRAPPER regress_manage CASCADE;
SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'testator'::regclass;
SELECT tombstone.unmanage('testator');
ALTER TABLE late INHERIT testator;
DROP TABLE late, testator, testator_tombstone;
SELECT tombstone.manage('heir');
ALTER TABLE heir ADD more int;
SELECT tombstone.unmanage('heir');

--
-- Who may: the table's owner, as for ALTER TABLE
--

CREATE ROLE regress_stranger;
GRANT USAGE ON SCHEMA shop TO regress_stranger;
GRANT ALL ON note TO regress_stranger;
SELECT tombstone.manage('note');
SET ROLE regress_stranger;
SELECT tombstone.manage('customer', 'in_place');
\echo :SQLSTATE
SELECT tombstone.configure('note', 'retention', '1 day');
\echo :SQLSTATE
SELECT tombstone.unmanage('note');
\echo :SQLSTATE
RESET ROLE;

--
-- unmanage
--

-- Not while there are tombstones, which nothing would tell from live rows any more …
SELECT id, deleted_at IS NOT NULL AS deleted FROM note;
SELECT tombstone.soft_delete('1') > 0 AS deleted;
SELECT tombstone.unmanage('note');
\echo :SQLSTATE
-- … nor while a record is on hold …
INSERT INTO note VALUES (2, 'evidence', NULL, 8);
SELECT tombstone.hold('2', 'note', 'case 17');
SELECT tombstone.unmanage('note', discard => true);
\echo :SQLSTATE
SELECT tombstone.release('2', 'note');
-- … but tombstones can be thrown away. The triggers go too.
SELECT tombstone.unmanage('note', discard => true);
SELECT id FROM note;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'note'::regclass;
SELECT tombstone.unmanage('note');
\echo :SQLSTATE
SELECT tombstone.soft_delete('2', 'note');
\echo :SQLSTATE

--
-- A managed table that is changed behind our back
--

SELECT tombstone.manage('note', redact => '{"body": ""}');

-- Renamed, or moved to another schema: nothing to do.
ALTER TABLE note RENAME TO memo;
SELECT tombstone.soft_delete('2', 'memo') > 0 AS deleted;
ALTER SCHEMA shop RENAME TO store;
SET search_path = store;
SELECT tombstone.restore('2', 'memo');
CREATE SCHEMA archive;
ALTER TABLE memo SET SCHEMA archive;
SELECT tombstone.soft_delete('2', 'archive.memo') > 0 AS deleted;
SELECT relation FROM tombstone.tables;

-- A renamed column stops every delete until the option follows: better than a guess.
ALTER TABLE archive.memo RENAME COLUMN body TO content;
SELECT tombstone.restore('2', 'archive.memo');
\echo :SQLSTATE
UPDATE archive.memo SET deleted_at = NULL;
\echo :SQLSTATE
SELECT tombstone.configure('archive.memo', 'redact', '{"content": ""}');
SELECT tombstone.restore('2', 'archive.memo');

ALTER TABLE archive.memo RENAME COLUMN deleted_at TO removed_at;
SELECT tombstone.soft_delete('2', 'archive.memo');
\echo :SQLSTATE
SELECT tombstone.configure('archive.memo', 'deleted_at', 'removed_at');
SELECT tombstone.soft_delete('2', 'archive.memo') > 0 AS deleted;

ALTER TABLE archive.memo RENAME COLUMN id TO memo_id;
SELECT tombstone.restore('2', 'archive.memo');
\echo :SQLSTATE
SELECT tombstone.configure('archive.memo', 'id', 'memo_id');
SELECT tombstone.restore('2', 'archive.memo');

-- A table that is gone is not managed any more, whichever way it went.
SELECT relation FROM tombstone.tables;
DROP TABLE archive.memo;
SELECT relation FROM tombstone.tables;
CREATE TABLE archive.memo (id int PRIMARY KEY, deleted_at timestamptz);
SELECT tombstone.manage('archive.memo');
DROP SCHEMA archive CASCADE;
SELECT relation FROM tombstone.tables;
SELECT count(*) FROM tombstone.managed;

-- DROP EXTENSION leaves the tables and their tombstones, and takes its triggers along.
SELECT tombstone.manage('customer');
DROP EXTENSION pg_tombstone;
\echo :SQLSTATE
DROP EXTENSION pg_tombstone CASCADE;
SELECT id FROM customer;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'customer'::regclass;

DROP SCHEMA store CASCADE;
DROP ROLE regress_stranger;
CREATE EXTENSION pg_tombstone;

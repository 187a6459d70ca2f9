-- A tour of pg_tombstone on this machine's own package catalogue. `make demo` runs it and prints comments and statements
-- as they come, from the first heading on. The psql variable rows names the file that `catalogue` wrote.
\set ECHO none
\set QUIET on
\set SHOW_CONTEXT never
\set ON_ERROR_STOP on
\pset null ·
\pset footer off
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tombstone;
DROP SCHEMA IF EXISTS tour CASCADE;
CREATE SCHEMA tour;
SET search_path = tour;
\set ECHO queries

-- == 1. A DELETE, undone
--
-- Who maintains the packages installed here, and how each of them came along, release by release.

CREATE TABLE maintainer (
    id    int  PRIMARY KEY,
    name  text NOT NULL,
    email text NOT NULL,
    UNIQUE (name, email)
);
CREATE TABLE package (
    name       text PRIMARY KEY,
    maintainer int  NOT NULL REFERENCES maintainer ON DELETE CASCADE,
    summary    text NOT NULL
);
CREATE TABLE release (
    package  text   REFERENCES package ON DELETE CASCADE,
    n        bigint,
    version  text   NOT NULL,
    at       timestamptz NOT NULL,
    uploader text   NOT NULL,
    changes  text   NOT NULL,
    PRIMARY KEY (package, n)
);

\set ECHO none
\i :rows
ANALYZE;
SELECT m.id AS maintainer, min(p.name) AS package
FROM maintainer m JOIN package p ON p.maintainer = m.id
GROUP BY m.id ORDER BY abs(count(*) - 3), m.id LIMIT 1 \gset
CREATE VIEW counted AS
SELECT (SELECT count(*) FROM maintainer) AS maintainers, (SELECT count(*) FROM package) AS packages,
       (SELECT count(*) FROM release) AS releases,
       (SELECT left(md5(string_agg(r::text, '' ORDER BY package, n)), 12) FROM release r) AS fingerprint;
\set ECHO queries

SELECT * FROM counted;

-- Two calls put them under management: releases, which are versions of a package, told apart by n; and maintainers, with
-- whatever their deletes reach. Each table gets a bin beside it, and stays your table.

\o /dev/null
SELECT tombstone.manage('release', version => 'n'), tombstone.manage('maintainer', tree => true);
\o
SELECT relation, layout, archive AS bin FROM tombstone.tables;

-- One maintainer was to be deleted, and the WHERE was forgotten.

\set QUIET off
DELETE FROM maintainer;
\set QUIET on
SELECT * FROM counted;

-- Packages and releases went by their own foreign keys. All of it is in the bins, and is one deletion.

SELECT name, maintainer, deletion, deleted_at::time(0), actor, cause FROM package_tombstone ORDER BY name LIMIT 3;
SELECT deletion, actor, relations, records FROM tombstone.deletions;

-- A dry run says what undoing it would do; undo does all of it, or nothing. The rows are what they were.

\set ECHO none
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
\set ECHO queries
SELECT relation, outcome, count(*) FROM tombstone.undo(:deletion, dry_run => true)
GROUP BY relation, outcome ORDER BY relation;
SELECT count(*) AS undone FROM tombstone.undo(:deletion);
SELECT * FROM counted;

-- Now the one that was meant. Meanwhile the same maintainer signs up again: what stands in the way is told with its cause, and
-- what only waits for that is counted, a line for each table.

DELETE FROM maintainer WHERE id = :maintainer;
\set ECHO none
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
\set ECHO queries
INSERT INTO maintainer SELECT 0, name, email FROM maintainer_tombstone WHERE id = :maintainer;
SELECT relation, outcome, left(detail, 90) AS detail FROM tombstone.undo(:deletion, dry_run => true);
\set ON_ERROR_STOP off
SELECT count(*) AS undone FROM tombstone.undo(:deletion);
\echo SQLSTATE :LAST_ERROR_SQLSTATE '\n'
\set ON_ERROR_STOP on

-- The newcomer gives way.

DELETE FROM maintainer WHERE id = 0;
SELECT count(*) AS undone FROM tombstone.undo(:deletion);

-- == 2. One record
--
-- By function, with a reason. It answers with the deletion's number. The package is gone from its table, and its releases with it.

SELECT tombstone.soft_delete(:'package', 'package', reason => 'no longer shipped') AS deletion;
SELECT tombstone.state(:'package', 'package'),
       (SELECT count(*) FROM package WHERE name = :'package') AS packages,
       (SELECT count(*) FROM release WHERE package = :'package') AS releases,
       (SELECT reason FROM package_tombstone WHERE name = :'package') AS reason;

-- What cannot be done is refused with an SQLSTATE that a service can turn into its own status: P0002 is its 404.

\set ON_ERROR_STOP off
SELECT tombstone.soft_delete(:'package', 'package');
\echo SQLSTATE :LAST_ERROR_SQLSTATE '\n'
\set ON_ERROR_STOP on

-- restore brings it back, and what fell with it.

SELECT tombstone.restore(:'package', 'package') AS restored;

-- == 3. Holds
--
-- One package is evidence. While the hold lasts no road leads past it: not DELETE, not a cascade from its maintainer.

\o /dev/null
SELECT tombstone.hold(:'package', 'package', reason => 'evidence in case 17');
\o
\set ON_ERROR_STOP off
DELETE FROM package WHERE name = :'package';
\echo SQLSTATE :LAST_ERROR_SQLSTATE '\n'
DELETE FROM maintainer WHERE id = :maintainer;
\echo SQLSTATE :LAST_ERROR_SQLSTATE '\n'
\set ON_ERROR_STOP on
SELECT relation, id, actor, reason FROM tombstone.holds;

-- Released, it can go for good: purge is the hard delete, and passes the bin by.

\o /dev/null
SELECT tombstone.release(:'package', 'package');
\o
SELECT tombstone.purge(:'package', 'package') AS rows;
SELECT tombstone.state(:'package', 'package'), count(*) AS releases FROM release WHERE package = :'package';

\set ECHO none
SELECT package AS chain, max(n) AS latest, (max(n) + 1) / 2 AS middle, max(n) > 1 AS has_versions
FROM release GROUP BY package ORDER BY abs(count(*) - 6), package LIMIT 1 \gset
\if :has_versions
\set ECHO queries

-- == 4. Versions
--
-- Old releases of a package may go, the latest never.

SELECT n, version, at::date AS uploaded, left(changes, 60) AS changes FROM release WHERE package = :'chain' ORDER BY n;
\set ON_ERROR_STOP off
SELECT tombstone.purge_versions(:'chain', ids => ARRAY[1, :latest], relation => 'release');
\echo SQLSTATE :LAST_ERROR_SQLSTATE '\n'
\set ON_ERROR_STOP on
SELECT tombstone.purge_versions(:'chain', "from" => :middle, relation => 'release') AS purged;
SELECT n, version FROM release WHERE package = :'chain' ORDER BY n;
\endif
\set ECHO queries

-- == 5. Rows that stay
--
-- The other layout: a tombstone stays in its table, marked by deleted_at. A table that has such a column is managed so. Who has
-- uploaded releases may ask to be forgotten. The application knows nothing of tombstone.*: it does what its ORM does.

CREATE TABLE uploader (id int PRIMARY KEY, email text NOT NULL, releases bigint NOT NULL, deleted_at timestamptz);
INSERT INTO uploader
SELECT row_number() OVER (ORDER BY count(*) DESC, uploader), uploader, count(*) FROM release GROUP BY uploader;
\o /dev/null
SELECT tombstone.manage('uploader', redact => '{"email": ""}');
\o
UPDATE uploader SET deleted_at = now() WHERE id = 1;
SELECT * FROM uploader ORDER BY id LIMIT 2;

-- The address went in the same row write. The log has identities, never data. So a restore brings back the record, and the
-- address is gone.

SELECT tombstone.restore('1', 'uploader') AS restored;
SELECT * FROM uploader WHERE id = 1;

-- == 6. A key directory
--
-- Shaped like the storage of the crate akd: a user has a value for each epoch in which it changed. Users are the uploaders
-- of the releases above, an epoch is a month, the value a fingerprint of what they uploaded in it.

CREATE TABLE value_state (
    username bytea,
    epoch    bigint,
    version  bigint NOT NULL,
    data     bytea  NOT NULL,
    PRIMARY KEY (username, epoch)
);
INSERT INTO value_state
SELECT convert_to(uploader, 'UTF8'),
       dense_rank() OVER (ORDER BY date_trunc('month', at)),
       row_number() OVER (PARTITION BY uploader ORDER BY date_trunc('month', at)),
       sha256(convert_to(string_agg(concat_ws(' ', package, version, changes), '' ORDER BY package, n), 'UTF8'))
FROM release GROUP BY uploader, date_trunc('month', at);

-- In a directory rows, versions and labels must stay for ever, for its proofs; a value may not. '' is akd's own tombstone.

\o /dev/null
SELECT tombstone.manage('value_state', layout => 'in_place', id => '{username}', version => 'epoch',
                        redact => '{"data": ""}', retention => NULL);
\o

-- All values of one user up to and including an epoch, in one call. A second call finds nothing left to write.

\set ECHO none
SELECT convert_from(username, 'UTF8') AS "user", (array_agg(epoch ORDER BY epoch))[(count(*) + 1) / 2] AS bound
FROM value_state GROUP BY username ORDER BY abs(count(*) - 7), username LIMIT 1 \gset
\set ECHO queries
SELECT tombstone.tombstone_value_states(:'user', :bound, 'value_state') AS tombstoned;
SELECT tombstone.tombstone_value_states(:'user', :bound, 'value_state') AS tombstoned;
SELECT epoch, version, left(encode(data, 'hex'), 16) AS data, deleted_at IS NOT NULL AS deleted
FROM value_state WHERE username = convert_to(:'user', 'UTF8') ORDER BY epoch;
SELECT count(DISTINCT username) AS users, count(*) AS states, count(deleted_at) AS tombstoned FROM value_state;

-- And what was deleted in all, by whom, why:

SELECT deletion, actor, cause, reason, relations, records, undone_at IS NOT NULL AS undone FROM tombstone.deletions ORDER BY deletion;

-- == 7. Events
--
-- Who listens hears of each deletion when it is committed, whichever road it took. A cursor is a place in the log.

\set ECHO none
SELECT p.name AS package FROM package p ORDER BY (SELECT count(*) FROM release WHERE package = p.name), p.name LIMIT 1 \gset
\set ECHO queries
\o /dev/null
SELECT tombstone.configure('package', 'kind', $$'debian:package'$$);
\o
SELECT tombstone.cursor() AS place \gset
LISTEN tombstone;
DELETE FROM package WHERE name = :'package';
SELECT tombstone.restore(:'package', 'package') AS restored;
DELETE FROM package WHERE name = :'package';

-- Who was away goes on from the last cursor it had, and gets the same, in order.

SELECT relation, id, version, kind, op, deletion_type, restored, cause FROM tombstone.replay(:'place');

-- What is purged leaves the stream: whoever comes now learns that it is gone for ever, and nothing else. Plain SQL for a purge is
-- a DELETE from the bin.

DELETE FROM package_tombstone WHERE name = :'package';
SELECT relation, id, version, kind, op, deletion_type, restored, cause FROM tombstone.replay(:'place');

-- == 8. The worker
--
-- A table whose tombstones stay for three seconds, and whose live rows for two. From here on nobody touches it but the worker,
-- which looks every second.

CREATE TABLE note (id int PRIMARY KEY, body text, written_at timestamptz NOT NULL DEFAULT clock_timestamp(), deleted_at timestamptz);
\o /dev/null
SELECT tombstone.manage('note', kind => $$'note'$$, redact => '{"body": null}', retention => '3 seconds',
                        expire_after => '2 seconds', expire_from => 'written_at', channel => 'note');
\o
LISTEN note;
INSERT INTO note VALUES (1, 'remember the milk');
\set ECHO none
\pset tuples_only on
\pset format unaligned
SELECT format($$SELECT '%s s later: ' || COALESCE((SELECT format('body %%L, deleted %%s', body, COALESCE(deleted_at::time(0)::text, 'never'))
              FROM tour.note), 'gone') FROM pg_sleep(1)$$, n) FROM generate_series(1, 8) n \gexec
\pset format aligned
\pset tuples_only off
\echo
\set ECHO queries

-- The notifications came as it happened: first the soft delete, then the hard one. What it has done, it has noted.

SELECT relation, action, records, outcome FROM tombstone.runs WHERE relation = 'note'::regclass;

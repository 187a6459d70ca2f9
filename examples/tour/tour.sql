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

-- == 1. Records
--
-- Who maintains the packages installed here, and how each of them came along, release by release.

CREATE TABLE maintainer (
    id    int  PRIMARY KEY,
    name  text NOT NULL,
    email text NOT NULL
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
\set ECHO queries

SELECT (SELECT count(*) FROM maintainer) AS maintainers, (SELECT count(*) FROM package) AS packages,
       (SELECT count(*) FROM release) AS releases;

-- One call puts a table under management: it gets a column deleted_at and three triggers, and stays your table.
-- Deleting a maintainer is to blank name and address. Releases are versions: rows of one package, told apart by n.

\pset tuples_only on
SELECT tombstone.manage('maintainer', layout => 'in_place', redact => '{"name": "", "email": ""}'),
       tombstone.manage('package', layout => 'in_place'),
       tombstone.manage('release', layout => 'in_place', version => 'n');
\pset tuples_only off

-- A soft delete answers with the deletion's number. The row is still there, as a tombstone; along the foreign key its
-- releases fell with it.

SELECT tombstone.soft_delete(:'package', 'package', reason => 'no longer shipped') AS deletion;
SELECT p.name, tombstone.state(p.name, 'package'), p.deleted_at, count(r.n) AS releases, count(r.deleted_at) AS deleted
FROM package p LEFT JOIN release r ON r.package = p.name WHERE p.name = :'package' GROUP BY p.name;

-- What cannot be done is refused with an SQLSTATE that a service can turn into its own status: P0002 is its 404.

\set ON_ERROR_STOP off
SELECT tombstone.soft_delete(:'package', 'package');
\echo SQLSTATE :LAST_ERROR_SQLSTATE '\n'
\set ON_ERROR_STOP on

-- restore brings it back, and what fell with it.

SELECT tombstone.restore(:'package', 'package') AS restored;

\set QUIET off
-- == 2. Plain SQL, redaction, undo
--
-- A maintainer asks to be forgotten. The application knows nothing of tombstone.*: it does what its ORM does.

SELECT name, email FROM maintainer WHERE id = :maintainer;
UPDATE maintainer SET deleted_at = now() WHERE id = :maintainer;
SELECT * FROM maintainer WHERE id = :maintainer;

-- Name and address went in the same row write. The log has identities, never data: who deleted how much, and when.

SELECT deletion, actor, cause, relations, records FROM tombstone.deletions ORDER BY deletion DESC LIMIT 1;

-- Too much was taken. A dry run says what undoing would do, conflicts included; undo does all of it, or nothing.

\set ECHO none
SELECT max(deletion) AS deletion FROM tombstone.deletions \gset
\set ECHO queries
SELECT relation, outcome, count(*) FROM tombstone.undo(:deletion, dry_run => true)
GROUP BY relation, outcome ORDER BY relation;
SELECT count(*) AS undone FROM tombstone.undo(:deletion);

-- Packages and releases are back as they were, the maintainer as a redacted record: what redaction blanks is gone.

SELECT m.*, count(*) AS packages FROM maintainer m JOIN package p ON p.maintainer = m.id
WHERE m.id = :maintainer AND p.deleted_at IS NULL GROUP BY m.id;

\set QUIET on
-- == 3. Holds
--
-- One package is evidence. While the hold lasts no road leads past it: not DELETE, not a cascade from its maintainer.

\pset tuples_only on
SELECT tombstone.hold(:'package', 'package', reason => 'evidence in case 17');
\pset tuples_only off
\set ON_ERROR_STOP off
DELETE FROM package WHERE name = :'package';
\echo SQLSTATE :LAST_ERROR_SQLSTATE '\n'
UPDATE maintainer SET deleted_at = now() WHERE id = :maintainer;
\echo SQLSTATE :LAST_ERROR_SQLSTATE '\n'
\set ON_ERROR_STOP on
SELECT relation, id, actor, reason FROM tombstone.holds;

-- Released, it can go for good: purge, or a plain DELETE, is the hard delete.

\pset tuples_only on
SELECT tombstone.release(:'package', 'package');
\pset tuples_only off
SELECT tombstone.purge(:'package', 'package') AS rows;
SELECT tombstone.state(:'package', 'package'), count(*) AS releases FROM release WHERE package = :'package';

\set ECHO none
SELECT package AS chain, max(n) AS latest, (max(n) + 1) / 2 AS middle, max(n) > 1 AS has_versions
FROM release WHERE deleted_at IS NULL GROUP BY package ORDER BY abs(count(*) - 6), package LIMIT 1 \gset
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

-- == 5. A key directory
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

\pset tuples_only on
SELECT tombstone.manage('value_state', layout => 'in_place', id => '{username}', version => 'epoch',
                        redact => '{"data": ""}', retention => NULL);
\pset tuples_only off

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

-- == 6. Events
--
-- Who listens hears of each deletion when it is committed, whichever road it took. A cursor is a place in the log.

\set ECHO none
SELECT p.name AS package, r.n AS fallen FROM package p JOIN release r ON r.package = p.name
WHERE p.deleted_at IS NULL AND r.deleted_at IS NULL AND r.n = (SELECT max(n) FROM release WHERE package = p.name)
GROUP BY p.name, r.n ORDER BY (SELECT count(*) FROM release WHERE package = p.name), p.name LIMIT 1 \gset
\set ECHO queries
\pset tuples_only on
SELECT tombstone.configure('package', 'kind', $$'debian:package'$$);
\pset tuples_only off
SELECT tombstone.cursor() AS place \gset
LISTEN tombstone;
UPDATE package SET deleted_at = now() WHERE name = :'package';
SELECT tombstone.restore(:'package', 'package') AS restored;
UPDATE package SET deleted_at = now() WHERE name = :'package';

-- Who was away goes on from the last cursor it had, and gets the same, in order.

SELECT relation, id, version, kind, op, deletion_type, restored, cause FROM tombstone.replay(:'place');

-- What is purged leaves the stream: whoever comes now learns that it is gone for ever, and nothing else.

DELETE FROM package WHERE name = :'package';
SELECT relation, id, version, kind, op, deletion_type, restored, cause FROM tombstone.replay(:'place');

-- == 7. The worker
--
-- A table whose tombstones stay for three seconds, and whose live rows for two. From here on nobody touches it but the worker,
-- which looks every second.

CREATE TABLE note (id int PRIMARY KEY, body text, written_at timestamptz NOT NULL DEFAULT clock_timestamp(), deleted_at timestamptz);
\pset tuples_only on
SELECT tombstone.manage('note', kind => $$'note'$$, redact => '{"body": null}', retention => '3 seconds',
                        expire_after => '2 seconds', expire_from => 'written_at', channel => 'note');
\pset tuples_only off
LISTEN note;
INSERT INTO note VALUES (1, 'remember the milk');
\set ECHO none
SELECT 'SELECT pg_sleep(1) IS NOT NULL AS "a second later", id, body, deleted_at::time(0) FROM tour.note' FROM generate_series(1, 8) \gexec
\set ECHO queries

-- The notifications came as it happened: first the soft delete, then the hard one. What it has done, it has noted.

SELECT relation, action, records, outcome FROM tombstone.runs WHERE relation = 'note'::regclass;

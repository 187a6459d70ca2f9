-- The option purge_after: a tombstone may be due before the table's retention is over, by what its row says.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA kept;
SET search_path = kept;
SET tombstone.rate = 0;

CREATE TABLE tenant (id text PRIMARY KEY, keeps interval);
INSERT INTO tenant VALUES ('acme', '1 day'), ('bank', NULL);

--
-- in_place
--

CREATE TABLE contract (id int PRIMARY KEY, tenant text, kind text, deleted_at timestamptz);
SELECT tombstone.manage('contract', retention => '10 years',
    purge_after => $$CASE kind WHEN 'draft' THEN interval '1 hour' WHEN 'never mind' THEN interval '0' END$$);
SELECT retention, purge_after FROM tombstone.tables WHERE relation = 'contract'::regclass;
INSERT INTO contract VALUES
    (1, 'acme', 'draft', now() - interval '61 minutes'), (2, 'acme', 'draft', now() - interval '59 minutes'),
    (3, 'acme', 'never mind', now() - interval '1 second'), (4, 'acme', 'never mind', NULL),
    (5, 'acme', 'lease', now() - interval '9 years'), (6, 'acme', 'lease', now() - interval '11 years');
SELECT action, records FROM tombstone.preview('contract');
CALL tombstone.maintain('contract');
SELECT id FROM contract ORDER BY id;
-- It may ask other tables. NULL leaves the tombstone to the constant, and NULL there keeps it for ever.
SELECT tombstone.configure('contract', 'purge_after', '(SELECT t.keeps FROM kept.tenant t WHERE t.id = this.tenant)');
SELECT tombstone.configure('contract', 'retention', 'forever');
INSERT INTO contract VALUES (7, 'acme', 'lease', now() - interval '25 hours'), (8, 'bank', 'lease', now() - interval '999 years'),
    (9, 'nobody', 'lease', now() - interval '999 years');
SELECT tombstone.hold('7', 'contract');
CALL tombstone.maintain('contract');
SELECT id FROM contract ORDER BY id;
SELECT tombstone.release('7', 'contract');
CALL tombstone.maintain('contract');
SELECT id FROM contract ORDER BY id;
-- Of a live row it is not asked.
SELECT tombstone.configure('contract', 'purge_after', $$make_interval(secs => 1 / (id - 4))$$);
CALL tombstone.maintain('contract');
SELECT id FROM contract ORDER BY id;

-- What is before or beyond all dates keeps no other row: less than nothing is nothing, and more than 4,000 years is for ever.
CREATE TABLE lease (id int PRIMARY KEY, keeps interval, deleted_at timestamptz);
SELECT tombstone.manage('lease', retention => '10 years', purge_after => 'keeps');
INSERT INTO lease VALUES (1, '-300000 years', now() - interval '1 day'), (2, '1 hour', now() - interval '1 day'),
    (3, '170000000 years', now() - interval '1 day'), (4, '-2 days', NULL);
SELECT action, records FROM tombstone.preview('lease');
CALL tombstone.maintain('lease');
SELECT id FROM lease ORDER BY id;

--
-- archive
--

CREATE TABLE draft (id int PRIMARY KEY, short bool);
SELECT tombstone.manage('draft', retention => '1 hour', purge_after => $$CASE WHEN short THEN interval '0' END$$);
INSERT INTO draft VALUES (1, true), (2, false), (3, true);
DELETE FROM draft WHERE id < 3;
CALL tombstone.maintain('draft');
SELECT id, short FROM draft_tombstone;
SELECT tombstone.state('1', 'draft'), tombstone.state('2', 'draft'), tombstone.state('3', 'draft');

--
-- Checked when it is set
--

SELECT tombstone.configure('contract', 'purge_after', 'kind');
\echo :SQLSTATE
SELECT tombstone.configure('contract', 'purge_after', 'interval ''1 day'', 1');
\echo :SQLSTATE
SELECT tombstone.configure('contract', 'purge_after', 'max(deleted_at) - now()');
\echo :SQLSTATE
SELECT tombstone.configure('contract', 'purge_after', NULL);
SELECT purge_after FROM tombstone.tables WHERE relation = 'contract'::regclass;

SET client_min_messages = error;
DROP SCHEMA kept CASCADE;

-- Tombstones in place hold their values in unique keys. manage() says in which; unique_among_live() makes of one a key of live rows.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA taken;
SET search_path = taken;
RESET client_min_messages;

CREATE TABLE account (id int PRIMARY KEY, email text NOT NULL, name text, visits int NOT NULL DEFAULT 1, deleted_at timestamptz,
    CONSTRAINT account_email UNIQUE (email) WITH (fillfactor = 70));
COMMENT ON CONSTRAINT account_email ON account IS 'One account each.';
CREATE UNIQUE INDEX account_name ON account (lower(name) COLLATE "C" text_pattern_ops DESC) INCLUDE (visits) WHERE visits > 0 OR name IS NULL;
-- Which of them tombstones take part in. Not named: the primary key, and what looks at deleted_at, or is set to NULL by redact.
CREATE UNIQUE INDEX account_live ON account (name, visits) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX account_blanked ON account (name);
SELECT tombstone.manage('account', redact => '{"name": null}');

INSERT INTO account VALUES (1, 'ada@example.org', 'Ada'), (2, 'bob@example.org', 'Bob');
SELECT tombstone.soft_delete('1', 'account') > 0 AS deleted;
INSERT INTO account VALUES (3, 'ada@example.org', 'Ada');
\echo :SQLSTATE

--
-- An upsert that hits a tombstone writes the tombstone
--

-- It stays one, whatever else is written; what redact blanks stays blank. Nothing is inserted.
INSERT INTO account VALUES (3, 'ada@example.org', 'Ada L.')
    ON CONFLICT (email) DO UPDATE SET name = excluded.name, visits = account.visits + 1;
SELECT id, email, name, visits, deleted_at IS NOT NULL AS deleted FROM account ORDER BY id;
INSERT INTO account VALUES (3, 'ada@example.org', 'Ada L.') ON CONFLICT DO NOTHING;
-- With WHERE it leaves it alone.
INSERT INTO account VALUES (3, 'ada@example.org', 'Ada L.')
    ON CONFLICT (email) DO UPDATE SET visits = account.visits + 1 WHERE account.deleted_at IS NULL;
-- To bring it back is to say so: that is a restore, with its event. What redact has blanked stays blank, whatever the UPDATE says.
INSERT INTO account VALUES (3, 'ada@example.org', 'Ada L.')
    ON CONFLICT (email) DO UPDATE SET name = excluded.name, deleted_at = NULL;
SELECT id, email, name, visits, deleted_at IS NOT NULL AS deleted FROM account ORDER BY id;
SELECT op, restored, id FROM tombstone.replay(NULL) WHERE restored;
-- On hold it is not brought back.
SELECT tombstone.soft_delete('1', 'account') > 0 AS deleted;
SELECT tombstone.hold('1', 'account');
INSERT INTO account VALUES (3, 'ada@example.org') ON CONFLICT (email) DO UPDATE SET deleted_at = NULL;
\echo :SQLSTATE
SELECT tombstone.release('1', 'account');

--
-- unique_among_live
--

SELECT tombstone.unique_among_live('account', 'account_email');
\d account
SELECT obj_description('account_email'::regclass, 'pg_class');
-- The address is free again; of live rows it is unique still.
INSERT INTO account VALUES (3, 'ada@example.org', 'Ada L.');
INSERT INTO account VALUES (4, 'ada@example.org', 'Ada M.');
\echo :SQLSTATE
INSERT INTO account VALUES (4, 'ada@example.org', 'Ada M.')
    ON CONFLICT (email) WHERE deleted_at IS NULL DO UPDATE SET visits = account.visits + 1 RETURNING id, visits;
-- The old words mean a key that is there no more.
INSERT INTO account VALUES (4, 'ada@example.org', 'Ada M.') ON CONFLICT (email) DO NOTHING;
\echo :SQLSTATE
-- A tombstone whose place is taken cannot come back until it is free.
SELECT tombstone.restore('1', 'account');
\echo :SQLSTATE
SELECT outcome, detail FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions), dry_run => true);
SELECT tombstone.soft_delete('3', 'account') > 0 AS deleted;
SELECT tombstone.restore('1', 'account');

-- An index may be of expressions, and have a condition already.
SELECT tombstone.unique_among_live('account', 'account_name');
SELECT pg_get_indexdef('account_name'::regclass);
INSERT INTO account VALUES (5, 'eve@example.org', 'Eve');
INSERT INTO account VALUES (6, 'eve2@example.org', 'EVE')
    ON CONFLICT (lower(name)) WHERE ((visits > 0) OR (name IS NULL)) AND deleted_at IS NULL DO NOTHING;
-- Once is enough.
SELECT tombstone.unique_among_live('account', 'account_name');

-- Its table and its columns may be called anything.
CREATE TABLE "Order" (id int PRIMARY KEY, "No" int, "Gone" timestamptz, CONSTRAINT "Order No" UNIQUE ("No"));
SELECT tombstone.manage('"Order"', deleted_at => 'Gone');
SELECT tombstone.unique_among_live('"Order"', 'Order No');

-- Of a partitioned table.
CREATE TABLE visit (id int, day date, who text, deleted_at timestamptz, PRIMARY KEY (id, day), CONSTRAINT visit_once UNIQUE (who, day))
    PARTITION BY RANGE (day);
CREATE TABLE visit_2026 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
SELECT tombstone.manage('visit', id => '{id}');
SELECT tombstone.unique_among_live('visit', 'visit_once');
INSERT INTO visit VALUES (1, '2026-05-05', 'ada', now()), (2, '2026-05-05', 'ada', NULL);
INSERT INTO visit VALUES (3, '2026-05-05', 'ada') ON CONFLICT (who, day) WHERE deleted_at IS NULL DO NOTHING;

--
-- What it refuses
--

SELECT tombstone.unique_among_live('account', 'account_pkey');
\echo :SQLSTATE
SELECT tombstone.unique_among_live('account', 'account_mail');
\echo :SQLSTATE
SELECT tombstone.unique_among_live('account', NULL);
\echo :SQLSTATE
CREATE TABLE seat (id int PRIMARY KEY, place text UNIQUE, code int CONSTRAINT seat_code UNIQUE DEFERRABLE, other int UNIQUE,
    identity int NOT NULL UNIQUE, during int4range, deleted_at timestamptz,
    CONSTRAINT seat_during EXCLUDE USING gist (during WITH &&));
ALTER TABLE seat REPLICA IDENTITY USING INDEX seat_identity_key;
CREATE TABLE ticket (id int PRIMARY KEY, seat text CONSTRAINT ticket_seat REFERENCES seat (place));
CREATE TABLE season (id int PRIMARY KEY, seat text CONSTRAINT season_seat REFERENCES seat (place));
SELECT tombstone.unique_among_live('seat', 'seat_other_key');
\echo :SQLSTATE
SELECT tombstone.manage('seat');
SELECT tombstone.unique_among_live('seat', 'seat_place_key');
\echo :SQLSTATE
SELECT tombstone.unique_among_live('seat', 'seat_code');
\echo :SQLSTATE
SELECT tombstone.unique_among_live('seat', 'seat_during');
\echo :SQLSTATE
SELECT tombstone.unique_among_live('seat', 'seat_identity_key');
\echo :SQLSTATE
-- By its id a record is known for ever.
CREATE TABLE coin (number int PRIMARY KEY, serial text NOT NULL UNIQUE, deleted_at timestamptz);
SELECT tombstone.manage('coin', id => '{serial}');
SELECT tombstone.unique_among_live('coin', 'coin_serial_key');
\echo :SQLSTATE
-- With layout archive there is nothing to do.
SELECT tombstone.manage('ticket');
SELECT tombstone.unique_among_live('ticket', 'ticket_pkey');
\echo :SQLSTATE
-- It is the owner's to say.
CREATE ROLE taken_app;
GRANT USAGE ON SCHEMA taken TO taken_app;
GRANT ALL ON seat TO taken_app;
SET ROLE taken_app;
SELECT tombstone.unique_among_live('seat', 'seat_other_key');
\echo :SQLSTATE
RESET ROLE;
-- An owner needs what CREATE INDEX asks for.
ALTER TABLE seat OWNER TO taken_app;
SET ROLE taken_app;
SELECT tombstone.unique_among_live('seat', 'seat_other_key');
\echo :SQLSTATE
RESET ROLE;
GRANT CREATE ON SCHEMA taken TO taken_app;
SET ROLE taken_app;
SELECT tombstone.unique_among_live('seat', 'seat_other_key');
RESET ROLE;

SET client_min_messages = error;
DROP SCHEMA taken CASCADE;
DROP ROLE taken_app;

-- A key directory (akd). Each value that a user's key ever had is a row, published at an epoch; a tree that is not shown
-- here proves which values there were. A user's history can be forgotten up to an epoch, in one call:
-- the values go, and the rows stay, because the proofs name their epochs, versions and labels.
--
-- psql -f examples/akd.sql, in a database with UTF8 encoding; everything happens in the schema akd.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tombstone;
DROP SCHEMA IF EXISTS akd CASCADE;
CREATE SCHEMA akd;
SET search_path = akd;

CREATE TABLE value_state (
    username       bytea  NOT NULL,
    epoch          bigint NOT NULL,
    version        bigint NOT NULL,
    node_label_val bytea  NOT NULL,
    node_label_len int    NOT NULL,
    data           bytea  NOT NULL,
    PRIMARY KEY (username, epoch)
);

-- A record is a user, a version of it is a state. A tombstone's value is empty, and a directory needs it for ever.
SELECT tombstone.manage('value_state', layout => 'in_place', id => '{username}', version => 'epoch',
                        redact => '{"data": ""}', retention => NULL);

-- Two users publish their keys, Alice a new one every other epoch.
INSERT INTO value_state
SELECT 'alice', epoch, row_number() OVER (ORDER BY epoch), sha256(convert_to('alice' || epoch, 'UTF8')), 256,
       convert_to('key of epoch ' || epoch, 'UTF8')
FROM generate_series(1, 9, 2) AS epoch;
INSERT INTO value_state VALUES ('bob', 2, 1, sha256('bob2'), 256, 'key of epoch 2');

CREATE VIEW history AS
SELECT convert_from(username, 'UTF8') AS username, epoch, version, left(encode(node_label_val, 'hex'), 8) AS label,
       convert_from(data, 'UTF8') AS data, deleted_at IS NOT NULL AS tombstone
FROM value_state ORDER BY username, epoch;
SELECT * FROM history;

-- Forget Alice's keys up to epoch 6. The client names a user and a bound; it need not know which states there are.
-- The answer is how many were tombstoned.
SELECT tombstone.tombstone_value_states('alice', 6, 'value_state');
SELECT * FROM history;

-- What is tombstoned already is not written again: a higher bound takes only the state at epoch 7.
SELECT tombstone.tombstone_value_states('alice', 8, 'value_state');
SELECT tombstone.tombstone_value_states('alice', 8, 'value_state');

-- The bound counts, and the latest state has no privilege. Nobody knows Carol: she has no states.
SELECT tombstone.tombstone_value_states('alice', 9, 'value_state');
SELECT tombstone.tombstone_value_states('carol', 9, 'value_state');

-- A user that is no text is given as bytes, or in hexadecimal.
INSERT INTO value_state VALUES ('\xc0ffee', 4, 1, sha256('\xc0ffee'), 256, 'key of epoch 4');
SELECT tombstone.tombstone_value_states('\xc0ffee'::bytea, 4, 'value_state');

-- A user of whom no value is left is deleted; Bob was never meant.
SELECT id, tombstone.state(id, 'value_state') FROM unnest('{alice, "\\xc0ffee", bob, carol}'::text[]) AS id;

-- Each call that found something is a deletion. The log has identities and never a value.
SELECT deletion, cause, relations, records FROM tombstone.deletions WHERE relations ? 'value_state' ORDER BY deletion;

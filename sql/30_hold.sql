-- Holds: records that may be neither deleted, restored nor purged (legal hold).
-- Written only by hold() and release(); carried by pg_dump.

CREATE TABLE tombstone.held (
    managed integer     NOT NULL REFERENCES tombstone.managed,
    id      text        NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text        NOT NULL,
    reason  text,
    PRIMARY KEY (managed, id)
);

COMMENT ON TABLE tombstone.held IS
    'Records on hold. Read it through the view tombstone.holds; change it with hold() and release().';
COMMENT ON COLUMN tombstone.held.managed IS 'The managed table, as numbered in tombstone.managed.';
COMMENT ON COLUMN tombstone.held.id IS 'The record, as text.';
COMMENT ON COLUMN tombstone.held.at IS 'Since when.';
COMMENT ON COLUMN tombstone.held.actor IS 'The role that placed the hold.';
COMMENT ON COLUMN tombstone.held.reason IS 'Why.';

SELECT pg_catalog.pg_extension_config_dump('tombstone.held', '');

CREATE VIEW tombstone.holds WITH (security_barrier) AS
SELECT m.relation, h.id, h.at, h.actor, h.reason
FROM tombstone.held h
JOIN tombstone.managed m USING (managed)
JOIN pg_catalog.pg_class c ON c.oid = m.relation
WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');

COMMENT ON VIEW tombstone.holds IS 'The records on hold in the tables you own.';
COMMENT ON COLUMN tombstone.holds.relation IS 'The managed table.';
COMMENT ON COLUMN tombstone.holds.id IS 'The record.';
COMMENT ON COLUMN tombstone.holds.at IS 'Since when.';
COMMENT ON COLUMN tombstone.holds.actor IS 'Who placed the hold.';
COMMENT ON COLUMN tombstone.holds.reason IS 'Why.';

GRANT SELECT ON tombstone.holds TO PUBLIC;

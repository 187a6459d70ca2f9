-- Layout in_place: nobody is un-deleted, or un-redacted, by accident. An ORM that saves an object which it has read before the deletion
-- sends all columns as they were, deleted_at = NULL among them.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA stale;
SET search_path = stale;

CREATE TABLE author (id int PRIMARY KEY, name text NOT NULL, email text, deleted_at timestamptz);
CREATE TABLE book (id int PRIMARY KEY, author int NOT NULL REFERENCES author ON DELETE CASCADE, title text, deleted_at timestamptz);
SELECT tombstone.manage('author', redact => '{"email": null, "name": "gone"}', kind => 'name');
SELECT tombstone.manage('book', redact => '{"title": null}');
INSERT INTO author VALUES (1, 'Ada', 'ada@example.org'), (2, 'Bob', 'bob@example.org');
INSERT INTO book VALUES (11, 1, 'Notes'), (12, 1, 'Letters'), (21, 2, 'Poems');
CREATE VIEW live AS
    SELECT 'author' AS of, id, name AS text, email FROM author WHERE deleted_at IS NULL UNION ALL
    SELECT 'book', id, title, NULL FROM book WHERE deleted_at IS NULL ORDER BY 1, 2;

--
-- What redaction blanked stays blank
--

-- The save restores, as whoever clears deleted_at does. It does not bring back what was blanked.
SELECT tombstone.soft_delete('1', 'author') > 0 AS deleted;
UPDATE author SET name = 'Ada', email = 'ada@example.org', deleted_at = NULL WHERE id = 1 RETURNING id, name, email;
TABLE live;
-- The event says the kind as the row has it.
SELECT op, restored, kind FROM tombstone.replay(NULL) WHERE relation = 'author'::regclass;
-- Nor does an upsert.
SELECT tombstone.soft_delete('1', 'author') > 0 AS deleted;
INSERT INTO author VALUES (1, 'Ada', 'ada@example.org')
    ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, email = EXCLUDED.email, deleted_at = NULL RETURNING id, name, email;
-- Who has something to say of the live record says it afterwards.
UPDATE author SET name = 'Ada L.', email = 'ada@example.com' WHERE id = 1 RETURNING id, name, email;

-- A tombstone from before the column was redacted keeps what it has, and gets nothing else.
SELECT tombstone.configure('author', 'redact', NULL);
SELECT tombstone.soft_delete('2', 'author') > 0 AS deleted;
SELECT tombstone.configure('author', 'redact', '{"email": null}');
UPDATE author SET name = 'Robert', email = 'x@example.org', deleted_at = NULL WHERE id = 2 RETURNING id, name, email;

-- A value so long that it is stored outside the row, and a row that moves to another partition as it is restored.
CREATE TABLE letter (id int, region text, body text, deleted_at timestamptz, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE letter_eu PARTITION OF letter FOR VALUES IN ('eu');
CREATE TABLE letter_us (deleted_at timestamptz, body text, region text NOT NULL, id int NOT NULL);
ALTER TABLE letter ATTACH PARTITION letter_us FOR VALUES IN ('us');
ALTER TABLE letter ALTER body SET STORAGE EXTERNAL;
INSERT INTO letter VALUES (1, 'eu', repeat('secret ', 10000), NULL);
SELECT tombstone.manage('letter', id => '{id}');
UPDATE letter SET deleted_at = now();
SELECT tombstone.configure('letter', 'redact', '{"body": ""}');
UPDATE letter SET region = 'us', body = 'new', deleted_at = NULL RETURNING tableoid::regclass, id, length(body);
UPDATE letter SET deleted_at = now();
UPDATE letter SET region = 'eu', body = 'new', deleted_at = NULL RETURNING tableoid::regclass, id, body;

--
-- Whether plain SQL may restore at all
--

SELECT relation, restore FROM tombstone.tables ORDER BY relation::text;
SELECT tombstone.configure('author', 'restore', 'function');
SELECT tombstone.soft_delete('1', 'author') > 0 AS deleted;
-- A save that would restore is refused, and changes nothing.
UPDATE author SET name = 'Ada', email = 'ada@example.org', deleted_at = NULL WHERE id = 1;
\echo :SQLSTATE
UPDATE author SET deleted_at = NULL;
INSERT INTO author VALUES (1, 'Ada', 'ada@example.org') ON CONFLICT (id) DO UPDATE SET deleted_at = NULL;
\echo :SQLSTATE
TABLE live;
-- A save that leaves the tombstone one, or deletes it once more, is as ever.
UPDATE author SET name = 'Ada', deleted_at = now() WHERE id = 1 RETURNING name, email;
-- The functions restore, and what follows from them: children whose table says the same.
SELECT tombstone.configure('book', 'restore', 'function');
SELECT tombstone.restore('1', 'author');
SELECT tombstone.soft_delete('1', 'author') AS deletion \gset
SELECT relation, outcome, count(*) FROM tombstone.undo(:deletion) GROUP BY relation, outcome ORDER BY relation::text;
-- Children follow their parent where plain SQL may restore that, although it may not restore them.
SELECT tombstone.configure('author', 'restore', NULL);
SELECT tombstone.soft_delete('1', 'author') > 0 AS deleted;
UPDATE author SET deleted_at = NULL WHERE id = 1;
TABLE live;
-- What a trigger clears in passing, while a function restores something else, is plain SQL.
CREATE FUNCTION bring_along() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE stale.book SET deleted_at = NULL WHERE author = NEW.id;
    RETURN NEW;
END $$;
CREATE TRIGGER bring_along AFTER UPDATE ON author FOR EACH ROW WHEN (NEW.deleted_at IS NULL) EXECUTE FUNCTION bring_along();
SELECT tombstone.soft_delete('1', 'author') > 0 AS deleted;
SELECT tombstone.restore('1', 'author');
\echo :SQLSTATE
DROP TRIGGER bring_along ON author;
SELECT tombstone.restore('1', 'author');

-- Who may not know the id is not told it.
CREATE ROLE regress_clerk;
GRANT USAGE ON SCHEMA stale TO regress_clerk;
GRANT UPDATE (deleted_at) ON book TO regress_clerk;
SELECT tombstone.soft_delete('21', 'book') > 0 AS deleted;
SET ROLE regress_clerk;
UPDATE book SET deleted_at = NULL;
RESET ROLE;

-- A word that it does not know. With layout archive nothing but functions restores, whatever it says.
SELECT tombstone.configure('book', 'restore', 'nobody');
\echo :SQLSTATE
CREATE TABLE note (id int PRIMARY KEY);
SELECT tombstone.manage('note', restore => 'function');

DROP SCHEMA stale CASCADE;
DROP ROLE regress_clerk;

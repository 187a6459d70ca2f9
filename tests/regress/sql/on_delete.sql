-- The option on_delete: what a soft delete in place does to children whose foreign key does not say it.
-- An ORM that cascades by itself declares every key NO ACTION: to a soft delete that means "refuse".
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA shelf;
SET search_path = shelf;

-- As Django writes them.
CREATE TABLE author (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE book (id int PRIMARY KEY, deleted_at timestamptz,
    author int NOT NULL CONSTRAINT book_author_fk REFERENCES author DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE review (id int PRIMARY KEY, deleted_at timestamptz,
    book int NOT NULL CONSTRAINT review_book_fk REFERENCES book DEFERRABLE INITIALLY DEFERRED);
INSERT INTO author VALUES (1), (2), (3);
INSERT INTO book (id, author) VALUES (11, 1), (12, 1), (21, 2);
INSERT INTO review (id, book) VALUES (111, 11), (211, 21);
SELECT tombstone.manage('author');
SELECT tombstone.manage('book');
SELECT tombstone.manage('review');
CREATE VIEW dead AS
    SELECT 'author' AS of, id FROM author WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'book', id FROM book WHERE deleted_at IS NOT NULL UNION ALL
    SELECT 'review', id FROM review WHERE deleted_at IS NOT NULL ORDER BY 1, 2;

-- Without the option no author with a live book can be soft-deleted.
SELECT tombstone.soft_delete('1', 'author');
\echo :SQLSTATE

--
-- cascade
--

-- Each child says it of its own foreign keys.
SELECT tombstone.configure('book', 'on_delete', '{"book_author_fk": "cascade"}');
SELECT tombstone.configure('review', 'on_delete', '{"review_book_fk": "cascade"}');
SELECT relation, on_delete FROM tombstone.tables;
SELECT tombstone.soft_delete('1', 'author');
SELECT * FROM dead;
SELECT deletion, relations FROM tombstone.deletions;
-- What fell comes back with its parent; a child does not come back without.
SELECT tombstone.restore('11', 'book');
\echo :SQLSTATE
SELECT tombstone.restore('1', 'author');
SELECT * FROM dead;
UPDATE author SET deleted_at = now() WHERE id < 3;
SELECT relation, id, outcome FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions)) ORDER BY relation::text, id;
SELECT * FROM dead;

--
-- restrict
--

SELECT tombstone.configure('review', 'on_delete', '{"review_book_fk": "restrict"}');
SELECT tombstone.soft_delete('1', 'author');
\echo :SQLSTATE
SELECT * FROM dead;
-- Also of a key that is declared ON DELETE CASCADE.
CREATE TABLE shop (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE offer (id int PRIMARY KEY, shop int REFERENCES shop ON DELETE CASCADE, deleted_at timestamptz);
INSERT INTO shop VALUES (1);
INSERT INTO offer VALUES (10, 1);
SELECT tombstone.manage('shop');
SELECT tombstone.manage('offer', on_delete => '{"offer_shop_fkey": "restrict"}');
SELECT tombstone.soft_delete('1', 'shop');
\echo :SQLSTATE
-- NULL: the key is what it is declared as.
SELECT tombstone.configure('offer', 'on_delete', NULL);
SELECT tombstone.soft_delete('1', 'shop') > 0 AS deleted;
SELECT tombstone.state('10', 'offer');

--
-- ignore: to a soft delete of the parent the children are nothing at all
--

SELECT tombstone.configure('review', 'on_delete', '{"review_book_fk": "ignore"}');
SELECT tombstone.soft_delete('1', 'author') > 0 AS deleted;
SELECT * FROM dead;
-- Such a child comes and goes as it likes.
SELECT tombstone.soft_delete('111', 'review') > 0 AS deleted;
SELECT tombstone.restore('111', 'review');
-- A purge is Postgres' own: the foreign key acts as declared.
BEGIN;
SELECT tombstone.purge('11', 'book');
COMMIT;
\echo :SQLSTATE
-- What is due of the children goes before their parents.
SELECT tombstone.soft_delete('111', 'review') > 0 AS deleted;
SELECT tombstone.configure(relation, 'retention', '1 microsecond') FROM tombstone.tables;
SET tombstone.rate = 0;
CALL tombstone.maintain();
SELECT * FROM dead;
SELECT relation, records, outcome, detail FROM tombstone.runs WHERE action = 'purge' ORDER BY run;

--
-- A child with an archive
--

CREATE TABLE note (id int PRIMARY KEY, author int CONSTRAINT note_author_fk REFERENCES author);
INSERT INTO note VALUES (31, 3);
SELECT tombstone.manage('note', on_delete => '{"note_author_fk": "cascade"}');
SELECT tombstone.soft_delete('3', 'author') > 0 AS deleted;
SELECT id, author, cause FROM note_tombstone;
SELECT tombstone.restore('3', 'author');
SELECT * FROM note;

--
-- Checked when it is set
--

SELECT tombstone.configure('book', 'on_delete', '{"book_pkey": "cascade"}');
\echo :SQLSTATE
SELECT tombstone.configure('author', 'on_delete', '{"book_author_fk": "cascade"}');
\echo :SQLSTATE
SELECT tombstone.configure('book', 'on_delete', '{"book_author_fk": "set null"}');
\echo :SQLSTATE
SELECT tombstone.configure('book', 'on_delete', '{"book_author_fk": null}');
\echo :SQLSTATE
SELECT tombstone.configure('book', 'on_delete', '["book_author_fk"]');
\echo :SQLSTATE
-- With an archive the parent's soft delete is a DELETE, and the foreign key is asked.
CREATE TABLE folder (id int PRIMARY KEY, parent int REFERENCES folder);
SELECT tombstone.manage('folder', on_delete => '{"folder_parent_fkey": "cascade"}');
\echo :SQLSTATE
SELECT tombstone.manage('folder');
CREATE TABLE file (id int PRIMARY KEY, folder int REFERENCES folder, deleted_at timestamptz);
SELECT tombstone.manage('file', on_delete => '{"file_folder_fkey": "cascade"}');
\echo :SQLSTATE
-- A parent that is not managed may be, later.
CREATE TABLE topic (id int PRIMARY KEY, deleted_at timestamptz);
CREATE TABLE talk (id int PRIMARY KEY, topic int REFERENCES topic, deleted_at timestamptz);
INSERT INTO topic VALUES (1);
INSERT INTO talk VALUES (10, 1);
SELECT tombstone.manage('talk', on_delete => '{"talk_topic_fkey": "cascade"}');
SELECT tombstone.manage('topic');
SELECT tombstone.soft_delete('1', 'topic') > 0 AS deleted;
SELECT tombstone.state('10', 'talk');
SELECT tombstone.restore('1', 'topic');

--
-- The foreign key is renamed: the option follows. It is dropped: what the option says of it goes, and somebody is told.
--

CREATE VIEW said AS SELECT on_delete FROM tombstone.tables WHERE relation = 'talk'::regclass;
ALTER TABLE talk RENAME CONSTRAINT talk_topic_fkey TO topic_of_talk;
SELECT * FROM said;
-- So does what a copy of the schema alone is adopted by.
SELECT obj_description(oid, 'pg_trigger') ~ '"on_delete": .*topic_of_talk' AS names_it FROM pg_trigger
WHERE tgrelid = 'talk'::regclass AND tgname = 'zz_tombstone_update';
SELECT tombstone.soft_delete('1', 'topic') > 0 AS deleted;
SELECT tombstone.restore('1', 'topic');
ALTER TABLE talk RENAME CONSTRAINT talk_pkey TO talks;
ALTER TABLE talk RENAME TO lecture;
ALTER TABLE lecture DROP CONSTRAINT topic_of_talk;
SELECT * FROM said;
SELECT obj_description(oid, 'pg_trigger') ~ 'topic_of_talk' AS names_it FROM pg_trigger
WHERE tgrelid = 'lecture'::regclass AND tgname = 'zz_tombstone_update';
ALTER TABLE lecture ADD CONSTRAINT topic_of_talk FOREIGN KEY (topic) REFERENCES topic;
SELECT tombstone.soft_delete('1', 'topic');
\echo :SQLSTATE
-- So it is where the parent goes, and takes the key along.
SELECT tombstone.configure('lecture', 'on_delete', '{"topic_of_talk": "ignore"}');
SET client_min_messages = error;
DROP TABLE topic CASCADE;
SET client_min_messages = warning;
SELECT on_delete FROM tombstone.tables WHERE relation = 'lecture'::regclass;

SET client_min_messages = error;
DROP SCHEMA shelf CASCADE;

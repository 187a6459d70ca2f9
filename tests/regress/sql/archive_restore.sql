-- Layout archive: what comes back with a record that is restored.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA back;
SET search_path = back;

--
-- Children with more than one parent
--

CREATE TABLE author (id int PRIMARY KEY);
CREATE TABLE book (id int PRIMARY KEY);
CREATE TABLE shelf (id int PRIMARY KEY);
CREATE TABLE writing (
    author int REFERENCES author ON DELETE CASCADE,
    book int REFERENCES book ON DELETE CASCADE,
    shelf int REFERENCES shelf ON DELETE SET NULL,
    PRIMARY KEY (author, book)
);
CREATE TABLE mark (id int PRIMARY KEY, author int, book int, FOREIGN KEY (author, book) REFERENCES writing ON DELETE CASCADE);
SELECT tombstone.manage('shelf', tree => true), tombstone.manage('book'), tombstone.manage('author');
INSERT INTO author VALUES (1), (2);
INSERT INTO book VALUES (1), (2);
INSERT INTO shelf VALUES (1);
INSERT INTO writing VALUES (1, 1, 1), (1, 2, NULL), (2, 2, NULL);
INSERT INTO mark VALUES (1, 1, 1), (2, 1, 2), (3, 2, 2);
CREATE VIEW there AS SELECT
    ARRAY(SELECT id FROM author ORDER BY 1) AS authors, ARRAY(SELECT id FROM book ORDER BY 1) AS books,
    ARRAY(SELECT concat_ws('-', author, book, shelf) FROM writing ORDER BY 1) AS writings, ARRAY(SELECT id FROM mark ORDER BY 1) AS marks;

-- They come back with the last of them; and so do their own children.
BEGIN;
DELETE FROM author;
DELETE FROM book;
COMMIT;
SELECT tombstone.restore('1', 'author');
TABLE there;
SELECT tombstone.restore('2', 'book');
TABLE there;
SELECT tombstone.restore('1', 'book');
SELECT tombstone.restore('2', 'author');
TABLE there;
-- Another deletion may have taken the other parent.
DELETE FROM author WHERE id = 1;
DELETE FROM book WHERE id = 1;
SELECT tombstone.restore('1', 'author');
TABLE there;
SELECT tombstone.restore('1', 'book');
SELECT tombstone.restore('{"author": 1, "book": 1}', 'writing');
TABLE there;
-- A parent whose deletion leaves its children there.
DELETE FROM author WHERE id = 1;
DELETE FROM shelf;
SELECT tombstone.restore('1', 'author');
TABLE there;
SELECT tombstone.restore('1', 'shelf');
SELECT tombstone.restore('{"author": 1, "book": 1}', 'writing');
TABLE there;

-- By two ways from the same record, and in a circle.
CREATE TABLE root (id int PRIMARY KEY);
CREATE TABLE leaf (id int PRIMARY KEY, root int REFERENCES root ON DELETE CASCADE, twig int);
CREATE TABLE twig (id int PRIMARY KEY, root int REFERENCES root ON DELETE CASCADE, leaf int REFERENCES leaf ON DELETE CASCADE, twig int REFERENCES twig ON DELETE CASCADE);
ALTER TABLE leaf ADD FOREIGN KEY (twig) REFERENCES twig ON DELETE CASCADE;
SELECT tombstone.manage('root', tree => true);
INSERT INTO root VALUES (1);
INSERT INTO leaf VALUES (1, 1, NULL), (2, 1, NULL);
INSERT INTO twig VALUES (1, 1, 1, NULL), (2, 1, 2, 1);
UPDATE leaf SET twig = id;
DELETE FROM root;
SELECT (SELECT count(*) FROM leaf) AS leaves, (SELECT count(*) FROM twig) AS twigs;
SELECT tombstone.restore('1', 'root');
SELECT * FROM leaf ORDER BY id;
SELECT * FROM twig ORDER BY id;

--
-- Children that somebody deletes before their parent, as ORMs do
--

CREATE ROLE back_seller;
CREATE ROLE back_other;
CREATE TABLE customer (id int PRIMARY KEY);
CREATE TABLE product (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer, seller text);
CREATE TABLE item (id int PRIMARY KEY, orders int REFERENCES orders, product int REFERENCES product);
CREATE TABLE note (id int PRIMARY KEY, item int REFERENCES item ON DELETE CASCADE);
SELECT tombstone.manage('note'), tombstone.manage('item'), tombstone.manage('product'), tombstone.manage('orders', owners => 'seller'), tombstone.manage('customer');
INSERT INTO customer VALUES (1), (2);
INSERT INTO product VALUES (1), (2);
INSERT INTO orders VALUES (1, 1, 'back_seller'), (2, 1, 'back_other'), (3, 2, 'back_seller');
INSERT INTO item VALUES (1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 3, 2);
INSERT INTO note VALUES (1, 1), (2, 2), (3, 3), (4, 4);
CREATE VIEW sold AS SELECT
    ARRAY(SELECT id FROM customer ORDER BY 1) AS customers, ARRAY(SELECT id FROM orders ORDER BY 1) AS orders,
    ARRAY(SELECT id FROM item ORDER BY 1) AS items, ARRAY(SELECT id FROM note ORDER BY 1) AS notes;

-- An order that was deleted before is not of it; an item whose product is gone stays.
DELETE FROM item WHERE id = 2;
DELETE FROM orders WHERE id = 2;
BEGIN;
DELETE FROM note WHERE id = 3;
DELETE FROM item;
DELETE FROM orders;
DELETE FROM customer;
DELETE FROM product WHERE id = 2;
COMMIT;
SELECT cause, array_agg(id ORDER BY id) AS notes FROM note_tombstone GROUP BY cause ORDER BY cause;
BEGIN;
SELECT tombstone.restore('2', 'customer');
TABLE sold;
ROLLBACK;
BEGIN;
SELECT tombstone.restore('1', 'customer');
TABLE sold;
ROLLBACK;
SELECT tombstone.restore('2', 'product');
SELECT tombstone.restore('2', 'customer');
TABLE sold;
SELECT relation, id, cause FROM tombstone.replay(NULL, relations => '{customer,orders,item,note}') WHERE restored ORDER BY relation::text, id;

-- Whoever restores the parent gets those that he may restore himself.
SELECT tombstone.restore('1', 'customer');
SELECT tombstone.restore('2', 'orders');
BEGIN;
DELETE FROM item;
DELETE FROM orders WHERE customer = 1;
DELETE FROM customer WHERE id = 1;
COMMIT;
GRANT USAGE ON SCHEMA back TO back_seller;
GRANT SELECT, INSERT, DELETE ON customer, orders TO back_seller;
SET ROLE back_seller;
SELECT tombstone.restore('1', 'customer');
RESET ROLE;
TABLE sold;

-- A tree whose foreign key has no ON DELETE.
CREATE TABLE folder (id int PRIMARY KEY, parent int REFERENCES folder);
SELECT tombstone.manage('folder');
INSERT INTO folder VALUES (1, NULL), (2, 1), (3, 2), (4, NULL);
DELETE FROM folder;
SELECT tombstone.restore('1', 'folder');
SELECT * FROM folder ORDER BY id;

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA back CASCADE;
DROP ROLE back_seller, back_other;

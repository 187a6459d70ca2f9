-- A shop, and a mistaken DELETE. Nothing in the application changes: rows leave their tables, foreign keys act as declared, and all
-- of it can be undone for 30 days.
--
-- psql -f examples/undo.sql, in a database with UTF8 encoding; everything happens in the schema shop.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_tombstone;
DROP SCHEMA IF EXISTS shop CASCADE;
CREATE SCHEMA shop;
SET search_path = shop;

CREATE TABLE customer (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL UNIQUE,
    name  text NOT NULL
);
CREATE TABLE orders (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer bigint NOT NULL REFERENCES customer ON DELETE CASCADE,
    placed   date   NOT NULL
);
CREATE TABLE category (
    name   text PRIMARY KEY,
    parent text REFERENCES category ON DELETE CASCADE
);
CREATE TABLE line (
    orders   bigint  REFERENCES orders ON DELETE CASCADE,
    number   integer,
    category text    REFERENCES category ON DELETE SET NULL,
    price    numeric NOT NULL,
    PRIMARY KEY (orders, number)
);
CREATE TABLE payment (
    id     bigint,
    orders bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
    paid   date   NOT NULL,
    amount numeric NOT NULL,
    PRIMARY KEY (id, paid)
) PARTITION BY RANGE (paid);
CREATE TABLE payment_2025 PARTITION OF payment FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE payment_2026 PARTITION OF payment FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');

INSERT INTO customer (email, name) VALUES ('ada@example.org', 'Ada'), ('bob@example.org', 'Bob');
INSERT INTO category VALUES ('books', NULL), ('novels', 'books'), ('crime', 'novels');
INSERT INTO orders (customer, placed) VALUES (1, '2025-11-30'), (1, '2026-02-01'), (2, '2026-03-01');
INSERT INTO line VALUES (1, 1, 'novels', 9.90), (1, 2, 'crime', 12.50), (2, 1, 'books', 30), (3, 1, 'crime', 7);
INSERT INTO payment VALUES (1, 1, '2025-12-01', 22.40), (2, 2, '2026-02-02', 30), (3, 3, '2026-03-02', 7);

-- Two calls: the customers and whatever their deletes reach, and the categories.
SELECT tombstone.manage('customer', tree => true);
SELECT tombstone.manage('category');

-- One customer was meant, and the WHERE was forgotten. Orders, lines and payments go by their own foreign keys.
DELETE FROM customer RETURNING name;
SELECT (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM line) AS lines, (SELECT count(*) FROM payment) AS payments;

-- The bin: the columns of the table, then who deleted it, when and why.
SELECT id, email, cause, actor = current_user AS by_me FROM customer_tombstone ORDER BY id;
SELECT orders, paid, amount, cause FROM payment_tombstone ORDER BY id;
SELECT deletion FROM tombstone.deletions \gset
SELECT relations, records FROM tombstone.deletions;

-- Meanwhile Ada has signed up again. What stands in the way is told before anything is written, and so is what follows from it.
INSERT INTO customer (email, name) VALUES ('ada@example.org', 'Ada L.');
SELECT relation, id, outcome, detail FROM tombstone.undo(:deletion, dry_run => true) WHERE outcome <> 'restored' ORDER BY 1, 2;

-- All of it comes back, or nothing.
UPDATE customer SET email = 'ada.l@example.org' WHERE name = 'Ada L.';
SELECT relation, outcome, count(*) FROM tombstone.undo(:deletion) GROUP BY 1, 2 ORDER BY 1;
SELECT c.name, o.id, l.number, l.price, p.amount AS paid
FROM customer c JOIN orders o ON o.customer = c.id JOIN line l ON l.orders = o.id JOIN payment p ON p.orders = o.id ORDER BY 2, 3;

-- A tree in a table that refers to itself; the lines that pointed into it get their categories back.
DELETE FROM category WHERE name = 'books';
SELECT category, count(*) FROM line GROUP BY 1;
SELECT id, outcome FROM tombstone.undo((SELECT max(deletion) FROM tombstone.deletions)) ORDER BY 1;
SELECT category, count(*) FROM line GROUP BY 1 ORDER BY 1;

-- One record alone, by its id.
DELETE FROM orders WHERE id = 1;
SELECT tombstone.state('1', 'orders'), tombstone.restore('1', 'orders') AS records;
SELECT count(*) FROM line WHERE orders = 1;

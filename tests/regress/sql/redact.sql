-- What redact may not blank: a column by which the owner of a tombstone is told, or a unique one, to the same value for all. It is
-- refused when the option is set, by manage() and by configure(), and not when the second record is deleted.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA redact;
SET search_path = redact;

--
-- Owners
--

CREATE TABLE letter (id int PRIMARY KEY, author name, teams name[], body text, deleted_at timestamptz);
SELECT tombstone.manage('letter', owners => 'author', redact => '{"author": null}');
\echo :SQLSTATE
SELECT tombstone.manage('letter', owners => 'author', redact => '{"body": ""}');
SELECT tombstone.configure('letter', 'redact', '{"author": "nobody", "body": ""}');
SELECT tombstone.configure('letter', 'redact', '{"teams": null}');
SELECT tombstone.configure('letter', 'owners', 'teams OPERATOR(pg_catalog.||) author');
-- By the name this, in a subquery, or as the whole row.
SELECT tombstone.configure('letter', 'owners', 'this.teams');
SELECT tombstone.configure('letter', 'owners', '(SELECT r.rolname FROM pg_roles r WHERE r.rolname = ANY (letter.teams) LIMIT 1)');
SELECT tombstone.configure('letter', 'owners', 'pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(letter), ''author'')::name');
-- A word is not a column, and a column of another table is not ours.
SELECT tombstone.configure('letter', 'owners', 'COALESCE(author, ''teams''::name)');
CREATE TABLE staff (id int, teams name);
SELECT tombstone.configure('letter', 'owners', '(SELECT s.teams FROM redact.staff s WHERE s.id = letter.id)');
SELECT owners, redact FROM tombstone.tables;

--
-- Unique columns
--

CREATE TABLE account (id int PRIMARY KEY, email text UNIQUE, tenant int, nick varchar(9), phone text, deleted_at timestamptz);
SELECT tombstone.manage('account', redact => '{"email": "gone"}');
\echo :SQLSTATE
SELECT tombstone.manage('account', layout => 'archive', deleted_at => NULL, redact => '{"email": "gone"}');
\echo :SQLSTATE
-- NULL is equal to nothing.
SELECT tombstone.manage('account', redact => '{"email": null}');
-- Nor is a constant, where tombstones are not in the index: as it says, or as follows from the values.
CREATE UNIQUE INDEX nick_live ON account (nick) WHERE deleted_at IS NULL AND tenant > 0;
SELECT tombstone.configure('account', 'redact', '{"nick": "gone"}');
DROP INDEX nick_live;
CREATE UNIQUE INDEX nick_there ON account (nick) WHERE nick <> 'gone';
SELECT tombstone.configure('account', 'redact', '{"nick": "gone"}');
SELECT tombstone.configure('account', 'redact', '{"nick": "left"}');
DROP INDEX nick_there;
CREATE UNIQUE INDEX nick_tenant ON account (nick) WHERE tenant IS NOT NULL;
SELECT tombstone.configure('account', 'redact', '{"nick": "gone"}');
SELECT tombstone.configure('account', 'redact', '{"nick": "gone", "tenant": null}');
DROP INDEX nick_tenant;
-- Of several columns another may tell tombstones apart: the key itself, or one that is NULL.
CREATE UNIQUE INDEX tenant_phone ON account (tenant, phone);
SELECT tombstone.configure('account', 'redact', '{"phone": ""}');
SELECT tombstone.configure('account', 'redact', '{"phone": "", "tenant": null}');
DROP INDEX tenant_phone;
CREATE UNIQUE INDEX id_phone ON account (phone, id);
SELECT tombstone.configure('account', 'redact', '{"phone": ""}');
-- An expression counts as the columns it reads.
CREATE UNIQUE INDEX lower_nick ON account (lower(nick));
SELECT tombstone.configure('account', 'redact', '{"nick": "gone"}');
SELECT redact FROM tombstone.tables WHERE relation = 'account'::regclass;
-- Two are deleted, and both are gone.
INSERT INTO account VALUES (1, 'a', 1, 'a', 'a'), (2, 'b', 1, 'b', 'b');
SELECT tombstone.configure('account', 'redact', '{"email": null, "phone": "", "nick": null}');
DROP INDEX lower_nick;
SELECT id, outcome FROM tombstone.soft_delete_many('{1, 2}', 'account');
SELECT id, email, nick, phone FROM account ORDER BY id;

DROP SCHEMA redact CASCADE;

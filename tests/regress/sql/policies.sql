-- Row security and the functions: a policy's WITH CHECK is asked by them as by the plain statement. Only the policy FOR SELECT that
-- hides tombstones does not keep them from being written.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE ROLE policy_owner;
CREATE ROLE policy_editor;
CREATE ROLE policy_admin;
CREATE ROLE policy_anybody BYPASSRLS;
CREATE SCHEMA policies AUTHORIZATION policy_owner;
GRANT USAGE ON SCHEMA policies TO PUBLIC;
SET search_path = policies;

--
-- In place: to delete, and to restore, is an UPDATE
--

SET ROLE policy_owner;
CREATE TABLE note (id int PRIMARY KEY, tenant int, body text, deleted_at timestamptz);
INSERT INTO note SELECT i, i % 3, 'text' FROM generate_series(1, 30) AS i;
SELECT tombstone.manage('note', redact => '{"body": ""}');
GRANT SELECT, UPDATE ON note TO PUBLIC;
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
-- Everybody sees the living, and tombstones nobody. The editor may edit and not delete, the admin both.
CREATE POLICY living ON note FOR SELECT USING (deleted_at IS NULL);
CREATE POLICY editing ON note FOR UPDATE TO policy_editor USING (true) WITH CHECK (deleted_at IS NULL);
CREATE POLICY deleting ON note FOR UPDATE TO policy_admin USING (tenant < 2);

SET ROLE policy_editor;
UPDATE note SET body = 'edited' WHERE id = 1;
SELECT tombstone.soft_delete('1', 'note');
\echo :SQLSTATE
SELECT * FROM tombstone.soft_delete_many('{1, 2, 99}', 'note');
SELECT id, body, deleted_at FROM note WHERE id < 3 ORDER BY id;

SET ROLE policy_admin;
-- What an UPDATE can do only through a cursor, as it reads no column then, the function does for any number of rows.
UPDATE note SET deleted_at = now() WHERE id = 3;
\echo :SQLSTATE
SELECT tombstone.soft_delete('3', 'note') > 0 AS deleted;
SELECT * FROM tombstone.soft_delete_many('{1, 2, 4, 6, 99}', 'note');
SELECT count(*) FROM note;
-- They are the caller's own writes, as the log has it; and redacted.
RESET ROLE;
SELECT actor, cause, array_agg(id ORDER BY id::int) FROM tombstone.replay(NULL) WHERE op = 'delete' GROUP BY actor, cause;
SELECT id, body FROM note WHERE deleted_at IS NOT NULL ORDER BY id;

-- WITH CHECK sees the row as it is written, blanked.
SET ROLE policy_owner;
CREATE POLICY with_body ON note AS RESTRICTIVE FOR UPDATE TO policy_admin USING (true) WITH CHECK (body <> '');
SET ROLE policy_admin;
SELECT tombstone.soft_delete('7', 'note');
\echo :SQLSTATE
SET ROLE policy_owner;
DROP POLICY with_body ON note;

-- Of several restrictive policies each has its say; of permissive ones, one is enough.
CREATE POLICY no_deleting ON note AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (deleted_at IS NULL OR id > 20);
SET ROLE policy_admin;
SELECT id, outcome FROM tombstone.soft_delete_many('{7, 21}', 'note');
SET ROLE policy_owner;
DROP POLICY no_deleting ON note;
CREATE POLICY archiving ON note FOR UPDATE TO policy_editor USING (id > 20) WITH CHECK (true);
SET ROLE policy_editor;
-- (Postgres joins all USING, and all WITH CHECK: which of its policies let the row be chosen does not matter.)
SELECT id, outcome FROM tombstone.soft_delete_many('{10, 22}', 'note');
SET ROLE policy_owner;
DROP POLICY archiving ON note;

-- A policy without WITH CHECK: its USING stands for it. One that hides tombstones, FOR ALL, forbids to make any.
CREATE POLICY living_only ON note AS RESTRICTIVE TO policy_admin USING (deleted_at IS NULL);
SET ROLE policy_admin;
SELECT tombstone.soft_delete('24', 'note');
SET ROLE policy_owner;
DROP POLICY living_only ON note;

-- A policy is the code of the table's owner, and is asked with the rights of whoever deletes.
CREATE FUNCTION asked(deleted_at timestamptz) RETURNS bool LANGUAGE plpgsql AS
    $$ BEGIN RAISE WARNING 'asked as %: %', current_user, deleted_at IS NOT NULL; RETURN true; END $$;
CREATE POLICY asking ON note AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (asked(deleted_at));
SET ROLE policy_admin;
SELECT tombstone.soft_delete('24', 'note') > 0 AS deleted;
SET ROLE policy_owner;
DROP POLICY asking ON note;

-- Whoever sees tombstones may restore them, where the UPDATE policies let the record live.
CREATE POLICY seeing ON note FOR SELECT TO policy_editor, policy_admin USING (true);
CREATE POLICY no_restoring ON note AS RESTRICTIVE FOR UPDATE TO policy_editor USING (true) WITH CHECK (deleted_at IS NOT NULL);
SET ROLE policy_editor;
SELECT tombstone.restore('24', 'note');
\echo :SQLSTATE
RESET ROLE;
SELECT max(deletion) AS last FROM tombstone.event \gset
SET ROLE policy_editor;
SELECT id, outcome FROM tombstone.undo(:last, true);
SELECT tombstone.undo(:last);
\echo :SQLSTATE
SET ROLE policy_admin;
SELECT id, outcome FROM tombstone.undo(:last);
SELECT tombstone.soft_delete('24', 'note') > 0 AS deleted;
SELECT tombstone.restore('24', 'note');

-- Whom row security does not bind, it does not ask: the owner, a superuser, BYPASSRLS.
SET ROLE policy_owner;
CREATE POLICY never ON note AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (deleted_at IS NULL);
SELECT tombstone.soft_delete('25', 'note') > 0 AS deleted;
SET ROLE policy_anybody;
SELECT tombstone.soft_delete('26', 'note') > 0 AS deleted;
RESET ROLE;
SELECT tombstone.soft_delete('27', 'note') > 0 AS deleted;
-- Unless it is forced upon the owner.
SET ROLE policy_owner;
ALTER TABLE note FORCE ROW LEVEL SECURITY;
CREATE POLICY owning ON note TO policy_owner USING (true);
SELECT tombstone.soft_delete('28', 'note');
\echo :SQLSTATE
DROP POLICY never ON note;
SELECT tombstone.soft_delete('28', 'note') > 0 AS deleted;
ALTER TABLE note NO FORCE ROW LEVEL SECURITY;

-- The privilege on the column is asked as well, and nothing is written without SELECT on the key.
REVOKE SELECT, UPDATE ON note FROM PUBLIC;
GRANT SELECT (id, deleted_at), UPDATE (body) ON note TO policy_admin;
SET ROLE policy_admin;
SELECT tombstone.soft_delete('30', 'note');
\echo :SQLSTATE
SET ROLE policy_owner;
REVOKE ALL ON note FROM policy_admin;
GRANT UPDATE (deleted_at) ON note TO policy_admin;
SET ROLE policy_admin;
SELECT tombstone.soft_delete('30', 'note');
\echo :SQLSTATE
SET ROLE policy_owner;
GRANT SELECT (id, deleted_at) ON note TO policy_admin;
SET ROLE policy_admin;
SELECT tombstone.soft_delete('30', 'note') > 0 AS deleted;

-- Versions, by the same rule.
SET ROLE policy_owner;
CREATE TABLE page (id int, version bigint, body text, deleted_at timestamptz, PRIMARY KEY (id, version));
INSERT INTO page SELECT i, v, 'text' FROM generate_series(1, 2) AS i, generate_series(1, 3) AS v;
SELECT tombstone.manage('page', id => '{id}', version => 'version', redact => '{"body": ""}');
GRANT SELECT, UPDATE ON page TO PUBLIC;
ALTER TABLE page ENABLE ROW LEVEL SECURITY;
CREATE POLICY living ON page FOR SELECT USING (deleted_at IS NULL);
CREATE POLICY writing ON page FOR UPDATE USING (true) WITH CHECK (id = 1 OR deleted_at IS NULL);
SET ROLE policy_admin;
SELECT tombstone.tombstone_value_states('1', 2, 'page');
SELECT tombstone.tombstone_value_states('2', 2, 'page');
\echo :SQLSTATE
SELECT id, version FROM page ORDER BY 1, 2;

--
-- Archived: to delete is a DELETE, to restore an INSERT
--

SET ROLE policy_owner;
CREATE TABLE item (id int PRIMARY KEY, tenant int, body text);
INSERT INTO item SELECT i, i % 3, 'text' FROM generate_series(1, 9) AS i;
SELECT tombstone.manage('item');
GRANT SELECT, INSERT, UPDATE, DELETE ON item TO PUBLIC;
ALTER TABLE item ENABLE ROW LEVEL SECURITY;
CREATE POLICY reading ON item FOR SELECT USING (true);
CREATE POLICY editing ON item FOR UPDATE USING (true);
CREATE POLICY deleting ON item FOR DELETE TO policy_admin USING (tenant > 0);
CREATE POLICY inserting ON item FOR INSERT TO policy_admin WITH CHECK (tenant < 2);
SET ROLE policy_editor;
SELECT * FROM tombstone.soft_delete_many('{1, 2, 3}', 'item');
SELECT tombstone.soft_delete('1', 'item');
\echo :SQLSTATE
SET ROLE policy_admin;
SELECT id, outcome FROM tombstone.soft_delete_many('{1, 2, 3}', 'item');
RESET ROLE;
SELECT max(deletion) AS last FROM item_tombstone \gset
SET ROLE policy_editor;
SELECT tombstone.restore('1', 'item');
\echo :SQLSTATE
SELECT id, outcome FROM tombstone.undo(:last, true) ORDER BY id;
SET ROLE policy_admin;
SELECT tombstone.restore('2', 'item');
\echo :SQLSTATE
SELECT id, outcome FROM tombstone.undo(:last, true) ORDER BY id;
SELECT tombstone.restore('1', 'item');
-- WITH CHECK is asked about the row as it is to be, also where a later trigger would show it another one first.
SET ROLE policy_owner;
CREATE FUNCTION pretend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant := 1; RETURN NEW; END $$;
CREATE TRIGGER zzz_pretend BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION pretend();
SET ROLE policy_admin;
SELECT tombstone.restore('2', 'item');
\echo :SQLSTATE
SET ROLE policy_owner;
SELECT tombstone.restore('2', 'item');
SELECT * FROM item WHERE id = 2;

RESET ROLE;
DROP SCHEMA policies CASCADE;
DROP OWNED BY policy_owner, policy_editor, policy_admin, policy_anybody;
DROP ROLE policy_owner, policy_editor, policy_admin, policy_anybody;

-- What an application's triggers do when rows come back: they find what they name, and the rows are as they were all the same.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS pg_tombstone CASCADE;
CREATE EXTENSION pg_tombstone;
CREATE SCHEMA firing;
SET search_path = firing;

-- A foreign key's own DELETE leaves the session's search path to triggers; so does what brings rows back.
CREATE TABLE counter (n int);
INSERT INTO counter VALUES (0);
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
CREATE TABLE s (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL, v text);
CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE counter SET n = n + 1; RETURN NEW; END$$;
CREATE TRIGGER up AFTER INSERT ON c FOR EACH ROW EXECUTE FUNCTION up();
CREATE TRIGGER up BEFORE UPDATE ON s FOR EACH ROW EXECUTE FUNCTION up();
SELECT tombstone.manage('p', tree => true);
INSERT INTO p VALUES (1);
INSERT INTO c VALUES (1, 1);
INSERT INTO s VALUES (1, 1, 'a');
DELETE FROM p;
SELECT relation, id, outcome FROM tombstone.undo((SELECT max(deletion) FROM p_tombstone)) ORDER BY relation::text;
TABLE counter;
TABLE s;
DELETE FROM p;
SELECT tombstone.restore('1', 'p');
TABLE counter;
SHOW search_path;
-- What we name ourselves is found where it is, whatever the path puts in the way.
CREATE SCHEMA decoy;
CREATE FUNCTION decoy.differ(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'decoy'; END$$;
CREATE OPERATOR decoy.= (LEFTARG = text, RIGHTARG = text, FUNCTION = decoy.differ);
CREATE FUNCTION decoy.differ(int, int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'decoy'; END$$;
CREATE OPERATOR decoy.= (LEFTARG = int, RIGHTARG = int, FUNCTION = decoy.differ);
DELETE FROM p;
SELECT max(deletion) AS deletion FROM p_tombstone \gset
SET search_path = decoy, firing, pg_catalog;
SELECT relation, id, outcome FROM tombstone.undo(:deletion);
SET search_path = firing;
TABLE s;
DROP SCHEMA decoy CASCADE;

-- A counter in the parent: its children fell after it, and their trigger found nothing to count in. On the way back it counts nothing.
CREATE TABLE album (id int PRIMARY KEY, photos int NOT NULL DEFAULT 0, changed int NOT NULL DEFAULT 0);
CREATE TABLE photo (id int PRIMARY KEY, album int REFERENCES album ON DELETE CASCADE, path text);
CREATE TABLE tag (photo int REFERENCES photo ON DELETE SET NULL, name text PRIMARY KEY);
CREATE FUNCTION cache() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    IF TG_OP <> 'INSERT' THEN UPDATE album SET photos = photos - 1 WHERE id = OLD.album; END IF;
    IF TG_OP <> 'DELETE' THEN UPDATE album SET photos = photos + 1 WHERE id = NEW.album; END IF;
    RETURN NULL;
END$$;
CREATE TRIGGER cache AFTER INSERT OR UPDATE OR DELETE ON photo FOR EACH ROW EXECUTE FUNCTION cache();
-- And a trigger that changes the row itself once it is there, also through other statements that see it changed.
CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    UPDATE photo SET path = path || '!' WHERE id = NEW.id;
    IF NOT FOUND THEN RAISE EXCEPTION 'photo % is not there', NEW.id; END IF;
    UPDATE photo SET path = path || '?' WHERE id = NEW.id;
    RETURN NULL;
END$$;
CREATE TRIGGER mark AFTER INSERT ON photo FOR EACH ROW EXECUTE FUNCTION mark();
SELECT tombstone.manage('album', tree => true);
INSERT INTO album VALUES (1), (2);
INSERT INTO photo VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 2, 'd');
TABLE album;
TABLE photo;
DELETE FROM album WHERE id = 1;
SELECT relation, id, outcome FROM tombstone.undo((SELECT max(deletion) FROM album_tombstone)) ORDER BY relation::text, id;
SELECT * FROM album ORDER BY id;
SELECT * FROM photo ORDER BY id;
DELETE FROM album WHERE id = 1;
SELECT tombstone.restore('1', 'album');
SELECT * FROM album ORDER BY id;
-- Children that went before their parent count, as they did then.
BEGIN;
DELETE FROM photo WHERE id = 1;
DELETE FROM album;
COMMIT;
SELECT id, photos FROM album_tombstone ORDER BY 1;
SELECT count(*) FROM tombstone.undo((SELECT max(deletion) FROM album_tombstone));
SELECT * FROM album ORDER BY id;
SELECT * FROM photo ORDER BY id;
-- So do those that come back into a parent that never went.
DELETE FROM photo WHERE id IN (1, 3);
SELECT * FROM album ORDER BY id;
SELECT count(*) FROM tombstone.undo((SELECT max(deletion) FROM photo_tombstone));
SELECT * FROM album ORDER BY id;
SELECT * FROM photo ORDER BY id;

-- A trigger whose name comes after ours has the last word: its row is written once more.
CREATE TABLE late (id int PRIMARY KEY, made int, twice int GENERATED ALWAYS AS (made * 2) STORED, part int);
CREATE FUNCTION remake() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.made := NEW.made + 1; RETURN NEW; END$$;
CREATE TRIGGER zzz_remake BEFORE INSERT ON late FOR EACH ROW EXECUTE FUNCTION remake();
SELECT tombstone.manage('late');
ALTER TABLE late ADD FOREIGN KEY (part) REFERENCES album ON DELETE CASCADE;
INSERT INTO late VALUES (1, 1, DEFAULT, 2), (2, NULL, DEFAULT, 1);
TABLE late;
DELETE FROM late;
SELECT id, outcome FROM tombstone.undo((SELECT max(deletion) FROM late_tombstone));
SELECT * FROM late ORDER BY id;
DELETE FROM album;
SELECT count(*) FROM tombstone.undo((SELECT max(deletion) FROM late_tombstone));
SELECT * FROM late ORDER BY id;
SELECT * FROM album ORDER BY id;
-- Where that does not help either, it is a conflict that names it.
CREATE TRIGGER zzz_again BEFORE UPDATE ON late FOR EACH ROW EXECUTE FUNCTION remake();
DELETE FROM late WHERE id = 1;
SELECT id, outcome, detail FROM tombstone.undo((SELECT max(deletion) FROM late_tombstone), true);
SELECT tombstone.restore('1', 'late');
\echo :SQLSTATE
DROP TRIGGER zzz_again ON late;
CREATE OR REPLACE FUNCTION remake() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.id := NEW.id + 10; RETURN NEW; END$$;
SELECT tombstone.restore('1', 'late');
\echo :SQLSTATE
SELECT * FROM late ORDER BY id;

-- A trigger that makes rows for every new parent, as sign-ups do: for a parent that comes back it makes none that comes back with it.
CREATE TABLE account (id int PRIMARY KEY, name text);
CREATE TABLE profile (id int PRIMARY KEY REFERENCES account ON DELETE CASCADE, motto text DEFAULT 'none yet');
CREATE TABLE preference (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int REFERENCES account ON DELETE CASCADE, what text, value text,
    UNIQUE (account, what)
);
CREATE TABLE greeting (account int REFERENCES account ON DELETE CASCADE, text text);
CREATE FUNCTION sign_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = firing AS $$BEGIN
    INSERT INTO profile (id) VALUES (NEW.id);
    INSERT INTO preference (account, what, value) VALUES (NEW.id, 'mail', 'daily'), (NEW.id, 'theme', 'light');
    INSERT INTO greeting VALUES (NEW.id, 'welcome');
    RETURN NULL;
END$$;
CREATE TRIGGER sign_up AFTER INSERT ON account FOR EACH ROW EXECUTE FUNCTION sign_up();
SELECT tombstone.manage('profile'), tombstone.manage('preference'), tombstone.manage('account');
INSERT INTO account VALUES (1, 'ann'), (2, 'bob');
UPDATE profile SET motto = 'onwards' WHERE id = 1;
DELETE FROM preference WHERE account = 1 AND what = 'theme';
UPDATE preference SET value = 'never' WHERE account = 1;
DELETE FROM account;
SELECT max(deletion) AS deletion FROM account_tombstone \gset
-- The theme that went before is not part of this deletion, so the trigger makes one anew.
SELECT relation, id, outcome, detail FROM tombstone.undo(:deletion, dry_run => true) ORDER BY relation::text, id;
SELECT relation, id, outcome FROM tombstone.undo(:deletion) ORDER BY relation::text, id;
TABLE account;
TABLE profile ORDER BY id;
SELECT account, what, value FROM preference ORDER BY account, what;
TABLE greeting;
-- restore() does so, too; and what stands in the way for another reason is said as ever, without the trigger's rows.
DELETE FROM account WHERE id = 1;
SELECT tombstone.restore('1', 'account');
SELECT account, what, value FROM preference WHERE account = 1 ORDER BY what;
DELETE FROM account;
SELECT max(deletion) AS deletion FROM account_tombstone \gset
ALTER TABLE profile ADD CHECK (motto <> 'onwards');
SELECT relation, id, outcome, detail FROM tombstone.undo(:deletion, dry_run => true) ORDER BY relation::text, id;

DROP EXTENSION pg_tombstone CASCADE;
DROP SCHEMA firing CASCADE;

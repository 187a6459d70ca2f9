"""Django on tables that it soft-deletes itself, by a column deleted_at: layout in_place.

Run by unittest. TOMBSTONE_CONNINFO is an empty database with the extension; its user owns the database. The module
is an app of its own, whose migrations are made in a temporary directory.
"""

import json
import os
import unittest

import psycopg
from django.apps import AppConfig
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.models.functions import Now
from django_project import AppMigrations, set_up


class People(AppConfig):
    name = "django_in_place"
    label = "people"
    default_auto_field = "django.db.models.BigAutoField"


set_up(
    os.environ["TOMBSTONE_CONNINFO"],
    INSTALLED_APPS=["django_in_place.People"],
    MIGRATION_MODULES={"people": "people_migrations"},
    USE_TZ=True,
)

# --- The models -------------------------------------------------------------


class Live(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(deleted_at__isnull=True)


class SoftDeleted(models.Model):
    deleted_at = models.DateTimeField(null=True, editable=False)
    objects = Live()
    everything = models.Manager()

    class Meta:
        abstract = True
        base_manager_name = "everything"


class Person(SoftDeleted):
    email = models.TextField(null=True)
    name = models.TextField()

    class Meta(SoftDeleted.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["email"], condition=models.Q(deleted_at__isnull=True), name="person_email_live"
            )
        ]


class Note(SoftDeleted):
    person = models.ForeignKey(Person, models.CASCADE, related_name="notes")
    text = models.TextField()


TOMBSTONES = '''
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("people", "0001_initial")]
    operations = [
        migrations.RunSQL(
            """SELECT tombstone.manage('people_person', redact => '{"email": null}', kind => $$'person'$$)""",
            "SELECT tombstone.unmanage('people_person', discard => true)",
        ),
        migrations.RunSQL(
            """SELECT tombstone.manage('people_note', on_delete => '{"%s": "cascade"}')""",
            "SELECT tombstone.unmanage('people_note', discard => true)",
        ),
    ]
'''


def setUpModule():
    migrations = AppMigrations("people", "people_migrations")
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT conname FROM pg_constraint WHERE conrelid = 'people_note'::regclass AND contype = 'f'")
        [(foreign_key,)] = cursor.fetchall()
    migrations.write("0002_tombstones", TOMBSTONES % foreign_key)
    call_command("migrate", verbosity=0)


class Case(unittest.TestCase):
    def setUp(self):
        Person.everything.all().delete()
        self.ann = Person.objects.create(email="ann@example.org", name="Ann")
        self.ann.notes.create(text="one")
        self.ann.notes.create(text="two")

    def value(self, query, *parameters):
        with connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchone()[0]

    def configure(self, option, value):
        self.value("SELECT tombstone.configure('people_person', %s, %s)", option, value)

    def soft_delete(self, queryset):
        return queryset.update(deleted_at=Now())


class SoftDeletes(Case):
    def test_the_children_go_and_come_back_with_their_parent(self):
        self.assertEqual(self.soft_delete(Person.objects.filter(pk=self.ann.pk)), 1)
        self.assertEqual((Person.objects.count(), Note.objects.count()), (0, 0))
        self.assertIsNone(Person.everything.get().email)

        self.assertEqual(Person.everything.filter(pk=self.ann.pk).update(deleted_at=None), 1)
        self.assertEqual((Person.objects.count(), Note.objects.count()), (1, 2))

    def test_by_the_functions(self):
        deletion = self.value("SELECT tombstone.soft_delete(%s, 'people_person', 'left')", str(self.ann.pk))
        self.assertEqual(self.value("SELECT reason FROM tombstone.deletions WHERE deletion = %s", deletion), "left")
        self.assertEqual(self.value("SELECT count(*) FROM tombstone.undo(%s)", deletion), 3)
        self.assertEqual(Note.objects.count(), 2)

    def test_many_rows_by_one_statement(self):
        Person.objects.bulk_create(Person(name=f"person {i}") for i in range(300))
        self.assertEqual(self.soft_delete(Person.objects.all()), 301)
        self.assertFalse(Note.objects.exists())
        latest = "(SELECT max(deletion) FROM tombstone.deletions)"
        self.assertEqual(self.value(f"SELECT count(*) FROM tombstone.undo({latest})"), 303)
        self.assertEqual((Person.objects.count(), Note.objects.count()), (301, 2))

    def test_a_hold_is_an_operational_error(self):
        self.value("SELECT tombstone.hold(%s, 'people_person')", str(self.ann.pk))
        with self.assertRaises(DatabaseError) as raised:
            self.soft_delete(Person.objects.all())
        self.assertEqual(raised.exception.__cause__.sqlstate, "55006")
        self.value("SELECT tombstone.release(%s, 'people_person')", str(self.ann.pk))


class StaleSaves(Case):
    def test_what_was_redacted_stays_blank(self):
        self.soft_delete(Person.objects.all())
        self.ann.save()  # Every column, as it was before the deletion.

        ann = Person.everything.get()
        self.assertEqual((ann.deleted_at, ann.email, ann.name), (None, None, "Ann"))

    def test_where_only_functions_restore_it_is_an_error(self):
        self.configure("restore", "function")
        self.addCleanup(self.configure, "restore", None)
        self.soft_delete(Person.objects.all())
        with self.assertRaises(DatabaseError):
            self.ann.save()
        self.assertIsNotNone(Person.everything.get().deleted_at)
        self.assertEqual(self.value("SELECT tombstone.restore(%s, 'people_person')", str(self.ann.pk)), 3)

    def test_a_save_of_named_fields_restores_nothing(self):
        self.soft_delete(Person.objects.all())
        self.ann.name = "Anna"
        self.ann.save(update_fields=["name"])
        self.assertIsNotNone(Person.everything.get().deleted_at)


class Keys(Case):
    def test_a_key_is_free_once_its_row_is_deleted(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            Person.objects.create(email="ann@example.org", name="Other")
        self.configure("redact", "{}")
        self.addCleanup(self.configure, "redact", '{"email": null}')
        self.soft_delete(Person.objects.all())

        other, created = Person.objects.get_or_create(email="ann@example.org", defaults={"name": "Other"})
        self.assertTrue(created)
        again, created = Person.objects.get_or_create(email="ann@example.org", defaults={"name": "Third"})
        self.assertEqual((again, created), (other, False))
        with self.assertRaises(IntegrityError), transaction.atomic():
            Person.everything.filter(pk=self.ann.pk).update(deleted_at=None)

    def test_an_upsert_updates_live_rows_alone(self):
        self.configure("redact", "{}")
        self.addCleanup(self.configure, "redact", '{"email": null}')
        self.soft_delete(Person.objects.all())
        upsert = """
            INSERT INTO people_person (email, name) VALUES ('ann@example.org', 'Upserted')
            ON CONFLICT (email) WHERE deleted_at IS NULL DO UPDATE SET name = EXCLUDED.name RETURNING id
        """
        first = self.value(upsert)
        self.assertNotEqual(first, self.ann.pk)
        self.assertEqual(self.value(upsert), first)


class Events(Case):
    def test_a_listener_hears_seed_004(self):
        with psycopg.connect(os.environ["TOMBSTONE_CONNINFO"], autocommit=True) as listener:
            listener.execute("LISTEN tombstone")
            self.soft_delete(Person.objects.filter(pk=self.ann.pk))
            Person.everything.filter(pk=self.ann.pk).update(deleted_at=None)
            heard = [notification.payload for notification in listener.notifies(timeout=60, stop_after=6)]
        ann = str(self.ann.pk)
        self.assertEqual(
            [payload for payload in heard if json.loads(payload)["kind"] == "person"],
            [
                f'{{"id":"{ann}","kind":"person","op":"delete","deletionType":"soft"}}',
                f'{{"id":"{ann}","kind":"person","op":"update","restored":true}}',
            ],
        )


class Migrations(Case):
    def test_nothing_is_new(self):
        call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)
        call_command("migrate", check_unapplied=True, verbosity=0)

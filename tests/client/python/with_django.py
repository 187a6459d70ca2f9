"""Django on tables with layout archive: what it deletes comes back, and its migrations see nothing new.

Run by unittest. TOMBSTONE_CONNINFO is an empty database with the extension; its user owns the database. The module
is an app of its own, whose migrations are made in a temporary directory: the first by makemigrations, the second is
TOMBSTONES.
"""

import os
import unittest
import uuid
from collections import Counter
from datetime import datetime, timezone
from decimal import Decimal

from django.apps import AppConfig, apps
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import IntegrityError, connection, models, transaction
from django_project import AppMigrations, set_up


class Shop(AppConfig):
    name = "with_django"
    label = "shop"
    default_auto_field = "django.db.models.BigAutoField"


set_up(
    os.environ["TOMBSTONE_CONNINFO"],
    INSTALLED_APPS=["with_django.Shop"],
    MIGRATION_MODULES={"shop": "shop_migrations"},
)

from django.contrib.postgres.fields import ArrayField  # noqa: E402, only after setup()
from django.db.models.functions import Upper  # noqa: E402

# --- The shop ---------------------------------------------------------------


class Customer(models.Model):
    email = models.EmailField(unique=True)
    tags = ArrayField(models.TextField(null=True))
    extra = models.JSONField(null=True)
    credit = models.DecimalField(max_digits=12, decimal_places=4)
    photo = models.BinaryField(null=True)
    since = models.DateTimeField()
    shout = models.GeneratedField(expression=Upper("email"), output_field=models.TextField(), db_persist=True)


class Member(Customer):
    """A row in either table; Django deletes both."""

    gift = models.TextField()


class Product(models.Model):
    name = models.TextField()


class Order(models.Model):
    """On Django's own foreign keys, Django deletes what hangs on a row before the row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = models.ForeignKey(Customer, models.CASCADE, related_name="orders")
    products = models.ManyToManyField(Product)


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    number = models.IntegerField()
    price = models.DecimalField(max_digits=12, decimal_places=4)


class Payment(models.Model):
    """The database's to delete: its foreign key is made by a migration."""

    order = models.ForeignKey(Order, models.DO_NOTHING, db_constraint=False)
    amount = models.DecimalField(max_digits=12, decimal_places=4)


class Visit(models.Model):
    """Of which the database forgets whose it was."""

    customer = models.ForeignKey(Customer, models.DO_NOTHING, db_constraint=False, null=True)


class Category(models.Model):
    name = models.TextField(primary_key=True)
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")


TOMBSTONES = """
from django.db import migrations

FOREIGN_KEYS = [
    "ALTER TABLE shop_payment ADD FOREIGN KEY (order_id) REFERENCES shop_order ON DELETE CASCADE",
    "ALTER TABLE shop_visit ADD FOREIGN KEY (customer_id) REFERENCES shop_customer ON DELETE SET NULL",
]
# No ON DELETE leads from one to another of these: what Django deletes itself has to be named.
TABLES = ["customer", "member", "product", "order", "order_products", "line", "category"]


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.RunSQL(FOREIGN_KEYS),
        migrations.RunSQL([f"SELECT tombstone.manage('shop_{table}', tree => true)" for table in TABLES]),
    ]
"""

MORE_COLUMNS = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0002_tombstones")]
    operations = [
        migrations.AddField("customer", "stars", models.IntegerField(default=3)),
        migrations.AlterField("line", "price", models.DecimalField(max_digits=14, decimal_places=6)),
        migrations.RenameField("member", "gift", "present"),
    ]
"""


def setUpModule():
    global migrations
    migrations = AppMigrations("shop", "shop_migrations")
    migrations.write("0002_tombstones", TOMBSTONES)
    call_command("migrate", verbosity=0)


class Case(unittest.TestCase):
    def setUp(self):
        for model in Customer, Product, Category, Visit:
            model.objects.all().delete()

    def add_customer(self, model=Customer, **more):
        """A customer with two orders: three lines, two products, a payment; and a visit."""
        pen, ink = Product.objects.create(name="pen"), Product.objects.create(name="ink")
        ann = model.objects.create(
            email="ann@example.org",
            tags=["a", None, "ü"],
            extra={"nested": [1, 2.5, None], "a": "b"},
            credit=Decimal("12.5000"),
            photo=bytes(range(256)) * 64,
            since=datetime(2024, 2, 29, 12, 30, 15, 123456, timezone.utc),
            **more,
        )
        first, second = ann.orders.create(), ann.orders.create()
        for order, number in (first, 1), (first, 2), (second, 1):
            order.lines.create(number=number, price=number)
        first.products.set([pen, ink])
        second.products.set([ink])
        Payment.objects.create(order=first, amount=3)
        Visit.objects.create(customer_id=ann.pk)
        return ann

    def everything(self):
        """The fields of every object and the rows between them."""
        every = apps.get_app_config("shop").get_models(include_auto_created=True)
        return {model: list(model.objects.order_by("pk").values()) for model in every}

    def value(self, query, *parameters):
        with connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchone()[0]

    def undo(self):
        """Undoes the latest deletion. Returns how many records of each table came back."""
        latest = "(SELECT max(deletion) FROM tombstone.deletions)"
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT relation::text, outcome FROM tombstone.undo({latest})")
            outcomes = Counter(cursor.fetchall())
        self.assertEqual({outcome for _, outcome in outcomes}, {"restored"})
        return {relation.removeprefix("shop_"): records for (relation, _), records in outcomes.items()}


# --- Deletes ----------------------------------------------------------------


class Deletes(Case):
    def test_an_object_and_what_hangs_on_it(self):
        ann = self.add_customer()
        before = self.everything()
        counted = {"shop.Customer": 1, "shop.Order": 2, "shop.Line": 3, "shop.Order_products": 3}
        self.assertEqual(ann.delete(), (9, counted))

        gone = self.everything()
        self.assertEqual([gone[model] for model in (Customer, Order, Line, Payment)], [[], [], [], []])
        self.assertIsNone(Visit.objects.get().customer_id)
        undone = {"customer": 1, "order": 2, "line": 3, "order_products": 3, "payment": 1}
        self.assertEqual(self.undo(), undone)
        self.assertEqual(self.everything(), before)

    def test_what_the_database_deletes(self):
        order = self.add_customer().orders.get(payment__isnull=False)
        before = self.everything()
        self.assertEqual(order.delete(), (5, {"shop.Order": 1, "shop.Line": 2, "shop.Order_products": 2}))

        self.assertFalse(Payment.objects.exists())
        self.assertEqual(self.value("SELECT max(cause) FROM shop_payment_tombstone"), "cascade")
        self.assertEqual(self.undo(), {"order": 1, "line": 2, "order_products": 2, "payment": 1})
        self.assertEqual(self.everything(), before)

    def test_a_queryset(self):
        self.add_customer()
        Line.objects.bulk_create(Line(order=order, number=9, price=0) for order in Order.objects.all())
        before = self.everything()
        self.assertEqual(Line.objects.filter(number=9).delete(), (2, {"shop.Line": 2}))
        self.assertEqual(self.undo(), {"line": 2})
        self.assertEqual(self.everything(), before)

        counted = {"shop.Order": 2, "shop.Line": 5, "shop.Order_products": 3}
        self.assertEqual(Order.objects.filter(customer__email="ann@example.org").delete(), (10, counted))
        self.assertEqual(Order.objects.filter(customer__email="ann@example.org").delete(), (0, {}))
        self.assertEqual(self.undo(), {"order": 2, "line": 5, "order_products": 3, "payment": 1})
        self.assertEqual(self.everything(), before)

    def test_many_objects(self):
        Product.objects.bulk_create(Product(name=f"product {i}") for i in range(500))
        before = self.everything()
        self.assertEqual(Product.objects.all().delete(), (500, {"shop.Product": 500}))

        self.assertEqual(self.undo(), {"product": 500})
        self.assertEqual(self.everything(), before)

    def test_a_model_of_two_tables(self):
        self.add_customer(Member, gift="a pen")
        before = self.everything()
        total, counted = Member.objects.get().delete()
        self.assertEqual((total, counted["shop.Member"], counted["shop.Customer"]), (10, 1, 1))

        undone = self.undo()
        self.assertEqual((undone["member"], undone["customer"]), (1, 1))
        self.assertEqual(self.everything(), before)
        self.assertEqual(Member.objects.get().email, "ann@example.org")

    def test_rows_between_objects(self):
        self.add_customer()
        order = Order.objects.get(payment__isnull=False)
        before = self.everything()
        order.products.clear()

        self.assertFalse(order.products.exists())
        self.assertEqual(self.undo(), {"order_products": 2})
        self.assertEqual(self.everything(), before)

    def test_a_tree(self):
        books = Category.objects.create(name="books")
        novels = Category.objects.create(name="novels", parent=books)
        Category.objects.create(name="crime", parent=novels)
        before = self.everything()
        self.assertEqual(books.delete(), (3, {"shop.Category": 3}))

        self.assertEqual(self.undo(), {"category": 3})
        self.assertEqual(self.everything(), before)
        self.assertEqual(novels.children.get().name, "crime")

    def test_a_locked_row(self):
        self.add_customer()
        before = self.everything()
        with transaction.atomic():
            self.assertEqual(Customer.objects.select_for_update().get().delete()[0], 9)

        self.assertEqual(self.undo()["customer"], 1)
        self.assertEqual(self.everything(), before)

    def test_a_savepoint_rolled_back(self):
        ann = self.add_customer()
        before = self.everything()
        with transaction.atomic():
            with transaction.atomic():
                Customer.objects.all().delete()
                transaction.set_rollback(True)
        self.assertEqual(self.everything(), before)
        self.assertEqual(self.value("SELECT count(*) FROM shop_customer_tombstone WHERE id = %s", ann.pk), 0)

    def test_a_flush(self):
        self.add_customer()
        before = self.everything()
        call_command("flush", interactive=False, verbosity=0)

        self.assertFalse(Customer.objects.exists())
        self.undo()
        # A flush begins the sequences anew, and an undo leaves sequences alone.
        with connection.cursor() as cursor:
            for reset in connection.ops.sequence_reset_sql(no_style(), list(before)):
                cursor.execute(reset)
        self.assertEqual(self.everything(), before)


# --- What is new after an undo ----------------------------------------------


class Afterwards(Case):
    def test_a_new_object_has_a_new_id(self):
        ann = self.add_customer()
        ident = ann.pk
        ann.delete()
        self.undo()

        bob = Customer.objects.create(email="bob@example.org", tags=[], credit=0, since=datetime.now(timezone.utc))
        self.assertGreater(bob.pk, ident)

    def test_an_object_from_before_is_saved_again(self):
        ann = self.add_customer()
        Customer.objects.all().delete()
        with self.assertRaises(Customer.DoesNotExist):
            ann.refresh_from_db()
        self.undo()

        ann.tags.append("back")
        ann.save(force_update=True)
        self.assertEqual(Customer.objects.get().tags, ["a", None, "ü", "back"])

    def test_a_key_in_use_is_an_integrity_error(self):
        ann = self.add_customer()
        before = self.everything()
        ann.delete()
        other = Customer.objects.create(email="ann@example.org", tags=[], credit=0, since=datetime.now(timezone.utc))
        with self.assertRaises(IntegrityError):
            self.undo()

        other.email = "ann.2@example.org"
        other.save()
        self.undo()
        other.delete()
        self.assertEqual(self.everything(), before)


# --- Migrations -------------------------------------------------------------


class Migrations(Case):
    def check(self):
        """Ends the program where a migration is missing, or one is not applied."""
        call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)
        call_command("migrate", check_unapplied=True, verbosity=0)

    def test_nothing_is_new(self):
        self.check()
        self.add_customer().delete()
        self.undo()
        self.check()

    def test_a_migration_takes_the_archive_along(self):
        ann = self.add_customer(Member, gift="a pen")
        before = self.everything()
        ann.delete()
        migrations.write("0003_more_columns", MORE_COLUMNS)
        call_command("migrate", verbosity=0)
        self.undo()

        self.assertEqual(self.value("SELECT stars FROM shop_customer"), 3)
        self.assertEqual(self.value("SELECT present FROM shop_member"), "a pen")
        self.assertEqual(str(self.value("SELECT max(price) FROM shop_line")), "2.000000")
        call_command("migrate", "shop", "0002", verbosity=0)
        migrations.remove("0003_more_columns")
        self.assertEqual(self.everything(), before)
        self.check()

"""SQLAlchemy and Alembic on tables with layout archive: what a session deletes comes back, and a diff sees nothing new.

Run by unittest. TOMBSTONE_CONNINFO is an empty database with the extension; its user owns the database.
"""

import os
import unittest
import uuid
import warnings
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Computed, Enum, ForeignKey, Identity, Integer, Numeric, Table, Text
from sqlalchemy import create_engine, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.exc import IntegrityError, SAWarning
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

# --- The shop ---------------------------------------------------------------


class Base(DeclarativeBase):
    type_annotation_map = {str: Text, datetime: TIMESTAMP(timezone=True), Decimal: Numeric(12, 4)}


class Customer(Base):
    """Its orders are the database's to delete, where the session has not loaded them."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    plan: Mapped[str] = mapped_column(Enum("free", "paid", name="plan"))
    tags: Mapped[list[str | None]] = mapped_column(ARRAY(Text))
    extra: Mapped[dict | None] = mapped_column(JSONB)
    credit: Mapped[Decimal]
    photo: Mapped[bytes | None]
    since: Mapped[datetime]
    shout: Mapped[str] = mapped_column(Computed("upper(email)", persisted=True))
    version: Mapped[int] = mapped_column()
    orders: Mapped[list["Order"]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    __mapper_args__ = {"version_id_col": version}


products_of_orders = Table(
    "order_product",
    Base.metadata,
    Column("order_id", ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True),
    Column("product_id", ForeignKey("product.id", ondelete="CASCADE"), primary_key=True),
)


class Order(Base):
    """Its lines and its products are the session's to delete; of its payments, the database forgets whose they were."""

    __tablename__ = "orders"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id", ondelete="CASCADE"))
    lines: Mapped[list["Line"]] = relationship(cascade="all, delete-orphan", order_by="Line.number")
    products: Mapped[list["Product"]] = relationship(secondary=products_of_orders)
    payments: Mapped[list["Payment"]] = relationship(passive_deletes="all")


class Line(Base):
    __tablename__ = "line"
    order_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal]


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Payment(Base):
    __tablename__ = "payment"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    amount: Mapped[Decimal]
    order_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("orders.id", ondelete="SET NULL"))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "cash"}


class CardPayment(Payment):
    """A row in either table; the session deletes both."""

    __tablename__ = "card_payment"
    id: Mapped[int] = mapped_column(ForeignKey("payment.id"), primary_key=True)
    card: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "card"}


class Category(Base):
    __tablename__ = "category"
    name: Mapped[str] = mapped_column(primary_key=True)
    parent: Mapped[str | None] = mapped_column(ForeignKey("category.name", ondelete="CASCADE"))
    children: Mapped[list["Category"]] = relationship(cascade="all, delete-orphan", order_by="Category.name")


class Visit(Base):
    """Its name leaves no room for what the names of its archive's partitions add to it."""

    __tablename__ = "visit_of_a_customer_to_one_of_our_many_branches"
    id: Mapped[int] = mapped_column(primary_key=True)


engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(os.environ["TOMBSTONE_CONNINFO"]))


def setUpModule():
    # Where the server has deleted another number of rows than the session meant to, SQLAlchemy warns at least.
    warnings.simplefilter("error", SAWarning)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for table in "customer", "product", "category":
            connection.execute(text("SELECT tombstone.manage(:table, tree => true)"), {"table": table})
        for table in "card_payment", Visit.__tablename__:
            connection.execute(text("SELECT tombstone.manage(:table)"), {"table": table})


def tearDownModule():
    engine.dispose()


class Case(unittest.TestCase):
    def setUp(self):
        self.session = Session(engine)
        self.addCleanup(self.session.close)
        for table in reversed(Base.metadata.sorted_tables):
            self.session.execute(delete(table))
        self.session.commit()

    def add(self, *things):
        self.session.add_all(things)
        self.session.commit()

    def add_customer(self):
        """A customer with two orders: three lines, two products, two payments. Returns its id."""
        pen, ink = Product(name="pen"), Product(name="ink")
        ann = Customer(
            email="ann@example.org",
            plan="paid",
            tags=["a", None, "ü"],
            extra={"nested": [1, 2.5, None], "a": "b"},
            credit=Decimal("12.5000"),
            photo=bytes(range(256)) * 64,
            since=datetime(2024, 2, 29, 12, 30, 15, 123456, timezone.utc),
            orders=[
                Order(lines=[Line(number=1, price=3), Line(number=2, price=4)], products=[pen, ink]),
                Order(lines=[Line(number=1, price=5)], products=[ink]),
            ],
        )
        ann.orders[0].payments = [Payment(amount=3), CardPayment(amount=4, card="1234")]
        self.add(ann)
        # From here on as a new session sees it, which has loaded nothing.
        ident = ann.id
        self.session.close()
        return ident

    def everything(self):
        """The columns of every object and the rows between them, as a session reads them that knows nothing yet."""
        with Session(engine) as session:
            found = {"order_product": session.execute(select(products_of_orders).order_by(*products_of_orders.c)).all()}
            for mapper in Base.registry.mappers:
                objects = session.scalars(select(mapper.class_).order_by(*mapper.primary_key))
                names = mapper.column_attrs.keys()
                found[mapper.class_] = [{name: getattr(each, name) for name in names} for each in objects]
            return found

    def undo(self):
        """Undoes the latest deletion. Returns how many records of each table came back."""
        deletion = self.value("SELECT max(deletion) FROM tombstone.deletions")
        undone = func.tombstone.undo(deletion).table_valued("relation", "outcome")
        outcomes = Counter(self.session.execute(select(undone.c.relation, undone.c.outcome)).tuples())
        self.session.commit()
        self.assertEqual({outcome for _, outcome in outcomes}, {"restored"})
        return {relation: records for (relation, _), records in outcomes.items()}

    def value(self, query, **parameters):
        return self.session.scalar(text(query), parameters)

    def causes(self, table):
        """Why the records of the latest deletion went."""
        latest = "deletion = (SELECT max(deletion) FROM tombstone.deletions)"
        return self.value(f"SELECT array_agg(DISTINCT cause) FROM {table}_tombstone WHERE {latest}")


# --- The session ------------------------------------------------------------


class Sessions(Case):
    def test_delete_with_what_the_database_deletes(self):
        ident = self.add_customer()
        before = self.everything()
        self.session.delete(self.session.get(Customer, ident))
        self.session.commit()

        gone = self.everything()
        self.assertEqual([gone[each] for each in (Customer, Order, Line)], [[], [], []])
        self.assertEqual({payment["order_id"] for payment in gone[Payment]}, {None})
        self.assertEqual(self.causes("customer"), ["user"])
        self.assertEqual(self.causes("line"), ["cascade"])
        self.assertEqual(self.undo(), {"customer": 1, "orders": 2, "line": 3, "order_product": 3})
        self.assertEqual(self.everything(), before)

    def test_delete_with_what_the_session_deletes(self):
        ident = self.add_customer()
        before = self.everything()
        ann = self.session.get(Customer, ident)
        self.assertEqual([len(order.lines) + len(order.products) for order in ann.orders], [4, 2])
        self.session.delete(ann)
        self.session.commit()

        self.assertEqual(self.everything()[Line], [])
        self.assertEqual([self.causes(table) for table in ("line", "order_product", "orders")], [["user"]] * 3)
        self.assertEqual(self.undo(), {"customer": 1, "orders": 2, "line": 3, "order_product": 3})
        self.assertEqual(self.everything(), before)

    def test_orphans(self):
        ident = self.add_customer()
        before = self.everything()
        order = max(self.session.get(Customer, ident).orders, key=lambda order: len(order.lines))
        order.lines.pop()
        order.products.clear()
        self.session.commit()

        self.assertEqual(len(self.everything()[Line]), 2)
        self.assertEqual(self.undo(), {"line": 1, "order_product": 2})
        self.assertEqual(self.everything(), before)

    def test_a_class_of_two_tables(self):
        self.add_customer()
        before = self.everything()
        self.session.delete(self.session.scalars(select(CardPayment)).one())
        self.session.commit()

        self.assertEqual(self.everything()[CardPayment], [])
        self.assertEqual(self.undo(), {"payment": 1, "card_payment": 1})
        self.assertEqual(self.everything(), before)

    def test_a_tree(self):
        novels = Category(name="novels", children=[Category(name="crime"), Category(name="poetry")])
        self.add(Category(name="books", children=[novels]))
        before = self.everything()
        self.session.delete(self.session.get(Category, "books"))
        self.session.commit()

        self.assertEqual(self.everything()[Category], [])
        self.assertEqual(self.undo(), {"category": 4})
        self.assertEqual(self.everything(), before)
        self.assertEqual([child.name for child in self.session.get(Category, "novels").children], ["crime", "poetry"])

    def test_many_objects_in_one_flush(self):
        self.add(*(Product(name=f"product {i}") for i in range(500)))
        before = self.everything()
        for product in self.session.scalars(select(Product)):
            self.session.delete(product)
        self.session.commit()

        self.assertEqual(self.everything()[Product], [])
        self.assertEqual(self.undo(), {"product": 500})
        self.assertEqual(self.everything(), before)

    def test_a_locked_row(self):
        ident = self.add_customer()
        before = self.everything()
        self.session.delete(self.session.get(Customer, ident, with_for_update=True))
        self.session.commit()

        self.assertEqual(self.undo()["customer"], 1)
        self.assertEqual(self.everything(), before)

    def test_a_savepoint_rolled_back(self):
        ident = self.add_customer()
        before = self.everything()
        with self.session.begin_nested() as savepoint:
            self.session.delete(self.session.get(Customer, ident))
            self.session.flush()
            savepoint.rollback()
        self.session.commit()

        self.assertEqual(self.everything(), before)
        self.assertEqual(self.value("SELECT count(*) FROM customer_tombstone WHERE id = :id", id=ident), 0)


# --- Many at once, by a statement -------------------------------------------


class Statements(Case):
    def test_the_row_count_of_a_query(self):
        self.add(*(Product(name="bulk") for _ in range(7)))
        before = self.everything()
        self.assertEqual(self.session.query(Product).filter_by(name="bulk").delete(), 7)
        self.session.commit()

        self.assertEqual(self.undo(), {"product": 7})
        self.assertEqual(self.everything(), before)
        self.assertEqual(self.session.execute(delete(Product).where(Product.name == "bulk")).rowcount, 7)
        self.assertEqual(self.session.execute(delete(Product).where(Product.name == "bulk")).rowcount, 0)

    def test_what_a_delete_returns(self):
        products = [Product(name="returned") for _ in range(3)]
        self.add(*products)
        idents = {product.id for product in products}
        before = self.everything()
        self.assertEqual(
            set(self.session.scalars(delete(Product).where(Product.name == "returned").returning(Product.id))), idents
        )
        self.session.commit()

        self.assertEqual(self.undo(), {"product": 3})
        self.assertEqual(self.everything(), before)

    def test_objects_of_the_session_learn_of_it(self):
        ident = self.add_customer()
        ann = self.session.get(Customer, ident)
        self.session.execute(
            delete(Customer).where(func.lower(Customer.email) == "ann@example.org"),
            execution_options={"synchronize_session": "fetch"},
        )
        self.assertNotIn(ann, self.session)
        self.session.commit()

        self.assertEqual(self.undo()["customer"], 1)
        self.assertEqual(self.session.get(Customer, ident).shout, "ANN@EXAMPLE.ORG")


# --- Versions, and what is new after an undo ---------------------------------


class Versions(Case):
    def test_a_version_that_is_no_more_deletes_nothing(self):
        ident = self.add_customer()
        stale = self.session.get(Customer, ident)
        with Session(engine) as other, other.begin():
            other.get(Customer, ident).plan = "free"
        before = self.everything()
        self.session.delete(stale)
        with self.assertRaises(StaleDataError):
            self.session.flush()
        self.session.rollback()

        self.assertEqual(self.everything(), before)

    def test_what_another_session_deleted_cannot_be_deleted_again(self):
        ident = self.add_customer()
        stale = self.session.get(Customer, ident)
        before = self.everything()
        with Session(engine) as other, other.begin():
            other.delete(other.get(Customer, ident))
        self.session.delete(stale)
        with self.assertRaises(StaleDataError):
            self.session.flush()
        self.session.rollback()
        with self.assertRaises(ObjectDeletedError):
            stale.email

        self.assertEqual(self.undo()["customer"], 1)
        self.assertEqual(self.everything(), before)

    def test_a_version_goes_on_where_it_was(self):
        ident = self.add_customer()
        held = self.session.get(Customer, ident)
        self.session.expunge(held)
        with Session(engine) as other, other.begin():
            other.delete(other.get(Customer, ident))
        self.undo()

        self.session.add(held)
        held.plan = "free"
        self.session.commit()
        self.assertEqual((held.version, held.plan), (2, "free"))

    def test_a_new_object_has_a_new_id(self):
        ident = self.add_customer()
        self.session.delete(self.session.get(Customer, ident))
        self.session.commit()
        self.undo()

        bob = Customer(email="bob@example.org", plan="free", tags=[], credit=0, since=datetime.now(timezone.utc))
        self.add(bob)
        self.assertGreater(bob.id, ident)

    def test_a_key_in_use_is_an_integrity_error(self):
        ident = self.add_customer()
        self.session.delete(self.session.get(Customer, ident))
        self.session.commit()
        ann = Customer(email="ann@example.org", plan="free", tags=[], credit=0, since=datetime.now(timezone.utc))
        self.add(ann)
        with self.assertRaises(IntegrityError) as refused:
            self.session.scalar(select(func.tombstone.restore(str(ident), "customer")))
        self.assertEqual(refused.exception.orig.sqlstate, "23505")
        self.session.rollback()

        ann.email = "ann.2@example.org"
        self.session.flush()
        self.session.scalar(select(func.tombstone.restore(str(ident), "customer")))
        self.session.commit()
        self.assertEqual(len(self.session.get(Customer, ident).orders), 2)


# --- Alembic ----------------------------------------------------------------


def only_ours(connection):
    """An include_name for Alembic's env.py that knows the archives and their partitions by the catalogue."""
    archives = set(
        connection.execute(
            text(
                "SELECT nullif(n.nspname, current_schema), c.relname"
                " FROM tombstone.tables t, pg_partition_tree(t.archive) p"
                " JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace"
            )
        ).tuples()
    )

    def include_name(name, kind, parents):
        if kind == "schema":
            return name != "tombstone"
        return kind != "table" or (parents["schema_name"], name) not in archives

    return include_name


class Migrations(Case):
    def diff(self, connection, **options):
        options = {"compare_type": True, "compare_server_default": True, **options}
        return compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)

    def test_nothing_is_new_but_the_archives(self):
        with engine.connect() as connection:
            changes = self.diff(connection)
            self.assertEqual({change[0] for change in changes}, {"remove_index", "remove_table"})
            tables = {change[1].name for change in changes if change[0] == "remove_table"}
            self.assertIn("customer_tombstone", tables)
            self.assertEqual(tables.intersection(Base.metadata.tables), set())

    def test_with_the_filter_nothing_is_new(self):
        with engine.connect() as connection:
            self.assertEqual(self.diff(connection, include_name=only_ours(connection)), [])
            self.assertEqual(self.diff(connection, include_name=only_ours(connection), include_schemas=True), [])

    def test_nor_a_partition_that_maintenance_has_closed(self):
        self.add(Visit(id=1))
        self.session.execute(delete(Visit))
        visit = {"visit": Visit.__tablename__}
        its_row = "FROM tombstone.tables WHERE relation = CAST(:visit AS regclass)"
        archive = self.value(f"SELECT archive::text {its_row}", **visit)
        # Old enough to be put aside, and on hold, or it would be purged.
        self.value("SELECT tombstone.configure(:visit, 'retention', '1 second'), tombstone.hold('1', :visit)", **visit)
        self.session.execute(text(f"UPDATE {archive} SET deleted_at = now() - interval '1 day'"))
        self.session.commit()
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CALL tombstone.maintain(:visit)"), visit)
            partitions = "SELECT count(*) FROM pg_partition_tree(:archive) WHERE isleaf"
            self.assertEqual(self.value(partitions, archive=archive), 2)
            self.assertEqual(self.diff(connection, include_name=only_ours(connection)), [])

    def test_a_migration_takes_the_archive_along(self):
        ident = self.add_customer()
        self.session.delete(self.session.get(Customer, ident))
        self.session.commit()
        with engine.begin() as connection:
            operations = Operations(MigrationContext.configure(connection))
            operations.add_column("customer", Column("stars", Integer, server_default="3", nullable=False))
            operations.alter_column("line", "price", type_=Numeric(14, 6))
        self.undo()

        self.assertEqual(self.value("SELECT stars FROM customer WHERE id = :id", id=ident), 3)
        self.assertEqual(str(self.value("SELECT max(price) FROM line")), "5.000000")
        self.session.commit()
        with engine.begin() as connection:
            operations = Operations(MigrationContext.configure(connection))
            operations.drop_column("customer", "stars")
            operations.alter_column("line", "price", type_=Numeric(12, 4))
            self.assertEqual(self.diff(connection, include_name=only_ours(connection)), [])

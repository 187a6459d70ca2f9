"""SQLAlchemy and Alembic on tables that the application soft-deletes itself, by a column deleted_at: layout in_place.

Run by unittest. TOMBSTONE_CONNINFO is an empty database with the extension; its user owns the database.
"""

import json
import os
import unittest
from datetime import datetime

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import ForeignKey, Index, create_engine, event, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, with_loader_criteria

# --- The models -------------------------------------------------------------


class Base(DeclarativeBase):
    pass


class SoftDeleted:
    """What SQLAlchemy makes of such a column by itself: a timestamp without a time zone, in UTC here."""

    deleted_at: Mapped[datetime | None] = mapped_column()


class Person(SoftDeleted, Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    name: Mapped[str]
    notes: Mapped[list["Note"]] = relationship(passive_deletes=True, order_by="Note.id")
    __table_args__ = (Index("person_email_live", "email", unique=True, postgresql_where=text("deleted_at IS NULL")),)


class Note(SoftDeleted, Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id", ondelete="CASCADE"))
    text: Mapped[str]


@event.listens_for(Session, "do_orm_execute")
def only_live(state):
    if state.is_select and not state.execution_options.get("with_deleted"):
        live = with_loader_criteria(SoftDeleted, lambda model: model.deleted_at.is_(None), include_aliases=True)
        state.statement = state.statement.options(live)


engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(os.environ["TOMBSTONE_CONNINFO"]))


def setUpModule():
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("SELECT tombstone.manage('person', redact => '{\"email\": null}', kind => '''person''')"))
        connection.execute(text("SELECT tombstone.manage('note')"))


def tearDownModule():
    engine.dispose()


class Case(unittest.TestCase):
    def setUp(self):
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM person"))
        self.session = Session(engine, expire_on_commit=False)
        self.addCleanup(self.session.close)
        self.ann = Person(email="ann@example.org", name="Ann", notes=[Note(text="one"), Note(text="two")])
        self.session.add(self.ann)
        self.session.commit()

    def value(self, query, **parameters):
        with engine.begin() as connection:
            return connection.scalar(text(query), parameters)

    def configure(self, option, value):
        self.value("SELECT tombstone.configure('person', :option, :value)", option=option, value=value)

    def live(self, model):
        return self.session.scalars(select(model).order_by(model.id)).all()

    def everything(self, model):
        return self.session.scalars(select(model).order_by(model.id), execution_options={"with_deleted": True}).all()

    def soft_delete_ann(self):
        with Session(engine) as other:
            other.get_one(Person, self.ann.id).deleted_at = func.now()
            other.commit()


class SoftDeletes(Case):
    def test_the_children_go_and_come_back_with_their_parent(self):
        self.ann.deleted_at = func.now()
        self.session.commit()
        self.assertEqual((self.live(Person), self.live(Note)), ([], []))
        self.session.expire_all()
        [ann] = self.everything(Person)
        self.assertIsNone(ann.email)

        ann.deleted_at = None
        self.session.commit()
        self.session.expire_all()
        self.assertEqual((len(self.live(Person)), len(self.live(Note))), (1, 2))

    def test_many_rows_by_one_statement(self):
        self.session.execute(insert(Person), [{"name": f"person {i}"} for i in range(300)])
        deleted = self.session.execute(update(Person).values(deleted_at=func.now()))
        self.session.commit()
        self.assertEqual(deleted.rowcount, 301)
        self.assertEqual((self.live(Person), self.live(Note)), ([], []))
        latest = "(SELECT max(deletion) FROM tombstone.deletions)"
        self.assertEqual(self.value(f"SELECT count(*) FROM tombstone.undo({latest})"), 303)
        self.assertEqual((len(self.live(Person)), len(self.live(Note))), (301, 2))

    def test_a_stamp_of_the_application(self):
        """datetime.now() of the application's machine, as SQLAlchemy sends it: without a time zone."""
        self.session.execute(update(Person).values(deleted_at=datetime(2024, 2, 29, 12, 0, 0)))
        self.session.commit()
        self.assertEqual(self.value("SELECT deleted_at::text FROM person"), "2024-02-29 12:00:00")
        self.assertEqual(self.value("SELECT deleted_at = (SELECT deleted_at FROM person) FROM note LIMIT 1"), True)
        self.assertEqual(self.value("SELECT tombstone.restore(:id, 'person')", id=str(self.ann.id)), 3)


class StaleSaves(Case):
    def save_all(self):
        """Every column as it was before the deletion, as a form does that sends the whole object."""
        with Session(engine) as other:
            other.execute(
                update(Person),
                [{"id": self.ann.id, "email": "ann@example.org", "name": "Ann", "deleted_at": None}],
            )
            other.commit()

    def test_what_was_redacted_stays_blank(self):
        self.soft_delete_ann()
        self.save_all()
        self.session.expire_all()
        [ann] = self.live(Person)
        self.assertEqual((ann.email, ann.name), (None, "Ann"))

    def test_where_only_functions_restore_it_is_an_error(self):
        self.configure("restore", "function")
        self.addCleanup(self.configure, "restore", None)
        self.soft_delete_ann()
        with self.assertRaises(DBAPIError):
            self.save_all()
        self.session.expire_all()
        self.assertEqual(self.live(Person), [])
        self.assertEqual(self.value("SELECT tombstone.restore(:id, 'person')", id=str(self.ann.id)), 3)

    def test_a_session_that_has_loaded_it_before_sends_what_it_has_changed(self):
        self.soft_delete_ann()
        self.ann.name = "Anna"
        self.session.commit()
        self.session.expire_all()
        [ann] = self.everything(Person)
        self.assertIsNotNone(ann.deleted_at)
        self.assertEqual(ann.name, "Anna")


class Keys(Case):
    def setUp(self):
        super().setUp()
        self.configure("redact", "{}")
        self.addCleanup(self.configure, "redact", '{"email": null}')

    def test_a_key_is_free_once_its_row_is_deleted(self):
        self.session.add(Person(email="ann@example.org", name="Other"))
        self.assertRaises(IntegrityError, self.session.commit)
        self.session.rollback()
        self.soft_delete_ann()
        self.session.add(Person(email="ann@example.org", name="Other"))
        self.session.commit()

        ann = self.session.get_one(Person, self.ann.id, populate_existing=True, execution_options={"with_deleted": True})
        ann.deleted_at = None
        self.assertRaises(IntegrityError, self.session.commit)

    def test_an_upsert_updates_live_rows_alone(self):
        self.soft_delete_ann()
        row = upsert(Person).values(email="ann@example.org", name="Upserted")
        statement = row.on_conflict_do_update(
            index_elements=[Person.email], index_where=Person.deleted_at.is_(None), set_={"name": row.excluded.name}
        ).returning(Person.id)
        first = self.session.scalar(statement)
        self.assertNotEqual(first, self.ann.id)
        self.assertEqual(self.session.scalar(statement), first)
        self.session.commit()


class Migrations(Case):
    def test_nothing_is_new(self):
        with engine.connect() as connection:
            self.assertEqual(compare_metadata(MigrationContext.configure(connection), Base.metadata), [])


class Events(Case):
    def test_a_listener_hears_seed_004(self):
        with psycopg.connect(os.environ["TOMBSTONE_CONNINFO"], autocommit=True) as listener:
            listener.execute("LISTEN tombstone")
            self.soft_delete_ann()
            self.value("UPDATE person SET deleted_at = NULL RETURNING 1")
            heard = [notification.payload for notification in listener.notifies(timeout=60, stop_after=6)]
        ann = str(self.ann.id)
        self.assertEqual(
            [payload for payload in heard if json.loads(payload)["kind"] == "person"],
            [
                f'{{"id":"{ann}","kind":"person","op":"delete","deletionType":"soft"}}',
                f'{{"id":"{ann}","kind":"person","op":"update","restored":true}}',
            ],
        )

"""What psycopg, Django and SQLAlchemy make of SQLSTATEs: a line for each that is named, with the class that each of them raises.

Arguments: a conninfo, then SQLSTATEs.
"""

import sys

import psycopg
import sqlalchemy
from django.db import connection
from django_project import set_up

conninfo, sqlstates = sys.argv[1], sys.argv[2:]
set_up(conninfo)
plain = psycopg.connect(conninfo, autocommit=True)
engine = sqlalchemy.create_engine(
    "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), isolation_level="AUTOCOMMIT"
)


def by_django(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)


def by_sqlalchemy(statement):
    with engine.connect() as alchemist:
        alchemist.execute(sqlalchemy.text(statement))


def raised(run, statement):
    """The exception, with the SQLSTATE that docs/drivers.md says where to find."""
    try:
        run(statement)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


for sqlstate in sqlstates:
    statement = f"DO $$ BEGIN RAISE 'as asked' USING ERRCODE = '{sqlstate}'; END $$"
    first = raised(plain.execute, statement)
    second, third = raised(by_django, statement), raised(by_sqlalchemy, statement)
    assert {first.sqlstate, second.__cause__.sqlstate, third.orig.sqlstate} == {sqlstate}
    assert type(first).__module__ == "psycopg.errors"
    assert {type(second).__module__, type(third).__module__} <= {"django.db.utils", "sqlalchemy.exc"}
    base = next(base for base in type(first).__mro__[1:] if base.__module__ == "psycopg")
    print(sqlstate, *(kind.__name__ for kind in (type(first), base, type(second), type(third))))

# None of them took the connection for lost.
assert not plain.closed and connection.is_usable()

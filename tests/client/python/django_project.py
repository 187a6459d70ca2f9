"""Django without a project of files: for programs that are an app of their own, on the database of a conninfo."""

import importlib
import sys
import tempfile
import unittest
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from psycopg.conninfo import conninfo_to_dict


def set_up(conninfo, **more):
    """Begins it, with more settings."""
    server = conninfo_to_dict(conninfo)
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": server["host"],
                "NAME": server["dbname"],
                "USER": server["user"],
            }
        },
        **more,
    )
    django.setup()


class AppMigrations:
    """The migrations of an app, in a package of its own that goes with the tests of the module."""

    def __init__(self, app, package):
        self.app = app
        directory = tempfile.TemporaryDirectory()
        unittest.addModuleCleanup(directory.cleanup)
        unittest.addModuleCleanup(connection.close)
        self.path = Path(directory.name, package)
        self.path.mkdir()
        (self.path / "__init__.py").touch()
        sys.path.append(directory.name)
        call_command("makemigrations", app, verbosity=0)

    def write(self, name, text):
        (self.path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()

    def remove(self, name):
        (self.path / f"{name}.py").unlink()

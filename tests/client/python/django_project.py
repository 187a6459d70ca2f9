"""Django without a project of files: for programs that are an app of their own, on the database of a conninfo."""

import django
from django.conf import settings
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

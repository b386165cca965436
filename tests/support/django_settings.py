"""Django's settings, of which a process has one, for whichever test needs them first."""

import django  # type: ignore[import-untyped]
import pytest
from django.conf import settings  # type: ignore[import-untyped]


def configure(factory: pytest.TempPathFactory) -> None:
    """Unless it is done: a database in a file, and no apps."""
    if not settings.configured:
        name = str(factory.mktemp("django") / "test.sqlite3")
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": name}},
            SECRET_KEY="of the tests",
        )
        django.setup()

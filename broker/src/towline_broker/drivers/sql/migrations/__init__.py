"""How the tables of a store got to where they are: one revision for each version of the schema.

Alembic plays them, over a connection that it is handed; users need no configuration of their own.
Revision ``0007`` makes version 7 of 6. The revisions know nothing of ``schema.py``, which has moved
on since they were written; a test checks that playing all of them leads there.

Offline (``script``) the same revisions write SQL instead of running it.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from towline_broker.drivers.sql.versions import revision_of, revisions

VERSION_TABLE = revisions.name


def newest() -> int:
    """The version that the newest revision makes."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return int(head or 0)


def stamp(connection: sa.Connection, version: int) -> None:
    """Notes that the tables are of this version, playing nothing."""
    script = ScriptDirectory.from_config(_config())
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    context.stamp(script, revision_of(version))


def upgrade(connection: sa.Connection, version: int, to: int | None = None) -> None:
    """Plays the revisions after ``version``, up to the newest unless told otherwise, in the
    connection's transaction if the database has transactions for this."""
    if version and not sa.inspect(connection).has_table(VERSION_TABLE):
        # A store from before there were revisions.
        stamp(connection, version)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head" if to is None else revision_of(to))


def script(
    dialect: str, version: int, *, stamped: bool = True, options: Mapping[str, Any] | None = None
) -> str:
    """The SQL that ``upgrade`` from this version would run.

    ``stamped``: Alembic has its table. ``options``: arguments for making the dialect.
    """
    output = io.StringIO()
    config = _config(output)
    config.attributes["dialect"] = dialect
    config.attributes["options"] = dict(options or {})
    if version and not stamped:
        command.stamp(config, revision_of(version), sql=True)
    start = f"{revision_of(version)}:" if version else ""
    command.upgrade(config, f"{start}head", sql=True)
    return output.getvalue()


def statements(
    dialect: str, version: int, *, options: Mapping[str, Any] | None = None
) -> list[str]:
    """The same, to be run one by one."""
    return [
        statement
        for piece in script(dialect, version, options=options).split(";\n\n")
        if (statement := re.sub(r"^--.*$", "", piece, flags=re.MULTILINE).strip())
    ]


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output)
    # A percent sign in the path must not be taken for the beginning of a variable.
    folder = str(Path(__file__).parent).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "os")
    return config

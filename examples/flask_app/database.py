import sqlite3
from typing import cast

from flask import Flask, current_app, g

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting'
)
"""


def connection() -> sqlite3.Connection:
    """The connection of this application context: of a request, or of a job."""
    if "connection" not in g:
        g.connection = sqlite3.connect(current_app.config["DATABASE"], timeout=30)
        g.connection.row_factory = sqlite3.Row
    return cast(sqlite3.Connection, g.connection)


def close(error: BaseException | None = None) -> None:
    found = g.pop("connection", None)
    if found is not None:
        found.close()


def init_app(app: Flask) -> None:
    app.teardown_appcontext(close)
    with app.app_context(), connection() as database:
        database.execute(SCHEMA)

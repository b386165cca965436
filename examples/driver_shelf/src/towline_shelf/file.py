"""The file: an SQLite database with one table, the calls in their order."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from towline_broker.domain.errors import StoreFailed, StoreRefused

#: How our files are told from other databases.
APPLICATION_ID = 0x5E1F


class CallFile:
    """To be used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises StoreRefused, with what to do about it."""
        try:
            self._database = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=0
            )
        except sqlite3.Error as error:
            raise StoreRefused(f"{path} cannot be opened: {error}") from None
        try:
            self._take(path)
        except sqlite3.OperationalError as error:
            self.close()
            raise StoreRefused(
                f"{path} is in use by another broker, or cannot be written ({error}); stop that "
                "one, or give this broker a file of its own"
            ) from None
        except sqlite3.DatabaseError:
            self.close()
            raise StoreRefused(f"{path} is no file of a shelf; choose another path") from None

    def _take(self, path: Path) -> None:
        """For this process alone, until the file is closed."""
        run = self._database.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
        run("BEGIN EXCLUSIVE")
        tables = run("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables == 0:
            run(f"PRAGMA application_id = {APPLICATION_ID}")
            run("CREATE TABLE calls (number INTEGER PRIMARY KEY, call TEXT NOT NULL)")
        elif run("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise sqlite3.DatabaseError("another application's")
        run("COMMIT")

    def append(self, call: str) -> None:
        """Durable on return. Raises StoreFailed: what is in the file is then unknown."""
        try:
            self._database.execute("INSERT INTO calls (call) VALUES (?)", (call,))
        except sqlite3.Error as error:
            raise StoreFailed(f"the shelf cannot be written: {error}") from None

    def calls(self) -> Iterator[str]:
        for (call,) in self._database.execute("SELECT call FROM calls ORDER BY number"):
            yield call

    def close(self) -> None:
        self._database.close()

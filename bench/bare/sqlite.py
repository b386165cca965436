"""One table in WAL mode with synchronous=FULL, and one thread that plays calls in transactions."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_TABLE = "CREATE TABLE job (seq INTEGER PRIMARY KEY, state INT NOT NULL, body BLOB NOT NULL)"
_INDEX = "CREATE INDEX ready ON job (seq) WHERE state = 2"
_INSERT = "INSERT INTO job (state, body) VALUES (2, ?)"
_DELETE = "DELETE FROM job WHERE seq = ?"
_CLAIM = (
    "UPDATE job SET state = 3 WHERE seq IN"
    " (SELECT seq FROM job WHERE state = 2 ORDER BY seq LIMIT ?) RETURNING seq, body"
)


class BareSqlite:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "bare.db"
        self._thread = ThreadPoolExecutor(1)

    async def open(self) -> None:
        await self._on_thread(self._open)

    async def insert(self, envelopes: Sequence[bytes]) -> None:
        rows = [(envelope,) for envelope in envelopes]
        await self._transaction(lambda: self._sqlite.executemany(_INSERT, rows).rowcount)

    async def claim(self, number: int) -> list[int]:
        rows = await self._transaction(lambda: self._sqlite.execute(_CLAIM, (number,)).fetchall())
        return [row[0] for row in rows]

    async def delete(self, keys: Sequence[int]) -> None:
        rows = [(key,) for key in keys]
        await self._transaction(lambda: self._sqlite.executemany(_DELETE, rows).rowcount)

    async def close(self) -> None:
        await self._on_thread(self._sqlite.close)
        self._thread.shutdown()

    def _open(self) -> None:
        self._sqlite = sqlite3.connect(self._path, isolation_level=None)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", _TABLE, _INDEX):
            self._sqlite.execute(statement)

    async def _transaction(self, work: Callable[[], T]) -> T:
        def play() -> T:
            self._sqlite.execute("BEGIN")
            result = work()
            self._sqlite.execute("COMMIT")
            return result

        return await self._on_thread(play)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

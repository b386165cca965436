"""One table, and asyncmy with a few connections; each call is one transaction."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncmy
from asyncmy.errors import OperationalError

_TABLE = """
    CREATE TABLE job (
        seq BIGINT AUTO_INCREMENT PRIMARY KEY, state TINYINT NOT NULL, body LONGBLOB NOT NULL,
        INDEX ready (state, seq)
    ) ENGINE = InnoDB
"""
CONNECTIONS = 4
_DEADLOCK = 1213


class BareMysql:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._place: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": parts.path.lstrip("/"),
        }

    async def open(self) -> None:
        self._pool = await asyncmy.create_pool(
            minsize=CONNECTIONS,
            maxsize=CONNECTIONS,
            init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            **self._place,
        )
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(_TABLE)

    async def insert(self, envelopes: Sequence[bytes]) -> None:
        rows = [(envelope,) for envelope in envelopes]
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.executemany("INSERT INTO job (state, body) VALUES (2, %s)", rows)
            await connection.commit()

    async def claim(self, number: int) -> list[int]:
        while True:
            try:
                return await self._claim(number)
            except OperationalError as error:  # two claims may meet in the index
                if error.args[0] != _DEADLOCK:
                    raise

    async def _claim(self, number: int) -> list[int]:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(
                "SELECT seq, body FROM job WHERE state = 2 ORDER BY seq LIMIT %s"
                " FOR UPDATE SKIP LOCKED",
                (number,),
            )
            keys = [row[0] for row in await cursor.fetchall()]
            places = ", ".join(["%s"] * len(keys))
            await cursor.execute(f"UPDATE job SET state = 3 WHERE seq IN ({places})", keys)
            await connection.commit()
        return keys

    async def delete(self, keys: Sequence[int]) -> None:
        places = ", ".join(["%s"] * len(keys))
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(f"DELETE FROM job WHERE seq IN ({places})", list(keys))
            await connection.commit()

    async def close(self) -> None:
        self._pool.close()
        await self._pool.wait_closed()

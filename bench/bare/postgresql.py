"""One table, and asyncpg with a few connections; each call is one transaction."""

from collections.abc import Sequence

import asyncpg

_TABLE = """
    CREATE TABLE job (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state smallint NOT NULL, body bytea
    ) WITH (fillfactor = 70)
"""
_INDEX = "CREATE INDEX ready ON job (seq) WHERE state = 2"
_INSERT = "INSERT INTO job (state, body) SELECT 2, body FROM unnest($1::bytea[]) AS body"
_CLAIM = """
    UPDATE job SET state = 3 WHERE seq = ANY(ARRAY(
        SELECT seq FROM job WHERE state = 2 ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED
    )) RETURNING seq, body
"""
CONNECTIONS = 4


class BarePostgresql:
    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._url, min_size=CONNECTIONS, max_size=CONNECTIONS
        )
        await self._pool.execute(_TABLE)
        await self._pool.execute(_INDEX)

    async def insert(self, envelopes: Sequence[bytes]) -> None:
        await self._pool.execute(_INSERT, list(envelopes))

    async def claim(self, number: int) -> list[int]:
        return [row[0] for row in await self._pool.fetch(_CLAIM, number)]

    async def delete(self, keys: Sequence[int]) -> None:
        await self._pool.execute("DELETE FROM job WHERE seq = ANY($1)", list(keys))

    async def close(self) -> None:
        await self._pool.close()

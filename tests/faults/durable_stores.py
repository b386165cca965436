"""Every durable store, empty and with nobody else's jobs in it, for a test that harms no server.

Shared stores are on servers that tests share, which need not sync what they keep. Those of a test
that stops or kills a server are in ``places.py``.
"""

import itertools
import os
from pathlib import Path

import pytest

from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import RedisServer
from tests.support.stores import with_options

EMBEDDED = ("file", "sqlite")
SHARED = ("postgresql", "mariadb", "redis", "valkey")
KINDS = EMBEDDED + SHARED

_FIXTURES = {
    "postgresql": "postgres_server",
    "mariadb": "mariadb_server",
    "redis": "redis_server",
    "valkey": "valkey_server",
}
_numbers = itertools.count(1)


def new_store(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The url of one."""
    if kind == "file":
        return f"file:///{folder}/journal?min_free_bytes=0"
    if kind == "sqlite":
        return f"sqlite:///{folder}/jobs.db"
    server = request.getfixturevalue(_FIXTURES[kind])
    if isinstance(server, RedisServer):
        return with_options(server.url, f"prefix=t{os.getpid()}-{next(_numbers)}")
    assert isinstance(server, PostgresServer | MariaDBServer)
    return server.create_database()

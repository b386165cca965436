"""Servers as fixtures: each is started when a test first asks for it, once in every process of
pytest-xdist, and stopped at the end.

A folder of tests takes what it needs in its conftest.py::

    from tests.support.servers.fixtures import postgres_server

    __all__ = ["postgres_server"]

Tests share a server, so each works in a database of its own (PostgreSQL, MariaDB) or on keys of its
own (Redis). A test that stops or kills a server starts one for itself.
"""

from collections.abc import Iterator

import pytest

from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import RedisServer
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.servers.redis_sentinels import Sentinels


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer("redis") as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    with RedisServer("valkey") as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    with RedisCluster("redis") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_sentinels() -> Iterator[Sentinels]:
    with Sentinels("redis") as sentinels:
        yield sentinels


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    with MariaDBServer() as server:
        yield server

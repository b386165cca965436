"""Servers, and the databases that brokers share."""

import pytest

from tests.support.databases import Database, MariaDB, PostgreSQL
from tests.support.servers.fixtures import (
    mariadb_server,
    postgres_server,
    redis_cluster,
    redis_sentinels,
    redis_server,
    valkey_server,
)

__all__ = [
    "mariadb_server",
    "postgres_server",
    "redis_cluster",
    "redis_sentinels",
    "redis_server",
    "valkey_server",
]


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Database:
    """For what every database owes: the test runs once over each."""
    if request.param == "postgresql":
        return PostgreSQL(request.getfixturevalue("postgres_server"))
    return MariaDB(request.getfixturevalue("mariadb_server"))

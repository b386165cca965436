"""The stores that are measured, each made anew, and the same store bare."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.bare import BareStore
from bench.bare.journal import BareJournal
from bench.bare.memory import BareMemory
from bench.bare.mysql import BareMysql
from bench.bare.postgresql import BarePostgresql
from bench.bare.redis import BareRedis
from bench.bare.sqlite import BareSqlite
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import Kind, RedisServer
from tests.support.servers.redis_cluster import RedisCluster


class Measured(NamedTuple):
    #: One for each broker that shall have a store of its own.
    new_url: Callable[[], str]
    new_bare: Callable[[], BareStore]


Place = Callable[[Path], AbstractContextManager[Measured]]


def _folders(folder: Path) -> Iterator[Path]:
    number = 0
    while True:
        number += 1
        place = folder / str(number)
        place.mkdir()
        yield place


@contextmanager
def memory(folder: Path) -> Iterator[Measured]:
    yield Measured(lambda: "memory:?max_bytes=8000000000", BareMemory)


@contextmanager
def file(folder: Path) -> Iterator[Measured]:
    places = _folders(folder)
    yield Measured(lambda: f"file:///{next(places)}/jobs", lambda: BareJournal(next(places)))


@contextmanager
def sqlite(folder: Path) -> Iterator[Measured]:
    places = _folders(folder)
    yield Measured(lambda: f"sqlite:///{next(places)}/jobs.db", lambda: BareSqlite(next(places)))


@contextmanager
def postgresql(folder: Path) -> Iterator[Measured]:
    with PostgresServer(durable=True) as server:
        yield Measured(server.create_database, lambda: BarePostgresql(server.create_database()))


@contextmanager
def mariadb(folder: Path) -> Iterator[Measured]:
    with MariaDBServer(durable=True) as server:
        yield Measured(server.create_database, lambda: BareMysql(server.create_database()))


def _redis(kind: Kind, *options: str) -> Place:
    @contextmanager
    def place(folder: Path) -> Iterator[Measured]:
        with RedisServer(kind, *options) as server:
            prefixes = (f"towline{number}" for number in range(1_000_000))
            yield Measured(
                lambda: f"{server.url}?prefix={next(prefixes)}", lambda: BareRedis(server.url)
            )

    return place


@contextmanager
def redis_cluster(folder: Path) -> Iterator[Measured]:
    with RedisCluster("redis", "appendonly yes", masters=3, replicas=1) as cluster:
        prefixes = (f"towline{number}" for number in range(1_000_000))
        yield Measured(
            lambda: f"{cluster.url}?prefix={next(prefixes)}", lambda: BareRedis(cluster.url)
        )


STORES: dict[str, Place] = {
    "memory": memory,
    "file": file,
    "sqlite": sqlite,
    "postgresql": postgresql,
    "mariadb": mariadb,
    "redis": _redis("redis", "appendonly yes", "appendfsync always"),
    "redis-everysec": _redis("redis", "appendonly yes", "appendfsync everysec"),
    "valkey": _redis("valkey", "appendonly yes", "appendfsync always"),
    "redis-cluster": redis_cluster,
}
SHARED = ("postgresql", "mariadb", "redis", "valkey", "redis-cluster")

"""Durable stores that a test may do anything to: each with a server of its own, set up to sync."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.faults.harness.checker import Assumptions
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.process import ServerProcess
from tests.support.servers.redis import RedisServer
from tests.support.servers.redis_cluster import RedisCluster

SYNCED = ("appendonly yes", "appendfsync always")


class Place(NamedTuple):
    url: str
    #: The server that holds the jobs of a queue now; None: there is none.
    server: Callable[[], ServerProcess] | None = None
    #: A server that fails may take with it what it had acknowledged: a replica takes its place.
    forgets: bool = False
    #: How long the claim of a broker that is gone may keep its jobs from others, in seconds; None:
    #: not at all.
    locks: float | None = None

    @property
    def assumptions(self) -> Assumptions:
        """Of one broker."""
        return Assumptions(locks=self.locks)

    @property
    def shared(self) -> Assumptions:
        """Of several: under load it takes seconds until one finds what others have put in front."""
        return Assumptions(locks=self.locks, order_slack=10.0)


@contextmanager
def file(folder: Path) -> Iterator[Place]:
    """Segments are small, so that it is compacted all the time."""
    yield Place(f"file:///{folder}/journal?segment_bytes=65536&min_free_bytes=0")


@contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    yield Place(f"sqlite:///{folder}/jobs.db")


@contextmanager
def postgresql(_: Path) -> Iterator[Place]:
    with PostgresServer(durable=True) as server:
        yield Place(server.create_database(), lambda: server, locks=5.0)


@contextmanager
def mariadb(_: Path) -> Iterator[Place]:
    with MariaDBServer(durable=True) as server:
        yield Place(server.create_database(), lambda: server, locks=5.0)


@contextmanager
def redis(_: Path) -> Iterator[Place]:
    with RedisServer("redis", *SYNCED) as server:
        yield Place(server.url, lambda: server)


@contextmanager
def valkey(_: Path) -> Iterator[Place]:
    with RedisServer("valkey", *SYNCED) as server:
        yield Place(server.url, lambda: server)


@contextmanager
def redis_cluster(_: Path) -> Iterator[Place]:
    with RedisCluster("redis", "appendonly yes", masters=3, replicas=1) as cluster:
        yield Place(cluster.url, lambda: busiest_master(cluster), forgets=True)


def busiest_master(cluster: RedisCluster) -> RedisServer:
    """The one that holds the queue: no other has so many keys that change."""
    return max(cluster.masters(), key=lambda node: int(node.info("memory")["used_memory"]))


MakePlace: TypeAlias = Callable[[Path], AbstractContextManager[Place]]

EMBEDDED: dict[str, MakePlace] = {"file": file, "sqlite": sqlite}
SHARED: dict[str, MakePlace] = {
    "postgresql": postgresql,
    "mariadb": mariadb,
    "redis": redis,
    "valkey": valkey,
}
EVERY = EMBEDDED | SHARED

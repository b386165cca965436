"""Every durable store, new and empty, for a test that may do anything to it: where it has a server,
that is the test's own, and set up to sync."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tests.faults.harness.assumptions import Assumptions
from tests.support.broker_process import BrokerProcess
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.process import ServerProcess
from tests.support.servers.redis import RedisServer
from tests.support.servers.redis_cluster import RedisCluster

SYNCED = ("appendonly yes", "appendfsync always")


class Store(NamedTuple):
    url: str
    #: The server that holds the jobs of a queue now; None: there is none.
    server: Callable[[], ServerProcess] | None = None
    #: How long the claim of a broker that is gone may keep its jobs from others, in seconds; None:
    #: not at all.
    locks: float | None = None
    #: How long one that comes to nothing may.
    undone: float = 0.0

    def broker(self, folder: Path, name: str) -> BrokerProcess:
        """One of several on this store; it works in a folder of this name."""
        (folder / name).mkdir()
        return BrokerProcess(self.url, folder=folder / name)

    @property
    def assumptions(self) -> Assumptions:
        """Of one broker."""
        return Assumptions(locks=self.locks, undone=self.undone)

    @property
    def shared(self) -> Assumptions:
        """Of several: under load it takes seconds until one finds what others have put in front."""
        return Assumptions(locks=self.locks, undone=self.undone, order_slack=10.0)


@contextmanager
def file(folder: Path) -> Iterator[Store]:
    """Segments are small, so that it is compacted all the time."""
    yield Store(f"file:///{folder}/journal?segment_bytes=65536&min_free_bytes=0")


@contextmanager
def sqlite(folder: Path) -> Iterator[Store]:
    yield Store(f"sqlite:///{folder}/jobs.db")


@contextmanager
def postgresql(_: Path) -> Iterator[Store]:
    with PostgresServer(durable=True) as server:
        yield Store(server.create_database(), lambda: server, locks=5.0, undone=0.5)


@contextmanager
def mariadb(_: Path) -> Iterator[Store]:
    with MariaDBServer(durable=True) as server:
        yield Store(server.create_database(), lambda: server, locks=5.0, undone=0.5)


@contextmanager
def redis(_: Path) -> Iterator[Store]:
    with RedisServer("redis", *SYNCED) as server:
        yield Store(server.url, lambda: server)


@contextmanager
def valkey(_: Path) -> Iterator[Store]:
    with RedisServer("valkey", *SYNCED) as server:
        yield Store(server.url, lambda: server)


@contextmanager
def redis_cluster(_: Path) -> Iterator[Store]:
    with RedisCluster("redis", "appendonly yes", masters=3, replicas=1) as cluster:
        yield Store(cluster.url, lambda: busiest_master(cluster))


def busiest_master(cluster: RedisCluster) -> RedisServer:
    """The one that holds the queue: no other has so many keys that change."""
    return max(cluster.masters(), key=lambda node: int(node.info("memory")["used_memory"]))


MakeStore: TypeAlias = Callable[[Path], AbstractContextManager[Store]]

EMBEDDED: dict[str, MakeStore] = {"file": file, "sqlite": sqlite}
SHARED: dict[str, MakeStore] = {
    "postgresql": postgresql,
    "mariadb": mariadb,
    "redis": redis,
    "valkey": valkey,
}
EVERY = EMBEDDED | SHARED


def without_the_like(kinds: Iterable[str]) -> list[str]:
    """For a plain test run, without what differs little from another of them."""
    return [kind for kind in kinds if kind != "valkey"]

"""P1, P2, P3: two brokers and four workers on one store; a broker, a worker and (of a cluster) a
master are killed under load.

`make shared-kills` runs it with a hundred thousand jobs and shows the figures; a plain test run
with a few thousand.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.fleet import Fleet
from tests.faults.history import judge
from tests.faults.leases import overlapping
from tests.faults.load import QUEUE
from tests.faults.test_broker_kills import figures_of
from tests.support.broker_process import BrokerProcess
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import RedisServer
from tests.support.servers.redis_cluster import RedisCluster
from towline.v1.admin_service_pb2 import Depth

JOBS = int(os.environ.get("TOWLINE_SHARED_JOBS", "4000"))
WORKERS = 4
#: What the slowest store drains with certainty, in jobs a second.
SLOWEST = 300

SYNCED = ("appendonly yes", "appendfsync always")


class Place(NamedTuple):
    """A store, and what of it may be killed under way."""

    url: str
    kill: Callable[[], None] | None = None


@contextmanager
def postgresql() -> Iterator[Place]:
    with PostgresServer(durable=True) as server:
        yield Place(server.create_database())


@contextmanager
def mariadb() -> Iterator[Place]:
    with MariaDBServer(durable=True) as server:
        yield Place(server.create_database())


@contextmanager
def redis() -> Iterator[Place]:
    with RedisServer("redis", *SYNCED) as server:
        yield Place(server.url)


@contextmanager
def valkey() -> Iterator[Place]:
    with RedisServer("valkey", *SYNCED) as server:
        yield Place(server.url)


@contextmanager
def redis_cluster() -> Iterator[Place]:
    with RedisCluster("redis", "appendonly yes", masters=3, replicas=1) as cluster:
        yield Place(cluster.url, lambda: _busiest_master(cluster).kill())


def _busiest_master(cluster: RedisCluster) -> RedisServer:
    """The one that holds the queue: no other has so many keys that change."""
    return max(cluster.masters(), key=lambda node: int(node.info("memory")["used_memory"]))


@pytest.mark.parametrize("store", [postgresql, mariadb, redis, valkey, redis_cluster])
@pytest.mark.timeout(120 + 2 * JOBS / SLOWEST)
def test_nothing_is_lost_doubled_or_held_twice_when_broker_worker_and_master_are_killed(
    store: Callable[[], AbstractContextManager[Place]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        store() as place,
        _broker(place, tmp_path, "a") as one,
        _broker(place, tmp_path, "b") as two,
    ):
        with Fleet([one.address, two.address], WORKERS, tmp_path) as fleet:
            start = time.monotonic()
            pushing = fleet.push(JOBS)
            _when(fleet, JOBS // 4, fleet.workers[0].kill)
            _when(fleet, JOBS // 3, one.kill)
            if place.kill is not None:
                _when(fleet, JOBS // 2, place.kill)
            pushing.join()
            _drain(two.address)
            took = time.monotonic() - start
        stats = figures_of(two.address)
        history, grants = fleet.seen()
    verdict = judge(history)
    overlaps = overlapping(grants)
    redone = sum(grant.attempt > 1 for grant in grants)
    totals, depth = stats.total.totals, stats.total.depth
    with capsys.disabled():
        print(  # noqa: T201 -- the figures are wanted
            f"\n{store.__name__}: {verdict}; overlapping leases {len(overlaps)}, leases after the "
            f"first {redone}, completed {totals.completed}; {totals.completed / took:,.0f} jobs/s "
            "with all that"
        )
    assert fleet.failures == []
    assert overlaps == []
    assert verdict.pushed == JOBS
    if place.kill is not None:
        # What a master had acknowledged and not yet sent to its replica is gone with it, a push as
        # well as an ack: Redis promises no more, and the figures above say how much it was.
        return
    assert verdict.kept
    assert (totals.pushed, totals.completed) == (JOBS, JOBS)
    assert (depth.scheduled, depth.ready, depth.leased, depth.dead) == (0, 0, 0, 0)


def _broker(place: Place, folder: Path, name: str) -> BrokerProcess:
    (folder / name).mkdir()
    return BrokerProcess(place.url, folder=folder / name)


def _drain(address: str) -> None:
    """Until no job is live."""
    deadline = time.monotonic() + JOBS / SLOWEST + 30
    while figures_of(address).total.depth != Depth():
        assert time.monotonic() < deadline, f"jobs are left: {figures_of(address).total.depth}"
        time.sleep(0.2)


def _when(fleet: Fleet, acked: int, then: Callable[[], None]) -> None:
    """Once so many jobs are acknowledged."""
    deadline = time.monotonic() + 60 + acked / SLOWEST
    while len(fleet.acked()) < acked:
        assert time.monotonic() < deadline, f"{len(fleet.acked())} jobs of queue {QUEUE} were done"
        time.sleep(0.05)
    then()

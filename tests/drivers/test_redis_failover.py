"""P1, P2, P3 where Redis itself gives less: two brokers on a Cluster whose master is killed.

Replication is asynchronous, so the replica that takes over may lack the last changes although they
were answered. Nothing else may go wrong: what another master keeps is not touched at all, and what
is lost was done in the last moment before the kill, or since the replica was cut off. With
``wait_replicas`` nothing is lost. What Redis lost is counted and printed.
"""

import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import pytest

from tests.drivers.redis_link_support import own_keys
from tests.support.servers.redis import RedisServer
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.waiting import until
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import Leased, LeaseRef, Settlement
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    NackBatch,
    NackItem,
    PushBatch,
    ReserveRequest,
)
from towline_broker.drivers.redis import RedisDriver, open_redis
from towline_broker.testing.factories import new_jobs

T = TypeVar("T")

JOBS, BATCH = 300, 5
#: After so many in the first queue its replica is cut off, and after so many its master killed.
CUT_AT, KILL_AT = 100, 150
LEASE = 4_000_000
WINDOW = 600_000_000
#: Seconds before the kill in which Redis may lose what it has answered. (It is milliseconds, but
#: for a machine that is busy with other tests.)
LAST_MOMENT = 1.0


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster("valkey", "appendonly yes") as running:
        yield running


def now() -> int:
    return time.time_ns() // 1000


@dataclass
class Seen:
    """What the clients of one queue were told, and when."""

    pushed: dict[str, float] = field(default_factory=dict)
    granted: dict[str, list[tuple[float, LeaseRef]]] = field(default_factory=dict)
    acked: dict[str, float] = field(default_factory=dict)
    #: What should not be, if nothing was lost: and when that happened which was lost then.
    oddities: list[tuple[str, float]] = field(default_factory=list)

    def lost(self) -> dict[str, float]:
        return {job: at for job, at in self.pushed.items() if job not in self.acked}

    def odd(self) -> list[tuple[str, float]]:
        return [*(("lost", at) for at in self.lost().values()), *self.oddities]

    def grant(self, leased: Leased) -> None:
        job = leased.ref.job_id
        if job in self.acked:
            self.oddities.append(("done, and granted again", self.acked[job]))
        earlier = self.granted.setdefault(job, [])
        if earlier and earlier[-1][1] != leased.ref and self._is_live(earlier[-1][0]):
            self.oddities.append(("granted twice at once", earlier[-1][0]))
        earlier.append((time.monotonic(), leased.ref))

    def _is_live(self, since: float) -> bool:
        return time.monotonic() < since + LEASE / 1e6


class Broker:
    """A driver, as a broker uses it: calls that fail are made again, leases are taken back."""

    _grants = itertools.count(1)

    def __init__(self, url: str) -> None:
        self.driver: RedisDriver = open_redis(url)
        self._ready: dict[str, asyncio.Event] = {}
        self.failed = 0

    def jobs_ready(self, queue: str, count: int) -> None:
        self.event(queue).set()

    def jobs_coming(self, queue: str, count: int) -> None: ...

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        """Nobody waits for that."""

    def event(self, queue: str) -> asyncio.Event:
        return self._ready.setdefault(queue, asyncio.Event())

    async def persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """As a client does who gets UNAVAILABLE."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return await call()
            except StoreUnavailable:
                self.failed += 1
                assert time.monotonic() < deadline, "the cluster has not come back"
                await asyncio.sleep(0.05)

    async def push(self, queue: str, seen: Seen) -> None:
        for _ in range(0, JOBS, BATCH):
            batch = PushBatch(new_jobs(BATCH, queue), now())
            await self.persist(partial(self.driver.push, batch))
            seen.pushed |= {job.id: time.monotonic() for job in batch.jobs}

    async def work(self, queue: str, seen: Seen, pushed: "asyncio.Task[None]") -> None:
        """Until nothing is left of the queue; between jobs it waits to be told of new ones."""
        while True:
            self.event(queue).clear()
            grant = f"g{next(self._grants)}"
            request = ReserveRequest([queue], BATCH, LEASE, grant, now(), request_id=grant)
            leased = await self.persist(partial(self.driver.reserve, request))
            for each in leased:
                seen.grant(each)
            if leased:
                await self._ack(leased, seen)
            elif pushed.done() and not await self._left(queue):
                return
            else:
                waiting = asyncio.create_task(self.event(queue).wait())
                done, _ = await asyncio.wait(
                    {waiting, pushed}, timeout=10, return_when="FIRST_COMPLETED"
                )
                waiting.cancel()
                assert done or not await self._ready_now(queue), (
                    "nobody told of jobs that are ready"
                )

    async def _ack(self, leased: Sequence[Leased], seen: Seen) -> None:
        batch = AckBatch([AckItem(each.ref) for each in leased], now(), now() + WINDOW)
        outcomes = await self.persist(partial(self.driver.ack, batch))
        for each, outcome in zip(leased, outcomes, strict=True):
            if outcome.applied or outcome.before is Settlement.ACKED:
                seen.acked[each.ref.job_id] = time.monotonic()
            else:
                at, _ = seen.granted[each.ref.job_id][-1]
                seen.oddities.append((f"granted, and not held: {outcome.before}", at))

    async def _depth(self, queue: str) -> tuple[int, int]:
        counts = await self.persist(self.driver.counts)
        mine = [each.depth for each in counts if each.queue == queue]
        return sum(each.ready for each in mine), sum(each.leased for each in mine)

    async def _left(self, queue: str) -> bool:
        return any(await self._depth(queue))

    async def _ready_now(self, queue: str) -> bool:
        return (await self._depth(queue))[0] > 0

    async def upkeep(self) -> None:
        """What the core does with leases that ran out."""
        while True:
            try:
                found = await self.driver.expired_leases(now(), 100)
                if found:
                    items = [NackItem(lease.ref, Settlement.LOST) for lease in found]
                    await self.driver.nack(NackBatch(items, now(), now() + WINDOW))
            except StoreUnavailable:
                self.failed += 1
            await asyncio.sleep(0.2)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", ["replica keeps up", "replica is behind", "replica is waited for"])
async def test_p1_p2_p3_a_killed_master_loses_no_more_than_redis_does(
    cluster: RedisCluster, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = case == "replica is waited for"
    url = own_keys(cluster.url, wait_replicas=1) if waits else own_keys(cluster.url)
    brokers = [Broker(url), Broker(url)]
    for broker in brokers:
        await broker.driver.open(now(), broker)
    queues = [f"queue-{number}" for number in range(9)]
    keepers = {queue: _keeper(cluster, brokers[0], url, queue) for queue in queues}
    victim = keepers[queues[0]]
    assert len(set(keepers.values())) > 1, "the queues lie on one master"
    seen = {queue: Seen() for queue in queues}
    upkeep = [asyncio.create_task(broker.upkeep()) for broker in brokers]
    work = []
    for queue, (pusher, worker) in zip(
        queues, itertools.cycle([brokers, brokers[::-1]]), strict=False
    ):
        pushing = asyncio.create_task(pusher.push(queue, seen[queue]))
        work += [pushing, asyncio.create_task(worker.work(queue, seen[queue], pushing))]
    await _pushed(seen[queues[0]], CUT_AT)
    since = time.monotonic() - LAST_MOMENT
    if case == "replica keeps up":
        victim.kill()
    else:
        with _cut_off(cluster, victim):
            since = time.monotonic()
            await (_failed(brokers) if waits else _pushed(seen[queues[0]], KILL_AT))
            victim.kill()
    until_ = time.monotonic() + LAST_MOMENT
    if waits:
        # The new master has no replica until the former one comes back as such.
        await until(partial(_replaced, cluster, victim), "the replica is master")
        await asyncio.to_thread(victim.start)
    await asyncio.gather(*work)
    for task in upkeep:
        task.cancel()
    await asyncio.wait(upkeep)
    for broker in brokers:
        await broker.driver.close()
    untouched = [told for queue, told in seen.items() if keepers[queue] is not victim]
    touched = [told for queue, told in seen.items() if keepers[queue] is victim]
    _judge(untouched, touched, since, until_)
    if case == "replica is behind":
        assert any(told.odd() for told in touched), "nothing was lost: the test shows nothing"
    if waits:
        assert not any(told.odd() for told in touched)
    with capsys.disabled():
        sys.stdout.write(f"\n{case}: {_figures(seen, brokers)}\n")


async def _pushed(seen: Seen, count: int) -> None:
    async def so_many() -> bool:
        return len(seen.pushed) >= count

    await until(so_many, f"{count} jobs are pushed")


async def _failed(brokers: Sequence[Broker]) -> None:
    async def some() -> bool:
        return any(broker.failed for broker in brokers)

    await until(some, "a call fails")


async def _replaced(cluster: RedisCluster, victim: RedisServer) -> bool:
    masters = await asyncio.to_thread(cluster.masters)
    return len(masters) == 3 and victim not in masters


@contextmanager
def _cut_off(cluster: RedisCluster, master: RedisServer) -> Iterator[None]:
    """Its replica hears nothing more of it."""
    replica = next(
        node for node in cluster.nodes if node.info("replication").get("master_port") == master.port
    )
    replica.pause()
    try:
        master.execute("CLIENT", "KILL", "TYPE", "replica")
        yield
    finally:
        replica.resume()


def _keeper(cluster: RedisCluster, broker: Broker, url: str, queue: str) -> RedisServer:
    prefix = url.partition("prefix=")[2]
    return cluster.master_of(f"{prefix}:{{{broker.driver._partition(queue)}}}:")


def _judge(untouched: Sequence[Seen], touched: Sequence[Seen], since: float, until_: float) -> None:
    for told in (*untouched, *touched):
        assert len(told.pushed) == JOBS
        assert set(told.acked) <= set(told.pushed)
    for told in untouched:
        assert told.odd() == [], "of a master that was not killed"
    for told in touched:
        for what, at in told.odd():
            assert since < at < until_, f"{what}, at {at - since:+.3f} s"


def _figures(seen: dict[str, Seen], brokers: Sequence[Broker]) -> str:
    lost = sum(len(told.lost()) for told in seen.values())
    odd = Counter(what for told in seen.values() for what, _ in told.oddities)
    done = sum(len(told.acked) for told in seen.values())
    failed = sum(broker.failed for broker in brokers)
    return (
        f"{done} jobs done, {lost} pushes lost by Redis, {dict(odd) or 'nothing done twice'}; "
        f"{failed} calls were told UNAVAILABLE"
    )

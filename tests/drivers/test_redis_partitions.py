"""On a Cluster: what holds of calls that concern several partitions."""

import itertools
import secrets
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from tests.support.servers.redis_cluster import RedisCluster
from towline_broker.domain.errors import QueueFull, QueueMoved
from towline_broker.domain.jobs import JobRecord, JobState
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import (
    CancelOutcome,
    CancelRequest,
    DeadQuery,
    DeadSelection,
    Handled,
    PushBatch,
    PushOutcome,
    ReserveRequest,
    Standing,
)
from towline_broker.drivers.redis import RedisDriver, open_redis
from towline_broker.testing import new_job

NOW = 1_700_000_000 * SECOND
ALL = 1_000_000
#: In as many partitions.
QUEUES = ("a", "b", "c")

_RUN = secrets.token_hex(4)
_stores = itertools.count(1)


class Deaf:
    """A listener."""

    def jobs_ready(self, queue: str, count: int) -> None: ...

    def jobs_coming(self, queue: str, count: int) -> None: ...

    def jobs_ended(self, job_ids: Sequence[str]) -> None: ...


@pytest_asyncio.fixture
async def driver(redis_cluster: RedisCluster) -> AsyncIterator[RedisDriver]:
    driver = open_redis(f"{redis_cluster.url}?prefix=partitions-{_RUN}-{next(_stores)}")
    await driver.open(NOW, Deaf())
    assert len({driver._partition(queue) for queue in QUEUES}) == len(QUEUES)
    yield driver
    await driver.close()


async def stored(driver: RedisDriver) -> dict[str, int]:
    counts = await driver.counts()
    return {queue: sum(one.depth.live for one in counts if one.queue == queue) for queue in QUEUES}


async def all_dead(driver: RedisDriver, limit: int) -> list[JobRecord]:
    records: list[JobRecord] = []
    cursor = None
    while True:
        page = await driver.list_dead(DeadQuery(limit, cursor=cursor))
        records += page.records
        cursor = page.next_cursor
        if cursor is None:
            return records


async def test_p9_a_batch_over_partitions_is_refused_before_anything_is_stored(
    driver: RedisDriver,
) -> None:
    batch = [new_job(queue) for _ in range(3) for queue in QUEUES]
    with pytest.raises(QueueFull):
        await driver.push(PushBatch(batch, NOW, max_depth={"c": 2}))
    assert await driver.queues() == []
    results = await driver.push(PushBatch(batch, NOW, max_depth={"c": 3}))
    assert [result.job_id for result in results] == [job.id for job in batch]
    await driver.drop("b", [Standing(job.id, JobState.READY, 0) for job in batch])
    await driver.seal("b", "elsewhere")
    assert await driver.forward("b")
    for all_or_nothing in (True, False):
        again = [new_job(queue) for queue in QUEUES]
        with pytest.raises(QueueMoved):
            await driver.push(PushBatch(again, NOW, all_or_nothing))
    assert await stored(driver) == {"a": 3, "b": 0, "c": 3}


async def test_p3_a_push_over_partitions_of_which_a_part_is_stored_can_be_repeated(
    driver: RedisDriver,
) -> None:
    batch = [new_job(queue) for _ in range(3) for queue in QUEUES]
    await driver.push(PushBatch([job for job in batch if job.queue == "b"], NOW))
    results = await driver.push(PushBatch(batch, NOW))
    for job, result in zip(batch, results, strict=True):
        expected = PushOutcome.EXISTING if job.queue == "b" else PushOutcome.CREATED
        assert result.outcome is expected
    assert await stored(driver) == {"a": 3, "b": 3, "c": 3}


async def test_p3_a_reserve_over_partitions_that_is_repeated_gets_the_same_leases(
    driver: RedisDriver,
) -> None:
    await driver.push(PushBatch([new_job(queue) for _ in range(2) for queue in QUEUES], NOW))

    def request(max_jobs: int) -> ReserveRequest:
        grant = secrets.token_hex(4)
        # Two partitions are come back to.
        queues = ["a", "b", "nowhere", "c", "a"]
        return ReserveRequest(queues, max_jobs, HOUR, grant, NOW, "worker", "worker r1")

    first = await driver.reserve(request(5))
    assert [leased.ref.queue for leased in first] == ["a", "a", "b", "b", "c"]
    again = await driver.reserve(request(6))
    assert {leased.ref for leased in again} == {leased.ref for leased in first}
    assert (await stored(driver)) == {"a": 2, "b": 2, "c": 2}


async def test_a_job_is_found_by_its_id_wherever_it_is(driver: RedisDriver) -> None:
    jobs = [new_job(queue) for queue in QUEUES]
    await driver.push(PushBatch(jobs, NOW))
    for job in jobs:
        record = await driver.get(job.id)
        assert record is not None
        assert record.queue == job.queue
    outcomes = await driver.cancel(
        CancelRequest([jobs[2].id, "unknown", jobs[0].id], NOW, NOW + HOUR)
    )
    assert outcomes == [
        CancelOutcome.CANCELLED,
        CancelOutcome.NOT_FOUND,
        CancelOutcome.CANCELLED,
    ]


async def test_p7_dead_jobs_of_many_types_are_listed_once_and_in_order(
    driver: RedisDriver,
) -> None:
    """With so many types that one look at a partition does not tell all that was asked for."""
    early = [new_job("a", type=f"T{at % 30}", expires_at=NOW + at) for at in range(900)]
    late = [new_job("b", expires_at=NOW + 900 + at) for at in range(600)]
    await driver.push(PushBatch(early, NOW))
    await driver.push(PushBatch(late, NOW))
    for now in range(NOW, NOW + 1500, 100):
        await driver.expire(now + 100, ALL)
    died = [NOW + max(100, -(-at // 100) * 100) for at in range(1500)]
    for limit in (1000, 130):
        dead = await all_dead(driver, limit)
        assert len({record.id for record in dead}) == len(early) + len(late)
        assert [record.finished_at for record in dead] == died
    handled = await driver.requeue_dead(DeadSelection(1000, NOW + HOUR))
    assert handled == Handled(1500, 1000)
    left = await all_dead(driver, 1000)
    assert [record.finished_at for record in left] == died[1000:]

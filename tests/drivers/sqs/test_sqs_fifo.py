"""FIFO queues: SQS itself drops a repeated push, whoever sends it."""

from typing import Any

import pytest

from tests.support.sqs_server import SqsServer
from tests.support.sqs_store import SqsHarness, SqsStore
from towline_broker.domain.errors import NotSupported
from towline_broker.domain.time import SECOND
from towline_broker.drivers.interface import DeadFilter, DeadSelection, Handled
from towline_broker.testing import new_job, new_jobs


@pytest.fixture
def url(sqs: SqsServer) -> str:
    return sqs.new_url(fifo="true")


async def test_p3_a_push_repeated_after_a_restart_stores_the_job_once(store: SqsStore) -> None:
    jobs = new_jobs(12)
    await store.push(*jobs)
    await store.reopen()
    await store.push(*jobs)
    assert sorted(await store.reserve_ids()) == sorted(job.id for job in jobs)


async def test_p3_a_push_repeated_at_another_broker_stores_the_job_once(
    store: SqsStore, url: str
) -> None:
    other = SqsStore(SqsHarness(url))
    await other.open()
    try:
        await store.push(job := new_job())
        await other.push(job)
        assert await store.reserve_ids() == [job.id]
        assert await other.reserve_ids() == []
    finally:
        await other.close()


async def test_jobs_of_one_queue_are_leased_side_by_side(store: SqsStore) -> None:
    await store.create(*new_jobs(12))
    leased = await store.reserve(max_jobs=5)
    assert len(leased) == 5
    assert len(await store.reserve_ids()) == 7


async def test_p5_p7_retries_deaths_and_requeues_are_not_dropped_as_repeats(
    store: SqsStore, sent: list[Any]
) -> None:
    await store.create(new_job())
    for attempt in (1, 2):
        leased = await store.reserve_one()
        assert leased.attempt == attempt
        await store.retry(leased.ref)
    selection = DeadSelection(10, store.now, filter=DeadFilter(queue="q"))
    for _ in range(2):
        await store.bury((await store.reserve_one()).ref)
        assert await store.driver.requeue_dead(selection) == Handled(1, 1)
        store.advance(SECOND)
    leased = await store.reserve_one()
    assert leased.attempt == 1
    assert (await store.ack(leased.ref))[0].applied
    # moto drops only what is still in the queue; SQS drops whatever has the same name.
    names = [
        (arguments["QueueUrl"], entry["MessageDeduplicationId"])
        for operation, arguments in sent
        if operation == "send_message_batch"
        for entry in arguments["Entries"]
    ]
    assert len(names) == len(set(names)) == 5


async def test_no_job_is_delayed(store: SqsStore) -> None:
    assert store.driver.capabilities.max_delay == 0
    with pytest.raises(NotSupported):
        await store.push(new_job(due_at=store.now + SECOND))


async def test_the_two_kinds_of_queues_do_not_meet(store: SqsStore, url: str) -> None:
    await store.create(new_job())
    standard = SqsStore(SqsHarness(url.replace("&fifo=true", "")))
    await standard.open()
    try:
        assert await standard.driver.queues() == []
    finally:
        await standard.close()

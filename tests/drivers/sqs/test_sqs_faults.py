"""Calls that fail in the middle, servers that are away, credentials that are wrong."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.sqs_server import SqsServer
from tests.support.sqs_store import SqsHarness, SqsStore
from towline_broker.domain.errors import QueueNotFound, StoreRefused, StoreUnavailable
from towline_broker.domain.jobs import Settlement
from towline_broker.drivers.interface import DeadFilter, DeadSelection, PushOutcome, Settled
from towline_broker.drivers.sqs import connection
from towline_broker.drivers.sqs.connection import Connection
from towline_broker.testing import new_job, new_jobs

Break = Callable[..., None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Makes calls of one operation fail from the so-manieth on, before or after they were done."""
    real = Connection._call

    def break_off(operation: str, *, after: int = 0, done: bool = False) -> None:
        count = 0

        async def call(
            self: Connection, client: Any, name: str, arguments: dict[str, Any]
        ) -> dict[str, Any]:
            nonlocal count
            if name == operation:
                count += 1
                if count > after:
                    if done:
                        await real(self, client, name, arguments)
                    raise StoreUnavailable("cut off by the test")
            return await real(self, client, name, arguments)

        monkeypatch.setattr(Connection, "_call", call)

    return break_off


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    real = Connection._call
    return lambda: monkeypatch.setattr(Connection, "_call", real)


async def test_p9_a_push_cut_off_in_the_middle_is_completed_by_its_repeat(
    store: SqsStore, broken: Break, mended: Callable[[], None]
) -> None:
    jobs = new_jobs(25)
    broken("send_message_batch", after=1)
    with pytest.raises(StoreUnavailable, match="not confirmed 15 of 25 jobs; push all of them"):
        await store.push(*jobs)
    assert store.heard.take() == ({"q": 10}, [])
    mended()
    outcomes = [result.outcome for result in await store.push(*jobs)]
    assert outcomes.count(PushOutcome.EXISTING) == 10
    assert outcomes.count(PushOutcome.CREATED) == 15
    assert sorted(await store.reserve_ids()) == sorted(job.id for job in jobs)


async def test_p3_an_ack_whose_answer_was_lost_is_answered_by_its_repeat(
    store: SqsStore, broken: Break, mended: Callable[[], None]
) -> None:
    await store.create(*new_jobs(12))
    refs = [leased.ref for leased in await store.reserve(max_jobs=12)]
    broken("delete_message_batch", after=1, done=True)
    with pytest.raises(StoreUnavailable, match="not confirmed the end of 2 leases"):
        await store.ack(*refs)
    assert (await store.counts()).totals.completed == 10
    mended()
    settled = await store.ack(*refs)
    assert settled[:10] == [Settled(False, before=Settlement.ACKED)] * 10
    assert [item.applied for item in settled[10:]] == [True, True]
    assert (await store.counts()).totals.completed == 12
    assert (await store.counts()).depth.leased == 0


async def test_p7_a_death_cut_off_in_the_middle_is_completed_and_leaves_one_dead_job(
    store: SqsStore, broken: Break, mended: Callable[[], None]
) -> None:
    await store.create(new_job())
    leased = await store.reserve_one()
    broken("delete_message_batch")
    with pytest.raises(StoreUnavailable):
        await store.bury(leased.ref)
    mended()
    assert (await store.bury(leased.ref)).applied
    counts = await store.counts()
    assert (counts.depth.dead, counts.depth.leased, counts.totals.dead_lettered) == (1, 0, 1)


async def test_p7_a_job_that_could_not_be_buried_keeps_its_lease(
    store: SqsStore, broken: Break, mended: Callable[[], None]
) -> None:
    await store.create(new_job())
    leased = await store.reserve_one()
    broken("send_message_batch")
    with pytest.raises(StoreUnavailable):
        await store.bury(leased.ref)
    mended()
    assert (await store.ack(leased.ref))[0].applied
    assert (await store.counts()).depth.dead == 0


async def test_p9_what_was_received_is_leased_though_a_further_call_failed(
    store: SqsStore, broken: Break
) -> None:
    await store.create(*new_jobs(15))
    broken("receive_message", after=1)
    assert len(await store.reserve(max_jobs=15)) == 10
    with pytest.raises(StoreUnavailable):
        await store.reserve()


async def test_p9_dead_jobs_that_could_not_be_sent_back_stay_dead(
    store: SqsStore, broken: Break, mended: Callable[[], None]
) -> None:
    await store.make_dead(*new_jobs(3))
    selection = DeadSelection(10, store.now, filter=DeadFilter(queue="q"))
    broken("send_message_batch")
    with pytest.raises(StoreUnavailable, match="back among the dead within a minute"):
        await store.driver.requeue_dead(selection)
    mended()
    assert await store.driver.count_dead(selection) == 3


async def test_an_extension_without_an_answer_changes_nothing(
    store: SqsStore, broken: Break
) -> None:
    await store.create(new_job())
    leased = await store.reserve_one()
    broken("change_message_visibility_batch")
    with pytest.raises(StoreUnavailable):
        await store.extend(leased.ref)
    (record,) = await store.driver.leases([leased.ref])
    assert record is not None
    assert record.lease_until == leased.lease_until


def unused_endpoint() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return "http://{}:{}".format(*held.getsockname())


async def test_a_server_that_is_away_is_told_soon(sqs: SqsServer) -> None:
    store = SqsStore(SqsHarness(f"sqs:///?region=eu-west-1&endpoint={unused_endpoint()}"))
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="list_queues failed: EndpointConnectionError"):
        await store.open()
    assert time.monotonic() - began < 10
    await store.close()


async def test_a_server_that_hangs_is_told_soon(
    sqs: SqsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "READ_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = "http://{}:{}".format(*silent.getsockname())
        store = SqsStore(SqsHarness(f"sqs:///?region=eu-west-1&endpoint={endpoint}"))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="list_queues failed: ReadTimeoutError"):
            await store.open()
        assert time.monotonic() - began < 10
        await store.close()


async def test_without_credentials_the_store_is_refused_with_the_way_out(
    sqs: SqsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store = SqsStore(SqsHarness(sqs.new_url()))
    with pytest.raises(StoreRefused, match="no AWS credentials were found; set AWS_ACCESS_KEY_ID"):
        await store.open()
    await store.close()


async def test_without_a_region_the_store_is_refused_with_the_way_out(
    sqs: SqsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    store = SqsStore(SqsHarness(sqs.new_url()))
    with pytest.raises(StoreRefused, match="no region is set; write sqs:///"):
        await store.open()
    await store.close()


async def test_a_queue_that_was_deleted_is_made_again(store: SqsStore, sqs: SqsServer) -> None:
    await store.create(new_job())
    client = sqs.client()
    try:
        prefix = store.driver._queues._options.prefix  # type: ignore[attr-defined]
        (url,) = client.list_queues(QueueNamePrefix=prefix)["QueueUrls"]
        client.delete_queue(QueueUrl=url)
    finally:
        client.close()
    assert await store.reserve() == []
    with pytest.raises(QueueNotFound):
        await store.purge()
    with pytest.raises(QueueNotFound):
        await store.driver.set_paused("q", True)
    await store.create(job := new_job())
    assert await store.reserve_ids() == [job.id]


async def test_after_closing_every_call_is_told_so(store: SqsStore) -> None:
    await store.create(new_job())
    await asyncio.gather(store.reserve(), store.close(), return_exceptions=True)
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.reserve()

"""Every error as its client sees it: code, reason and details; and nothing of the broker inside."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.support.calls import Calls, WireFailure, calls_to, failure_of, seconds
from tests.support.faulty_driver import FaultyDriver
from tests.support.waiting import until
from towline.ids import uuid7
from towline.v1.admin_service_pb2 import (
    PauseQueueRequest,
    PurgeQueueRequest,
    ResumeQueueRequest,
    StatsRequest,
    StopWorkerRequest,
)
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    GetJobRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline_broker.domain.errors import NoRoom, StoreFull, StoreUnavailable
from towline_broker.server.configuration.settings import CoreOptions, Settings
from towline_broker.server.serving import BrokerServer, running_broker

SECRET = "hunter2"


@pytest.fixture
def driver() -> FaultyDriver:
    return FaultyDriver()


@pytest.fixture
async def faulty(driver: FaultyDriver) -> AsyncIterator[BrokerServer]:
    core = CoreOptions(max_queue_depth=1, max_waiters=1)
    settings = Settings(store="memory:", listen="127.0.0.1:0", core=core)
    async with running_broker(settings, driver=driver.driver) as server:
        yield server


@pytest.fixture
async def calls(faulty: BrokerServer) -> AsyncIterator[Calls]:
    async with calls_to(str(faulty.address)) as calls:
        yield calls


def push(calls: Calls, *queues: str) -> Any:
    return calls.queue.Push(PushRequest(jobs=[Job(type="T", queue=queue) for queue in queues]))


def reserve(calls: Calls, queue: str = "q", wait: float = 0) -> Any:
    queues = [QueueChoice(name=queue)]
    return calls.queue.Reserve(ReserveRequest(queues=queues, wait=seconds(wait)))


async def test_what_is_not_there_is_not_found_with_its_reason(calls: Calls) -> None:
    missing = {
        "JOB_NOT_FOUND": calls.queue.GetJob(GetJobRequest(id=uuid7())),
        "WORKER_NOT_FOUND": calls.admin.StopWorker(StopWorkerRequest(worker_id="w")),
    }
    for request in (PauseQueueRequest(queue="q"), ResumeQueueRequest(queue="q")):
        method = getattr(calls.admin, request.DESCRIPTOR.name.removesuffix("Request"))
        missing |= {"QUEUE_NOT_FOUND": method(request)}
        for reason, call in missing.items():
            failure = await failure_of(call)
            assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, reason)
        missing = {}
    for purge in (PurgeQueueRequest(queue="q"), PurgeQueueRequest(queue="q", dry_run=True)):
        assert (await failure_of(calls.admin.PurgeQueue(purge))).reason == "QUEUE_NOT_FOUND"
    stats = await failure_of(calls.admin.Stats(StatsRequest(queues=["q"])))
    assert stats.reason == "QUEUE_NOT_FOUND"


def assert_full(failure: WireFailure, reason: str, subject: str) -> None:
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.reason == reason
    assert failure.subjects == [subject]
    assert failure.retry_after >= 1


async def test_a_full_queue_is_named_and_nothing_of_the_batch_is_stored(calls: Calls) -> None:
    assert_full(await failure_of(push(calls, "a", "b", "b")), "QUEUE_FULL", "queue:b")
    reply = await calls.admin.Stats(StatsRequest())
    assert reply.total.totals.pushed == 0


@pytest.mark.parametrize(("subject", "reason"), [("disk", "DISK_FULL"), ("memory", "MEMORY_FULL")])
async def test_a_full_store_refuses_a_push_and_still_takes_an_ack(
    subject: str, reason: str, calls: Calls, driver: FaultyDriver
) -> None:
    await push(calls, "q")
    lease = (await reserve(calls)).leases[0]
    driver.errors["push"] = StoreFull(subject, f"the {subject} is full")
    assert_full(await failure_of(push(calls, "q")), reason, subject)
    reply = await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=lease.lease_token)]))
    assert reply.results[0].outcome == 1


async def test_a_memory_store_over_its_limit_says_so() -> None:
    settings = Settings(store="memory:?max_bytes=20000", listen="127.0.0.1:0")
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        big = PushRequest(jobs=[Job(type="T", payload=b"x" * 15_000)])
        await calls.queue.Push(big)
        assert_full(await failure_of(calls.queue.Push(big)), "MEMORY_FULL", "memory")


async def test_a_queue_too_many_is_refused_with_the_way_out() -> None:
    core = CoreOptions(max_queues=1)
    settings = Settings(store="memory:", listen="127.0.0.1:0", core=core)
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        await push(calls, "a")
        failure = await failure_of(push(calls, "a", "b"))
        assert_full(failure, "TOO_MANY_QUEUES", "queues")
        assert "core.max_queues" in failure.message
        jobs = [Job(id=uuid7(), type="T", queue=queue) for queue in ("b", "a")]
        reply = await calls.queue.Push(PushRequest(jobs=jobs, allow_partial=True))
        refused, stored = reply.results
        assert (refused.outcome, stored.outcome) == (3, 1)
        assert (refused.error.reason, refused.job_id) == ("TOO_MANY_QUEUES", jobs[0].id)
        assert refused.error.retry_after.seconds == 60


async def test_too_many_waiting_calls_are_refused(calls: Calls) -> None:
    parked = asyncio.ensure_future(reserve(calls, wait=30))
    job_id = (await push(calls, "other")).results[0].job_id

    async def refused() -> bool:
        call = calls.queue.GetJob(GetJobRequest(id=job_id, wait=seconds(0.01)))
        try:
            await call
        except grpc.aio.AioRpcError as error:
            assert_full(WireFailure(error), "TOO_MANY_WAITERS", "waiters")
            return True
        return False

    await until(refused, "a second waiter is refused")
    # Room for one who does not wait, and again for one who does once the first has gone.
    await reserve(calls, "other")
    await push(calls, "q")
    assert len((await parked).leases) == 1
    await reserve(calls, "none", wait=0.01)


async def test_a_store_that_is_down_is_unavailable_for_now(
    calls: Calls, driver: FaultyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.errors["push"] = StoreUnavailable("postgresql://me@db.test/jobs cannot be reached")
    failure = await failure_of(push(calls, "q"))
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.reason == "STORE_UNAVAILABLE"
    # Who pushes need not know where the store is; who runs the broker does.
    assert "db.test" not in failure.message
    assert "/Push: postgresql://me@db.test/jobs cannot be reached" in caplog.text
    assert failure.retry_after == 1
    assert failure.metadata["grpc-retry-pushback-ms"] == "1000"
    del driver.errors["push"]
    await push(calls, "q")


async def test_a_disk_without_room_for_anything_is_named_and_tried_again(
    calls: Calls, driver: FaultyDriver
) -> None:
    await push(calls, "q")
    driver.errors["purge"] = NoRoom("the disk is full: nothing was changed")
    failure = await failure_of(calls.admin.PurgeQueue(PurgeQueueRequest(queue="q")))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DISK_FULL")
    assert failure.retry_after == 1


async def test_a_draining_broker_refuses_new_work_and_still_settles(
    calls: Calls, faulty: BrokerServer
) -> None:
    await push(calls, "q")
    lease = (await reserve(calls)).leases[0]
    faulty.broker.drain()
    for call in (push(calls, "q"), reserve(calls)):
        failure = await failure_of(call)
        assert failure.code is grpc.StatusCode.UNAVAILABLE
        assert failure.reason == "DRAINING"
        assert failure.retry_after == 1
    reply = await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=lease.lease_token)]))
    assert reply.results[0].outcome == 1


async def test_a_defect_tells_its_client_a_reference_and_the_log_the_rest(
    calls: Calls, driver: FaultyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.errors["push"] = RuntimeError(SECRET)
    with caplog.at_level(logging.ERROR, "towline"):
        failure = await failure_of(push(calls, "q"))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.reason == "INTERNAL"
    everything = failure.message.encode() + b"".join(failure.details.values())
    assert SECRET.encode() not in everything
    assert b"RuntimeError" not in everything
    reference = failure.message.rsplit(" ", 1)[1]
    assert len(reference) == 12
    (record,) = [record for record in caplog.records if reference in record.getMessage()]
    assert record.exc_info is not None
    assert SECRET in str(record.exc_info[1])


async def test_every_call_survives_a_defect_below_it(calls: Calls, driver: FaultyDriver) -> None:
    driver.errors["reserve"] = RuntimeError(SECRET)
    failure = await failure_of(reserve(calls))
    assert failure.code is grpc.StatusCode.INTERNAL
    del driver.errors["reserve"]
    assert list((await reserve(calls)).leases) == []


async def test_an_unknown_method_is_unimplemented(calls: Calls) -> None:
    call: Any = calls.channel.unary_unary("/towline.v1.QueueService/Nonsense")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["Push", "Reserve"])
@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\x04\x0a\x02\xff\xfe"])
async def test_bytes_that_are_no_message_are_refused_as_any_bad_input(
    raw: bytes, method: str, calls: Calls
) -> None:
    call: Any = calls.channel.unary_unary(f"/towline.v1.QueueService/{method}")
    failure = await failure_of(call(raw))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(failure.violations) == [""]
    assert failure.message == "the bytes of the request are no message of this method"
    await push(calls, "q")

"""A Reserve is answered in time, and leases that do not reach their worker go back at once (P9)."""

import asyncio
import subprocess
import sys
import time
from signal import SIGKILL, SIGSTOP
from typing import Any

import pytest

from tests.support.calls import Calls, answered, calls_to, seconds
from tests.support.faulty_driver import FaultyDriver
from tests.support.waiting import until
from towline.v1.admin_service_pb2 import Depth, ListWorkersRequest, StatsRequest, Totals
from towline.v1.job_pb2 import Failure, Job
from towline.v1.queue_service_pb2 import (
    ListJobsRequest,
    Nack,
    NackRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline_broker.server.configuration.settings import LimitSettings, Settings
from towline_broker.server.serving import running_broker
from towline_broker.services.limits import KIB, MIB

Q = [QueueChoice(name="q")]


async def push(calls: Calls, number: int = 1, payload: bytes = b"") -> None:
    jobs = [Job(type="T", queue="q", payload=payload)] * number
    await calls.queue.Push(PushRequest(jobs=jobs))


async def depth(calls: Calls) -> Depth:
    reply = await calls.admin.Stats(StatsRequest())
    found: Depth = reply.total.depth
    return found


async def totals(calls: Calls) -> Totals:
    reply = await calls.admin.Stats(StatsRequest())
    found: Totals = reply.total.totals
    return found


def reserve(calls: Calls, wait: float = 30, timeout: float | None = None, **fields: Any) -> Any:
    fields = {"queues": Q, "lease": seconds(3600), **fields}
    return calls.queue.Reserve(ReserveRequest(wait=seconds(wait), **fields), timeout=timeout)


async def test_a_parked_reserve_is_answered_before_its_own_deadline(calls: Calls) -> None:
    start = time.monotonic()
    reply = await answered(lambda: reserve(calls, wait=30, timeout=1.0))
    assert list(reply.leases) == []
    assert time.monotonic() - start > 0.3


async def test_a_reserve_with_hardly_any_time_is_answered_at_once(calls: Calls) -> None:
    async def brings(job: bool) -> int:
        if job:
            await push(calls)
        return len((await reserve(calls, wait=30, timeout=0.2)).leases)

    assert await answered(lambda: brings(job=False)) == 0
    assert await answered(lambda: brings(job=True)) == 1


async def test_a_reserve_without_deadline_waits_as_long_as_it_was_asked_to(calls: Calls) -> None:
    start = time.monotonic()
    assert list((await reserve(calls, wait=0.3)).leases) == []
    assert time.monotonic() - start >= 0.3


async def test_a_job_wakes_a_parked_reserve_at_once(calls: Calls) -> None:
    parked = asyncio.ensure_future(reserve(calls, worker_id="w"))
    await until(lambda: listed(calls, "w"), "the call is parked")
    start = time.monotonic()
    await push(calls)
    assert len((await parked).leases) == 1
    assert time.monotonic() - start < 10


async def listed(calls: Calls, worker_id: str) -> bool:
    reply = await calls.admin.ListWorkers(ListWorkersRequest())
    return worker_id in [worker.worker_id for worker in reply.workers]


async def test_a_caller_that_goes_while_parked_takes_no_job(calls: Calls) -> None:
    parked = reserve(calls, worker_id="w")
    await until(lambda: listed(calls, "w"), "the call is parked")
    parked.cancel()
    await push(calls)
    assert len((await reserve(calls)).leases) == 1


async def test_a_caller_that_goes_while_its_leases_are_granted_leaves_them_ready() -> None:
    driver = FaultyDriver()
    async with running_broker(driver=driver.driver) as server, calls_to(str(server.address)) as c:
        await push(c, 3)
        driver.hold("reserve")
        claiming = reserve(c, max_jobs=3)
        await driver.reached["reserve"].wait()
        claiming.cancel()
        # The broker hears of the cancelled call before it hears of the next one.
        await depth(c)
        driver.let_go("reserve")

        async def back() -> bool:
            now = await depth(c)
            return (now.ready, now.leased) == (3, 0)

        await until(back, "the leases are back")
        assert (await totals(c)).released == 3
        leases = (await reserve(c, max_jobs=3)).leases
        assert [lease.attempt for lease in leases] == [1, 1, 1]


#: Waits for jobs with a call that never gets to read its answer.
WORKER = """
import sys, grpc
from towline.v1.queue_service_pb2 import QueueChoice, ReserveRequest
from towline.v1.queue_service_pb2_grpc import QueueServiceStub
request = ReserveRequest(
    queues=[QueueChoice(name="q")], max_jobs=100, worker_id="w", request_id=sys.argv[2])
request.wait.FromSeconds(60)
request.lease.FromSeconds(3600)
options = [("grpc.max_receive_message_length", -1)]
with grpc.insecure_channel(sys.argv[1], options=options) as channel:
    QueueServiceStub(channel).Reserve(request)
"""


def start_worker(address: str, request_id: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WORKER, address, request_id])


@pytest.mark.parametrize("request_id", ["", "r"])
async def test_a_worker_that_dies_before_its_answer_went_out_leaves_its_leases_ready(
    request_id: str, calls: Calls
) -> None:
    worker = start_worker(calls.address, request_id)
    try:
        await until(lambda: listed(calls, "w"), "the worker is parked")
        worker.send_signal(SIGSTOP)
        # More than fits on the way to somebody who does not read.
        await push(calls, 50, b"x" * MIB)

        async def all_leased() -> bool:
            return (await depth(calls)).leased == 50

        await until(all_leased, "the jobs are leased")
        worker.send_signal(SIGKILL)

        async def all_back() -> bool:
            return (await depth(calls)).ready == 50

        await until(all_back, "the leases are back")
        assert (await totals(calls)).released == 50
    finally:
        worker.kill()
        worker.wait()


async def test_a_reply_brings_no_more_jobs_than_fit_into_a_message() -> None:
    limits = LimitSettings.model_validate({"message_bytes": "3 MiB"})
    settings = Settings(store="memory:", listen="127.0.0.1:0", limits=limits)
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        for _ in range(3):
            await push(calls, 2, b"x" * MIB)
        pushed = [job.job.id for job in (await calls.queue.ListJobs(ListJobsRequest())).jobs]
        for place in (0, 2, 4):
            reply = await reserve(calls, max_jobs=6)
            assert [lease.job.id for lease in reply.leases] == pushed[place : place + 2]
        # The others stood where they were all the time.
        assert (await totals(calls)).released == 0


async def test_a_reply_that_failures_make_too_large_gives_the_rest_back() -> None:
    limits = LimitSettings.model_validate({"message_bytes": "3 MiB"})
    settings = Settings(store="memory:", listen="127.0.0.1:0", limits=limits)
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        await push(calls, 100, b"x")
        leases = (await reserve(calls, max_jobs=100)).leases
        failure = Failure(type="E", trace="t" * 32 * KIB)
        for lease in leases:
            nack = Nack(lease_token=lease.lease_token, failure=failure, retry_after=seconds(0))
            await calls.queue.Nack(NackRequest(nacks=[nack]))
        fitting = len((await reserve(calls, max_jobs=100)).leases)
        assert 90 < fitting < 100

        async def rest_is_ready() -> bool:
            now = await depth(calls)
            return (now.leased, now.ready) == (fitting, 100 - fitting)

        await until(rest_is_ready, "the rest is ready")


async def test_a_repeated_reserve_brings_the_same_leases(calls: Calls) -> None:
    await push(calls, 3)
    first = await reserve(calls, max_jobs=2, request_id="r", worker_id="w")
    second = await reserve(calls, max_jobs=2, request_id="r", worker_id="w")
    tokens = [lease.lease_token for lease in first.leases]
    assert len(tokens) == 2
    assert [lease.lease_token for lease in second.leases] == tokens
    assert (await depth(calls)).ready == 1

"""P11: offered more than it can take, a broker refuses Pushes unread and goes on with all else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tests.support.calls import Calls, calls_to, failure_of
from tests.support.faulty_driver import SlowDriver
from tests.support.waiting import until
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    PushRequest,
    PushResponse,
    QueueChoice,
    ReserveRequest,
)
from towline_broker.core import joining
from towline_broker.domain.errors import QueueFull
from towline_broker.interceptors import full_queues, pacing
from towline_broker.interceptors.full_queues import FullQueues, first_queue
from towline_broker.server.configuration.settings import CoreOptions, Settings
from towline_broker.server.serving import running_broker

FULL = QueueFull("q", 5)


def push(*queues: str) -> bytes:
    jobs = [Job(id="0190a000-0000-7000-8000-000000000000", type="T", queue=q) for q in queues]
    return PushRequest(jobs=jobs).SerializeToString()


class Moments:
    """Lets time pass for who remembers full queues."""

    def __init__(self) -> None:
        self._now = 100.0

    def now(self) -> float:
        return self._now

    def __call__(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def moments() -> Moments:
    return Moments()


@pytest.mark.parametrize(
    ("raw", "queue"),
    [
        (push("q"), "q"),
        (push("r", "q"), "r"),
        (push(""), ""),
        (push(), ""),
        (b"", ""),
        (push("q")[:30], ""),
        (b"\x0a\x7f" + push("q"), ""),
        (b"\x0a\x03\x12\x01\xff", ""),
        (b"\xff" * 20, ""),
    ],
)
def test_the_queue_of_a_push_is_found_unread(raw: bytes, queue: str) -> None:
    assert first_queue(raw) == queue


def test_a_full_queue_is_looked_at_by_one_push_at_a_time(moments: Moments) -> None:
    queues = FullQueues("default", moments.now)
    queues.found(push("q"), FULL, again=False)
    with pytest.raises(QueueFull):
        queues.check(push("q"))
    assert not queues.check(push("r", "q"))
    moments(full_queues.FIRST_PAUSE)
    assert queues.check(push("q"))
    with pytest.raises(QueueFull):
        queues.check(push("q"))


def finds_out(queues: FullQueues, moments: Moments) -> int:
    """How long it takes, in hundredths of a second, until a Push is to find out."""
    for hundredths in range(100):
        try:
            assert queues.check(push("q"))
        except QueueFull:
            moments(0.01)
        else:
            return hundredths
    raise AssertionError("none ever is")


def test_a_queue_that_stays_full_is_looked_at_seldom(moments: Moments) -> None:
    queues = FullQueues("default", moments.now)
    queues.found(push("q"), FULL, again=False)
    waits = []
    for _ in range(8):
        waits.append(finds_out(queues, moments))
        queues.found(push("q"), FULL, again=True)
    assert waits == sorted(waits)
    assert waits[0] <= 100 * full_queues.FIRST_PAUSE + 1
    assert 100 * full_queues.MOST_PAUSE <= waits[-1] <= 100 * full_queues.MOST_PAUSE + 1


def test_pushes_that_were_under_way_say_nothing_new(moments: Moments) -> None:
    queues = FullQueues("default", moments.now)
    for _ in range(20):
        queues.found(push("q"), FULL, again=False)
    assert finds_out(queues, moments) <= 100 * full_queues.FIRST_PAUSE + 1


def test_a_queue_with_room_again_counts_as_full_no_more_within_three_seconds(
    moments: Moments,
) -> None:
    queues = FullQueues("default", moments.now)
    queues.found(push("q"), FULL, again=False)
    for _ in range(8):
        finds_out(queues, moments)
        queues.found(push("q"), FULL, again=True)
    for _ in range(300):
        try:
            if not queues.check(push("q")):
                return
        except QueueFull:
            moments(0.01)
        else:
            queues.accepted(push("q"))
    raise AssertionError("it still counts as full")


def test_a_queue_that_has_no_room_for_many_jobs_may_have_some_for_few() -> None:
    queues = FullQueues("default")
    queues.found(push("q", "q", "q"), FULL, again=False)
    assert not queues.check(push("q", "q"))
    queues.accepted(push("q", "q"))
    with pytest.raises(QueueFull):
        queues.check(push("q", "q", "q"))
    queues.found(push("q", "q"), FULL, again=False)
    assert not queues.check(push("q"))
    with pytest.raises(QueueFull):
        queues.check(push("q", "q"))


def test_a_job_without_a_queue_is_one_of_the_default_queue() -> None:
    queues = FullQueues("q")
    queues.found(push(""), FULL, again=False)
    with pytest.raises(QueueFull):
        queues.check(push(""))


def test_few_full_queues_are_kept_in_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_queues, "MOST", 2)
    queues = FullQueues("default")
    for name in "abc":
        queues.found(push(name), QueueFull(name, 5), again=False)
    assert not queues.check(push("a"))
    with pytest.raises(QueueFull):
        queues.check(push("c"))


@pytest.fixture
async def calls() -> AsyncIterator[Calls]:
    """To a broker whose queues hold five jobs."""
    core = CoreOptions(max_queue_depth=5)
    settings = Settings(store="memory:", listen="127.0.0.1:0", core=core)
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        yield calls


def jobs(count: int) -> PushRequest:
    return PushRequest(jobs=[Job(type="T", queue="q")] * count)


async def test_a_queue_that_was_full_takes_jobs_again_soon(calls: Calls) -> None:
    await calls.queue.Push(jobs(5))
    for _ in range(5):
        failure = await failure_of(calls.queue.Push(jobs(1)))
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert failure.subjects == ["queue:q"]
    request = ReserveRequest(queues=[QueueChoice(name="q")], max_jobs=5)
    leases = (await calls.queue.Reserve(request)).leases
    await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=leases[0].lease_token)]))

    async def accepted() -> bool:
        try:
            await calls.queue.Push(jobs(1))
        except grpc.aio.AioRpcError:
            return False
        return True

    await until(accepted, "a job is accepted", 2.0)


async def test_a_crowd_of_pushes_is_refused_with_a_time_to_come_back(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "MOST_BYTES", -1)
    failure = await failure_of(calls.queue.Push(jobs(1)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BROKER_BUSY")
    assert failure.subjects == ["broker"]
    assert failure.retry_after == 1
    # All else goes on.
    assert not (await calls.queue.Reserve(ReserveRequest(queues=[QueueChoice(name="q")]))).leases


@asynccontextmanager
async def stalled(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SlowDriver, Calls]]:
    """A broker whose store is busy with as many groups of Pushes as it is given, and for so long
    that it counts as one that does not move."""
    monkeypatch.setattr(joining, "MOST_WAIT", 0.0)
    store = SlowDriver()
    store.hold("push")
    async with (
        running_broker(driver=store.driver) as server,
        calls_to(str(server.address)) as calls,
    ):
        yield store, calls


async def test_callers_of_one_job_each_are_not_refused_for_one_slow_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stalled(monkeypatch) as (store, calls):
        pushes: list[Any] = []
        for _ in range(64):
            pushes.append(asyncio.ensure_future(calls.queue.Push(jobs(1))))
            await asyncio.sleep(0.001)
        await store.reached["push"].wait()
        store.let_go("push")
        await asyncio.gather(*pushes)


async def test_single_jobs_that_the_next_group_has_no_room_for_are_refused_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "MOST_OF_GROUP", 40)
    async with stalled(monkeypatch) as (store, calls):
        pushes: list[Any] = []

        async def refused() -> bool:
            pushes.append(asyncio.ensure_future(calls.queue.Push(jobs(1))))
            await asyncio.sleep(0.001)
            return any(each.done() for each in pushes)

        await until(refused, "one is refused")
        store.let_go("push")
        answers = await asyncio.gather(*pushes, return_exceptions=True)
    stored = [each for each in answers if isinstance(each, PushResponse)]
    failures = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert len(stored) > 40
    assert {each.code() for each in failures} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_a_push_whose_caller_is_gone_holds_nobody_up(calls: Calls) -> None:
    pushes: list[Any] = [calls.queue.Push(jobs(1)) for _ in range(50)]
    await asyncio.sleep(0)
    for each in pushes:
        each.cancel()
    await asyncio.gather(*pushes, return_exceptions=True)
    failed = calls.queue.Push(jobs(6))
    assert (await failure_of(failed)).reason == "QUEUE_FULL"

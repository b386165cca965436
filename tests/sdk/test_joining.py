"""Pushes of one process travel together, and yet everyone has a fate of his own."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.sdk.both_clients import answer, connected
from tests.sdk.scripted_broker import Failure, ScriptedBroker, invalid, unavailable
from tests.support import waiting
from towline import (
    AsyncClient,
    BrokerUnavailable,
    Client,
    ClientClosed,
    DeadlineExceeded,
    InvalidArgument,
    QueueFull,
)
from towline.requests import MAX_BYTES
from towline.transport import lines
from towline.v1 import errors_pb2, job_pb2

PATIENCE = 10.0


@pytest.fixture(autouse=True)
def gather_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs gather until the call under way ends, however slow this machine is."""
    gather_until(monkeypatch, PATIENCE)


def gather_until(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in ("joining", "joining_tasks"):
        monkeypatch.setattr(f"towline.transport.{module}.GATHERING", seconds)


class Crowd:
    """Callers of one client, sync or async, all at the same time."""

    def __init__(self, client: Any, broker: ScriptedBroker) -> None:
        self.client = client
        self.broker = broker
        self._threads = ThreadPoolExecutor(64)

    def dispatch(self, *arguments: Any, **options: Any) -> "asyncio.Future[Any]":
        if isinstance(self.client, AsyncClient):
            return asyncio.ensure_future(self.client.dispatch(*arguments, **options))
        future: Future[Any] = self._threads.submit(
            lambda: self.client.dispatch(*arguments, **options)
        )
        return asyncio.wrap_future(future)

    async def behind_a_call(self, count: int, **options: Any) -> "list[asyncio.Future[Any]]":
        """One call under way, held by the broker, and so many jobs that gather behind it."""
        self.broker.hold.clear()
        calls = len(self.broker.called("Push"))
        under_way = self.dispatch("first")
        await asyncio.to_thread(self.broker.until_called, "Push", calls + 1)
        gathered = [self.dispatch("x", {"n": n}, **options) for n in range(count)]
        await until(lambda: self.gathered("default") == count)
        return [under_way, *gathered]

    def gathered(self, queue: str) -> int:
        line = self.client._transport._open.joining._lines.get(queue)
        return 0 if line is None else len(line._gathered)

    def close(self) -> None:
        self.broker.hold.set()
        self._threads.shutdown()


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await waiting.until(holds, "what the test waits for", PATIENCE)


@pytest.fixture(params=[Client, AsyncClient])
async def crowd(request: pytest.FixtureRequest, broker: ScriptedBroker) -> AsyncIterator[Crowd]:
    async with connected(request.param, broker.address) as client:
        crowd = Crowd(client, broker)
        yield crowd
        await asyncio.to_thread(crowd.close)


def sizes(broker: ScriptedBroker) -> list[int]:
    return [len(request.jobs) for request in broker.called("Push")]


async def test_jobs_that_come_while_a_call_is_under_way_leave_together(
    crowd: Crowd, broker: ScriptedBroker
) -> None:
    dispatched = await crowd.behind_a_call(20)
    broker.hold.set()
    handles = await asyncio.gather(*dispatched)
    assert sizes(broker) == [1, 20]
    alone, together = broker.called("Push")
    assert (alone.allow_partial, together.allow_partial) == (False, True)
    for n, handle in enumerate(handles[1:]):
        assert handle.created
        assert broker.jobs[handle.id].job.payload == b'{"n":%d}' % n, "each has its own answer"


async def test_a_lone_caller_waits_for_nobody(crowd: Crowd, broker: ScriptedBroker) -> None:
    for _ in range(5):
        began = time.monotonic()
        await crowd.dispatch("x")
        assert time.monotonic() - began < PATIENCE / 2
    assert sizes(broker) == [1] * 5


async def test_a_call_that_takes_long_is_not_waited_for(
    crowd: Crowd, broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather_until(monkeypatch, 0.05)
    broker.hold.clear()
    dispatched = [crowd.dispatch("first")]
    await asyncio.to_thread(broker.until_called, "Push", 1)
    dispatched += [crowd.dispatch("x") for _ in range(10)]
    await asyncio.to_thread(broker.until_called, "Push", 2)
    broker.hold.set()
    await asyncio.gather(*dispatched)
    assert len(broker.jobs) == 11


async def test_queues_do_not_wait_for_each_other(crowd: Crowd, broker: ScriptedBroker) -> None:
    dispatched = await crowd.behind_a_call(2)
    dispatched.append(crowd.dispatch("x", queue="other"))
    await asyncio.to_thread(broker.until_called, "Push", 2)
    assert broker.called("Push")[1].jobs[0].queue == "other"
    broker.hold.set()
    await asyncio.gather(*dispatched)


async def test_it_can_be_switched_off(broker: ScriptedBroker) -> None:
    broker.hold.clear()
    async with AsyncClient(broker.address, join_pushes=False) as client:
        dispatched = [asyncio.ensure_future(client.dispatch("x")) for _ in range(8)]
        await asyncio.to_thread(broker.until_called, "Push", 8)
        broker.hold.set()
        await asyncio.gather(*dispatched)
    with Client(broker.address, join_pushes=False) as sync_client:
        await asyncio.gather(*(asyncio.to_thread(sync_client.dispatch, "x") for _ in range(8)))
    assert sizes(broker) == [1] * 16


async def test_a_refused_job_is_refused_to_its_caller_only(
    crowd: Crowd, broker: ScriptedBroker
) -> None:
    def wrong(message: job_pb2.Job) -> errors_pb2.ItemError | None:
        error = errors_pb2.ItemError(code=3, field="jobs[2].payload", message="too large")
        return error if message.payload == b'{"n":2}' else None

    broker.reject = wrong
    dispatched = await crowd.behind_a_call(5)
    broker.hold.set()
    results: list[Any] = await asyncio.gather(*dispatched, return_exceptions=True)
    refused = results.pop(3)
    assert isinstance(refused, InvalidArgument)
    assert str(refused) == "payload: too large"
    assert {handle.id for handle in results} == set(broker.jobs)


async def test_what_fails_a_call_as_a_whole_is_told_to_each_of_its_callers(
    crowd: Crowd, broker: ScriptedBroker
) -> None:
    dispatched = await crowd.behind_a_call(3)
    broker.failures["Push"] = [
        Failure(grpc.StatusCode.PERMISSION_DENIED, "not yours") for _ in range(2)
    ]
    broker.hold.set()
    results = await asyncio.gather(*dispatched, return_exceptions=True)
    assert [str(result) for result in results] == ["not yours"] * 4
    assert len({id(result) for result in results}) == 4, "nobody raises the error of another"


async def test_a_broker_that_takes_fewer_jobs_a_call_gets_them_so(
    crowd: Crowd, broker: ScriptedBroker
) -> None:
    dispatched = await crowd.behind_a_call(8)
    # Told of the call as a whole: what is too much are its jobs together.
    many = invalid(("jobs", "has 8 entries; expected 1 to 3"))
    large = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max")  # as gRPC says it
    held = [many, large]

    def refuse(message: job_pb2.Job) -> None:
        if message.type == "first":
            broker.failures["Push"] = held

    broker.reject = refuse
    broker.hold.set()
    handles = await asyncio.gather(*dispatched)
    assert {handle.id for handle in handles} == set(broker.jobs)
    assert sizes(broker)[:2] == [1, 8]
    assert sorted(sizes(broker)[2:]) == [2, 2, 4, 4]


async def test_calls_stay_below_what_servers_take(crowd: Crowd, broker: ScriptedBroker) -> None:
    broker.hold.clear()
    dispatched = [crowd.dispatch("first")]
    await asyncio.to_thread(broker.until_called, "Push", 1)
    dispatched += [crowd.dispatch("x", {"text": "x" * 1_000_000}) for _ in range(9)]
    dispatched.append(crowd.dispatch("x", {"text": "x" * (MAX_BYTES + 1)}))
    await asyncio.to_thread(broker.until_called, "Push", 4)
    broker.hold.set()
    await asyncio.gather(*dispatched)
    assert len(broker.jobs) == 11
    for request in broker.called("Push"):
        assert len(request.jobs) == 1 or request.ByteSize() < 4 * 1024 * 1024


async def test_everyone_has_a_timeout_of_his_own(crowd: Crowd, broker: ScriptedBroker) -> None:
    dispatched = await crowd.behind_a_call(2)
    impatient = crowd.dispatch("impatient", call_timeout=0.2)
    with pytest.raises(DeadlineExceeded, match="the job was not sent"):
        await impatient
    broker.hold.set()
    await asyncio.gather(*dispatched)
    assert "impatient" not in {info.job.type for info in broker.jobs.values()}


async def test_a_job_that_is_on_its_way_may_be_stored_after_its_callers_time(
    crowd: Crowd, broker: ScriptedBroker
) -> None:
    under_way, *gathered = await crowd.behind_a_call(2)
    impatient = crowd.dispatch("impatient", call_timeout=2)
    await until(lambda: crowd.gathered("default") == 3)

    def hold_the_next(message: job_pb2.Job) -> None:
        if message.type == "first":
            broker.hold.clear()

    broker.reject = hold_the_next
    broker.hold.set()
    await under_way
    await asyncio.to_thread(broker.until_called, "Push", 2)
    with pytest.raises(DeadlineExceeded, match="may be done all the same"):
        await impatient
    broker.reject = lambda message: None
    broker.hold.set()
    assert all(handle.created for handle in await asyncio.gather(*gathered))


async def test_a_cancelled_task_takes_nobody_with_it(broker: ScriptedBroker) -> None:
    async with AsyncClient(broker.address) as client:
        crowd = Crowd(client, broker)
        under_way, *gathered = await crowd.behind_a_call(5)
        under_way.cancel()  # in the middle of its call: those behind it are free to go
        gathered[0].cancel()  # the first to gather
        gathered[3].cancel()
        broker.hold.set()
        results = await asyncio.gather(*gathered, return_exceptions=True)
        cancelled = [isinstance(result, asyncio.CancelledError) for result in results]
        assert cancelled == [True, False, False, True, False]
        crowd.close()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_those_behind_one_who_gave_up_do_not_wait_for_longer(
    kind: Any, broker: ScriptedBroker
) -> None:
    """The first to gather sees to it that all leave in time, unless it gives up before."""
    async with connected(kind, broker.address) as client:
        crowd = Crowd(client, broker)
        broker.hold.clear()
        under_way = crowd.dispatch("first")
        await asyncio.to_thread(broker.until_called, "Push", 1)
        first_to_gather = crowd.dispatch("impatient", call_timeout=2)
        await until(lambda: crowd.gathered("default") == 1)
        others = [crowd.dispatch("x") for _ in range(3)]
        with pytest.raises(DeadlineExceeded):
            await first_to_gather
        await asyncio.to_thread(broker.until_called, "Push", 2)
        assert not under_way.done()
        broker.hold.set()
        await asyncio.gather(under_way, *others)
        await asyncio.to_thread(crowd.close)
    assert sizes(broker) == [1, 3]


def test_a_signal_in_one_thread_takes_nobody_with_it(
    broker: ScriptedBroker, client: Client
) -> None:
    """As Ctrl-C in the main thread, whose job is the first of those that gathered."""
    broker.hold.clear()
    with ThreadPoolExecutor(8) as threads:
        under_way = threads.submit(client.dispatch, "first")
        broker.until_called("Push", 1)
        transport: Any = client._transport
        line = transport._open.joining._lines["default"]
        others: list[Future[Any]] = []

        def others_then_interrupt() -> None:
            wait_for(lambda: len(line._gathered) == 1)
            others.extend(threads.submit(client.dispatch, "x") for _ in range(5))
            wait_for(lambda: len(line._gathered) == 6)
            os.kill(os.getpid(), signal.SIGINT)

        interrupter = threads.submit(others_then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.dispatch("interrupted")
        interrupter.result(PATIENCE)
        broker.hold.set()
        handles = [future.result(PATIENCE) for future in [under_way, *others]]
    assert {handle.id for handle in handles} == set(broker.jobs)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


async def test_closing_ends_those_who_wait(crowd: Crowd, broker: ScriptedBroker) -> None:
    dispatched = await crowd.behind_a_call(5)
    await answer(crowd.client.close())
    results = await asyncio.gather(*dispatched, return_exceptions=True)
    assert [type(result) for result in results] == [ClientClosed] * 6
    with pytest.raises(ClientClosed):
        await crowd.dispatch("x")


async def test_a_call_that_is_repeated_stores_its_jobs_once(
    crowd: Crowd, broker: ScriptedBroker
) -> None:
    dispatched = await crowd.behind_a_call(4)
    broker.failures["Push"] = [unavailable()] * 3
    broker.hold.set()
    handles = await asyncio.gather(*dispatched)
    assert all(handle.created for handle in handles)
    assert {handle.id for handle in handles} == set(broker.jobs)


async def test_a_broker_that_is_gone_is_told_to_everyone(
    crowd: Crowd, broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather_until(monkeypatch, 0.05)
    broker.failures["Push"] = [unavailable("gone") for _ in range(30)]
    dispatched = [crowd.dispatch("x", call_timeout=60) for _ in range(4)]
    results = await asyncio.gather(*dispatched, return_exceptions=True)
    assert [type(result) for result in results] == [BrokerUnavailable] * 4


async def test_what_is_no_answer_is_taken_for_no_success(
    crowd: Crowd, broker: ScriptedBroker
) -> None:
    dispatched = await crowd.behind_a_call(3)
    broker.answers_short = True
    broker.hold.set()
    results = await asyncio.gather(*dispatched, return_exceptions=True)
    assert [str(result) for result in results] == [
        "the broker answered with 0 results for 1 jobs",
        *["the broker answered with 0 results for 3 jobs"] * 3,
    ]


async def test_nothing_is_left_behind(crowd: Crowd, broker: ScriptedBroker) -> None:
    await asyncio.gather(*(crowd.dispatch("x", queue=f"q{n % 7}") for n in range(200)))
    joining = crowd.client._transport._open.joining
    await until(lambda: not joining._lines)
    assert len(broker.jobs) == 200


async def test_a_full_queue_keeps_only_those_waiting_who_push_to_it(
    crowd: Crowd, broker: ScriptedBroker
) -> None:
    full = {"default"}

    def reject(message: job_pb2.Job) -> errors_pb2.ItemError | None:
        if message.type == "first" or message.queue not in full:
            return None
        error = errors_pb2.ItemError(code=8, reason="QUEUE_FULL", message="queue is full")
        error.retry_after.nanos = 50_000_000
        return error

    broker.reject = reject
    dispatched = await crowd.behind_a_call(4)
    impatient = crowd.dispatch("x", call_timeout=0.01)
    broker.hold.set()
    assert (await crowd.dispatch("x", queue="free")).created
    with pytest.raises((QueueFull, DeadlineExceeded)):
        await impatient
    full.clear()
    assert all(handle.created for handle in await asyncio.gather(*dispatched))


class _Job:
    def __init__(self, size: int) -> None:
        self.size = size


class TestLines:
    def test_a_call_holds_a_thousand_jobs_and_three_mebibytes(self) -> None:
        line: lines.Line[Any] = lines.Line("q")
        for _ in range(2500):
            line.add(_Job(10))
        assert line.full
        assert [len(line.leave()) for _ in range(4)] == [1000, 1000, 500, 0]
        for _ in range(5):
            line.add(_Job(1024 * 1024))
        assert [len(line.leave()) for _ in range(3)] == [3, 2, 0]

    def test_a_slow_broker_has_a_few_calls_under_way_and_no_more(self) -> None:
        line: lines.Line[Any] = lines.Line("q")
        for _ in range(lines.MAX_CALLS):
            line.add(_Job(1))
            assert line.leave()
        line.add(_Job(1))
        line.add(_Job(1))
        assert line.leave() == []
        assert not line.ended()
        assert len(line.leave()) == 2

    def test_one_who_gives_up_is_taken_out(self) -> None:
        line: lines.Line[Any] = lines.Line("q")
        one, other = _Job(1), _Job(1)
        assert (line.add(one), line.add(other)) == (True, False)
        assert line.remove(one)
        assert line.leave() == [other]
        assert not line.remove(other)


class LateLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own, as some for tests have."""

    def time(self) -> float:
        return super().time() - 1_000_000


def test_a_loop_may_have_a_clock_of_its_own(broker: ScriptedBroker) -> None:
    async def dispatch() -> None:
        async with AsyncClient(broker.address) as client:
            crowd = Crowd(client, broker)
            dispatched = await crowd.behind_a_call(3)
            broker.hold.set()
            await asyncio.gather(*dispatched)

    with asyncio.Runner(loop_factory=LateLoop) as runner:
        runner.run(dispatch())
    assert sizes(broker) == [1, 3]

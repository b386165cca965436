"""P11: thousands of connections that do nothing, and of workers that wait.

TOWLINE_IDLE=10000 TOWLINE_PARKED=5000 make faults ARGS=bad-peers
"""

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from itertools import pairwise
from typing import Any

import grpc
import psutil  # type: ignore[import-untyped]
import pytest

from tests.faults.harness.figures import Figures, size
from tests.faults.overload import quantile
from tests.support import http2
from tests.support.broker_process import BrokerProcess
from tests.support.calls import Calls, calls_to, failure_of, seconds
from tests.support.waiting import until
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import Ack, AckRequest, PushRequest, QueueChoice, ReserveRequest

IDLE = size("IDLE", 300)
PARKED = size("PARKED", 300)
#: What one may cost a broker, in bytes.
MOST_IDLE = 64 << 10
MOST_PARKED = 128 << 10
#: Measured with fewer, the memory of the rest of the broker would count.
ENOUGH = 1_000
#: Calls of one connection.
TOGETHER = 2_500
#: Calls of a good client that are timed.
ROUNDS = 100


def resident(broker: BrokerProcess) -> int:
    return int(psutil.Process(broker.pid).memory_info().rss)


@contextmanager
def open_files(soft: int | None = None) -> Iterator[None]:
    """So many may be open, and in processes that are started meanwhile; None: as many as can be."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft is None else soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@contextmanager
def idle_connections(address: str, count: int) -> Iterator[None]:
    """They have said that they speak HTTP/2, and nothing else."""
    with ExitStack() as stack:
        peers = []
        for _ in range(count):
            peer = stack.enter_context(http2.connect(address, 30.0))
            peer.sendall(http2.PREFACE + http2.settings())
            peers.append(peer)
        for peer in peers:
            assert peer.recv(9, socket.MSG_WAITALL), "the broker has hung up"
        yield


async def rounds(calls: Calls, count: int) -> list[float]:
    """How long it takes to push a job, to get it and to acknowledge it, in seconds."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        await calls.queue.Push(PushRequest(jobs=[Job(queue="good", type="T")]))
        reserve = ReserveRequest(queues=[QueueChoice(name="good")])
        leases = (await calls.queue.Reserve(reserve)).leases
        await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=leases[0].lease_token)]))
        took.append(time.monotonic() - began)
    return took


def milliseconds(values: list[float]) -> str:
    """Median and 99th percentile."""
    return f"{quantile(values, 0.5) * 1e3:.1f} / {quantile(values, 0.99) * 1e3:.1f}"


@pytest.mark.timeout(120 + IDLE // 50)
async def test_idle_connections_cost_little(figures: Figures) -> None:
    with open_files(), BrokerProcess("memory:") as broker:
        async with calls_to(broker.address) as calls:
            alone = await rounds(calls, ROUNDS)
            before = resident(broker)
            with idle_connections(broker.address, IDLE):
                beside = await rounds(calls, ROUNDS)
                each = (resident(broker) - before) / IDLE
            fds = psutil.Process(broker.pid)

            async def closed() -> bool:
                return int(fds.num_fds()) < 100

            await until(closed, "the connections are closed", 30.0)
    figures.show(
        f"{IDLE} idle connections",
        kib_each=round(each / 1024, 1),
        round_ms_alone=milliseconds(alone),
        round_ms_beside=milliseconds(beside),
    )
    assert each < MOST_IDLE or IDLE < ENOUGH


async def test_a_broker_takes_as_many_connections_as_the_machine_lets_it() -> None:
    """Though it was started with the few that shells allow."""
    with open_files():
        with open_files(128):
            broker = BrokerProcess("memory:")
            broker.__enter__()
        try:
            with idle_connections(broker.address, 300):
                async with calls_to(broker.address) as calls:
                    await rounds(calls, 1)
        finally:
            broker.__exit__()


@asynccontextmanager
async def parked(address: str, count: int) -> AsyncIterator[list["asyncio.Task[Any]"]]:
    """So many Reserves that wait, in their order."""
    request = ReserveRequest(queues=[QueueChoice(name="q")], wait=seconds(60))
    async with AsyncExitStack() as stack:
        tasks = []
        connections = [
            await stack.enter_async_context(calls_to(address)) for _ in range(0, count, TOGETHER)
        ]
        for calls in connections:
            await calls.channel.channel_ready()
        for number in range(count):
            calls = connections[number // TOGETHER]
            tasks.append(asyncio.ensure_future(_reserve(calls, request)))
            # Calls of one connection come in the order in which they are begun.
            if number % 100 == 99:
                await asyncio.sleep(0.01)
        yield tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _reserve(calls: Calls, request: ReserveRequest) -> Any:
    while True:
        try:
            return await calls.queue.Reserve(request)
        except grpc.aio.AioRpcError as error:
            # The broker may not have heard yet that those before are gone.
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
        await asyncio.sleep(0.05)


async def is_full(calls: Calls) -> bool:
    """Whether no further call may wait."""
    request = ReserveRequest(queues=[QueueChoice(name="other")], wait=seconds(0.001))
    try:
        await calls.queue.Reserve(request)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return False


@pytest.mark.timeout(120 + PARKED // 20)
async def test_thousands_of_workers_wait_in_line(figures: Figures) -> None:
    environment = {"TOWLINE_CORE__MAX_WAITERS": str(PARKED)}
    with BrokerProcess("memory:", environment=environment) as broker:
        async with calls_to(broker.address) as calls:
            await rounds(calls, ROUNDS)
            before = resident(broker)
            async with parked(broker.address, PARKED) as workers:
                await until(lambda: is_full(calls), "all of them wait", 60.0)
                each = (resident(broker) - before) / PARKED
                wait = ReserveRequest(queues=[QueueChoice(name="q")], wait=seconds(1))
                failure = await failure_of(calls.queue.Reserve(wait))
                beside = await rounds(calls, ROUNDS)
                got, took = await _deliver(calls, workers, min(ROUNDS, PARKED // 2))
                began = time.monotonic()
            # Those who are gone make room for others.
            async with parked(broker.address, PARKED):
                await until(lambda: is_full(calls), "all of them wait again", 60.0)
                again = time.monotonic() - began
    figures.show(
        f"{PARKED} workers that wait",
        kib_each=round(each / 1024, 1),
        round_ms_beside=milliseconds(beside),
        push_to_worker_ms=milliseconds(took),
        all_gone_and_back_s=round(again, 1),
    )
    assert (failure.code, failure.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_WAITERS",
    )
    assert failure.retry_after == 1
    # gRPC hands a server, now and then, a call before some that came a moment earlier.
    overtaking = sum(later < earlier for earlier, later in pairwise(got))
    assert overtaking <= len(got) // 20, f"workers that came later were served earlier: {got}"
    assert max(got) < PARKED - len(got) // 2
    assert each < MOST_PARKED or PARKED < ENOUGH


async def _deliver(
    calls: Calls, workers: list["asyncio.Task[Any]"], count: int
) -> tuple[list[int], list[float]]:
    """Which of them got the jobs that are pushed one by one, and how long that took."""
    got, took = [], []
    waiting = dict(enumerate(workers))
    for _ in range(count):
        began = time.monotonic()
        await calls.queue.Push(PushRequest(jobs=[Job(queue="q", type="T")]))
        done, _ = await asyncio.wait(
            waiting.values(), timeout=10, return_when=asyncio.FIRST_COMPLETED
        )
        took.append(time.monotonic() - began)
        served = [number for number, worker in waiting.items() if worker in done]
        assert len(served) == 1
        assert len(waiting.pop(served[0]).result().leases) == 1
        got += served
    return got, took

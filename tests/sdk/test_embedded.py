"""memory:// is a whole broker in the process, whose clock is in the hands of the test (S2)."""

import asyncio
import importlib.metadata
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from tests.sdk.both_clients import answer, connected
from towline import (
    AsyncClient,
    Client,
    ClientClosed,
    ConfigurationError,
    JobState,
    NotFound,
    Registry,
    TlsCredentials,
    Worker,
    embedded,
    job,
)
from towline.embedded import embedded_broker
from towline.transport.bridge import BridgedChannel
from towline.v1.job_pb2 import Lease
from towline.v1.queue_service_pb2 import GetJobRequest, QueueChoice, ReserveRequest
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

registry = Registry()

both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@job(registry=registry)
def double(n: int) -> int:
    return 2 * n


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a broker that is empty."""
    embedded_broker("tests").reset()
    yield "memory://tests"
    embedded_broker("tests").reset()


@both
async def test_clients_and_workers_of_one_name_share_a_broker(kind: Any, url: str) -> None:
    with Worker(url, ["default"], registry=registry):
        async with connected(kind, url) as client:
            handle = await answer(client.dispatch(double, n=21))
            assert await answer(handle.result(timeout=20)) == 42
        async with connected(kind, url) as other:
            assert (await answer(other.get(handle.id))).state is JobState.SUCCEEDED


def test_brokers_of_other_names_know_nothing_of_it(url: str) -> None:
    with Client(url) as client, Client("memory://tests-too") as other:
        job_id = client.dispatch(double, n=1).id
        with pytest.raises(NotFound):
            other.get(job_id)


def test_a_broker_starts_with_the_first_call_and_not_before() -> None:
    before = threading.active_count()
    client = Client("memory://tests-first-call")
    assert threading.active_count() == before

    client.dispatch(double, n=1)

    names = [thread.name for thread in threading.enumerate()]
    assert names.count("towline-broker") >= 1
    client.close()


def test_it_starts_in_a_moment() -> None:
    embedded.start_broker().close()  # with all that has to be imported

    took = []
    for _ in range(5):
        began = time.perf_counter()
        broker = embedded.start_broker()
        took.append(time.perf_counter() - began)
        broker.close()

    # 3 ms on an idle machine; this is what makes a broker for each test bearable.
    assert min(took) < 0.05


async def test_clients_of_several_loops_get_along(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """grpc.aio has each loop of a process complain of events that another one has taken."""

    async def work() -> None:
        async with AsyncClient(url) as client:
            for handle in [await client.dispatch(double, n=n) for n in range(20)]:
                await handle.status()

    with caplog.at_level(logging.WARNING, "asyncio"):
        await asyncio.gather(work(), *(asyncio.to_thread(asyncio.run, work()) for _ in range(3)))

    assert not caplog.records


class NotingChannel:
    """Hands on to a channel, and notes the calls that are made."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.calls: list[Any] = []

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        method: Any = self._channel.unary_unary(*args, **options)

        def future(request: Any, **options: Any) -> Any:
            self.calls.append(method.future(request, **options))
            return self.calls[-1]

        return SimpleNamespace(future=future)


async def test_a_wait_that_is_cancelled_ends_its_call(url: str) -> None:
    with Client(url) as client:
        noting: Any = NotingChannel(client.channel)
        stub: Any = QueueServiceStub(cast(grpc.Channel, BridgedChannel(noting)))
        request = GetJobRequest(id=client.dispatch(double, n=1).id)
        request.wait.seconds = 60
        waiting = asyncio.create_task(stub.GetJob(request, timeout=70))
        await asyncio.sleep(0)
        [call] = noting.calls

        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert call.cancelled()


async def test_closing_an_async_client_ends_its_calls(url: str) -> None:
    client = AsyncClient(url)
    handle = await client.dispatch(double, n=1)
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0.05)

    await client.close()

    with pytest.raises(ClientClosed):
        await waiting
    with pytest.raises(ClientClosed):
        await handle.status()


def reserve(client: Client) -> Lease:
    """Lease the job that is READY, as a worker does that then says no more."""
    request = ReserveRequest(queues=[QueueChoice(name="default")])
    [lease] = client.queue_service.Reserve(request, timeout=20).leases
    return lease


class TestTime:
    def test_a_delay_is_over(self, url: str) -> None:
        with Client(url) as client:
            handle = client.dispatch(double, {"n": 1}, delay=300)

            embedded_broker("tests").travel(timedelta(seconds=299))
            assert handle.status().state is JobState.SCHEDULED
            embedded_broker("tests").travel(timedelta(seconds=1))
            assert handle.status().state is JobState.READY

    def test_a_worker_that_waits_is_woken(self, url: str) -> None:
        with Client(url) as client, Worker(url, ["default"], registry=registry):
            handle = client.dispatch(double, {"n": 4}, delay=3600)
            embedded_broker("tests").travel(timedelta(hours=1))
            assert handle.result(timeout=20) == 8

    def test_a_job_expires(self, url: str) -> None:
        with Client(url) as client:
            handle = client.dispatch(double, {"n": 1}, expires_in=60)
            embedded_broker("tests").travel(timedelta(minutes=1))
            assert handle.status().dead_reason == "EXPIRED"

    def test_a_lease_runs_out_and_the_last_one_makes_the_job_dead(self, url: str) -> None:
        with Client(url) as client:
            handle = client.dispatch(double, {"n": 1}, max_attempts=2)
            assert reserve(client).attempt == 1
            embedded_broker("tests").travel(timedelta(minutes=1))
            assert handle.status().state is JobState.READY

            assert reserve(client).attempt == 2
            embedded_broker("tests").travel(timedelta(minutes=1))
            assert handle.status().dead_reason == "LEASE_EXPIRED"

    def test_what_ended_is_forgotten(self, url: str) -> None:
        with Client(url) as client, Worker(url, ["default"], registry=registry):
            handle = client.dispatch(double, {"n": 4}, retention=3600)
            handle.result(timeout=20)
            embedded_broker("tests").travel(timedelta(minutes=59))
            assert handle.status().type == "double"
            embedded_broker("tests").travel(timedelta(minutes=12))
            with pytest.raises(NotFound):
                handle.status()

    def test_returns_to_the_present_with_an_empty_broker(self, url: str) -> None:
        broker = embedded_broker("tests")
        broker.travel(timedelta(days=365))
        broker.reset()

        with Client(url) as client, Worker(url, ["default"], registry=registry):
            handle = client.dispatch(double, {"n": 4}, delay=0.05)
            assert handle.result(timeout=20) == 8
            enqueued_at = client.dispatch(double, {"n": 1}, delay=60).status().enqueued_at
        assert enqueued_at is not None
        assert abs(enqueued_at.timestamp() - time.time()) < 60


def test_what_is_pushed_is_noted_once_it_is_stored(url: str) -> None:
    with Client(url) as client:
        first = client.dispatch(double, {"n": 1}, unique_key="one")
        client.dispatch(double, {"n": 2}, unique_key="one")
        second = client.dispatch(double, n=3)

        pushed = [encoded for encoded, _ in embedded_broker("tests").pushed()]
        assert [first.id.encode() in pushed[0], second.id.encode() in pushed[1]] == [True, True]
        assert len(pushed) == 2

        embedded_broker("tests").reset()
        assert not embedded_broker("tests").pushed()
        with pytest.raises(NotFound):
            first.status()


def test_nothing_is_noted_for_who_does_not_ask() -> None:
    broker = embedded.start_broker()
    with Client(broker.address) as client:
        client.dispatch(double, n=1)
    assert not broker.pushed()
    broker.close()


def test_a_forked_process_reaches_the_broker_of_its_parent(url: str) -> None:
    program = f"""
import os
from towline import Client
client = Client({url!r})
handle = client.dispatch("Some", {{}})
pid = os.fork()
if pid == 0:
    os._exit(0 if Client({url!r}).get(handle.id).state == "READY" else 3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run_program(program).split() == ["0"]


def test_worker_processes_are_refused_for_each_would_have_a_broker_of_its_own() -> None:
    with pytest.raises(ConfigurationError, match="lives in this process and no other"):
        Worker("memory://", processes=2)


def test_a_process_pool_works_for_a_broker_in_its_parent() -> None:
    program = """
from towline import Client, Job, Worker
class Double(Job):
    n: int
    def handle(self) -> int:
        return 2 * self.n
with Worker("memory://", ["default"], pool="process", concurrency=1):
    print(Client("memory://").dispatch(Double(n=4)).result(timeout=30))
"""
    # Of sockets that the pool's own process leaves to its end Python would warn.
    assert run_program(program, warnings="ignore").split() == ["8"]


def test_the_broker_ends_with_its_process() -> None:
    program = """
from towline import Client, Worker
from towline.embedded import embedded_broker
from towline.transport.bridge import BridgedChannel
from towline.v1.job_pb2 import Lease
from towline.v1.queue_service_pb2 import GetJobRequest, QueueChoice, ReserveRequest
from towline.v1.queue_service_pb2_grpc import QueueServiceStub
client = Client("memory://")
client.dispatch("Some", {})
worker = Worker("memory://", ["other"])
worker.start()
print(embedded_broker().address)
"""
    began = time.monotonic()
    address = run_program(program).strip()
    assert time.monotonic() - began < 30
    host, _, port = address.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def run_program(program: str, *, warnings: str = "error") -> str:
    """Run Python code in a process of its own, and return its output; errors it must not print."""
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_without_the_package_of_the_broker_the_error_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = importlib.metadata.EntryPoints()
    monkeypatch.setattr(embedded, "entry_points", lambda **_: nothing)

    with pytest.raises(ConfigurationError, match="pip install towline-broker"):
        Client("memory://not-installed").dispatch(double, n=1)


def test_a_wrong_address_is_refused_with_the_way_out() -> None:
    for address in ("memory://a/b", "memory://a?b=c"):
        with pytest.raises(ConfigurationError, match="expected memory:// or memory://name"):
            Client(address)
    with pytest.raises(ConfigurationError, match="has no use for any"):
        Client("memory://", credentials=TlsCredentials())

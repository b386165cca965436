"""A broker that is asked to stop breaks nothing: what runs ends, what waits is answered, what is
new goes elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from signal import SIGINT, SIGTERM
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from tests.support.broker_process import BrokerProcess
from tests.support.calls import Calls, WireFailure, calls_to, failure_of, seconds
from tests.support.faulty_driver import FaultyDriver
from tests.support.waiting import until
from towline.ids import uuid7
from towline.v1.admin_service_pb2 import ListWorkersRequest, StatsRequest
from towline.v1.job_pb2 import Job, JobState
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    GetJobRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline_broker.domain.time import SECOND
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ExitCode
from towline_broker.server.serving import BrokerServer

Q = [QueueChoice(name="q")]


def one_job(**fields: Any) -> PushRequest:
    return PushRequest(jobs=[Job(type="T", queue="q", **fields)])


def begun(call: Any) -> "asyncio.Future[Any]":
    future: asyncio.Future[Any] = asyncio.ensure_future(call)
    return future


def parked(calls: Calls) -> "asyncio.Future[Any]":
    request = ReserveRequest(queues=Q, wait=seconds(60), worker_id="w")
    return begun(calls.queue.Reserve(request))


async def heard_of_worker(calls: Calls) -> bool:
    return bool((await calls.admin.ListWorkers(ListWorkersRequest())).workers)


@asynccontextmanager
async def serving(driver: FaultyDriver) -> AsyncIterator[BrokerServer]:
    settings = Settings(store="memory:", listen="127.0.0.1:0")
    server = BrokerServer(settings, drivers={"default": driver.driver})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def test_a_drain_answers_the_parked_ends_the_running_and_refuses_the_new() -> None:
    driver = FaultyDriver()
    async with serving(driver) as server, calls_to(str(server.address)) as calls:
        await calls.queue.Push(one_job())
        lease = (await calls.queue.Reserve(ReserveRequest(queues=Q))).leases[0]
        waiting = parked(calls)
        await until(lambda: heard_of_worker(calls), "the call is parked")
        watching = begun(calls.queue.GetJob(GetJobRequest(id=lease.job.id, wait=seconds(60))))
        driver.hold("push")
        running = begun(calls.queue.Push(PushRequest(jobs=[Job(type="T", queue="other")])))
        await driver.reached["push"].wait()
        draining = asyncio.ensure_future(server.drain(30 * SECOND))
        assert list((await waiting).leases) == []
        assert (await watching).job.state == JobState.JOB_STATE_LEASED
        assert (await failure_of(calls.queue.Push(one_job()))).reason == "DRAINING"
        reply = await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=lease.lease_token)]))
        assert reply.results[0].outcome == 1
        assert not draining.done()
        driver.let_go("push")
        await running
        await draining
        # From here on everything is refused.
        assert (await failure_of(calls.admin.Stats(StatsRequest()))).reason == "DRAINING"


async def test_a_call_that_does_not_end_holds_a_drain_up_no_longer_than_it_may() -> None:
    driver = FaultyDriver()
    async with serving(driver) as server, calls_to(str(server.address)) as calls:
        driver.hold("push")
        running = begun(calls.queue.Push(PushRequest(jobs=[Job(type="T", queue="other")])))
        await driver.reached["push"].wait()
        await asyncio.wait_for(server.drain(SECOND // 10), 10)
        stopping = asyncio.ensure_future(server.stop())
        with pytest.raises(grpc.aio.AioRpcError):
            await running
        # The change itself is the broker's own, and is finished before the store is closed.
        assert not stopping.done()
        driver.let_go("push")
        await stopping


async def test_health_says_not_serving_as_soon_as_a_drain_begins() -> None:
    async with serving(FaultyDriver()) as server, calls_to(str(server.address)) as calls:
        stub = health_pb2_grpc.HealthStub(calls.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="towline.v1.QueueService"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await server.drain(SECOND)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        overall = await stub.Check(health_pb2.HealthCheckRequest())
        assert overall.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_for_its_delay_a_drain_changes_nothing_but_health() -> None:
    async with serving(FaultyDriver()) as server, calls_to(str(server.address)) as calls:
        waiting = parked(calls)
        await until(lambda: heard_of_worker(calls), "the call is parked")
        draining = asyncio.ensure_future(server.drain(30 * SECOND, delay=SECOND))

        async def is_told() -> bool:
            health = health_pb2_grpc.HealthStub(calls.channel)
            told = await health.Check(health_pb2.HealthCheckRequest())
            return bool(told.status == health_pb2.HealthCheckResponse.NOT_SERVING)

        await until(is_told, "balancers are told")
        assert not waiting.done()
        await calls.queue.Push(one_job())
        assert len((await waiting).leases) == 1
        await draining
        assert (await failure_of(calls.queue.Push(one_job()))).reason == "DRAINING"


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
async def test_a_signal_drains_the_process_and_it_ends_with_0(number: int, store: str) -> None:
    with BrokerProcess(store) as broker:
        async with calls_to(broker.address) as calls:
            waiting = parked(calls)
            await until(lambda: heard_of_worker(calls), "the call is parked")
            broker.send_signal(number)
            assert list((await waiting).leases) == []
        assert broker.wait() == ExitCode.OK
        assert "draining" in broker.log


async def test_a_client_that_retries_sees_no_failure_through_a_restart(store: str) -> None:
    if store == "memory:":
        store = "memory:?max_bytes=100000000"
    pushed: list[str] = []
    with BrokerProcess(store) as broker:
        async with calls_to(broker.address) as calls:
            stop = asyncio.Event()
            producers = [begun(push_with_retries(calls, pushed, stop)) for _ in range(8)]
            for _ in range(2):
                await flowing(pushed)
                assert await asyncio.to_thread(broker.stop) == ExitCode.OK
                await asyncio.to_thread(broker.start)
            await flowing(pushed)
            stop.set()
            await asyncio.gather(*producers)
            if store.startswith("sqlite"):
                stats = await calls.admin.Stats(StatsRequest())
                assert stats.total.depth.ready == len(pushed)


async def flowing(pushed: list[str]) -> None:
    enough = len(pushed) + 50

    async def more() -> bool:
        return len(pushed) > enough

    await until(more, "jobs are being pushed")


async def push_with_retries(calls: Calls, pushed: list[str], stop: asyncio.Event) -> None:
    """Retries what may be retried; any other failure fails the test."""
    while not stop.is_set():
        job_id = uuid7()
        while True:
            try:
                await calls.queue.Push(one_job(id=job_id), wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                # gRPC cancels a call that reaches a server while it stops.
                if error.code() not in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.CANCELLED,
                ):
                    raise
                # A broker that is not there says nothing; one that is says how long to wait.
                if error.trailing_metadata():
                    await asyncio.sleep(WireFailure(error).retry_after)
            else:
                break
        pushed.append(job_id)

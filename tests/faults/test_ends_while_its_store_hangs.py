"""P1, drain: a broker whose database does not answer any more ends in time when it is told to stop,
and loses nothing that it acknowledged."""

import asyncio
import signal
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from tests.support.broker_process import BrokerProcess
from tests.support.calls import Calls, calls_to
from tests.support.proxy import BLACK_HOLE, Proxy
from tests.support.servers.fixtures import postgres_server
from tests.support.servers.postgres import PostgresServer
from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest
from towline_broker.server.exits import ExitCode
from towline_broker.server.life.stopping import GRACE, TELLING

__all__ = ["postgres_server"]

DRAIN = 1.0
#: For a busy machine.
SLACK = 3.0
JOBS = PushRequest(jobs=[Job(type="T", queue="q")] * 20)


async def test_it_ends_in_time_and_loses_nothing(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database()
    with (
        Proxy(postgres_server.address) as proxy,
        BrokerProcess(proxy.behind(url), "--drain-timeout", f"{DRAIN}s") as broker,
    ):
        async with calls_to(broker.address) as calls:
            await calls.queue.Push(JOBS)
            proxy.fail(*BLACK_HOLE)
            hanging = asyncio.ensure_future(push(calls))
            # It comes behind the Push, and has been answered: that one waits for the database.
            await health_pb2_grpc.HealthStub(calls.channel).Check(health_pb2.HealthCheckRequest())
            assert not hanging.done()
            began = time.monotonic()
            broker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(broker.wait) == ExitCode.CUT_OFF
            assert time.monotonic() - began < DRAIN + GRACE + TELLING + SLACK
            await hanging
    with BrokerProcess(url) as broker:
        async with calls_to(broker.address) as calls:
            stats = await calls.admin.Stats(StatsRequest())
        # The last Push arrived, or it did not: nobody was told.
        assert stats.total.depth.ready in (20, 40)
        assert broker.stop() == ExitCode.OK


async def push(calls: Calls) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await calls.queue.Push(JOBS)

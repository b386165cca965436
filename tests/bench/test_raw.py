"""Raw clients of the benchmark outlive the streams that they hold, and end with what broke them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from bench.raw.on_towline import Queue
from bench.raw.queue import Tally
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import until
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import running_broker


@asynccontextmanager
async def queue(max_stream_age: str = "10m") -> AsyncIterator[Queue]:
    settings = Settings(store="memory:", listen="127.0.0.1:0", max_stream_age=max_stream_age)
    async with running_broker(settings) as server:
        queue = Queue(str(server.address), "")
        await queue.open()
        try:
            yield queue
        finally:
            await queue.close()


async def another_stream(queue: Queue) -> None:
    before = queue.streams

    async def opened() -> bool:
        return queue.streams > before

    await until(opened, "another stream")


async def test_a_job_that_is_waited_for_comes_over_the_stream_that_follows() -> None:
    async with queue("1s") as raw:
        waiting = asyncio.ensure_future(raw.take())
        await another_stream(raw)
        await raw.push(1)
        await asyncio.wait_for(waiting, 20)
        await another_stream(raw)
        await raw.settle()


async def test_jobs_are_worked_off_over_the_streams_that_follow() -> None:
    async with queue("1s") as raw:
        tally = Tally(30)
        working = asyncio.ensure_future(raw.work(10, tally))
        for _ in range(3):
            await raw.push(10)
            await another_stream(raw)
        await asyncio.wait_for(working, 20)
        assert tally.left == 0


@pytest.mark.parametrize("waits", [Queue.take, lambda raw: raw.work(10, Tally(1))])
async def test_a_stream_that_breaks_fails_whoever_waits_for_it(
    waits: Callable[[Queue], Coroutine[Any, Any, None]],
) -> None:
    with BrokerProcess("memory:") as broker:
        raw = Queue(broker.address, "")
        await raw.open()
        waiting = asyncio.ensure_future(waits(raw))
        await asyncio.sleep(0)  # it has begun
        broker.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(waiting, 20)
        await raw.close()

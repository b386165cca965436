"""A full broker holds its producers back; none of them keeps jobs in memory, or loses one."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.sdk.both_clients import answer, connected
from tests.sdk.scripted_broker import Failure, ScriptedBroker
from tests.support.broker_process import BrokerProcess
from towline import (
    AsyncClient,
    BatchFailed,
    Client,
    Job,
    JobRequest,
    JobState,
    QueueFull,
    Registry,
    ResourceExhausted,
    Worker,
)
from towline.v1 import errors_pb2

registry = Registry()


class Nothing(Job, registry=registry):
    queue = "small"

    def handle(self) -> None:
        time.sleep(0.01)


def full(seconds: float | None) -> Failure:
    details: list[Any] = [errors_pb2.ErrorInfo(reason="QUEUE_FULL", domain="towline")]
    if seconds is not None:
        retry = errors_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(seconds * 1e9))
        details.append(retry)
    return Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue small is full", *details)


@pytest.fixture(params=[Client, AsyncClient])
async def either(request: pytest.FixtureRequest, broker: ScriptedBroker) -> AsyncIterator[Any]:
    async with connected(request.param, broker.address) as client:
        yield client


async def test_a_full_queue_is_waited_for_as_long_as_the_broker_says(
    either: Any, broker: ScriptedBroker
) -> None:
    broker.failures["Push"] = [full(0.2), full(0.2)]
    began = time.monotonic()
    handle = await answer(either.dispatch("x"))
    assert handle.created
    assert 0.4 <= time.monotonic() - began < 5
    assert len(broker.called("Push")) == 3


async def test_it_is_told_when_the_time_is_over(either: Any, broker: ScriptedBroker) -> None:
    broker.failures["Push"] = [full(0.2) for _ in range(100)]
    began = time.monotonic()
    with pytest.raises(QueueFull, match="is full") as caught:
        await answer(either.dispatch("x", call_timeout=1))
    assert caught.value.retry_after == 0.2
    # And not after the twenty seconds for which the broker says so.
    assert time.monotonic() - began < 10
    assert 2 <= len(broker.called("Push")) <= 5


async def test_a_time_beyond_the_callers_own_is_not_waited_for(
    either: Any, broker: ScriptedBroker
) -> None:
    broker.failures["Push"] = [full(60)]
    began = time.monotonic()
    with pytest.raises(QueueFull) as caught:
        await answer(either.dispatch("x", call_timeout=30))
    assert caught.value.retry_after == 60
    assert time.monotonic() - began < 15


async def test_what_gives_no_time_is_not_tried_again(either: Any, broker: ScriptedBroker) -> None:
    broker.failures["Push"] = [full(None)]
    with pytest.raises(ResourceExhausted):
        await answer(either.dispatch("x"))
    assert len(broker.called("Push")) == 1


async def test_a_batch_waits_too_each_call_for_itself(either: Any, broker: ScriptedBroker) -> None:
    broker.failures["Push"] = [full(0.05)]
    handles = await answer(either.dispatch_batch(JobRequest("x") for _ in range(1500)))
    assert len(handles) == len(broker.jobs) == 1500
    assert [len(request.jobs) for request in broker.called("Push")] == [1000, 1000, 500]


async def test_a_partial_batch_is_told_at_once_what_found_no_room(
    either: Any, broker: ScriptedBroker
) -> None:
    error = errors_pb2.ItemError(code=8, reason="QUEUE_FULL", message="is full")
    error.retry_after.seconds = 3
    broker.reject = lambda message: error if message.queue == "full" else None
    jobs = [JobRequest("x", queue="full"), JobRequest("x")]
    with pytest.raises(BatchFailed) as caught:
        await answer(either.dispatch_batch(jobs, allow_partial=True))
    refused = caught.value.errors[0]
    assert isinstance(refused, QueueFull)
    assert refused.retry_after == 3
    assert len(broker.called("Push")) == 1


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_many_producers_of_a_small_queue_get_all_their_jobs_through(kind: Any) -> None:
    """Over a real broker, whose queue has room for five."""
    room = {"TOWLINE_CORE__MAX_QUEUE_DEPTH": "5"}
    with BrokerProcess("memory:", environment=room) as server:
        worker = Worker(server.address, ["small"], concurrency=4, registry=registry)
        async with connected(kind, server.address) as client:
            with worker:

                async def produce() -> list[str]:
                    if kind is AsyncClient:
                        made = [await client.dispatch(Nothing(), call_timeout=60) for _ in range(5)]
                    else:
                        made = [
                            await asyncio.to_thread(client.dispatch, Nothing(), call_timeout=60)
                            for _ in range(5)
                        ]
                    return [handle.id for handle in made]

                ended = [
                    await answer(client.wait(job_id, 30))
                    for ids in await asyncio.gather(*(produce() for _ in range(8)))
                    for job_id in ids
                ]
        assert [status.state for status in ended] == [JobState.SUCCEEDED] * 40

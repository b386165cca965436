"""A producer hears what became of its job: the result, the failure, or that it is still open."""

import asyncio
import threading
import time
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import grpc
import pytest

from tests.sdk.both_clients import answer, connected
from tests.sdk.scripted_broker import Failure, ScriptedBroker, unavailable
from towline import (
    AsyncClient,
    BrokerUnavailable,
    CancelOutcome,
    Client,
    ClientClosed,
    DeadReason,
    InvalidJob,
    InvalidPayload,
    JobCancelled,
    JobFailed,
    JobRequest,
    JobState,
    JobStatus,
    NotFound,
    ResultTimeout,
)
from towline.context import Progress
from towline.v1 import errors_pb2, job_pb2

SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
UNKNOWN_ID = "01890000-0000-7000-8000-000000000001"


@pytest.fixture(params=[Client, AsyncClient])
async def either(request: pytest.FixtureRequest, broker: ScriptedBroker) -> AsyncIterator[Any]:
    async with connected(request.param, broker.address) as client:
        yield client


async def test_the_result_is_what_the_worker_left(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch("x"))
    broker.finish(handle.id, SUCCEEDED, result=b'{"pages": [1, null]}')
    assert await answer(handle.result(timeout=5)) == {"pages": [1, None]}
    assert await answer(either.handle(handle.id).result()) == {"pages": [1, None]}


async def test_a_job_without_result_gives_none(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch("x"))
    broker.finish(handle.id, SUCCEEDED)
    assert await answer(handle.result()) is None


async def test_waiting_ends_when_the_job_does(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch("x"))

    def finish_once_it_waits() -> None:
        broker.until_called("GetJob", 1)
        broker.finish(handle.id, SUCCEEDED, result=b"1")

    thread = threading.Thread(target=finish_once_it_waits)
    thread.start()
    began = time.monotonic()
    assert await answer(handle.result(timeout=20)) == 1
    assert time.monotonic() - began < 5
    assert len(broker.called("GetJob")) == 1, "it waits at the broker and does not poll"
    thread.join()


async def test_one_call_waits_for_half_a_minute_at_most(
    either: Any, broker: ScriptedBroker
) -> None:
    handle = await answer(either.dispatch("x"))
    broker.finish(handle.id, SUCCEEDED)
    await answer(handle.result(timeout=timedelta(hours=1)))
    await answer(handle.result())
    assert [call.wait.seconds for call in broker.called("GetJob")] == [30, 30]


async def test_a_dead_job_raises_with_its_failure(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch("x"))
    failure = job_pb2.Failure(type="ValueError", message="no", trace="Traceback: here")
    broker.finish(
        handle.id,
        job_pb2.JOB_STATE_DEAD,
        dead_reason=job_pb2.DEAD_REASON_ATTEMPTS_EXHAUSTED,
        last_failure=failure,
    )
    with pytest.raises(
        JobFailed, match=r"is dead \(ATTEMPTS_EXHAUSTED\): ValueError: no"
    ) as caught:
        await answer(handle.result())
    error = caught.value
    assert (error.job_id, error.failure_type, error.failure_message) == (
        handle.id, "ValueError", "no",
    )  # fmt: skip
    assert error.trace == "Traceback: here"
    assert "Traceback: here" in error.__notes__[0]


class Mine(Exception):
    pass


class Odd(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one + two)


async def test_an_error_that_the_caller_names_is_raised_as_such(
    either: Any, broker: ScriptedBroker
) -> None:
    handle = await answer(either.dispatch("x"))
    failure = job_pb2.Failure(type="Mine", message="no", trace="Traceback: here")
    broker.finish(
        handle.id,
        job_pb2.JOB_STATE_DEAD,
        dead_reason=job_pb2.DEAD_REASON_REJECTED,
        last_failure=failure,
    )
    with pytest.raises(Mine) as caught:
        await answer(handle.result(errors=(ValueError, Mine)))
    assert str(caught.value) == "no"
    shown = "".join(traceback.format_exception(caught.value))
    assert f"job {handle.id} is dead (REJECTED)" in shown
    assert shown.count("In the worker:\nTraceback: here") == 1
    with pytest.raises(JobFailed):
        await answer(handle.result(errors=(ValueError,)))
    with pytest.raises(Mine):
        await answer(handle.result(errors=Mine))
    with pytest.raises(InvalidJob, match="errors: expected exception classes, got 'Mine'"):
        await answer(handle.result(errors=["Mine"]))
    broker.jobs[handle.id].last_failure.type = "Odd"
    with pytest.raises(JobFailed, match="Odd: no") as failed:
        await answer(handle.result(errors=(Odd,)))
    assert "In the worker:\nTraceback: here" in "".join(traceback.format_exception(failed.value))


async def test_an_expired_job_raises_although_nothing_failed(
    either: Any, broker: ScriptedBroker
) -> None:
    handle = await answer(either.dispatch("x"))
    broker.finish(handle.id, job_pb2.JOB_STATE_DEAD, dead_reason=job_pb2.DEAD_REASON_EXPIRED)
    with pytest.raises(JobFailed, match=r"is dead \(EXPIRED\)$"):
        await answer(handle.result())


async def test_a_cancelled_job_raises(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch("x"))
    assert await answer(handle.cancel()) is CancelOutcome.CANCELLED
    with pytest.raises(JobCancelled, match=handle.id):
        await answer(handle.result())


async def test_a_wait_that_is_over_says_where_the_job_is(
    either: Any, broker: ScriptedBroker
) -> None:
    handle = await answer(either.dispatch("x"))
    with pytest.raises(ResultTimeout, match=r"not ended within 0\.3 s: it is READY") as caught:
        await answer(handle.result(timeout=0.3))
    assert (caught.value.job_id, caught.value.state) == (handle.id, "READY")
    with pytest.raises(ResultTimeout):
        await answer(handle.result(timeout=0))


async def test_an_unknown_job_is_not_waited_for(either: Any, broker: ScriptedBroker) -> None:
    for ask in (either.get, either.wait, lambda job_id: either.handle(job_id).result()):
        with pytest.raises(NotFound):
            await answer(ask(UNKNOWN_ID))
    assert len(broker.called("GetJob")) == 3


@pytest.mark.parametrize("wrong", [-1, "5", float("nan")])
async def test_an_impossible_timeout_is_refused(wrong: Any, either: Any) -> None:
    with pytest.raises(InvalidJob, match="timeout: expected seconds >= 0"):
        await answer(either.wait(UNKNOWN_ID, wrong))


async def test_a_restart_of_the_broker_is_waited_out(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch("x"))
    broker.finish(handle.id, SUCCEEDED, result=b"1")
    # Longer than what gRPC repeats by itself.
    broker.failures["GetJob"] = [unavailable()] * 6
    assert await answer(handle.result(timeout=30)) == 1
    assert len(broker.called("GetJob")) == 7


def too_many_waiting() -> Failure:
    retry = errors_pb2.RetryInfo()
    retry.retry_delay.nanos = 10_000_000
    return Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", retry)


async def test_too_many_waiting_calls_are_waited_out(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch("x"))
    broker.finish(handle.id, SUCCEEDED, result=b"1")
    broker.failures["GetJob"] = [too_many_waiting() for _ in range(3)]
    assert await answer(handle.result(timeout=30)) == 1


async def test_a_broker_that_stays_away_ends_the_wait(
    either: Any, broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("towline.waiting.OUTAGE", 0.0)
    handle = await answer(either.dispatch("x"))
    broker.failures["GetJob"] = [unavailable()] * 10
    with pytest.raises(BrokerUnavailable):
        await answer(handle.result())


async def test_a_status_tells_everything(either: Any, broker: ScriptedBroker) -> None:
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    handle = await answer(either.dispatch("x", queue="q", priority=2, headers={"a": "b"}))
    started = job_pb2.JobInfo(attempt=2, worker_id="w", releases=1)
    started.started_at.FromDatetime(at)
    started.last_failure.type = "OSError"
    started.last_failure.failed_at.FromDatetime(at)
    started.progress.fraction = 0.5
    started.progress.message = "half"
    broker.jobs[handle.id].MergeFrom(started)
    broker.jobs[handle.id].state = job_pb2.JOB_STATE_LEASED

    status = await answer(handle.status())
    assert (status.id, status.type, status.queue, status.priority) == (handle.id, "x", "q", 2)
    assert (status.state, status.attempt, status.releases) == (JobState.LEASED, 2, 1)
    assert (status.worker_id, status.started_at) == ("w", at)
    assert status.enqueued_at is not None
    assert status.enqueued_at.tzinfo is UTC
    assert (status.available_at, status.finished_at, status.dead_reason) == (None, None, None)
    assert (status.failure.type, status.failure.failed_at) == ("OSError", at)
    assert (status.progress.fraction, status.progress.message) == (0.5, "half")
    assert dict(status.headers) == {"a": "b"}
    assert not status.ended
    assert status.result is None


async def test_a_newer_broker_may_know_more_states(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch("x"))
    broker.finish(handle.id, 99, dead_reason=98)  # type: ignore[arg-type]  # the point of the test
    status = await answer(handle.status())
    assert status.state is JobState.UNKNOWN
    assert status.dead_reason is DeadReason.UNKNOWN


async def test_a_result_that_is_no_json_can_be_had_as_bytes(
    either: Any, broker: ScriptedBroker
) -> None:
    handle = await answer(either.dispatch("x"))
    broker.finish(handle.id, SUCCEEDED, result=b"\x89PNG")
    with pytest.raises(InvalidPayload, match=f"result of job {handle.id}: is no valid JSON"):
        await answer(handle.result())
    assert (await answer(either.wait(handle.id))).result_bytes == b"\x89PNG"


async def test_any_number_of_jobs_can_be_cancelled(either: Any, broker: ScriptedBroker) -> None:
    handles = [await answer(either.dispatch("x")) for _ in range(3)]
    broker.finish(handles[0].id, SUCCEEDED)
    unknown = [f"01890000-0000-7000-8000-{n:012}" for n in range(1200)]
    outcomes = await answer(either.cancel(*[handle.id for handle in handles], *unknown))
    assert [outcomes[handle.id] for handle in handles] == [
        CancelOutcome.ALREADY_ENDED,
        CancelOutcome.CANCELLED,
        CancelOutcome.CANCELLED,
    ]
    assert {outcomes[job_id] for job_id in unknown} == {CancelOutcome.NOT_FOUND}
    assert [len(call.ids) for call in broker.called("CancelJob")] == [1000, 203]
    assert await answer(either.cancel()) == {}


async def test_many_jobs_are_waited_for_together(either: Any, broker: ScriptedBroker) -> None:
    handles = await answer(either.dispatch_batch([JobRequest("x") for _ in range(3)]))
    broker.finish(handles[0].id, SUCCEEDED, result=b"1")
    broker.finish(handles[2].id, job_pb2.JOB_STATE_DEAD)
    began = time.monotonic()
    with pytest.raises(ResultTimeout, match=f"job {handles[1].id} has not ended"):
        await answer(either.wait_all(handles, timeout=0.3))
    assert time.monotonic() - began < 10
    broker.finish(handles[1].id, SUCCEEDED, result=b"2")
    first, second, third = await answer(either.wait_all(handles, timeout=20))
    assert [first.outcome(), second.outcome(), third.state] == [1, 2, JobState.DEAD]
    assert await answer(either.wait_all([])) == []
    with pytest.raises(InvalidJob, match="timeout: expected seconds >= 0"):
        await answer(either.wait_all([], timeout=-1))


async def test_an_async_handle_can_be_awaited(broker: ScriptedBroker) -> None:
    async with AsyncClient(broker.address) as client:
        handles = [await client.dispatch("x") for _ in range(3)]
        for number, handle in enumerate(handles):
            broker.finish(handle.id, SUCCEEDED, result=str(number).encode())
        assert await handles[2] == 2
        assert await asyncio.gather(*handles) == [0, 1, 2]


async def test_closing_a_client_ends_the_waiting(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch("x"))
    if isinstance(either, AsyncClient):
        waiting = asyncio.ensure_future(handle.result(timeout=20))
    else:
        waiting = asyncio.ensure_future(asyncio.to_thread(handle.result, timeout=20))
    await asyncio.to_thread(broker.until_called, "GetJob", 1)
    await answer(either.close())
    with pytest.raises(ClientClosed):
        await waiting


class TestWatching:
    async def test_every_change_that_is_seen_is_told_and_the_end_at_once(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        handle = await answer(either.dispatch("x"))
        seen = []

        def move(status: JobStatus) -> None:
            """What comes after what was seen; a look in between finds nothing new."""
            seen.append(status)
            calls = len(broker.called("GetJob"))

            def later() -> None:
                broker.until_called("GetJob", calls + 2)
                if status.state is JobState.READY:
                    broker.finish(handle.id, job_pb2.JOB_STATE_LEASED, attempt=1)
                elif status.progress is None:
                    progress = job_pb2.Progress(fraction=0.5, message="half")
                    broker.finish(handle.id, job_pb2.JOB_STATE_LEASED, progress=progress)
                else:
                    broker.finish(handle.id, SUCCEEDED, result=b"1")

            if not status.ended:
                threads.append(threading.Thread(target=later))
                threads[-1].start()

        threads: list[threading.Thread] = []
        if isinstance(either, AsyncClient):
            async for status in handle.watch(interval=0.05, timeout=60):
                move(status)
        else:
            for status in handle.watch(interval=0.05, timeout=60):
                move(status)
        assert [(status.state, status.progress) for status in seen] == [
            (JobState.READY, None),
            (JobState.LEASED, None),
            (JobState.LEASED, Progress(0.5, "half", b"")),
            (JobState.SUCCEEDED, Progress(0.5, "half", b"")),
        ]
        assert seen[-1].result == 1
        for thread in threads:
            thread.join()

    async def test_it_ends_with_its_timeout_and_outlives_refused_calls(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        handle = await answer(either.dispatch("x"))
        broker.failures["GetJob"] = [too_many_waiting() for _ in range(3)]
        with pytest.raises(ResultTimeout):
            await collected(either.watch(handle.id, interval=0.1, timeout=0.5))
        broker.finish(handle.id, SUCCEEDED)
        assert len(await collected(either.watch(handle.id))) == 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"interval": 0}, "interval: expected at least 0.05 seconds, got 0"),
            ({"interval": "1"}, "interval: expected seconds >= 0"),
            ({"timeout": -1}, "timeout: expected seconds >= 0"),
        ],
    )
    async def test_what_makes_no_sense_is_refused(
        self, options: Any, message: str, either: Any, broker: ScriptedBroker
    ) -> None:
        handle = await answer(either.dispatch("x"))
        with pytest.raises(InvalidJob) as caught:
            await collected(handle.watch(**options))
        assert str(caught.value).startswith(message)


async def collected(items: Any) -> list[Any]:
    return [item async for item in items] if hasattr(items, "__aiter__") else list(items)


async def test_an_id_may_be_a_uuid(either: Any, broker: ScriptedBroker) -> None:
    dispatched = await answer(either.dispatch("x"))
    broker.finish(dispatched.id, SUCCEEDED)
    job_id = UUID(dispatched.id)
    assert (await answer(either.get(job_id))).id == dispatched.id
    assert (await answer(either.wait(job_id))).id == dispatched.id
    assert either.handle(job_id).id == dispatched.id
    assert list(await answer(either.cancel(job_id))) == [dispatched.id]


@pytest.mark.parametrize("wrong", [5, None, b"x", "\ud800", ["x"]])
async def test_an_id_that_is_none_is_refused_here(
    wrong: Any, either: Any, broker: ScriptedBroker
) -> None:
    for call in (either.get, either.wait, either.cancel):
        with pytest.raises(InvalidJob, match=r"^job_id: "):
            await answer(call(wrong))
    with pytest.raises(InvalidJob, match=r"^job_id: "):
        either.handle(wrong)
    assert broker.calls == []


async def test_many_may_wait_at_once(broker: ScriptedBroker) -> None:
    async with AsyncClient(broker.address) as client:
        handles = [await client.dispatch("x") for _ in range(20)]
        waiting = asyncio.gather(*(handle.result(timeout=20) for handle in handles))
        await asyncio.to_thread(broker.until_called, "GetJob", 20)
        for number, handle in enumerate(handles):
            broker.finish(handle.id, SUCCEEDED, result=str(number).encode())
        assert await waiting == list(range(20))

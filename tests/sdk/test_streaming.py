"""Pushes that come often go over a stream, and nobody can tell but by the time that they take."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.both_clients import answer, connected
from tests.sdk.scripted_broker import scripted_broker
from tests.sdk.stream_broker import StreamBroker, stream_broker
from tests.support import waiting
from towline import (
    AsyncClient,
    BearerToken,
    BrokerError,
    Client,
    ClientClosed,
    DeadlineExceeded,
    InvalidArgument,
    PermissionDenied,
    QueueFull,
)
from towline.ids import uuid7
from towline.requests import push_one
from towline.transport import streams
from towline.transport.streams import IDLE, OFTEN
from towline.v1 import errors_pb2, job_pb2
from towline.v1.queue_service_pb2 import PushStreamRequest, StreamedPush

PATIENCE = 10.0
BOTH = [Client, AsyncClient]
THREADS = ThreadPoolExecutor(100)


@pytest.fixture
def broker() -> Iterator[StreamBroker]:
    with stream_broker() as broker:
        yield broker


@pytest.fixture(params=BOTH)
async def client(request: pytest.FixtureRequest, broker: StreamBroker) -> AsyncIterator[Any]:
    async with connected(request.param, broker.address) as client:
        yield client


def shorten(monkeypatch: pytest.MonkeyPatch, name: str, seconds: float) -> None:
    for module in ("streams", "streaming", "streaming_tasks"):
        monkeypatch.setattr(f"towline.transport.{module}.{name}", seconds, raising=False)


async def until(condition: Callable[[], bool], what: str = "what the test waits for") -> None:
    async def holds() -> bool:
        return condition()

    await waiting.until(holds, what, PATIENCE)


async def dispatch(client: Any, *arguments: Any, **options: Any) -> Any:
    """In a thread, if it is of those that block."""
    if isinstance(client, AsyncClient):
        return await client.dispatch(*arguments, **options)
    return await asyncio.get_running_loop().run_in_executor(
        THREADS, lambda: client.dispatch(*arguments, **options)
    )


@contextmanager
def short_turns() -> Iterator[None]:
    """Threads take turns often, so that they meet in the middle of whatever they do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


async def streaming(client: Any, broker: StreamBroker) -> None:
    """Dispatch until it goes over a stream that is younger than this call."""
    before, deadline = len(broker.streamed), time.monotonic() + PATIENCE
    while len(broker.streamed) == before:
        assert time.monotonic() < deadline, "no stream is opened"
        await dispatch(client, "warm")


def status(code: int, message: str, reason: str, *more: Any) -> errors_pb2.Status:
    found = errors_pb2.Status(code=code, message=message)
    for detail in (errors_pb2.ErrorInfo(reason=reason, domain="towline"), *more):
        packed = found.details.add()
        packed.type_url = f"type.googleapis.com/google.rpc.{detail.DESCRIPTOR.name}"
        packed.value = detail.SerializeToString()
    return found


async def test_pushes_that_come_often_share_a_stream_and_each_has_its_own_answer(
    client: Any, broker: StreamBroker
) -> None:
    await streaming(client, broker)
    calls, before = len(broker.called("Push")), len(broker.streamed)
    handles = await asyncio.gather(*(dispatch(client, "x", {"n": n}) for n in range(100)))
    assert len(broker.called("Push")) == calls
    assert len(broker.streamed) == before + 100
    assert len(broker.streams) == 1
    for n, handle in enumerate(handles):
        assert handle.created
        assert broker.jobs[handle.id].job.payload == b'{"n":%d}' % n
    again = await dispatch(client, "x", id=handles[0].id)
    assert (again.id, again.created) == (handles[0].id, False)


async def test_a_program_that_pushes_little_opens_no_stream(
    client: Any, broker: StreamBroker
) -> None:
    for _ in range(OFTEN - 1):
        await dispatch(client, "x")
    assert not broker.streams


@pytest.mark.parametrize("kind", BOTH)
async def test_switched_off_with_the_joining(kind: Any, broker: StreamBroker) -> None:
    async with connected(kind, broker.address, join_pushes=False) as client:
        for _ in range(3 * OFTEN):
            await dispatch(client, "x")
    assert not broker.streams


@pytest.mark.parametrize("kind", BOTH)
async def test_a_broker_without_streams_gets_calls(kind: Any) -> None:
    with scripted_broker() as broker:
        async with connected(kind, broker.address) as client:
            for _ in range(3 * OFTEN):
                await dispatch(client, "x")
    assert len(broker.jobs) == 3 * OFTEN


async def test_one_that_takes_no_more_streams_is_not_asked_each_time(
    client: Any, broker: StreamBroker
) -> None:
    broker.accepts = False
    began = time.monotonic()
    for _ in range(6 * OFTEN):
        await dispatch(client, "x")
    assert len(broker.jobs) == 6 * OFTEN
    assert 1 <= len(broker.streams) <= 2 + (time.monotonic() - began) / 0.4


FULL = errors_pb2.RetryInfo()
FULL.retry_delay.FromSeconds(20)
WRONG = errors_pb2.BadRequest()
WRONG.field_violations.add(field="jobs[0].payload", description="is too large")


@pytest.mark.parametrize(
    ("refused", "kind", "message"),
    [
        (status(3, "x", "INVALID_FIELD", WRONG), InvalidArgument, "payload: is too large"),
        (status(7, "not yours", "PERMISSION_DENIED"), PermissionDenied, "not yours"),
        (status(8, "full", "QUEUE_FULL", FULL), QueueFull, "full"),
        (status(13, "reference 1", "INTERNAL"), BrokerError, "reference 1"),
    ],
)
async def test_what_is_refused_raises_what_a_call_raises(
    client: Any,
    broker: StreamBroker,
    refused: errors_pb2.Status,
    kind: type[Exception],
    message: str,
) -> None:
    await streaming(client, broker)
    broker.refuse = lambda job: refused if job.type == "bad" else None
    good = asyncio.ensure_future(dispatch(client, "good"))
    with pytest.raises(kind) as raised:
        await dispatch(client, "bad", call_timeout=1)
    assert (await good).created
    assert type(raised.value) is kind
    assert str(raised.value) == message
    assert getattr(raised.value, "retry_after", 20) == 20
    assert not [request for request in broker.called("Push") if request.jobs[0].type == "bad"]


async def test_what_may_be_repeated_is_made_by_a_call(client: Any, broker: StreamBroker) -> None:
    await streaming(client, broker)
    draining = status(14, "draining", "DRAINING")
    broker.refuse = lambda job: draining if job.type == "late" else None
    handle = await dispatch(client, "late")
    assert handle.created
    assert broker.called("Push")[-1].jobs[0].id == handle.id


async def test_p3_what_a_broken_stream_left_unanswered_is_made_by_calls_under_the_same_ids(
    client: Any, broker: StreamBroker
) -> None:
    await streaming(client, broker)
    broker.silent = True
    before = len(broker.streamed)
    sent = [asyncio.ensure_future(dispatch(client, "x")) for _ in range(20)]
    await asyncio.to_thread(broker.until_streamed, before + 20)
    broker.streams[0].break_off()
    handles = await asyncio.gather(*sent)
    ids = {job.id for job in broker.streamed[before:]}
    assert {handle.id for handle in handles} == ids <= set(broker.jobs)


async def test_a_stream_that_is_closing_is_half_closed_and_followed_by_another(
    client: Any, broker: StreamBroker
) -> None:
    await streaming(client, broker)
    broker.streams[0].say_closing()
    assert await asyncio.to_thread(broker.streams[0].ended.wait, IDLE - 1)
    await streaming(client, broker)
    assert len(broker.streams) == 2
    assert not broker.streams[1].ended.is_set()


async def test_everyone_has_a_timeout_of_his_own_and_the_next_go_by_calls(
    client: Any, broker: StreamBroker
) -> None:
    await streaming(client, broker)
    broker.silent = True
    patient = asyncio.ensure_future(dispatch(client, "patient", call_timeout=60))
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="may be done all the same"):
        await dispatch(client, "impatient", call_timeout=0.3)
    assert 0.25 < time.monotonic() - began < 5
    assert (await dispatch(client, "next")).created
    assert broker.called("Push")[-1].jobs[0].type == "next"
    assert not patient.done()
    broker.streams[0].break_off()
    assert (await patient).created


async def test_while_a_push_waits_for_long_the_next_go_by_calls(
    client: Any, broker: StreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, "STALLED", 0.2)
    await streaming(client, broker)
    broker.silent = True
    waits = asyncio.ensure_future(dispatch(client, "x", call_timeout=60))
    await asyncio.sleep(0.3)
    assert (await dispatch(client, "next")).created
    broker.streams[0].break_off()
    await waits


async def test_what_swallows_a_stream_costs_a_moment(
    client: Any, broker: StreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, "STALLED", 0.2)
    broker.silent = True  # from its first push on
    await streaming(client, broker)
    assert set(broker.jobs) >= {job.id for job in broker.streamed}
    await until(broker.streams[0].ended.is_set, "its end")


async def test_a_stream_that_is_old_is_replaced_without_a_gap(
    client: Any, broker: StreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, "AGE", 0.2)
    await streaming(client, broker)
    calls = len(broker.called("Push"))
    deadline = time.monotonic() + PATIENCE
    while len(broker.streams) < 3:
        assert time.monotonic() < deadline
        await dispatch(client, "x")
    assert len(broker.called("Push")) == calls
    assert await asyncio.to_thread(broker.streams[0].ended.wait, IDLE - 1)


def test_threads_notice_nothing_when_their_stream_is_replaced(
    broker: StreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, "AGE", 0.02)
    until = time.monotonic() + 3
    with Client(broker.address) as client, ThreadPoolExecutor(8) as threads, short_turns():
        while not broker.streamed:
            client.dispatch("warm")
        calls = len(broker.called("Push"))

        def caller(_: int) -> None:
            while time.monotonic() < until:
                client.dispatch("x")

        list(threads.map(caller, range(8)))
    assert len(broker.streams) > 10
    assert len(broker.called("Push")) == calls


async def test_an_idle_stream_ends(
    client: Any, broker: StreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch, "IDLE", 0.2)
    await streaming(client, broker)
    await until(broker.streams[0].ended.is_set, "its end")
    await streaming(client, broker)
    assert len(broker.streams) == 2


async def test_a_large_job_goes_by_a_call(client: Any, broker: StreamBroker) -> None:
    await streaming(client, broker)
    handle = await dispatch(client, "x", {"text": "x" * streams.LARGEST})
    assert broker.called("Push")[-1].jobs[0].id == handle.id


@pytest.mark.parametrize("kind", BOTH)
async def test_close_ends_those_who_wait_and_all_that_runs(kind: Any, broker: StreamBroker) -> None:
    async with connected(kind, broker.address) as client:
        await streaming(client, broker)
        broker.silent = True
        before = len(broker.streamed)
        sent = [asyncio.ensure_future(dispatch(client, "x")) for _ in range(5)]
        await asyncio.to_thread(broker.until_streamed, before + 5)
        await answer(client.close())
        assert not [task for task in asyncio.all_tasks() if "_Stream" in repr(task)]
        results = await asyncio.gather(*sent, return_exceptions=True)
    assert [type(result) for result in results] == [ClientClosed] * 5
    await until(lambda: "towline-pushes" not in {each.name for each in threading.enumerate()})
    assert broker.streams[0].ended.wait(PATIENCE)


async def test_close_ends_also_what_is_being_written(broker: StreamBroker) -> None:
    async with AsyncClient(broker.address) as client:
        await streaming(client, broker)
        broker.reads.clear()
        text = "x" * (streams.LARGEST // 2)
        sent = [asyncio.ensure_future(client.dispatch("x", {"text": text})) for _ in range(64)]
        await asyncio.sleep(0)
        await client.close()
        assert not [task for task in asyncio.all_tasks() if "_Stream" in repr(task)]
        results = await asyncio.gather(*sent, return_exceptions=True)
    assert {type(result) for result in results} == {ClientClosed}


async def test_a_cancelled_task_takes_nobody_with_it(broker: StreamBroker) -> None:
    async with AsyncClient(broker.address) as client:
        await streaming(client, broker)
        broker.silent = True
        before = len(broker.streamed)
        sent = [asyncio.ensure_future(client.dispatch("x", call_timeout=60)) for _ in range(3)]
        await asyncio.to_thread(broker.until_streamed, before + 3)
        sent[0].cancel()
        broker.silent = False
        assert (await client.dispatch("x")).created
        assert len(broker.streams) == 1
        broker.streams[0].break_off()
        with pytest.raises(asyncio.CancelledError):
            await sent[0]
        assert all([(await each).created for each in sent[1:]])


@pytest.mark.parametrize("kind", BOTH)
async def test_each_stream_has_the_token_of_its_time(
    kind: Any, broker: StreamBroker, tmp_path: Path
) -> None:
    place = tmp_path / "token"
    place.write_text("first")
    async with connected(kind, broker.address, token=BearerToken(file=place)) as client:
        await streaming(client, broker)
        place.write_text("second")
        broker.streams[0].say_closing()
        assert await asyncio.to_thread(broker.streams[0].ended.wait, PATIENCE)
        await asyncio.sleep(1.1)  # the file is looked at once a second
        await streaming(client, broker)
    assert [stream.token for stream in broker.streams] == ["Bearer first", "Bearer second"]


def test_p1_many_threads_lose_and_mix_nothing(broker: StreamBroker) -> None:
    def caller(client: Client, number: int) -> list[tuple[str, bytes]]:
        told = []
        for n in range(100):
            handle = client.dispatch("x", {"n": n, "of": number})
            told.append((handle.id, b'{"n":%d,"of":%d}' % (n, number)))
        return told

    with Client(broker.address) as client, ThreadPoolExecutor(16) as threads:
        running: list[Future[list[tuple[str, bytes]]]] = [
            threads.submit(caller, client, number) for number in range(16)
        ]
        for each in running:
            for job_id, payload in each.result(60):
                assert broker.jobs[job_id].job.payload == payload
    assert len(broker.jobs) == 1_600
    assert len(broker.streamed) > 800


def test_messages_in_a_row_are_one_message() -> None:
    requests = [push_one(job_pb2.Job(id=uuid7(), payload=b"x" * n)) for n in (0, 1, 200)]
    joined = b"".join(streams.encoded(n, request) for n, request in enumerate(requests, start=1))
    assert PushStreamRequest.FromString(joined) == PushStreamRequest(
        pushes=[
            StreamedPush(sequence=n, request=request) for n, request in enumerate(requests, start=1)
        ]
    )

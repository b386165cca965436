"""Middleware around dispatches: once per call, where the caller is, for both clients."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.sdk.both_clients import answer
from tests.sdk.scripted_broker import ScriptedBroker, invalid
from towline import (
    AsyncClient,
    BatchFailed,
    Client,
    ConfigurationError,
    InvalidArgument,
    InvalidJob,
    Job,
    JobRequest,
    Registry,
)
from towline.middleware import MiddlewareError, OutgoingJob
from towline.requests import Pushed
from towline.v1 import errors_pb2

both_clients = pytest.mark.parametrize("kind", [Client, AsyncClient])
Kind = type[Client] | type[AsyncClient]


class Mail(Job, registry=Registry()):
    queue = "emails"
    to: str = ""


class Tagging:
    """Puts headers on every job, and remembers what it saw."""

    def __init__(self, name: str = "tag", value: str = "1") -> None:
        self.name, self.value = name, value
        self.calls: list[list[OutgoingJob]] = []
        self.results: list[Any] = []

    def push(self, jobs: Sequence[OutgoingJob]) -> Iterator[None]:
        self.calls.append(list(jobs))
        for job in jobs:
            job.headers[self.name] = f"{job.headers.get(self.name, '')}{self.value}"
        try:
            self.results.append((yield))
        except Exception as error:
            self.results.append(error)
            raise


def made(kind: Kind, broker: ScriptedBroker, *middleware: Any) -> Any:
    return kind(broker.address, middleware=middleware)


def headers(broker: ScriptedBroker) -> list[dict[str, str]]:
    return [dict(job.headers) for request in broker.called("Push") for job in request.jobs]


@both_clients
async def test_headers_that_are_set_travel_with_each_job(
    kind: Kind, broker: ScriptedBroker
) -> None:
    outer, inner = Tagging("tag", "outer"), Tagging("tag", "-inner")
    client = made(kind, broker, outer, inner)
    handle = await answer(client.dispatch(Mail(), headers={"own": "kept"}))
    await answer(client.dispatch("other", {"a": 1}))
    await answer(client.push_raw("images", "resize", b"\x89PNG", content_type="image/png"))
    await answer(client.dispatch_batch([Mail(), JobRequest("third", headers={"tag": ">"})]))
    await answer(client.close())
    assert headers(broker) == [
        {"own": "kept", "tag": "outer-inner"},
        {"tag": "outer-inner"},
        {"tag": "outer-inner"},
        {"tag": "outer-inner"},
        {"tag": ">outer-inner"},
    ]
    assert [len(jobs) for jobs in outer.calls] == [1, 1, 1, 2]
    [stored] = outer.results[0]
    assert (stored.job_id, stored.created) == (handle.id, True)


@both_clients
async def test_it_sees_what_is_pushed(kind: Kind, broker: ScriptedBroker) -> None:
    tagging = Tagging()
    client = made(kind, broker, tagging)
    at = datetime(2030, 1, 2, tzinfo=UTC)
    await answer(
        client.dispatch_batch(
            [
                JobRequest(Mail(to="a"), delay=1.5, priority=7, unique_key="key"),
                JobRequest("other", {}, at=at),
            ]
        )
    )
    await answer(client.close())
    [[first, second]] = tagging.calls
    stored = broker.called("Push")[0].jobs[0]
    assert (first.id, first.type, first.queue) == (stored.id, "Mail", "emails")
    assert (first.delay, first.at, first.priority, first.unique_key) == (1.5, None, 7, "key")
    assert (first.payload, first.content_type) == (b'{"to":"a"}', "application/json")
    assert (second.delay, second.at, second.unique_key) == (None, at, None)
    assert "payload" not in repr(first)
    with pytest.raises(AttributeError):
        first.queue = "reports"  # type: ignore[misc]


@both_clients
async def test_a_batch_of_several_calls_is_one_for_middleware(
    kind: Kind, broker: ScriptedBroker
) -> None:
    tagging = Tagging()
    client = made(kind, broker, tagging)
    await answer(client.dispatch_batch([JobRequest("x") for _ in range(2500)]))
    await answer(client.close())
    assert len(broker.called("Push")) == 3
    assert [len(jobs) for jobs in tagging.calls] == [2500]
    assert len(tagging.results[0]) == 2500
    assert set(map(str, headers(broker))) == {"{'tag': '1'}"}


@both_clients
async def test_each_part_of_a_batch_that_is_pushed_while_it_is_read_is_one_for_middleware(
    kind: Kind, broker: ScriptedBroker
) -> None:
    tagging = Tagging()
    client = made(kind, broker, tagging)
    handles = await answer(client.dispatch_batch(JobRequest("x") for _ in range(2500)))
    await answer(client.close())
    assert [len(jobs) for jobs in tagging.calls] == [1000, 1000, 500]
    assert [job.id for jobs in tagging.calls for job in jobs] == [each.id for each in handles]
    assert set(map(str, headers(broker))) == {"{'tag': '1'}"}


@both_clients
async def test_the_error_of_a_dispatch_passes_through_as_its_caller_sees_it(
    kind: Kind, broker: ScriptedBroker
) -> None:
    tagging = Tagging()
    client = made(kind, broker, tagging)
    broker.failures["Push"].append(invalid(("jobs[0].queue", "is no name")))
    with pytest.raises(InvalidArgument) as raised:
        await answer(client.dispatch(Mail()))
    assert tagging.results == [raised.value]
    assert raised.value.violations[0].field == "queue"

    broker.reject = lambda job: (
        errors_pb2.ItemError(code=8, message="full") if job.type == "x" else None
    )
    with pytest.raises(BatchFailed) as failed:
        await answer(client.dispatch_batch([Mail(), JobRequest("x")], allow_partial=True))
    assert tagging.results[1] is failed.value
    await answer(client.close())


@both_clients
async def test_an_error_before_the_yield_pushes_nothing(kind: Kind, broker: ScriptedBroker) -> None:
    class Refusing:
        def push(self, jobs: Sequence[OutgoingJob]) -> Iterator[None]:
            if jobs:
                raise PermissionError("not on Sundays")
            yield

    client = made(kind, broker, Tagging(), Refusing())
    with pytest.raises(PermissionError, match="not on Sundays"):
        await answer(client.dispatch(Mail()))
    await answer(client.close())
    assert not broker.called("Push")


@both_clients
@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("n", 5, "Mail.headers: expected strings, got 'n': int"), ("n", "\udc80", "is no text")],
)
async def test_a_header_that_cannot_be_sent_is_told_by_its_name(
    kind: Kind, broker: ScriptedBroker, key: str, value: Any, told: str
) -> None:
    def wrong(jobs: Sequence[OutgoingJob]) -> Iterator[None]:
        jobs[0].headers[key] = value
        yield

    client = made(kind, broker, wrong)
    with pytest.raises(InvalidJob, match=told):
        await answer(client.dispatch(Mail()))
    await answer(client.close())
    assert not broker.called("Push")


@both_clients
async def test_a_push_can_be_skipped_with_results_of_ones_own(
    kind: Kind, broker: ScriptedBroker
) -> None:
    def skip(jobs: Sequence[OutgoingJob]) -> Generator[None, list[Pushed], list[Pushed] | None]:
        if jobs[0].type == "dry":
            return [Pushed(job.id, created=False) for job in jobs]
        if jobs[0].type == "wrong":
            return None
        return (yield)

    client = made(kind, broker, skip)
    assert (await answer(client.dispatch("dry"))).created is False
    assert not broker.called("Push")
    with pytest.raises(MiddlewareError, match=r"expected a list of 1 .*Pushed"):
        await answer(client.dispatch("wrong"))
    assert (await answer(client.dispatch("real"))).created is True
    await answer(client.close())


request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")


def carry(jobs: Sequence[OutgoingJob]) -> Iterator[None]:
    """Runs in the context of whoever dispatches, and in its thread or task."""
    for job in jobs:
        job.headers["request"] = request_id.get()
        job.headers["thread"] = str(threading.get_ident())
    yield


def test_dispatches_of_many_threads_that_travel_together_keep_their_own_context(
    broker: ScriptedBroker,
) -> None:
    sent: dict[str, tuple[str, str]] = {}
    barrier = threading.Barrier(8)
    with Client(broker.address, middleware=[carry]) as client:

        def work(number: int) -> None:
            request_id.set(f"request {number}")
            barrier.wait(10)
            for _ in range(20):
                sent[client.dispatch(Mail()).id] = (
                    f"request {number}",
                    str(threading.get_ident()),
                )

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    jobs = [job for request in broker.called("Push") for job in request.jobs]
    assert len(jobs) == 160
    assert len(broker.called("Push")) < 160  # so they did travel together
    assert {job.id: (job.headers["request"], job.headers["thread"]) for job in jobs} == sent


async def test_dispatches_of_many_tasks_that_travel_together_keep_their_own_context(
    broker: ScriptedBroker,
) -> None:
    async def carry_async(jobs: Sequence[OutgoingJob]) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        for job in jobs:
            job.headers["again"] = request_id.get()
        yield

    sent: dict[str, str] = {}
    async with AsyncClient(broker.address, middleware=[carry, carry_async]) as client:

        async def work(number: int) -> None:
            request_id.set(f"request {number}")
            sent[(await client.dispatch(Mail())).id] = f"request {number}"

        await asyncio.gather(*(work(number) for number in range(100)))
    jobs = [job for request in broker.called("Push") for job in request.jobs]
    assert len(broker.called("Push")) < 100
    assert {job.id: job.headers["request"] for job in jobs} == sent
    assert {job.id: job.headers["again"] for job in jobs} == sent


def no_generator(jobs: Sequence[OutgoingJob]) -> None: ...


def of_two(job: Any, context: Any) -> Iterator[None]:
    yield


async def async_generator(jobs: Sequence[OutgoingJob]) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Tagging, "expected a list"),
        ([Tagging], "is a class: give an instance"),
        ([no_generator], "expected a generator function"),
        ([of_two], r"of_two: is called as push\(jobs\)"),
    ],
)
@both_clients
def test_what_is_no_middleware_is_refused_when_the_client_is_made(
    kind: Kind, given: Any, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        kind("127.0.0.1:1", middleware=given)


def test_an_async_generator_needs_an_async_client(broker: ScriptedBroker) -> None:
    with pytest.raises(ConfigurationError, match=r"async_generator: .*use AsyncClient"):
        Client(broker.address, middleware=[async_generator])
    AsyncClient(broker.address, middleware=[async_generator])


@both_clients
async def test_a_dispatch_without_middleware_pays_nothing_for_it(
    kind: Kind, broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("it was called")

    monkeypatch.setattr("towline.middleware.pushing.PushMiddleware.run", refuse)
    monkeypatch.setattr("towline.middleware.pushing.PushMiddleware.run_async", refuse)
    monkeypatch.setattr(OutgoingJob, "__init__", refuse)
    client = kind(broker.address)
    await answer(client.dispatch(Mail()))
    await answer(client.dispatch_batch([Mail()]))
    await answer(client.close())

"""sync:// and a broker with a worker agree on what becomes of a job (S1, T1)."""

import asyncio
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sdk.both_clients import answer
from towline import (
    AsyncClient,
    Client,
    Exponential,
    Figures,
    Job,
    JobState,
    JobStatus,
    Registry,
    Reject,
    Release,
    Retry,
    Stats,
    Worker,
    current_job,
    job,
    testing,
)
from towline.figures import Timing
from towline.testing import SyncBroker

registry = Registry()
#: For a broker shows all of a job that succeeded only as long as its retention says.
kept = functools.partial(job, registry=registry, retention=60)


@kept()
def add(a: int, b: int) -> int:
    return a + b


@kept()
async def add_async(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@kept(backoff=[10, 30])
def fail(times: int) -> str:
    if current_job().attempt <= times:
        raise ValueError(f"failure {current_job().attempt}")
    return "done at last"


@kept()
def reject() -> None:
    raise Reject("bad data")


@kept()
def ask_for_retry(after: float | None) -> int:
    if current_job().attempt == 1:
        raise Retry(after)
    return current_job().attempt


@kept()
def release_once() -> int:
    if current_job().last_failure is None:
        raise Release
    return current_job().attempt


@kept()
def unencodable() -> object:
    return object()


@kept(timeout=0.001)
def outlive_timeout() -> None:
    current_job().wait_cancelled(0.02)


@kept(timeout=0.001)
async def outlive_timeout_async() -> None:
    await asyncio.sleep(60)


@kept()
def count_checkpoints() -> list[str]:
    me = current_job()
    seen = me.last_progress.checkpoint.decode() if me.last_progress else ""
    me.progress(me.attempt / 3, "on the way")
    me.checkpoint(f"{seen}{me.attempt}".encode())
    if me.attempt < 3:
        raise ValueError("not yet")
    return [seen]


class NeverRetried(Job, registry=registry):
    def handle(self) -> None:
        raise KeyError("one shot")

    def should_retry(self, error: BaseException) -> bool:
        return not isinstance(error, KeyError)


class RetriedOnSomeErrors(Job, registry=registry):
    retry_on = (OSError,)
    dead_on = (FileNotFoundError,)
    backoff = 5
    error: str

    def handle(self) -> None:
        raise {"time": TimeoutError, "file": FileNotFoundError, "value": ValueError}[self.error]


class OwnDelay(Job, registry=registry):
    max_attempts = 4
    backoff = 1000

    def handle(self) -> None:
        raise ValueError

    def next_retry_delay(self, attempt: int, error: BaseException) -> timedelta | None:
        return timedelta(minutes=attempt) if attempt < 3 else None


class Growing(Job, registry=registry):
    max_attempts = 5
    backoff = Exponential(initial=2, multiplier=3, maximum=20)

    def handle(self) -> None:
        raise ValueError


class Undecodable(Job, registry=registry):
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("negative")

    def handle(self) -> None: ...


Dispatch = Callable[[Any], Any]

CASES: dict[str, Dispatch] = {
    "returns": lambda client: client.dispatch(add, a=1, b=2),
    "returns, async": lambda client: client.dispatch(add_async, a=1, b=2),
    "fails once": lambda client: client.dispatch(fail, times=1),
    "fails twice": lambda client: client.dispatch(fail, times=2),
    "always fails": lambda client: client.dispatch(fail, times=9),
    "may fail once only": lambda client: client.dispatch(fail, {"times": 9}, max_attempts=1),
    "fails more often": lambda client: client.dispatch(fail, {"times": 9}, max_attempts=5),
    "rejects": lambda client: client.dispatch(reject),
    "asks for a retry": lambda client: client.dispatch(ask_for_retry, after=None),
    "asks for a late retry": lambda client: client.dispatch(ask_for_retry, after=90),
    "last attempt asks for a retry": lambda client: client.dispatch(
        ask_for_retry, {"after": 5}, max_attempts=1
    ),
    "releases": lambda client: client.dispatch(release_once),
    "result cannot be kept": lambda client: client.dispatch(unencodable),
    "outlives its timeout": lambda client: client.dispatch(outlive_timeout),
    "outlives its timeout, async": lambda client: client.dispatch(outlive_timeout_async),
    "leaves checkpoints": lambda client: client.dispatch(count_checkpoints),
    "says that it is not to be retried": lambda client: client.dispatch(NeverRetried()),
    "fails as is retried": lambda client: client.dispatch(RetriedOnSomeErrors(error="time")),
    "fails as is not retried": lambda client: client.dispatch(RetriedOnSomeErrors(error="value")),
    "fails as is never retried": lambda client: client.dispatch(RetriedOnSomeErrors(error="file")),
    "gives its own delay": lambda client: client.dispatch(OwnDelay()),
    "grows its delay": lambda client: client.dispatch(Growing()),
    "does not fit the type": lambda client: client.dispatch("Undecodable", {"number": -1}),
    "waits longer than it lives": lambda client: client.dispatch(
        add, {"a": 1, "b": 2}, delay=60, expires_in=30
    ),
    "waits less than it lives": lambda client: client.dispatch(
        add, {"a": 1, "b": 2}, delay=30, expires_in=60
    ),
    "starts at a time": lambda client: client.dispatch(
        add, {"a": 1, "b": 2}, at=datetime.now(UTC) + timedelta(hours=1)
    ),
    "is pushed raw": lambda client: client.push_raw(
        "default", "add", b'{"a": 1, "b": 2}', retention=60
    ),
    "is no JSON": lambda client: client.push_raw("default", "add", b"{"),
}

cases = pytest.mark.parametrize("dispatch", CASES.values(), ids=CASES)


def seen(status: JobStatus) -> dict[str, Any]:
    """What must not differ: all but ids and times.

    A worker need not tell the progress of an attempt that has succeeded already.
    """
    failure = status.failure
    return {
        "state": status.state,
        "attempt": status.attempt,
        "dead_reason": status.dead_reason,
        "failure": failure and (failure.type, failure.message),
        "result": status.result_bytes,
        "progress": None if status.state is JobState.SUCCEEDED else status.progress,
        "releases": status.releases,
    }


def counts(stats: Stats) -> dict[str, Figures]:
    """What must not differ: all but how long anything took."""
    figures = {"": stats.total, **stats.queues, **{f"type {k}": v for k, v in stats.types.items()}}
    return {
        name: replace(each, processing=Timing(), wait=Timing(), oldest_ready_age=None)
        for name, each in figures.items()
    }


@pytest.fixture(scope="module", autouse=True)
def _a_worker() -> Iterator[None]:
    with Worker("memory://parity", ["default"], registry=registry, concurrency=1):
        yield


def by_broker(dispatch: Dispatch) -> tuple[dict[str, Any], dict[str, Figures]]:
    """What a broker and a worker make of it, with as much time as it takes."""
    until = time.monotonic() + 30
    with testing.broker("parity", registry=registry) as towline:
        handle = dispatch(towline.client)
        while not handle.status().ended:
            assert time.monotonic() < until, "it did not end in time"
            if not towline.client.stats().total.leased:
                towline.travel_to_next()
        return seen(handle.status()), counts(towline.client.stats())


@cases
def test_a_client_agrees_with_a_broker(dispatch: Dispatch) -> None:
    client = Client(SyncBroker(registry=registry))

    status = dispatch(client).status()

    assert status.ended
    assert (seen(status), counts(client.stats())) == by_broker(dispatch)


@cases
async def test_an_async_client_agrees_with_a_broker(dispatch: Dispatch) -> None:
    client = AsyncClient(SyncBroker(registry=registry))

    status = await answer((await answer(dispatch(client))).status())

    # Elsewhere: a job of a plain client may want a loop of its own.
    by = await asyncio.to_thread(by_broker, dispatch)
    assert (seen(status), counts(await client.stats())) == by


def test_the_delays_are_those_of_the_policy() -> None:
    broker = SyncBroker(registry=registry)
    client = Client(broker)

    assert broker.delays_of(client.dispatch(fail, times=9).id) == [0, 10, 30]
    assert broker.delays_of(client.dispatch(fail, {"times": 1}, delay=300).id) == [300, 10]
    assert broker.delays_of(client.dispatch(OwnDelay()).id) == [0, 60, 120, 1000]
    assert broker.delays_of(client.dispatch(Growing()).id) == [0, 2, 6, 18, 20]
    assert broker.delays_of(client.dispatch(ask_for_retry, after=90).id) == [0, 90]

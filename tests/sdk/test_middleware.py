"""Middleware around handlers: generators that run before and after, in both pools."""

import asyncio
import contextvars
import json
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import Any

import pytest

from tests.sdk.fake_broker import FakeBroker, duration
from tests.sdk.running import Heard, both_pools, fake_broker, happens, working
from towline import ConfigurationError, JobControl, Registry, Reject, Release, Retry, Worker, job
from towline.context import JobContext, current_job
from towline.middleware import AttemptEnd, AttemptOutcome, MiddlewareError
from towline.worker.options import PoolName

registry = Registry()

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


@job(registry=registry)
def plain(value: int = 1) -> list[Any]:
    return [value, tenant.get()]


@job(registry=registry)
async def coroutine(value: int = 1) -> list[Any]:
    await asyncio.sleep(0)
    return [value, tenant.get()]


def _disguised(value: int = 1) -> Any:
    return coroutine(value)


disguised = job(type="disguised", registry=registry)(_disguised)

ERRORS: dict[str, Callable[[], BaseException]] = {
    "value": lambda: ValueError("no such thing"),
    "stop": lambda: StopIteration("no such thing"),
    "stop-async": lambda: StopAsyncIteration("no such thing"),
    "exit": lambda: SystemExit("no such thing"),
    "cancelled": asyncio.CancelledError,
}


@job(registry=registry)
def fail(how: str = "value") -> None:
    raise ERRORS[how]()


@job(registry=registry)
async def fail_async(how: str = "value") -> None:
    await asyncio.sleep(0)
    raise ERRORS[how]()


both_handlers = pytest.mark.parametrize("type", ["plain", "coroutine"])
every_handler = pytest.mark.parametrize("type", ["plain", "coroutine", "disguised"])


class Setting:
    """Sets a contextvar around the handler, as one does for tenants, locales and transactions."""

    def handle(self, job: Any, context: JobContext) -> Iterator[None]:
        token = tenant.set(f"tenant of {context.type}")
        try:
            yield
        finally:
            tenant.reset(token)


class SettingAsync:
    async def handle(self, job: Any, context: JobContext) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        token = tenant.set(f"tenant of {context.type}")
        try:
            yield
        finally:
            await asyncio.sleep(0)
            tenant.reset(token)


def result_of(broker: FakeBroker, job_id: str) -> Any:
    return json.loads(broker.ack(job_id).result)


@both_pools
@every_handler
def test_what_is_set_around_a_handler_holds_in_it_and_its_result_stays(
    pool: PoolName, type: str
) -> None:
    with fake_broker() as broker, working(broker, registry, pool=pool, middleware=[Setting()]):
        assert result_of(broker, broker.add(type)) == [1, f"tenant of {type}"]


@every_handler
def test_an_async_generator_runs_on_the_loop_around_either_kind_of_handler(type: str) -> None:
    middleware = [SettingAsync(), Setting()]
    with fake_broker() as broker, working(broker, registry, pool="async", middleware=middleware):
        assert result_of(broker, broker.add(type)) == [1, f"tenant of {type}"]


def test_a_plain_generator_runs_in_the_thread_of_a_plain_handler_and_on_the_loop_else() -> None:
    threads: dict[str, set[str]] = {"plain": set(), "coroutine": set()}

    def note(job: Any, context: JobContext) -> Iterator[None]:
        threads[context.type].add(threading.current_thread().name.rpartition("-")[0])
        yield
        threads[context.type].add(threading.current_thread().name.rpartition("-")[0])

    with fake_broker() as broker, working(broker, registry, pool="async", middleware=[note]):
        for type in threads:
            broker.ack(broker.add(type))
    assert threads == {"plain": {"towline-handler"}, "coroutine": {"towline"}}


@both_pools
@both_handlers
def test_the_first_is_the_outermost(pool: PoolName, type: str) -> None:
    steps: list[str] = []

    def around(name: str, job: Any, context: JobContext) -> Generator[None, list[Any], list[Any]]:
        steps.append(f"before {name}")
        result = yield
        steps.append(f"after {name}")
        return [*result, name]

    middleware = [partial(around, "outer"), partial(around, "inner")]
    with fake_broker() as broker, working(broker, registry, pool=pool, middleware=middleware):
        assert result_of(broker, broker.add(type)) == [1, "nobody", "inner", "outer"]
    assert steps == ["before outer", "before inner", "after inner", "after outer"]


@both_pools
@both_handlers
def test_one_that_returns_before_its_yield_skips_the_handler(pool: PoolName, type: str) -> None:
    after: list[str] = []

    def outer(job: Any, context: JobContext) -> Generator[None, Any, None]:
        after.append((yield))

    def skip(job: Any, context: JobContext) -> Generator[None, Any, str]:
        if job.value == 1:
            return "skipped"
        yield
        return "not skipped"

    def never(job: Any, context: JobContext) -> Iterator[None]:
        after.append("it was called")
        yield

    middleware = [outer, skip, never]
    with fake_broker() as broker, working(broker, registry, pool=pool, middleware=middleware):
        assert result_of(broker, broker.add(type)) == "skipped"
    assert after == ["skipped"]


@both_pools
@pytest.mark.parametrize("type", ["fail", "fail_async"])
@pytest.mark.parametrize("how", ERRORS)
def test_an_error_passes_through_and_is_told_as_if_nothing_was_around(
    pool: PoolName, type: str, how: str
) -> None:
    seen: list[BaseException] = []

    class Look:
        def handle(self, job: Any, context: JobContext) -> Iterator[None]:
            try:
                yield
            except BaseException as error:
                seen.append(error)
                raise

    class LookAsync:
        async def handle(self, job: Any, context: JobContext) -> AsyncIterator[None]:
            try:
                yield
            except BaseException as error:
                seen.append(error)
                raise

    payload = json.dumps({"how": how}).encode()
    middleware: list[Any] = [Look(), Setting(), Look()]
    if pool == "async" and how != "stop":  # which Python lets no coroutine raise
        middleware.append(LookAsync())
    with fake_broker() as broker:
        with working(broker, registry, pool=pool):
            bare = broker.nack(broker.add(type, payload)).failure
        with working(broker, registry, pool=pool, middleware=middleware):
            failure = broker.nack(broker.add(type, payload)).failure
    assert failure == bare
    assert len(seen) == len(middleware) - 1
    assert {id(error) for error in seen} == {id(seen[0])}


@both_pools
@pytest.mark.parametrize("type", ["fail", "fail_async"])
def test_an_error_that_is_caught_makes_a_result(pool: PoolName, type: str) -> None:
    def catch(job: Any, context: JobContext) -> Generator[None, Any, str | None]:
        try:
            yield
        except ValueError:
            return None if job.how == "value" else "caught"
        return "not raised"

    with fake_broker() as broker, working(broker, registry, pool=pool, middleware=[catch]):
        assert result_of(broker, broker.add(type)) is None


@both_pools
@both_handlers
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("make", "action"),
    [
        (ValueError, None),
        (partial(Retry, 7), "retry_after"),
        (Reject, "dead_letter"),
        (partial(Release, 7), "release"),
    ],
)
def test_what_it_raises_counts_as_the_handlers(
    pool: PoolName,
    type: str,
    when: str,
    make: Callable[[], BaseException],
    action: str | None,
) -> None:
    error = make()
    left: list[str] = []

    def outer(job: Any, context: JobContext) -> Iterator[None]:
        try:
            yield
        finally:
            left.append("outer")

    def raising(job: Any, context: JobContext) -> Iterator[None]:
        if when == "before":
            raise error
        yield
        raise error

    heard = Heard()
    middleware = [outer, raising]
    with (
        fake_broker() as broker,
        working(broker, registry, heard, pool=pool, middleware=middleware),
    ):
        nack = broker.nack(broker.add(type))
    assert nack.WhichOneof("action") == action
    assert nack.failure.type == error.__class__.__name__
    assert left == ["outer"]
    assert bool(heard.job_errors) is not isinstance(error, Release)
    if not isinstance(error, JobControl):
        # Of what runs middleware there is nothing in the trace.
        assert nack.failure.trace.count("File ") == 1
        assert "in raising" in nack.failure.trace


@both_pools
@both_handlers
def test_a_coroutine_that_outlives_its_timeout_leaves_what_is_around_it(
    pool: PoolName, type: str
) -> None:
    own = Registry()
    left: list[str] = []

    @job(type="slow", registry=own)
    async def slow() -> None:
        await asyncio.sleep(1000)

    def around(job: Any, context: JobContext) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            left.append("cancelled")
            raise

    with fake_broker() as broker, working(broker, own, pool=pool, middleware=[around]):
        nack = broker.nack(broker.add("slow", timeout=duration(0.1)))
    assert nack.failure.type == "JobTimeout"
    assert left == ["cancelled"]


def test_async_middleware_that_waits_is_cancelled_by_the_timeout_as_its_handler_is() -> None:
    async def waiting(job: Any, context: JobContext) -> AsyncIterator[None]:
        await asyncio.sleep(1000)
        yield

    with fake_broker() as broker, working(broker, registry, pool="async", middleware=[waiting]):
        nack = broker.nack(broker.add("plain", timeout=duration(0.1)))
    assert nack.failure.type == "JobTimeout"


def test_async_middleware_does_not_leave_a_plain_handler_that_still_runs() -> None:
    own = Registry()
    begun, go_on = threading.Event(), threading.Event()
    steps: list[str] = []

    @job(type="stubborn", registry=own)
    def stubborn() -> None:
        begun.set()
        assert current_job().wait_cancelled(20)
        happens(go_on)
        steps.append("handler")

    async def around(job: Any, context: JobContext) -> AsyncIterator[None]:
        try:
            yield
        finally:
            steps.append("left")

    with fake_broker() as broker, working(broker, own, pool="async", middleware=[around]):
        job_id = broker.add("stubborn", timeout=duration(0.1))
        happens(begun)
        go_on.set()
        assert broker.nack(job_id).failure.type == "JobTimeout"
    assert steps == ["handler", "left"]


@both_pools
@pytest.mark.parametrize("times", [0, 2])
def test_a_second_yield_or_one_of_a_value_is_the_failure_of_the_job(
    pool: PoolName, times: int
) -> None:
    closed: list[str] = []

    def wrong(job: Any, context: JobContext) -> Iterator[Any]:
        try:
            if times == 0:
                yield job
            for _ in range(times):
                yield
        finally:
            closed.append("closed")

    async def wrong_async(job: Any, context: JobContext) -> AsyncIterator[Any]:
        try:
            if times == 0:
                yield job
            for _ in range(times):
                yield
        finally:
            closed.append("closed")

    for middleware in [wrong, wrong_async] if pool == "async" else [wrong]:
        with fake_broker() as broker, working(broker, registry, pool=pool, middleware=[middleware]):
            failure = broker.nack(broker.add("plain")).failure
        assert failure.type == MiddlewareError.__name__
        assert "wrong" in failure.message
        assert "yields a" in failure.message
    assert closed


class Untyped:
    """Middleware as a program writes it that no type checker reads."""

    def __init__(self, **hooks: Any) -> None:
        vars(self).update(hooks)


async def async_generator(job: Any, context: JobContext) -> AsyncIterator[None]:
    yield


def generator(job: Any, context: JobContext) -> Iterator[None]:
    yield


def generator_of_one(jobs: Any) -> Iterator[None]:
    yield


def no_generator(job: Any, context: JobContext) -> None: ...


async def no_generator_either(job: Any, context: JobContext) -> None: ...


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Setting(), "expected a list"),
        ("Setting", "expected a list"),
        ([Setting], r"Setting is a class: give an instance, Setting\(...\)"),
        ([object()], "expected a generator function, or an object with push"),
        ([None], "None is none: expected a generator function"),
        ([no_generator], "no_generator: expected a generator function, one with a `yield`"),
        ([no_generator_either], "no_generator_either: .* it is a coroutine function"),
        ([Untyped(handle=no_generator)], r"Untyped.handle: expected a generator function"),
        ([Untyped(push=no_generator)], r"Untyped.push: expected a generator function"),
        ([Untyped(push=generator)], r"Untyped.push: is called as push\(jobs\)"),
        ([Untyped(ended=generator_of_one)], "Untyped.ended: expected a plain function"),
        ([Untyped(ended=no_generator)], r"Untyped.ended: is called as ended\(end\)"),
        ([generator_of_one], r"generator_of_one: is called as handle\(job, context\)"),
        ([async_generator], r'async_generator: is an async generator.*use pool="async"'),
        ([SettingAsync()], r"SettingAsync.handle: is an async generator"),
    ],
)
def test_what_is_no_middleware_is_refused_when_the_worker_is_made(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Worker("127.0.0.1:1", middleware=given)


def test_a_worker_with_a_loop_takes_async_generators_and_middleware_for_clients_only() -> None:
    push_only: Any = Untyped(push=generator_of_one)
    Worker("127.0.0.1:1", pool="async", middleware=[async_generator, SettingAsync(), push_only])
    Worker("127.0.0.1:1", middleware=[generator, push_only])


class Listening:
    def __init__(self) -> None:
        self.ends: list[AttemptEnd] = []

    def ended(self, end: AttemptEnd) -> None:
        self.ends.append(end)


class Told:
    """A job whose end a test chooses."""

    registry = Registry()


@job(type="chosen", registry=Told.registry)
def chosen(end: str = "") -> str:
    match end:
        case "retry":
            raise Retry
        case "reject":
            raise Reject
        case "release":
            raise Release
        case "fail":
            raise ValueError
        case "late":
            assert current_job().wait_cancelled(20)
    return "done"


@both_pools
@pytest.mark.parametrize(
    ("end", "attempt", "outcome", "error"),
    [
        ("", 1, AttemptOutcome.SUCCEEDED, None),
        ("fail", 1, AttemptOutcome.RETRIED, "ValueError"),
        ("fail", 2, AttemptOutcome.DEAD, "ValueError"),
        ("retry", 1, AttemptOutcome.RETRIED, "Retry"),
        ("retry", 2, AttemptOutcome.DEAD, "Retry"),
        ("reject", 1, AttemptOutcome.DEAD, "Reject"),
        ("release", 2, AttemptOutcome.RELEASED, "Release"),
        ("late", 1, AttemptOutcome.RETRIED, "JobTimeout"),
    ],
)
def test_ended_is_told_what_the_worker_decided(
    pool: PoolName, end: str, attempt: int, outcome: AttemptOutcome, error: str | None
) -> None:
    listening = Listening()
    payload = json.dumps({"end": end}).encode()
    retry = {"max_attempts": 2}
    with (
        fake_broker() as broker,
        working(broker, Told.registry, pool=pool, middleware=[listening]) as worker,
    ):
        job_id = broker.add("chosen", payload, attempt=attempt, retry=retry, timeout=duration(0.2))
        broker.settlement(job_id)
        worker.stop()
    [told] = listening.ends
    assert (told.context.id, told.context.attempt, told.job.end) == (job_id, attempt, end)
    assert told.outcome is outcome
    assert (None if told.error is None else type(told.error).__name__) == error
    assert 0 <= told.seconds < 20


def test_ended_is_told_of_a_payload_that_cannot_be_decoded_without_a_job() -> None:
    listening = Listening()
    with fake_broker() as broker, working(broker, registry, middleware=[listening]) as worker:
        broker.nack(broker.add("plain", b"{"))
        worker.stop()
    [told] = listening.ends
    assert told.job is None
    assert told.outcome is AttemptOutcome.DEAD
    assert type(told.error).__name__ == "InvalidPayload"


@both_pools
@pytest.mark.parametrize("raised", [ValueError, SystemExit])
def test_an_ended_that_raises_harms_nothing_and_the_next_one_is_told(
    pool: PoolName, raised: type[BaseException]
) -> None:
    def broken(end: AttemptEnd) -> None:
        raise raised("no")

    heard, listening = Heard(), Listening()
    middleware: list[Any] = [Untyped(ended=broken), listening]
    with (
        fake_broker() as broker,
        working(broker, registry, heard, pool=pool, middleware=middleware) as worker,
    ):
        broker.ack(broker.add("plain"))
        worker.stop()
    assert [type(error) for error in heard.errors] == [raised]
    assert len(listening.ends) == 1


def test_a_job_without_middleware_pays_nothing_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("it was called")

    for name in ("run", "run_async", "ended"):
        monkeypatch.setattr(f"towline.middleware.handling.HandlerMiddleware.{name}", refuse)
    with fake_broker() as broker, working(broker, registry) as worker:
        broker.ack(broker.add("plain"))
        broker.nack(broker.add("fail"))
        worker.stop()

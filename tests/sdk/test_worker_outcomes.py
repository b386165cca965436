"""What becomes of a job: each end of a handler is told as documented, in both pools."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import pytest

from tests.sdk.running import Heard, both_pools, fake_broker, happens, working
from towline.control import Reject, Release, Retry
from towline.durations import Seconds
from towline.errors import InvalidPayload
from towline.jobs import Job, job
from towline.registry import Registry
from towline.v1.queue_service_pb2 import Nack
from towline.worker import InvalidResult
from towline.worker.options import PoolName

registry = Registry()


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class RaisesItself(BaseException):
    def __str__(self) -> str:
        raise self


ERRORS: dict[str, Callable[[], BaseException]] = {
    "io": lambda: ConnectionError("no route"),
    "plain": lambda: ValueError("no such address"),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "cancelled": asyncio.CancelledError,
    "long": lambda: ValueError("x" * 100_000),
    "surrogate": lambda: ValueError("\udc80 is no UTF-8"),
    "unprintable": Unprintable,
    "raises-itself": RaisesItself,
    "retry": Retry,
    "retry-in-90": lambda: Retry(90),
    "reject": lambda: Reject("no such customer"),
    "release": Release,
    "release-for-30": lambda: Release(30),
}


@job(registry=registry)
def add(a: int, b: int) -> int:
    return a + b


@job(registry=registry)
async def add_async(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@job(registry=registry)
def fail(how: str) -> None:
    raise ERRORS[how]()


@job(registry=registry)
async def fail_async(how: str) -> None:
    await asyncio.sleep(0)
    raise ERRORS[how]()


class Picky(Job, registry=registry):
    """Says by itself what is retried, and when."""

    error: str
    broken_hooks: bool = False

    def handle(self) -> None:
        raise {"permanent": LookupError, "slow": TimeoutError, "other": ValueError}[self.error]

    def should_retry(self, error: BaseException) -> bool:
        if self.broken_hooks:
            raise RuntimeError("a hook fails too")
        return not isinstance(error, LookupError)

    def next_retry_delay(self, attempt: int, error: BaseException) -> Seconds | None:
        if self.broken_hooks:
            raise RuntimeError("a hook fails too")
        return 100.0 * attempt if isinstance(error, TimeoutError) else None


@job(registry=registry, dead_on=ValueError)
def no_values(how: str) -> None:
    raise ERRORS[how]()


@job(registry=registry, retry_on=OSError)
def only_io(how: str) -> None:
    raise ERRORS[how]()


@job(registry=registry)
def useless_result() -> object:
    return object()


@job(registry=registry)
def huge_result() -> str:
    return "x" * (1024 * 1024)


@job(registry=registry)
def returns_coroutine() -> Any:
    return asyncio.sleep(0, result="awaited")


adding = pytest.mark.parametrize("type", ["add", "add_async"])
failing = pytest.mark.parametrize("type", ["fail", "fail_async"])


def payload(**arguments: object) -> bytes:
    return json.dumps(arguments).encode()


@both_pools
@adding
def test_what_a_handler_returns_is_the_result(pool: PoolName, type: str) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, registry, heard, pool=pool) as worker:
        ack = broker.ack(broker.add(type, payload(a=40, b=2)))
        assert json.loads(ack.result) == 42
        heard.wait_for(lambda: heard.completed)
        worker.stop()
    assert worker.stats.processed == 1
    [(job, result)] = heard.completed
    assert (job.a, job.b, result) == (40, 2, 42)
    assert heard.started == [job]
    assert not heard.job_errors
    assert not heard.errors


@both_pools
def test_a_coroutine_that_a_plain_function_returns_is_awaited(pool: PoolName) -> None:
    with fake_broker() as broker, working(broker, registry, pool=pool):
        assert json.loads(broker.ack(broker.add("returns_coroutine")).result) == "awaited"


def nacked(pool: PoolName, type: str, body: bytes, **fields: Any) -> tuple[Nack, Heard]:
    heard = Heard()
    with fake_broker() as broker, working(broker, registry, heard, pool=pool) as worker:
        nack = broker.nack(broker.add(type, body, **fields))
        worker.stop()
    stats = worker.stats
    assert (stats.processed, stats.failed + stats.released, stats.lost) == (0, 1, 0)
    assert stats.released == (nack.WhichOneof("action") == "release")
    return nack, heard


@both_pools
@failing
def test_an_exception_is_retried_by_the_policy_of_the_job(pool: PoolName, type: str) -> None:
    nack, heard = nacked(pool, type, payload(how="plain"))
    assert nack.WhichOneof("action") is None
    assert nack.failure.type == "ValueError"
    assert nack.failure.message == "no such address"
    assert nack.failure.trace.startswith("Traceback (most recent call last):\n")
    assert "raise ERRORS[how]()" in nack.failure.trace
    assert "ValueError: no such address" in nack.failure.trace
    assert "towline/worker" not in nack.failure.trace.replace("\\", "/")
    [(job, error, trace)] = heard.job_errors
    assert job.how == "plain"
    assert isinstance(error, ValueError)
    assert trace == nack.failure.trace
    assert not heard.completed


@both_pools
@failing
@pytest.mark.parametrize(
    ("how", "name"),
    [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt"), ("cancelled", "CancelledError")],
)
def test_what_would_end_a_thread_or_a_loop_is_a_failure_like_others(
    pool: PoolName, type: str, how: str, name: str
) -> None:
    with fake_broker() as broker, working(broker, registry, pool=pool, concurrency=1):
        nack = broker.nack(broker.add(type, payload(how=how)))
        assert nack.WhichOneof("action") is None
        assert nack.failure.type == name
        # The only slot is there for the next one.
        assert json.loads(broker.ack(broker.add("add", payload(a=1, b=2))).result) == 3


@both_pools
def test_a_failure_fits_into_a_message_whatever_the_exception_says(pool: PoolName) -> None:
    nack, _ = nacked(pool, "fail", payload(how="long"))
    assert len(nack.failure.message) == 4096
    assert len(nack.failure.trace) == 32 * 1024
    nack, _ = nacked(pool, "fail", payload(how="surrogate"))
    assert nack.failure.message == "? is no UTF-8"
    nack, _ = nacked(pool, "fail", payload(how="unprintable"))
    assert nack.failure.type == "Unprintable"
    nack, _ = nacked(pool, "fail", payload(how="raises-itself"))
    assert nack.failure.type == "RaisesItself"


@both_pools
@failing
def test_retry_asks_for_another_attempt_after_a_delay_of_its_own(pool: PoolName, type: str) -> None:
    nack, heard = nacked(pool, type, payload(how="retry-in-90"))
    assert nack.retry_after.ToSeconds() == 90
    assert nack.failure.type == "Retry"
    assert isinstance(heard.job_errors[0][1], Retry)
    nack, _ = nacked(pool, type, payload(how="retry"))
    assert nack.WhichOneof("action") is None


@both_pools
@failing
def test_reject_sends_the_job_to_the_dead_letter_queue(pool: PoolName, type: str) -> None:
    nack, heard = nacked(pool, type, payload(how="reject"))
    assert nack.dead_letter
    assert (nack.failure.type, nack.failure.message) == ("Reject", "no such customer")
    assert isinstance(heard.job_errors[0][1], Reject)


@both_pools
@failing
def test_release_gives_the_job_back(pool: PoolName, type: str) -> None:
    nack, heard = nacked(pool, type, payload(how="release-for-30"))
    assert nack.release.delay.ToSeconds() == 30
    assert not heard.job_errors
    nack, _ = nacked(pool, type, payload(how="release"))
    assert nack.WhichOneof("action") == "release"
    assert not nack.release.HasField("delay")


@both_pools
def test_should_retry_sends_what_cannot_succeed_to_the_dead_letter_queue(pool: PoolName) -> None:
    nack, _ = nacked(pool, "Picky", payload(error="permanent"))
    assert nack.dead_letter
    assert nack.failure.type == "LookupError"


@both_pools
@pytest.mark.parametrize(
    ("type", "how", "dead"),
    [
        ("no_values", "plain", True),
        ("no_values", "io", False),
        ("no_values", "retry", False),
        ("only_io", "plain", True),
        ("only_io", "io", False),
        ("only_io", "retry", False),
    ],
)
def test_the_types_of_errors_decide_what_is_retried(
    pool: PoolName, type: str, how: str, dead: bool
) -> None:
    nack, _ = nacked(pool, type, payload(how=how))
    assert nack.dead_letter is dead
    assert nack.WhichOneof("action") == ("dead_letter" if dead else None)


@both_pools
def test_next_retry_delay_comes_before_the_policy(pool: PoolName) -> None:
    nack, _ = nacked(pool, "Picky", payload(error="slow"), attempt=3)
    assert nack.retry_after.ToSeconds() == 300
    nack, _ = nacked(pool, "Picky", payload(error="other"))
    assert nack.WhichOneof("action") is None


@both_pools
def test_a_hook_that_raises_leaves_the_policy_in_force(pool: PoolName) -> None:
    nack, heard = nacked(pool, "Picky", payload(error="permanent", broken_hooks=True))
    assert nack.WhichOneof("action") is None
    assert nack.failure.type == "LookupError"
    assert [str(error) for error in heard.errors] == ["a hook fails too"] * 2


@both_pools
@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", payload(), payload(a=1, b="two")])
def test_a_payload_that_cannot_be_decoded_is_dead_at_once_with_the_reason(
    pool: PoolName, body: bytes
) -> None:
    nack, heard = nacked(pool, "add", body)
    assert nack.dead_letter
    assert nack.failure.type == "InvalidPayload"
    assert nack.failure.message
    assert [type(error) for error in heard.errors] == [InvalidPayload]
    assert not heard.started


@both_pools
@pytest.mark.parametrize(
    ("type", "message"),
    [("useless_result", "cannot be encoded"), ("huge_result", "has 1048578 bytes")],
)
def test_a_result_that_cannot_be_kept_makes_the_job_dead(
    pool: PoolName, type: str, message: str
) -> None:
    nack, heard = nacked(pool, type, b"{}")
    assert nack.dead_letter
    assert nack.failure.type == "InvalidResult"
    assert message in nack.failure.message
    assert isinstance(heard.job_errors[0][1], InvalidResult)
    assert not heard.completed


class Explosive(Job, registry=registry):
    """Ends its process, or would, at a place beside its handler."""

    where: str

    def handle(self) -> None:
        raise ValueError("the handler's own")

    def should_retry(self, error: BaseException) -> bool:
        if self.where == "should_retry":
            raise SystemExit
        return True

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        if data["where"] == "from_dict":
            raise SystemExit
        return super().from_dict(data)


@both_pools
@pytest.mark.parametrize("where", ["from_dict", "should_retry"])
def test_what_a_job_does_beside_its_handler_ends_no_thread_and_no_loop(
    pool: PoolName, where: str
) -> None:
    with fake_broker() as broker, working(broker, registry, pool=pool, concurrency=1):
        nack = broker.nack(broker.add("Explosive", payload(where=where)))
        assert nack.WhichOneof("action") is None
        assert nack.failure.type == "SystemExit"
        assert json.loads(broker.ack(broker.add("add", payload(a=1, b=2))).result) == 3


async def raise_exit() -> None:
    raise SystemExit


@job(registry=registry)
async def add_slowly(a: int, b: int) -> int:
    await asyncio.sleep(0.3)
    return a + b


slow_in_thread = threading.Event()


@job(registry=registry)
def add_slowly_in_thread(a: int, b: int) -> int:
    slow_in_thread.set()
    time.sleep(0.5)
    return a + b


@job(registry=registry)
async def harm_the_loop(how: str) -> str:
    loop = asyncio.get_running_loop()
    if how == "stop":
        loop.stop()
    elif how == "cancel all":
        for task in asyncio.all_tasks():
            task.cancel()
    else:
        harmful = loop.create_task(raise_exit())
        await asyncio.sleep(0)
        assert harmful.done()
    await asyncio.sleep(0.01)
    return "done"


@pytest.mark.parametrize(
    ("how", "in_thread"),
    [("stop", "RuntimeError"), ("cancel all", "CancelledError"), ("exit", "SystemExit")],
)
def test_a_handler_that_harms_the_loop_of_its_thread_has_failed(how: str, in_thread: str) -> None:
    with fake_broker() as broker, working(broker, registry, pool="thread", concurrency=1):
        nack = broker.nack(broker.add("harm_the_loop", payload(how=how)))
        assert nack.failure.type == in_thread
        assert json.loads(broker.ack(broker.add("add", payload(a=1, b=2))).result) == 3


@pytest.mark.parametrize("how", ["stop", "exit"])
def test_the_loop_that_handlers_share_goes_on_whatever_one_of_them_does_to_it(how: str) -> None:
    with fake_broker() as broker, working(broker, registry, pool="async", concurrency=2):
        beside = broker.add("add_slowly", payload(a=2, b=3))
        assert json.loads(broker.ack(broker.add("harm_the_loop", payload(how=how))).result)
        assert json.loads(broker.ack(beside).result) == 5
        assert json.loads(broker.ack(broker.add("add_async", payload(a=1, b=2))).result) == 3


def test_handlers_that_another_cancels_on_their_loop_have_failed_and_threads_go_on() -> None:
    with fake_broker() as broker, working(broker, registry, pool="async", concurrency=4):
        beside = broker.add("add_slowly", payload(a=2, b=3))
        in_thread = broker.add("add_slowly_in_thread", payload(a=3, b=4))
        happens(slow_in_thread)
        cancelling = broker.add("harm_the_loop", payload(how="cancel all"))
        assert broker.nack(cancelling).failure.type == "CancelledError"
        assert broker.nack(beside).failure.type == "CancelledError"
        assert json.loads(broker.ack(in_thread).result) == 7
        assert json.loads(broker.ack(broker.add("add_async", payload(a=1, b=2))).result) == 3

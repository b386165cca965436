"""RateLimit and UniqueWhileRunning: what is over goes back at once, with the right delay."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.sdk.fake_broker import FakeBroker
from tests.sdk.process_workers import program, until
from tests.sdk.running import both_pools, fake_broker, happens, working
from tests.support.broker_process import BrokerProcess
from towline import (
    Client,
    ConfigurationError,
    Job,
    Registry,
    Release,
    Worker,
    current_job,
    job,
)
from towline.context import JobContext
from towline.middleware import RateLimit, UniqueWhileRunning
from towline.middleware.rate_limit import LONGEST_DELAY
from towline.v1.queue_service_pb2 import Nack
from towline.worker.options import PoolName

registry = Registry()


@job(type="mail", registry=registry)
def mail(customer: str = "") -> None: ...


class Invoice(Job, registry=registry):
    job_aliases = ("Bill",)
    customer: str = ""

    def handle(self) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def context(type: str = "mail") -> JobContext:
    return JobContext(id="1", queue="default", type=type)


def delay(middleware: Any, job: Any = None, type: str = "mail") -> float:
    """Seconds for which the job is put off; 0 when it may begin."""
    generator: Iterator[None] = middleware.handle(job or mail.job(), context(type))
    try:
        next(generator)
    except Release as release:
        return release.after or 0.0
    return 0.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limited(clock: Clock) -> Callable[..., RateLimit]:
    def make(*arguments: Any, **options: Any) -> RateLimit:
        limit = RateLimit(*arguments, **options)
        vars(limit)["_clock"] = clock
        return limit

    return make


def test_no_more_than_the_limit_begin_in_any_span(
    limited: Callable[..., RateLimit], clock: Clock
) -> None:
    limit = limited(3, per=10)
    begun: list[float] = []
    for _ in range(400):
        clock.now += 0.25
        if not delay(limit):
            begun.append(clock.now)
    assert len(begun) == 3 * 10
    assert all(later - first >= 10 for first, later in zip(begun, begun[3:], strict=False))


def test_jobs_over_the_limit_come_back_in_turn_and_then_there_is_room(
    limited: Callable[..., RateLimit], clock: Clock
) -> None:
    limit = limited(2, per=10)
    assert [delay(limit) for _ in range(7)] == [0, 0, 10, 10, 20, 20, 30]
    for seconds, returning in ((10, 2), (20, 2), (30, 1)):
        clock.now = 1000.0 + seconds
        assert [delay(limit) for _ in range(returning)] == [0] * returning


def test_a_backlog_is_put_off_once_each_and_runs_at_the_full_rate(
    limited: Callable[..., RateLimit], clock: Clock
) -> None:
    limit = limited(5, per=1)
    waiting = [(0.0, number) for number in range(500)]  # when it comes, which job
    put_off = 0
    finished: list[float] = []
    while waiting:
        waiting.sort()
        after, number = waiting.pop(0)
        clock.now = 1000.0 + after
        seconds = delay(limit)
        if seconds:
            put_off += 1
            waiting.append((after + seconds, number))
        else:
            finished.append(after)
    assert put_off <= 500
    assert finished[-1] == pytest.approx(99)


def test_the_longest_delay_is_bounded_and_a_queue_that_was_purged_delays_nobody_for_ever(
    limited: Callable[..., RateLimit], clock: Clock
) -> None:
    limit = limited(1, per=600)
    delays = [delay(limit) for _ in range(20)]
    assert delays[:7] == [0, 600, 1200, 1800, 2400, 3000, 3600]
    assert set(delays[7:]) == {LONGEST_DELAY}
    clock.now += 600  # none of them comes back, and yet the next one runs
    assert delay(limit) == 0


def test_types_are_counted_each_for_itself(limited: Callable[..., RateLimit]) -> None:
    limit = limited(1, per=timedelta(minutes=1))
    assert [delay(limit), delay(limit, type="Invoice")] == [0, 0]
    assert [delay(limit), delay(limit, type="Invoice")] == [60, 60]


def test_only_the_types_that_are_named_are_counted(limited: Callable[..., RateLimit]) -> None:
    limit = limited(1, per=60, types=[mail, Invoice, "other"])
    for type in ("mail", "Invoice", "other"):
        assert [delay(limit, type=type), delay(limit, type=type)] == [0, 60]
    assert [delay(limit, type="free"), delay(limit, type="free")] == [0, 0]


def test_jobs_of_an_earlier_name_count_as_what_they_are_now(
    limited: Callable[..., RateLimit],
) -> None:
    for types in (None, [Invoice], ["Invoice"]):
        limit = limited(1, per=60, types=types)
        assert delay(limit, Invoice(), type="Bill") == 0
        assert delay(limit, Invoice(), type="Invoice") == 60
    limit = limited(1, per=60, types=["Bill"])
    assert [delay(limit, Invoice(), type="Bill"), delay(limit, Invoice(), type="Bill")] == [0, 60]


def test_jobs_are_counted_by_a_key_and_left_alone_by_none(
    limited: Callable[..., RateLimit],
) -> None:
    limit = limited(1, per=60, key=lambda job: job.customer or None)
    for type in ("mail", "Invoice"):  # whatever their type
        assert bool(delay(limit, mail.job("ann"), type)) is (type == "Invoice")
    assert delay(limit, mail.job("bob")) == 0
    assert [delay(limit, mail.job()), delay(limit, mail.job())] == [0, 0]


def test_keys_of_long_ago_are_forgotten(limited: Callable[..., RateLimit], clock: Clock) -> None:
    limit = limited(1, per=1, key=lambda job: job.customer)
    for number in range(50_000):
        clock.now += 0.01
        assert delay(limit, mail.job(str(number))) == 0
    windows: dict[str, object] = vars(limit)["_windows"]
    assert len(windows) <= 1100
    assert delay(limit, mail.job("49999")) > 0  # and those of now are not


@both_pools
def test_a_job_over_the_limit_is_released_so_that_others_run(pool: PoolName) -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, pool=pool, middleware=[RateLimit(1, per=60)]) as worker,
    ):
        broker.ack(broker.add("mail"))
        over, other = broker.add("mail"), broker.add("Invoice")
        nack = broker.nack(over)
        broker.ack(other)
        worker.stop()
    assert nack.WhichOneof("action") == "release"
    assert 58 < nack.release.delay.ToTimedelta().total_seconds() <= 60
    assert nack.failure.message == "over the limit of 1 in 60 s"
    assert (worker.stats.released, worker.stats.processed) == (1, 2)


@pytest.mark.parametrize("options", [{"pool": "process"}, {"processes": 2, "concurrency": 1}])
def test_one_at_a_time_holds_in_all_processes_of_a_worker_and_ends_with_the_process(
    options: dict[str, Any], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    payload = json.dumps({"path": str(there)}).encode()
    with fake_broker() as broker, program(broker, unique=True, **options) as worker:
        waiting = broker.add("wait_for_file", payload)
        [pid] = worker.hears("waits")
        for _ in range(4):
            assert released_for(broker.nack(broker.add("wait_for_file", payload))) == 5
        assert result(broker, broker.add("double", b'{"number": 21}')) == 42
        assert not broker.is_settled(waiting)
        os.kill(int(pid), signal.SIGKILL)  # its lock goes with it
        # Not merely a zombie, of which threads may still hold on to its files.
        until(lambda: not psutil.pid_exists(int(pid)), "the end of the process")
        broker.add("wait_for_file", payload)
        worker.hears("waits")
        there.touch()


def test_with_a_broker_all_jobs_run_in_the_end_each_at_its_first_attempt() -> None:
    own = Registry()
    begun: list[float] = []

    @job(type="call", registry=own, retention=60, max_attempts=1)
    def call() -> int:
        begun.append(time.monotonic())
        return current_job().attempt

    with BrokerProcess("memory:") as broker, Client(broker.address) as client:
        handles = client.dispatch_batch([call.job() for _ in range(6)])
        with Worker(broker.address, registry=own, middleware=[RateLimit(2, per=0.5)]):
            assert [handle.result(30) for handle in handles] == [1] * 6
    begun.sort()
    assert all(later - first > 0.49 for first, later in zip(begun, begun[2:], strict=False))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"limit": 0}, "limit: expected a whole number of at least 1, got 0"),
        ({"limit": 1.5}, "limit: expected a whole number"),
        ({"limit": True}, "limit: expected a whole number"),
        ({"per": 0}, "per: expected more than 0 seconds"),
        ({"per": -1}, "per: expected seconds"),
        ({"per": "1m"}, "per: expected seconds"),
        ({"key": "customer"}, "key: expected a function of the job, got 'customer'"),
        ({"types": "mail"}, "types: expected a list of job types, got 'mail'"),
        ({"types": mail}, "types: expected a list of job types, got <job mail>"),
        ({"types": [5]}, "types: expected the name of a type, a Job class or a function"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        RateLimit(**{"limit": 1, "per": 1, **arguments})


@pytest.mark.parametrize("arguments", [{"retry_after": -1}, {"key": 5}, {"types": Invoice}])
def test_a_uniqueness_that_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        UniqueWhileRunning(**arguments)


class Slow(Job, registry=registry):
    """Runs until the test lets it go."""

    account: str = ""
    fails: bool = False

    def handle(self) -> None:
        begun.release()
        happens(go_on)
        if self.fails:
            raise ValueError


begun = threading.Semaphore(0)
go_on = threading.Event()


@pytest.fixture
def slow() -> Iterator[None]:
    global begun
    begun = threading.Semaphore(0)
    go_on.clear()
    yield
    go_on.set()


def add(broker: FakeBroker, account: str = "", *, fails: bool = False) -> str:
    return broker.add("Slow", json.dumps({"account": account, "fails": fails}).encode())


def result(broker: FakeBroker, job_id: str) -> Any:
    return json.loads(broker.ack(job_id).result)


def released_for(nack: Nack) -> float:
    assert nack.WhichOneof("action") == "release"
    return nack.release.delay.ToTimedelta().total_seconds()


@both_pools
@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("fails", [False, True])
def test_while_a_job_runs_another_with_its_key_is_released(pool: PoolName, fails: bool) -> None:
    unique = UniqueWhileRunning(key=lambda job: job.account or None, types=[Slow], retry_after=7)
    with (
        fake_broker() as broker,
        working(broker, registry, pool=pool, middleware=[unique], concurrency=8),
    ):
        first = add(broker, "ann", fails=fails)
        assert begun.acquire(timeout=20)
        nack = broker.nack(add(broker, "ann"))
        assert released_for(nack) == 7
        assert nack.failure.message == "a job with the same key is running"
        for account in ("bob", "", ""):  # other keys, and jobs without one, run beside it
            add(broker, account)
            assert begun.acquire(timeout=20)
        broker.ack(broker.add("mail"))  # nor is another type concerned
        assert not broker.is_settled(first)
        go_on.set()
        broker.settlement(first)
        broker.ack(add(broker, "ann"))  # once it has ended, the next one may run


@pytest.mark.usefixtures("slow")
def test_without_a_key_one_job_of_each_type_runs_at_a_time() -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, middleware=[UniqueWhileRunning()]),
    ):
        add(broker)
        assert begun.acquire(timeout=20)
        assert released_for(broker.nack(add(broker))) == 5
        broker.ack(broker.add("mail"))

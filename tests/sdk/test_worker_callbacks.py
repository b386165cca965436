"""Callbacks and logs: they tell, they cannot harm, and they give nothing away."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Self

import grpc
import pytest

from tests.sdk.fake_broker import duration
from tests.sdk.running import Heard, both_pools, fake_broker, working
from towline.context import current_job
from towline.control import Retry
from towline.errors import ConfigurationError, InvalidPayload
from towline.jobs import Job, job
from towline.registry import Registry
from towline.v1.queue_service_pb2 import LeaseOutcome
from towline.worker import UnknownJobType, Worker
from towline.worker.leases import HeldLease
from towline.worker.options import PoolName

registry = Registry()


@job(registry=registry)
def succeed(secret: str = "") -> str:
    return secret


@job(registry=registry)
def fail(secret: str = "") -> None:
    raise ValueError(secret)


@job(registry=registry)
def ask_again() -> None:
    raise Retry


@job(registry=registry)
async def slow(secret: str = "") -> None:
    import asyncio

    await asyncio.sleep(1000)


@both_pools
@pytest.mark.parametrize("raised", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises_harms_neither_its_job_nor_the_worker(
    pool: PoolName, raised: type[BaseException]
) -> None:
    def broken(*told: object) -> None:
        raise raised("callback")

    heard = Heard()
    callbacks = dict.fromkeys(["on_job_start", "on_job_complete", "on_job_error"], broken)
    with (
        fake_broker() as broker,
        working(broker, registry, heard, pool=pool, concurrency=1, **callbacks) as worker,
    ):
        for _ in range(2):
            broker.ack(broker.add("succeed"))
            assert broker.nack(broker.add("fail")).failure.type == "ValueError"
        heard.wait_for(lambda: len(heard.errors) == 8)
        worker.stop()
    assert {type(error) for error in heard.errors} == {raised}
    assert (worker.stats.processed, worker.stats.failed) == (2, 2)


@both_pools
def test_an_on_error_that_raises_harms_nothing(pool: PoolName) -> None:
    def broken(error: BaseException) -> None:
        raise SystemExit

    with fake_broker() as broker, working(broker, registry, pool=pool, on_error=broken) as worker:
        broker.nack(broker.add("Unknown"))
        broker.nack(broker.add("succeed", b"{"))
        broker.fail("Heartbeat", grpc.StatusCode.INTERNAL)
        broker.ack(broker.add("succeed"))
        worker.stop()
    assert (worker.stats.processed, worker.stats.failed, worker.stats.released) == (1, 1, 1)


@both_pools
def test_callbacks_know_the_current_job(pool: PoolName) -> None:
    seen: list[str] = []

    def look(*told: object) -> None:
        seen.append(current_job().id)

    with (
        fake_broker() as broker,
        working(
            broker,
            registry,
            pool=pool,
            concurrency=1,
            on_job_start=look,
            on_job_complete=look,
            on_job_error=look,
        ) as worker,
    ):
        good, bad = broker.add("succeed"), broker.add("fail")
        broker.ack(good)
        broker.nack(bad)
        worker.stop()
    assert seen == [good, good, bad, bad]


@both_pools
def test_decorators_add_callbacks_which_are_called_in_their_order(pool: PoolName) -> None:
    steps: list[str] = []

    def note(name: str) -> Callable[..., None]:
        def callback(*told: object) -> None:
            steps.append(f"{name} {len(told)}")

        return callback

    with fake_broker() as broker:
        worker = Worker(broker.address, registry=registry, pool=pool, on_job_start=note("start 1"))
        for decorate, event in (
            (worker.on_job_start, "start"),
            (worker.on_job_complete, "complete"),
            (worker.on_job_error, "job error"),
            (worker.on_error, "error"),
        ):
            for number in (2, 3):
                callback = note(f"{event} {number}")
                assert decorate(callback) is callback  # so that the function keeps its name
        with worker:
            broker.ack(broker.add("succeed"))
            broker.nack(broker.add("fail"))
            broker.nack(broker.add("Unknown"))
            worker.stop()
    of_jobs = [step for step in steps if not step.startswith("error")]
    started = ["start 1 1", "start 2 1", "start 3 1"]
    completed = ["complete 2 2", "complete 3 2"]
    assert of_jobs == [*started, *completed, *started, "job error 2 3", "job error 3 3"]
    assert [step for step in steps if step not in of_jobs] == ["error 2 1", "error 3 1"]


@both_pools
def test_one_callback_that_raises_keeps_the_next_from_nothing(pool: PoolName) -> None:
    heard = Heard()

    def broken(*told: object) -> None:
        raise ValueError

    with fake_broker() as broker:
        worker = Worker(broker.address, registry=registry, pool=pool)
        for decorate in (worker.on_job_start, worker.on_job_complete, worker.on_error):
            decorate(broken)
        worker.on_job_start(heard.callbacks()["on_job_start"])
        worker.on_job_complete(heard.callbacks()["on_job_complete"])
        worker.on_error(heard.callbacks()["on_error"])
        with worker:
            broker.ack(broker.add("succeed"))
            worker.stop()
    assert (len(heard.started), len(heard.completed), len(heard.errors)) == (1, 1, 2)


async def a_coroutine_function(job: object) -> None: ...


@pytest.mark.parametrize("name", ["on_job_start", "on_job_complete", "on_job_error", "on_error"])
@pytest.mark.parametrize("callback", [a_coroutine_function, "print"])
def test_a_callback_must_be_a_plain_function(name: str, callback: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Worker("127.0.0.1:1", **{name: callback})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=name):
        getattr(Worker("127.0.0.1:1"), name)(callback)


@both_pools
def test_no_payload_result_token_or_message_is_logged(
    pool: PoolName, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "towline")
    heard = Heard()
    secret = "the-secret-of-the-test"
    payload = json.dumps({"secret": secret}).encode()
    with (
        fake_broker() as broker,
        working(broker, registry, heard, pool=pool, lease=1) as worker,
    ):
        done = broker.add("succeed", payload)
        broker.nack(broker.add("fail", payload))
        broker.nack(broker.add("succeed", payload[:-1]))
        broker.nack(broker.add("Unknown", payload))
        broker.nack(broker.add("slow", payload, timeout=duration(0.1)))
        broker.ack(done)
        lost = broker.add("slow", payload)
        broker.set_outcome(lost, LeaseOutcome.LEASE_OUTCOME_LEASE_LOST)
        heard.wait_for(lambda: len(heard.job_errors) == 3)
        worker.stop()
    lines = [record.getMessage() for record in caplog.records]
    assert not [line for line in lines if secret in line or "secret-token" in line]
    assert not [record for record in caplog.records if record.exc_info]
    for told in (done, lost, "Unknown", "ValueError", "timeout"):
        assert [line for line in lines if told in line]
    assert {type(error) for error in heard.errors} >= {UnknownJobType, InvalidPayload}


@both_pools
def test_each_job_that_ended_is_one_line_with_its_id_type_attempt_and_duration(
    pool: PoolName, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "towline")
    with fake_broker() as broker, working(broker, registry, pool=pool) as worker:
        done, failed = broker.add("succeed", attempt=3), broker.add("fail")
        last, again = broker.add("fail", attempt=3), broker.add("ask_again")
        broker.ack(done)
        for job_id in (failed, last, again):
            broker.nack(job_id)
        worker.stop()
    lines = [each for each in caplog.records if each.name == "towline.worker.jobs"]
    assert len(lines) == 4
    fail = r"job \S+ \(fail"
    for job_id, level, pattern in (
        (done, logging.INFO, r"job \S+ \(succeed, attempt 3\) is done in \d+ ms"),
        (
            failed,
            logging.WARNING,
            fail + r", attempt 1\) failed with ValueError in \d+ ms: retried",
        ),
        (last, logging.WARNING, fail + r", attempt 3\) failed with ValueError in \d+ ms: dead"),
        (again, logging.INFO, r"job \S+ \(ask_again, attempt 1\) asks for another attempt"),
    ):
        [record] = [each for each in lines if job_id in each.getMessage()]
        assert record.levelno == level
        assert re.fullmatch(pattern, record.getMessage())


def test_a_job_that_is_done_costs_no_text_when_the_level_is_off(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "towline.worker.jobs")
    written: list[HeldLease] = []

    def write(held: HeldLease) -> str:
        written.append(held)
        return "job"

    monkeypatch.setattr(HeldLease, "__str__", write)
    with fake_broker() as broker, working(broker, registry) as worker:
        broker.ack(broker.add("succeed"))
        worker.stop()
    assert worker.stats.processed == 1
    assert not written


class Order(Job, registry=registry):
    customer: int
    lines: list[int] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.customer == 0:
            raise LookupError("the-secret-of-the-test")

    def handle(self) -> None: ...


class Strict(Job, registry=registry):
    job_type = "orders.strict"
    how: str

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        if data["how"] == "own":
            raise InvalidPayload("Order.customer: the-secret-of-the-test")
        raise KeyError("the-secret-of-the-test")

    def to_dict(self) -> dict[str, Any]:
        return {}

    def handle(self) -> None: ...


@pytest.mark.parametrize(
    ("type", "payload", "told"),
    [
        ("Order", b"{}", "Order.customer: is missing and has no default"),
        ("Order", b'{"customer": "the-secret-of-the-test"}', "Order.customer: expected int"),
        ("Order", b'{"customer": 47110815.5}', "Order.customer: expected int"),
        ("Order", b'{"customer": 1, "lines": [0, null]}', "Order.lines[1]: expected int"),
        (
            "Order",
            b'{"customer": 1, "notes": {"the-secret-of-the-test: x": 47110815.5}}',
            "Order.notes: does not fit inside",
        ),
        ("Order", b'{"customer": 0}', "Order: LookupError"),
        ("Order", b"[47110815]", "Order: expected an object"),
        ("Order", b'{"customer": the-secret-of-the-test}', "Order: is no valid JSON"),
        ("orders.strict", b'{"how": "own"}', "orders.strict: InvalidPayload"),
        ("orders.strict", b'{"how": "other"}', "orders.strict: KeyError"),
        ("orders.strict", b"[47110815]", "orders.strict: expected an object"),
    ],
)
def test_a_payload_that_cannot_be_decoded_is_told_by_its_field_and_none_of_its_content(
    type: str, payload: bytes, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "towline")
    with fake_broker() as broker, working(broker, registry) as worker:
        assert broker.nack(broker.add(type, payload)).dead_letter
        worker.stop()
    [line] = [line for line in caplog.messages if "payload cannot be decoded" in line]
    assert line.endswith(
        f"({type}, attempt 1) is dead-lettered: its payload cannot be decoded: {told}"
    )
    assert not [line for line in caplog.messages if "secret" in line or "47110815" in line]


def test_an_outage_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "towline")
    heard = Heard()
    with fake_broker() as broker, working(broker, registry, heard, lease=1):
        broker.ack(broker.add("succeed"))
        broker.stop()
        heard.wait_for(lambda: heard.errors)
        broker.start()
        broker.ack(broker.add("succeed"))
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if line.startswith("cannot reach the broker")]) == 1
    assert len([line for line in lines if "answers again after" in line]) == 1
    assert len(heard.errors) == 1


def test_the_logger_of_a_job_adds_its_ids(caplog: pytest.LogCaptureFixture) -> None:
    @job(type="log", registry=(own := Registry()))
    def log() -> None:
        current_job().logger.info("half way", extra={"mine": 1})

    caplog.set_level(logging.INFO, "towline.job")
    with fake_broker() as broker, working(broker, own):
        job_id = broker.add("log", attempt=2, queue="default")
        broker.ack(job_id)
    [record] = [each for each in caplog.records if each.name == "towline.job"]
    told = vars(record)
    assert (told["job_id"], told["job_queue"], told["job_type"]) == (job_id, "default", "log")
    assert (told["job_attempt"], told["mine"]) == (2, 1)

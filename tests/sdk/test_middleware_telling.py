"""Logging and ErrorHook: who is told what, and what nobody is told."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sdk.fake_broker import duration
from tests.sdk.running import Heard, both_pools, fake_broker, working
from tests.sdk.scripted_broker import ScriptedBroker, invalid
from tests.support.broker_process import BrokerProcess
from towline import (
    Client,
    ConfigurationError,
    InvalidArgument,
    InvalidPayload,
    JobRequest,
    JobState,
    Registry,
    Reject,
    Release,
    Retry,
    Worker,
    current_job,
    job,
)
from towline.context import JobContext
from towline.middleware import ErrorHook, Logging
from towline.options import DISPLAY_NAME_HEADER
from towline.v1.queue_service_pb2 import LeaseOutcome
from towline.worker.options import PoolName

registry = Registry()
SECRET = "the-secret-of-the-test"


@job(registry=registry)
def work(end: str = "", secret: str = SECRET) -> str:
    match end:
        case "fail":
            raise ValueError(secret)
        case "retry":
            raise Retry(reason=secret)
        case "reject":
            raise Reject(secret)
        case "release":
            raise Release(reason=secret)
        case "late":
            assert current_job().wait_cancelled(20)
    return secret


def payload(end: str) -> bytes:
    return json.dumps({"end": end, "secret": SECRET}).encode()


def fields(line: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)=("[^"]*"|\S*)', line))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.DEBUG, "towline.jobs")
    yield caplog
    assert SECRET not in caplog.text


def records(log: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in log.records if record.name == "towline.jobs"]


@both_pools
@pytest.mark.parametrize(
    ("end", "attempt", "outcome", "error", "level"),
    [
        ("", 1, "succeeded", None, logging.INFO),
        ("fail", 1, "retried", "ValueError", logging.WARNING),
        ("fail", 3, "dead", "ValueError", logging.WARNING),
        ("late", 1, "retried", "JobTimeout", logging.WARNING),
        ("release", 1, "released", "Release", logging.INFO),
    ],
)
def test_each_attempt_is_one_line_with_ids_outcome_and_duration(
    pool: PoolName,
    end: str,
    attempt: int,
    outcome: str,
    error: str | None,
    level: int,
    log: pytest.LogCaptureFixture,
) -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, pool=pool, middleware=[Logging()]) as worker,
    ):
        job_id = broker.add("work", payload(end), attempt=attempt, timeout=duration(0.2))
        broker.settlement(job_id)
        worker.stop()
    [record] = records(log)
    assert record.levelno == level
    assert record.getMessage().startswith("handled job_id=")
    told = fields(record.getMessage())
    expected = {
        "job_id": job_id,
        "type": "work",
        "queue": "default",
        "attempt": str(attempt),
        "outcome": outcome,
    }
    assert told.items() >= expected.items()
    assert told.get("error") == error
    assert 0 <= float(told["seconds"]) < 20
    extra = vars(record)
    assert (extra["job_id"], extra["job_type"], extra["job_attempt"]) == (job_id, "work", attempt)
    assert extra["outcome"] == outcome


def test_a_lost_lease_and_an_unreadable_payload_are_lines_too(
    log: pytest.LogCaptureFixture,
) -> None:
    heard = Heard()
    with (
        fake_broker() as broker,
        working(broker, registry, heard, middleware=[Logging()], lease=1) as worker,
    ):
        lost = broker.add("work", payload("late"))
        broker.set_outcome(lost, LeaseOutcome.LEASE_OUTCOME_LEASE_LOST)
        heard.wait_for(lambda: heard.job_errors)
        broker.nack(broker.add("work", SECRET.encode()))
        worker.stop()
    told = [fields(record.getMessage()) for record in records(log)]
    assert [(line["outcome"], line["error"]) for line in told] == [
        ("lost", "LeaseLost"),
        ("dead", "InvalidPayload"),
    ]


def test_each_dispatch_is_one_line(broker: ScriptedBroker, log: pytest.LogCaptureFixture) -> None:
    with Client(broker.address, middleware=[Logging()]) as client:
        handle = client.dispatch(work.job(secret=SECRET), queue="q", headers={"h": SECRET})
        client.dispatch("work", queue="q", id=handle.id)
        client.dispatch_batch([JobRequest("b", queue="q"), JobRequest("a", queue="p")])
        broker.failures["Push"].append(invalid(("jobs[0].queue", SECRET)))
        with pytest.raises(InvalidArgument):
            client.dispatch("x")
    one, again, many, failed = records(log)
    told = fields(one.getMessage())
    assert one.getMessage().startswith("pushed job_id=")
    assert told.items() >= {"job_id": handle.id, "type": "work", "queue": "q"}.items()
    assert told["outcome"] == "created"
    assert again.getMessage().count("outcome=existing") == 1
    assert fields(many.getMessage()).items() >= {"jobs": "2", "type": "a,b", "queue": "p,q"}.items()
    assert (one.levelno, many.levelno, failed.levelno) == (20, 20, 30)
    assert fields(failed.getMessage())["error"] == "InvalidArgument"


def test_the_logger_and_the_level_can_be_chosen(
    broker: ScriptedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mine")
    mine = logging.getLogger("mine")
    with Client(broker.address, middleware=[Logging(mine, level=logging.DEBUG)]) as client:
        client.dispatch("x")
        caplog.set_level(logging.INFO, "mine")
        client.dispatch("y")
    [record] = [each for each in caplog.records if each.name == "mine"]
    assert record.levelno == logging.DEBUG


def test_a_display_name_with_spaces_stays_one_field(log: pytest.LogCaptureFixture) -> None:
    headers = {DISPLAY_NAME_HEADER: 'Report "May"'}
    with fake_broker() as broker, working(broker, registry, middleware=[Logging()]) as worker:
        broker.ack(broker.add("work", headers=headers))
        worker.stop()
    [record] = records(log)
    assert r' name="Report \"May\"" ' in record.getMessage()
    assert vars(record)["job_display_name"] == 'Report "May"'


class Reports:
    def __init__(self) -> None:
        self.told: list[tuple[BaseException, Any, JobContext]] = []

    def __call__(self, error: BaseException, job: Any, context: JobContext) -> None:
        assert current_job() is context
        self.told.append((error, job, context))


@both_pools
@pytest.mark.parametrize(
    ("end", "attempt", "error", "every", "final"),
    [
        ("", 1, None, False, False),
        ("fail", 1, ValueError, True, False),
        ("fail", 3, ValueError, True, True),
        ("retry", 1, Retry, False, False),
        ("retry", 3, Retry, True, True),
        ("reject", 1, Reject, True, True),
        ("release", 3, Release, False, False),
    ],
)
def test_failures_are_reported_all_or_only_the_final_ones(
    pool: PoolName,
    end: str,
    attempt: int,
    error: type[BaseException] | None,
    every: bool,
    final: bool,
) -> None:
    all_of_them, final_ones = Reports(), Reports()
    middleware = [ErrorHook(all_of_them), ErrorHook(final_ones, final_only=True)]
    with (
        fake_broker() as broker,
        working(broker, registry, pool=pool, middleware=middleware) as worker,
    ):
        job_id = broker.add("work", payload(end), attempt=attempt)
        broker.settlement(job_id)
        worker.stop()
    assert (len(all_of_them.told), len(final_ones.told)) == (every, final)
    for raised, its_job, context in all_of_them.told + final_ones.told:
        assert type(raised) is error
        assert raised.__traceback__ is not None
        assert (its_job.end, context.id) == (end, job_id)


def test_a_payload_that_cannot_be_decoded_is_reported_without_a_job() -> None:
    reports = Reports()
    hook = ErrorHook(reports, final_only=True)
    with fake_broker() as broker, working(broker, registry, middleware=[hook]) as worker:
        broker.nack(broker.add("work", b"{"))
        worker.stop()
    [(error, its_job, _)] = reports.told
    assert isinstance(error, InvalidPayload)
    assert its_job is None


def test_with_a_broker_the_one_failure_that_made_the_job_dead_is_the_final_one() -> None:
    own, reports = Registry(), Reports()

    @job(type="hopeless", registry=own, backoff=0)
    def hopeless() -> None:
        raise ValueError

    hook = ErrorHook(reports, final_only=True)
    with (
        BrokerProcess("memory:") as broker,
        Client(broker.address) as client,
        Worker(broker.address, registry=own, middleware=[hook]) as worker,
    ):
        status = client.wait(client.dispatch(hopeless).id, 30)
        worker.stop()
    [(_, _, context)] = reports.told
    assert status.state is JobState.DEAD
    assert (context.attempt, status.attempt) == (3, 3)  # what a job has that asks for nothing


def test_a_report_must_be_a_function() -> None:
    with pytest.raises(ConfigurationError, match="report: expected a function, got 'dsn'"):
        ErrorHook("dsn")  # type: ignore[arg-type]

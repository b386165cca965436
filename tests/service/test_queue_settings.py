"""Queues' own settings, from the file to the wire."""

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from tests.contract.limited_memory import LimitedDriver
from tests.support.calls import Calls, calls_to, failure_of, seconds
from tests.support.pages import blocks
from tests.support.settings import load_settings
from towline.ids import uuid7
from towline.v1.admin_service_pb2 import (
    ListQueuesRequest,
    ResumeQueueRequest,
    StatsRequest,
)
from towline.v1.job_pb2 import (
    DelayList,
    ExponentialBackoff,
    Failure,
    Job,
    Lease,
    RetryPolicy,
)
from towline.v1.queue_service_pb2 import (
    GetJobRequest,
    Nack,
    NackRequest,
    PushOutcome,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline_broker.core.queue_options import FOREVER, QueueOptions, RuleBook
from towline_broker.core.routing import Routes
from towline_broker.core.settings import CoreSettings
from towline_broker.core.unkept import unkept
from towline_broker.domain.retry import DelayList as Delays
from towline_broker.domain.retry import ExponentialBackoff as Exponential
from towline_broker.domain.time import DAY, HOUR, MINUTE, SECOND
from towline_broker.drivers.interface import Feature
from towline_broker.drivers.registry import create_driver
from towline_broker.server.configuration.catalogue import ANY_NAME, all_settings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ConfigError
from towline_broker.server.serving import BrokerServer, running_broker

pytestmark = pytest.mark.usefixtures("empty_folder")

FILE = """
[queues."*"]
dead_letter_retention = "30d"
retry = { jitter = 0.2 }

[queues."emails.*"]
max_depth = 50_000
lease = "2m"
timeout = "90s"
retention = "1h"
retry = { max_attempts = 5, delays = ["10s", "1m", 600] }

[queues."emails.bulk"]
store = "fast"
paused = true
dead_letters = false

[queues.audit]
dead_letter_retention = "forever"
retry = { initial = "5s", maximum = "1h" }

[stores]
fast = "memory:"
"""


def test_each_option_can_be_set(load: Callable[[str], Settings]) -> None:
    settings = load(FILE)
    assert settings.to_queue_options() == {
        "*": QueueOptions(dead_letter_retention=30 * DAY, jitter=0.2),
        "emails.*": QueueOptions(
            max_depth=50_000,
            lease=2 * MINUTE,
            timeout=90 * SECOND,
            retention=HOUR,
            max_attempts=5,
            backoff=Delays((10 * SECOND, MINUTE, 10 * MINUTE)),
        ),
        "emails.bulk": QueueOptions(paused=True, dead_letters=False),
        "audit": QueueOptions(
            dead_letter_retention=FOREVER, backoff=Exponential(5 * SECOND, 2.0, HOUR)
        ),
    }
    # A section that names no store leaves that to the others.
    assert settings.to_routes() == Routes(exact={"emails.bulk": "fast"})


def test_settings_of_queues_reach_another_process_as_they_are(
    load: Callable[[str], Settings],
) -> None:
    settings = load(FILE)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_the_environment_can_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_QUEUES__EMAILS__MAX_DEPTH", "7")
    monkeypatch.setenv("TOWLINE_QUEUES__EMAILS__RETRY__MAX_ATTEMPTS", "2")
    monkeypatch.setenv("TOWLINE_QUEUES__EMAILS__PAUSED", "true")
    every = {"retry": {"delays": ["1s", 2]}, "dead_letter_retention": "forever"}
    monkeypatch.setenv("TOWLINE_QUEUES", json.dumps({"*": every}))
    assert load_settings({}).to_queue_options() == {
        "emails": QueueOptions(max_depth=7, max_attempts=2, paused=True),
        "*": QueueOptions(backoff=Delays((SECOND, 2 * SECOND)), dead_letter_retention=FOREVER),
    }


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("max_depth = 0", "queues.a.max_depth: 0: expected a whole number, at least 1"),
        ('lease = "13h"', "queues.a.lease: is 13h; limits.min_lease and limits.max_lease allow"),
        ('lease = "1m 5x"', "queues.a.lease: '1m 5x' is no length of time"),
        ('retention = "367d"', "queues.a.retention: '367d': expected 0s to 366d"),
        ('timeout = "0s"', "queues.a.timeout: '0s': expected 1ms to 366d"),
        ("paused = 3", "queues.a.paused: 3: expected true or false"),
        ('dead_letters = "off!"', "queues.a.dead_letters: 'off!': expected true or false"),
        (
            'dead_letter_retention = "never"',
            "queues.a.dead_letter_retention: 'never': expected a length of time, 1s to 3660d, or "
            '"forever"',
        ),
        ("dead_leters = true", "no such setting; did you mean queues.a.dead_letters?"),
        ("retry.max_atempts = 2", "did you mean queues.a.retry.max_attempts?"),
        ("retry.max_attempts = 0", "queues.a.retry.max_attempts: 0: expected a whole number, 1"),
        ("retry.max_attempts = 1_001", "is 1001; limits.max_attempts allows 1000"),
        ("retry.multiplier = 101", "is 101; limits.retry_multiplier allows 100"),
        ("retry.jitter = 1.5", "queues.a.retry.jitter: 1.5: expected a number, 0 to 1"),
        ("retry.delays = []", "queues.a.retry: delays: expected one at least"),
        (
            'retry = { delays = ["1s"], initial = "1s" }',
            "queues.a.retry: delays and initial exclude each other",
        ),
        ("retry = 5", "queues.a.retry: expected a section: [queues.a.retry]"),
        ('store = "fsat"', "queues.a.store: no store is called 'fsat'; did you mean 'fast'?"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(
    section: str, told: str, load: Callable[[str], Settings]
) -> None:
    with pytest.raises(ConfigError) as wrong:
        load(f'stores.fast = "memory:"\n[queues.a]\n{section}\n')
    _, *lines = str(wrong.value).splitlines()
    assert len(lines) == 1, lines
    assert told in lines[0]
    assert "broker.toml" in lines[0]


def test_a_limit_that_is_lowered_holds_for_queues_too(load: Callable[[str], Settings]) -> None:
    text = """
    limits = { retry_delays = 1, period = "1h" }
    queues.a = { retention = "2h", retry.delays = [1, 7200] }
    """
    with pytest.raises(ConfigError) as wrong:
        load(text)
    for told in (
        "queues.a.retention: is 2h; limits.period allows 1h",
        "queues.a.retry.delays: is 2h; limits.period allows 1h",
        "queues.a.retry.delays: is 2; limits.retry_delays allows 1",
    ):
        assert told in str(wrong.value)


# --- over the wire -------------------------------------------------------------------------------


SERVED = """
store = "memory:"
listen = "127.0.0.1:0"
[queues."emails.*"]
max_depth = 2
lease = "2m"
timeout = "90s"
retention = "1h"
retry = { max_attempts = 5, delays = ["10s", "1m"], jitter = 0 }
[queues.held]
paused = true
retry = { initial = "5s", multiplier = 3, maximum = "1h" }
"""
DELAYS = DelayList(delays=[seconds(10), seconds(60)])


@pytest.fixture
async def server(load: Callable[[str], Settings]) -> AsyncIterator[BrokerServer]:
    async with running_broker(load(SERVED)) as server:
        yield server


@pytest.fixture
async def calls(server: BrokerServer) -> AsyncIterator[Calls]:
    async with calls_to(str(server.address)) as calls:
        yield calls


async def leased(calls: Calls, job: Job) -> Lease:
    """The job as a worker gets it, after a Push and a Reserve that asks for no length."""
    job.id, job.type = uuid7(), "T"
    await calls.queue.Push(PushRequest(jobs=[job]))
    request = ReserveRequest(queues=[QueueChoice(name=job.queue)])
    lease: Lease = (await calls.queue.Reserve(request)).leases[0]
    assert lease.job.id == job.id
    return lease


async def test_a_job_that_says_nothing_is_leased_with_what_its_queue_says(calls: Calls) -> None:
    lease = await leased(calls, Job(queue="emails.de"))
    assert lease.job.retry == RetryPolicy(max_attempts=5, delays=DELAYS, jitter=0)
    assert (lease.job.timeout, lease.job.retention) == (seconds(90), seconds(3_600))
    assert 90 < lease.lease_remaining.ToSeconds() <= 120
    other = await leased(calls, Job(queue="emails"))
    assert not other.job.HasField("retry")
    assert 20 < other.lease_remaining.ToSeconds() <= 30


async def test_what_a_job_says_itself_comes_first_each_by_itself(calls: Calls) -> None:
    own = await leased(
        calls,
        Job(
            queue="emails.de",
            retry=RetryPolicy(max_attempts=1, jitter=0.5),
            timeout=seconds(5),
            retention=seconds(0),
        ),
    )
    assert own.job.retry == RetryPolicy(max_attempts=1, delays=DELAYS, jitter=0.5)
    assert (own.job.timeout, own.job.retention) == (seconds(5), seconds(0))
    growing = RetryPolicy(exponential=ExponentialBackoff(initial=seconds(7)))
    other = await leased(calls, Job(queue="emails.fr", retry=growing))
    assert other.job.retry == RetryPolicy(
        max_attempts=5, exponential=ExponentialBackoff(initial=seconds(7)), jitter=0
    )


async def test_the_policy_of_its_queue_decides_what_becomes_of_a_job(calls: Calls) -> None:
    lease = await leased(calls, Job(queue="emails.de"))
    nack = Nack(lease_token=lease.lease_token, failure=Failure(type="E"))
    await calls.queue.Nack(NackRequest(nacks=[nack]))
    job = (await calls.queue.GetJob(GetJobRequest(id=lease.job.id))).job
    assert job.available_at.ToMilliseconds() - job.enqueued_at.ToMilliseconds() >= 10_000
    assert job.job.retry.max_attempts == 5


async def test_p11_who_meets_a_full_queue_is_told_its_own_limit(calls: Calls) -> None:
    jobs = [Job(queue="emails.de", type="T", id=uuid7()) for _ in range(3)]
    pushed = await calls.queue.Push(PushRequest(jobs=jobs, allow_partial=True))
    assert pushed.results[2].outcome == PushOutcome.PUSH_OUTCOME_REJECTED
    assert "its limit of 2 live jobs" in pushed.results[2].error.message
    full = await failure_of(calls.queue.Push(PushRequest(jobs=jobs[2:])))
    assert full.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "holds its limit of 2 live jobs" in full.message


async def test_a_queue_that_the_settings_pause_is_shown_so_and_cannot_be_resumed(
    calls: Calls, server: BrokerServer
) -> None:
    await calls.queue.Push(PushRequest(jobs=[Job(queue="held", type="T")]))
    (listed,) = (await calls.admin.ListQueues(ListQueuesRequest())).queues
    (counted,) = (await calls.admin.Stats(StatsRequest())).queues
    assert listed.paused
    assert counted.paused
    reserve = ReserveRequest(queues=[QueueChoice(name="held")])
    assert not (await calls.queue.Reserve(reserve)).leases
    failure = await failure_of(calls.admin.ResumeQueue(ResumeQueueRequest(queue="held")))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "paused by the settings of the broker: set paused = false" in failure.message
    server.broker.apply({})
    (lease,) = (await calls.queue.Reserve(reserve)).leases
    backoff = ExponentialBackoff(initial=seconds(5), multiplier=3, max=seconds(3_600))
    assert lease.job.retry == RetryPolicy(exponential=backoff)


async def test_what_the_store_cannot_keep_stops_the_start(
    load: Callable[[str], Settings],
) -> None:
    text = """
    store = "memory:"
    listen = "127.0.0.1:0"
    [queues."emails.*"]
    retention = "1h"
    dead_letters = false
    """
    settings = load(text)
    limited = LimitedDriver(Feature.RETENTION)
    with pytest.raises(ConfigError) as wrong:
        async with running_broker(settings, driver=limited):
            pass
    first, *lines = str(wrong.value).splitlines()
    assert first == "wrong settings:"
    (line,) = lines
    assert line.startswith("  queues.\"emails.*\".retention: store 'default'")


# --- docs/queues.md ------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "queues.md").read_text(encoding="utf-8")
BLOCKS = blocks("docs/queues.md", "toml")


def test_the_page_names_every_option_and_no_other() -> None:
    rows = "".join(re.findall(r"^\| (`\S.*?) \|", PAGE.split("\n## ")[0], re.MULTILINE))
    of_queues = {setting.place[2:] for setting in all_settings() if setting.place[0] == "queues"}
    assert sorted(re.findall(r"`([\w.]+)`", rows)) == sorted(map(".".join, of_queues))


def test_the_settings_of_the_page_are_settings(load: Callable[[str], Settings]) -> None:
    first, cloud = map(load, BLOCKS)
    bulk = RuleBook(CoreSettings(), first.to_queue_options()).of("emails.bulk")
    assert (bulk.paused, bulk.max_depth, bulk.dead_kept) == (True, 500_000, 30 * DAY)
    assert bulk.job.max_attempts == 5
    driver = create_driver("sqs:///").capabilities
    stores = {"default": create_driver("memory:").capabilities, "cloud": driver}
    options = cloud.to_queue_options()
    assert list(unkept(options, cloud.to_routes(), stores)) == []
    del options["cloud.*"]
    assert len(list(unkept(options, cloud.to_routes(), stores))) == 1


def test_everything_but_the_store_can_change_while_the_broker_runs() -> None:
    at_start = [s.place for s in all_settings() if s.place[0] == "queues" and not s.live]
    assert at_start == [("queues", ANY_NAME, "store")]

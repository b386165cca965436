"""What an operator sets for a queue reaches the SDK's jobs and workers that say nothing of it."""

import json
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.broker_process import BrokerProcess
from towline import (
    Client,
    DeadReason,
    JobFailed,
    JobState,
    QueueFull,
    Registry,
    Worker,
    current_job,
)
from towline.jobs import job
from towline.worker.options import USUAL_LEASE

PATIENCE = 30.0
QUEUES = {
    "short": {"lease": "2s"},
    "long": {"lease": "1h"},
    "policy": {
        "timeout": "90s",
        "retention": "1h",
        "retry": {"max_attempts": 2, "delays": ["10ms"], "jitter": 0},
    },
    "small": {"max_depth": 1},
    "shut": {"paused": True},
    "gone": {"dead_letters": False},
}

registry = Registry()


@job(registry=registry)
def lease() -> float:
    """Seconds that it was granted."""
    return current_job().lease_remaining or 0


@job(registry=registry)
def busy(seconds: float) -> int:
    time.sleep(seconds)
    return current_job().attempt


@job(registry=registry)
def fail() -> None:
    raise ValueError(f"attempt {current_job().attempt}")


@job(registry=registry)
def timeout() -> float | None:
    return current_job().timeout


@job(registry=registry, timeout=5, retention=0, max_attempts=1)
def own_timeout() -> float | None:
    return current_job().timeout


@pytest.fixture(scope="module")
def server() -> Iterator[BrokerProcess]:
    environment = {"TOWLINE_QUEUES": json.dumps(QUEUES)}
    with BrokerProcess("memory:", "--http", "off", environment=environment) as server:
        yield server


@pytest.fixture
def client(server: BrokerProcess) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def test_each_job_has_the_lease_of_its_queue(server: BrokerProcess, client: Client) -> None:
    with Worker(server.address, ["short", "long", "others"], registry=registry):
        granted = {
            queue: client.dispatch(lease, queue=queue).result(PATIENCE)
            for queue in ("short", "long", "others")
        }
    assert 0 < granted["short"] <= 2
    assert 3500 < granted["long"] <= 3600
    assert USUAL_LEASE - 5 < granted["others"] <= USUAL_LEASE


def test_a_lease_that_the_worker_names_comes_first(server: BrokerProcess, client: Client) -> None:
    with Worker(server.address, ["short"], lease=45, registry=registry):
        assert 40 < client.dispatch(lease, queue="short").result(PATIENCE) <= 45


def test_p2_a_worker_keeps_long_and_short_leases_beside_each_other(
    server: BrokerProcess, client: Client
) -> None:
    """Its heartbeats follow the shortest: the job is not given to the worker that waits for it."""
    first = Worker(server.address, ["long", "short"], registry=registry, guardian=False)
    second = Worker(server.address, ["short"], registry=registry, guardian=False)
    with first:
        in_long = client.dispatch(busy, seconds=2.5, queue="long")
        kept = client.dispatch(busy, seconds=2.5, queue="short")
        for handle in (in_long, kept):
            eventually_leased(client, handle.id)
        with second:
            assert (kept.result(PATIENCE), in_long.result(PATIENCE)) == (1, 1)
    assert second.stats.processed == 0


def eventually_leased(client: Client, job_id: str) -> None:
    until = time.monotonic() + PATIENCE
    pause = threading.Event()
    while client.get(job_id).state is not JobState.LEASED:
        assert time.monotonic() < until, "no worker took it"
        pause.wait(0.02)


def test_a_job_without_a_policy_has_that_of_its_queue(
    server: BrokerProcess, client: Client
) -> None:
    with Worker(server.address, ["policy"], registry=registry, default_timeout=7):
        assert client.dispatch(timeout, queue="policy").result(PATIENCE) == 90
        failing = client.dispatch(fail, queue="policy")
        with pytest.raises(JobFailed, match="attempt 2"):
            failing.result(PATIENCE)
        kept = client.dispatch(timeout, queue="policy")
        assert kept.wait(PATIENCE).type == "timeout"  # all of it can be read, and not its end only
        # What a job says itself comes first, each by itself.
        assert client.dispatch(own_timeout, queue="policy").result(PATIENCE) == 5
        once = client.dispatch(own_timeout, queue="policy").wait(PATIENCE)
        assert once.state is JobState.SUCCEEDED
        assert once.type == ""


def test_what_only_the_operator_can_say_holds_for_all(
    server: BrokerProcess, client: Client
) -> None:
    client.dispatch("x", queue="small")
    with pytest.raises(QueueFull):
        client.dispatch("x", queue="small", call_timeout=0.5)
    shut = client.dispatch(lease, queue="shut")
    with Worker(server.address, ["shut", "gone"], registry=registry):
        dead = client.dispatch(fail, queue="gone", max_attempts=1)
        assert dead.wait(PATIENCE).dead_reason is DeadReason.ATTEMPTS_EXHAUSTED
        until = time.monotonic() + PATIENCE
        while client.stats("gone").total.dead:
            assert time.monotonic() < until, "the dead job is kept"
            time.sleep(0.05)
    assert client.get(shut.id).state is JobState.READY

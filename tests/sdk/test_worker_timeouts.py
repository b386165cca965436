"""A job's timeout: what it stops, what it cannot stop, and that no second worker gets the job."""

import asyncio
import json
import threading
import time

import pytest

from tests.sdk.fake_broker import PATIENCE, duration
from tests.sdk.running import Heard, both_pools, fake_broker, working
from towline.context import CancelReason, current_job
from towline.control import Reject
from towline.jobs import Job, job
from towline.registry import Registry
from towline.worker import JobTimeout
from towline.worker.options import PoolName

registry = Registry()


@job(registry=registry)
async def sleep() -> None:
    await asyncio.sleep(1000)


@job(registry=registry)
async def clean_up() -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0.5)


@job(registry=registry)
async def swallow() -> str:
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        return "as if nothing had happened"
    return ""


@job(registry=registry)
async def reject_late() -> None:
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        raise Reject("never again") from None


@job(registry=registry)
def wait_in_thread() -> str:
    context = current_job()
    assert context.remaining is not None
    assert context.remaining <= 0.3
    assert context.deadline is not None
    assert context.wait_cancelled(PATIENCE)
    assert context.cancel_reason is CancelReason.TIMEOUT
    assert context.remaining == 0
    return "too late"


@job(registry=registry)
def quick() -> bool:
    return current_job().remaining is None


class OwnTimeout(Job, registry=registry):
    timeout = 0.2

    async def handle(self) -> None:
        await asyncio.sleep(1000)


@both_pools
@pytest.mark.parametrize("type", ["sleep", "clean_up", "swallow", "wait_in_thread"])
def test_an_attempt_that_outlives_its_timeout_has_failed_whatever_it_returns(
    pool: PoolName, type: str
) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, registry, heard, pool=pool, concurrency=1):
        nack = broker.nack(broker.add(type, timeout=duration(0.3)))
        assert nack.WhichOneof("action") is None
        assert nack.failure.type == "JobTimeout"
        assert "timeout of 0.3 s" in nack.failure.message
        # The only slot is free again, and the next job has no timeout.
        assert json.loads(broker.ack(broker.add("quick")).result) is True
    [(_, error, _)] = heard.job_errors
    assert isinstance(error, JobTimeout)
    assert error.timeout == pytest.approx(0.3)


@both_pools
def test_the_timeout_of_the_class_applies_to_a_job_that_names_none(pool: PoolName) -> None:
    with fake_broker() as broker, working(broker, registry, pool=pool):
        assert broker.nack(broker.add("OwnTimeout")).failure.type == "JobTimeout"
        nack = broker.nack(broker.add("OwnTimeout", timeout=duration(0.1)))
        assert "timeout of 0.1 s" in nack.failure.message


@both_pools
def test_a_handler_told_of_its_timeout_may_say_what_becomes_of_the_job(pool: PoolName) -> None:
    with fake_broker() as broker, working(broker, registry, pool=pool):
        nack = broker.nack(broker.add("reject_late", timeout=duration(0.1)))
    assert nack.dead_letter
    assert nack.failure.message == "never again"


@both_pools
def test_a_thread_that_outlives_its_timeout_keeps_its_lease_until_it_ends(pool: PoolName) -> None:
    go_on = threading.Event()

    @job(type="ignore", registry=(own := Registry()))
    def ignore() -> str:
        assert go_on.wait(PATIENCE)
        return "late"

    with fake_broker() as broker, working(broker, own, pool=pool, lease=1):
        job_id = broker.add("ignore", timeout=duration(0.1))
        # For longer than the lease and the timeout.
        broker.wait_for(lambda: broker.heartbeats_of(job_id) >= 5)
        assert not broker.is_settled(job_id)
        go_on.set()
        assert broker.nack(job_id).failure.type == "JobTimeout"


@both_pools
def test_the_timeout_counts_from_the_start_of_the_handler(pool: PoolName) -> None:
    def linger(job: object) -> None:
        time.sleep(0.5)

    with fake_broker() as broker, working(broker, registry, pool=pool, on_job_start=linger):
        begun = time.monotonic()
        broker.nack(broker.add("sleep", timeout=duration(0.4)))
        assert time.monotonic() - begun >= 0.9

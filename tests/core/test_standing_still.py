"""P10: a broker that stood still gives workers the time back that they did not have."""

import asyncio
import logging
import time

import pytest

from tests.core.factories import job, reserve
from tests.support.waiting import until
from towline_broker.core import standstill
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, LeaseOutcome
from towline_broker.core.standstill import MARGIN, Standstill
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import MILLISECOND, SECOND
from towline_broker.drivers.registry import create_driver

LEASE = 600 * MILLISECOND
STOPPED = 0.9


@pytest.fixture(autouse=True)
def soon_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a short sleep is as a long stop."""
    monkeypatch.setattr(standstill, "LATE", 0.3)
    monkeypatch.setattr(standstill, "INTERVAL", 0.05)


async def state_of(broker: Broker, job_id: str) -> JobState:
    return (await broker.jobs.get(job_id)).state


async def test_a_lease_that_ran_out_meanwhile_gets_a_fresh_term_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker(create_driver("memory:"))
    await broker.start()
    await broker.jobs.push([kept := job(), orphan := job()])
    leased, abandoned = await broker.leasing.reserve(reserve(max_jobs=2, lease=LEASE))
    assert (leased.ref.job_id, abandoned.ref.job_id) == (kept.id, orphan.id)
    await asyncio.sleep(0.1)  # it was well until a moment ago

    with caplog.at_level(logging.WARNING):
        time.sleep(STOPPED)  # noqa: ASYNC251 - nothing runs, as in a process that is stopped
        woken = time.monotonic()
        await asyncio.sleep(0.1)

    assert await state_of(broker, orphan.id) is JobState.LEASED
    assert await broker.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.OK]

    async def back() -> bool:
        return await state_of(broker, orphan.id) is JobState.READY

    await until(back, "the orphan is back", woken + 5.0 - time.monotonic())
    assert caplog.messages[0].startswith("this broker stood still for ")
    assert "2 leases that ran out meanwhile get a fresh term" in caplog.messages
    await broker.stop()


def test_leases_that_ran_out_before_or_run_out_later_are_none_of_its_business() -> None:
    stood = Standstill(10 * SECOND, 20 * SECOND)
    assert not stood.covers(10 * SECOND)
    assert stood.covers(10 * SECOND + 1)
    assert stood.covers(20 * SECOND + MARGIN)
    assert not stood.covers(20 * SECOND + MARGIN + 1)

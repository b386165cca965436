"""What goes on failing is a line in the log when it begins, and one when it is over."""

import asyncio
import logging

import pytest

from tests.core.manual_clock import ManualClock
from tests.support.faulty_driver import FaultyDriver
from towline_broker.core.broker import Broker
from towline_broker.core.rounds import every
from towline_broker.domain.errors import StoreFull, StoreUnavailable
from towline_broker.domain.outage import Outage
from towline_broker.domain.time import MILLISECOND, SECOND


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "towline.broker")


class Step:
    """Fails with each of these errors, and then works."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.worked = asyncio.Event()

    async def __call__(self) -> None:
        if self._errors:
            raise self._errors.pop(0)
        self.worked.set()


async def rounds(step: Step) -> None:
    """Until one has worked."""
    task = asyncio.create_task(every(MILLISECOND, step, Outage("it fails", "it works")))
    await asyncio.wait_for(step.worked.wait(), 10)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def test_rounds_that_fail_are_told_of_once_and_again_when_they_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    down = StoreUnavailable("it is down")
    await rounds(Step(down, down, StoreFull("disk", "no room"), down))
    assert [record.getMessage() for record in caplog.records] == [
        "it fails: it is down",
        "it works",
    ]


async def test_a_defect_among_the_rounds_is_told_with_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    down, defect = StoreUnavailable("it is down"), RuntimeError("a defect")
    await rounds(Step(down, defect, defect, down))
    assert [record.getMessage() for record in caplog.records] == [
        "it fails: it is down",
        "it fails: a defect",
        "it works",
    ]
    assert [record.exc_info is not None for record in caplog.records] == [False, True, False]


async def test_upkeep_that_waits_for_its_store_is_told_of_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = FaultyDriver()
    broker = Broker(store.driver, clock=clock)
    await broker.start()
    store.errors["next_due"] = StoreUnavailable("it is down")
    await clock.advance(5 * SECOND)
    del store.errors["next_due"]
    await clock.advance(SECOND)
    await broker.stop()
    told = [record.getMessage() for record in caplog.records if "upkeep" in record.getMessage()]
    assert told == ["upkeep waits for the store: it is down", "upkeep goes on"]


def test_an_outage_without_a_word_is_told_by_its_kind(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Outage("it fails", "it works").failed(TimeoutError())
    assert caplog.messages == ["it fails: TimeoutError"]

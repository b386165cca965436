"""What goes on failing is a line in the log when it begins, and one when it is over."""

import asyncio
import logging
from typing import Any

import pytest

from tests.core.factories import job
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
    outage = Outage("part", "it fails", "it works", clock=lambda: 100.0)
    task = asyncio.create_task(every(MILLISECOND, step, outage))
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
        "store default: it fails: it is down",
        "store default: it works, after 0.0 s",
    ]


async def test_a_defect_among_the_rounds_is_told_with_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    down, defect = StoreUnavailable("it is down"), RuntimeError("a defect")
    await rounds(Step(down, defect, defect, down))
    assert [record.getMessage() for record in caplog.records] == [
        "store default: it fails: it is down",
        "store default: it fails: a defect",
        "store default: it works, after 0.0 s",
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
    assert told[0] == "store default: upkeep waits for it: it is down"
    assert told[1].startswith("store default: upkeep goes on, after ")
    assert len(told) == 2


def test_an_outage_without_a_word_is_told_by_its_kind(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Outage("part", "it fails", "it works").failed(TimeoutError())
    assert caplog.messages == ["store default: it fails: TimeoutError"]


def test_an_outage_names_its_store_and_how_long_it_took(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    outage = Outage("part", "it fails", "it works", "fast", clock=lambda: now[0])
    for now[0] in (100.0, 101.0, 112.25):
        outage.failed("it is down")
    outage.works()
    outage.works()
    begun, over = caplog.records
    assert begun.getMessage() == "store fast: it fails: it is down"
    assert over.getMessage() == "store fast: it works, after 12.2 s"
    fields = ("event", "store", "part", "reason")
    told = [getattr(begun, name) for name in fields]
    assert told == ["outage", "fast", "part", "it is down"]
    fields = ("event", "store", "part", "seconds")
    assert [getattr(over, name) for name in fields] == ["outage_over", "fast", "part", 12.25]


def test_what_fails_now_and_then_is_over_after_a_while_without_failures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    outage = Outage("part", "it fails", "it works", quiet_for=30.0, clock=lambda: now[0])
    for now[0] in (0.0, 10.0, 20.0):
        outage.failed("it is full")
        outage.works()
    now[0] = 49.0
    outage.works()
    assert len(caplog.messages) == 1
    now[0] = 50.0
    outage.works()
    assert caplog.messages[1:] == ["store default: it works, after 50.0 s"]


async def test_a_store_without_room_for_new_jobs_is_told_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = FaultyDriver()
    broker = Broker({"default": store.driver}, clock=clock)
    await broker.start()
    store.errors["push"] = StoreFull("disk", "the disk of the store has 3 bytes free")
    for _ in range(2):
        with pytest.raises(StoreFull):
            await broker.jobs.push([job()])
    del store.errors["push"]
    await broker.jobs.push([job()])
    await broker.stop()
    told = [record for record in caplog.records if getattr(record, "part", "") == "push"]
    assert [record.getMessage() for record in told] == [
        "store default: new jobs are refused: the disk of the store has 3 bytes free"
    ]


class Hearing(FaultyDriver):
    """Begins to listen when it is opened, as the drivers of shared stores do."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = asyncio.Event()
        self._outage = Outage("news", "other brokers cannot be heard", "they are heard again")

    async def open(self, *arguments: Any) -> int:
        self.listening = asyncio.create_task(self._listen())
        return await self._inner.open(*arguments)

    async def _listen(self) -> None:
        await self.heard.wait()
        self._outage.failed("cut off")


async def test_what_a_driver_tells_is_about_the_store_that_it_was_opened_as(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    fast = Hearing()
    broker = Broker({"default": FaultyDriver().driver, "fast": fast.driver}, clock=clock)
    await broker.start()
    fast.heard.set()
    await fast.listening
    await broker.stop()
    assert "store fast: other brokers cannot be heard: cut off" in caplog.messages

"""What many queues, and many who look at them, cost others: turns of the loop, and no more."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.core.factories import job
from tests.support.faulty_driver import FaultyDriver
from towline_broker.core.broker import Broker
from towline_broker.core.calls import Report
from towline_broker.domain.errors import QueueNotFound, StoreUnavailable
from towline_broker.domain.pieces import PIECE, OneByOne, pieces
from towline_broker.domain.together import Together
from towline_broker.services.figures import to_stats


@pytest.fixture
def driver() -> FaultyDriver:
    return FaultyDriver()


@pytest.fixture
async def faulty(driver: FaultyDriver) -> AsyncIterator[Broker]:
    broker = Broker(driver.driver)
    await broker.start()
    yield broker
    await broker.stop()


async def turns_during(work: "asyncio.Task[object]") -> int:
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    await work
    return turns


async def test_others_have_their_turn_while_many_queues_are_reported(broker: Broker) -> None:
    pieces = 8
    for piece in range(pieces):
        await broker.jobs.push([job(f"q{piece}-{number}") for number in range(PIECE)])

    async def shown() -> object:
        stats = await to_stats(await broker.operating.report(), "1.0")
        assert len(stats.queues) == pieces * PIECE
        assert stats.total.depth.ready == pieces * PIECE
        return None

    # States, counts and ages are read, merged and shown, each piece by piece.
    assert await turns_during(asyncio.create_task(shown())) > 8 * (pieces - 1)

    async def out_of_sight() -> object:
        report = await broker.operating.report(sight=lambda queue: False)
        assert (report.total.depth.ready, report.queues, report.types) == (0, [], [])
        return None

    assert await turns_during(asyncio.create_task(out_of_sight())) > 4 * (pieces - 1)


async def test_who_asks_at_the_same_time_shares_one_reading_of_the_store(
    faulty: Broker, driver: FaultyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    counts = driver.driver.counts

    async def counted() -> object:
        nonlocal asked
        asked += 1
        return await counts()

    monkeypatch.setattr(driver, "counts", counted, raising=False)
    reports = [faulty.operating.report() for _ in range(20)]
    await asyncio.gather(*reports, faulty.operating.queues())
    assert asked == 1


async def test_a_report_tells_of_all_that_was_before_it_was_asked_for(
    faulty: Broker, driver: FaultyDriver
) -> None:
    def ready(report: Report) -> int:
        return report.total.depth.ready

    await faulty.jobs.push([job()])
    driver.hold("counts")
    early = asyncio.create_task(faulty.operating.report())
    await driver.reached["counts"].wait()
    await faulty.jobs.push([job()])
    late = [asyncio.create_task(faulty.operating.report()) for _ in range(3)]
    driver.let_go("counts")
    assert ready(await early) == 1
    assert [ready(await each) for each in late] == [2, 2, 2]


async def test_a_store_without_an_answer_is_asked_again_by_the_next_report(
    faulty: Broker, driver: FaultyDriver
) -> None:
    await faulty.jobs.push([job()])
    driver.errors["counts"] = StoreUnavailable("gone")
    failed = await asyncio.gather(
        *(faulty.operating.report() for _ in "12"), return_exceptions=True
    )
    assert [type(each) for each in failed] == [StoreUnavailable] * 2
    driver.errors.clear()
    assert (await faulty.operating.report()).total.depth.ready == 1
    with pytest.raises(QueueNotFound, match="nowhere"):
        await faulty.operating.report(["nowhere"])


async def test_one_who_gives_up_takes_nothing_from_those_who_wait_for_the_same() -> None:
    gate = asyncio.Event()

    async def work() -> str:
        await gate.wait()
        return "done"

    together = Together(work)
    first, second = asyncio.create_task(together.result()), asyncio.create_task(together.result())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await second == "done"
    assert first.cancelled()


async def test_long_works_go_one_by_one_and_short_ones_do_not_wait() -> None:
    works, order = OneByOne(), []

    async def work(name: str, items: int) -> None:
        async with works.turn(items):
            async for _ in pieces(range(items)):
                order.append(name)

    await asyncio.gather(work("a", 3 * PIECE), work("b", 2 * PIECE), work("short", 1))
    assert order == ["a", "short", "a", "a", "b", "b"]

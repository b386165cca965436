"""P11: a store has a bounded number of queues; those that exist go on, whatever their number."""

import asyncio

import pytest
from msgspec.structs import replace

from tests.contract.shared_memory import Server, SharedDriver
from tests.core.factories import job, reserve
from tests.support.faulty_driver import FaultyDriver
from towline_broker.core import queue_limit
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, LeaseOutcome
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.errors import StoreUnavailable, TooManyQueues
from towline_broker.drivers.interface import PushOutcome
from towline_broker.drivers.registry import create_driver

CREATED, EXISTING = PushOutcome.CREATED, PushOutcome.EXISTING
REFUSED = PushOutcome.NO_NEW_QUEUE


@pytest.fixture
def settings() -> CoreSettings:
    return CoreSettings(max_queues=2)


async def names(broker: Broker) -> list[str]:
    return [queue.name for queue in await broker.operating.queues()]


async def fill(broker: Broker) -> None:
    await broker.jobs.push([job("a"), job("b")])


async def test_a_push_that_would_make_one_too_many_is_refused(broker: Broker) -> None:
    await fill(broker)
    with pytest.raises(TooManyQueues, match=r"'c' would be new.*2 queues.*core\.max_queues") as why:
        await broker.jobs.push([job("a"), job("c")])
    assert (why.value.reason, why.value.subject) == ("TOO_MANY_QUEUES", "queues")
    assert (await broker.operating.report()).total.totals.pushed == 2  # nothing of it was stored
    assert await names(broker) == ["a", "b"]


async def test_queues_that_exist_go_on(broker: Broker) -> None:
    await fill(broker)
    await broker.jobs.push([job("a"), job("b")])
    (leased,) = await broker.leasing.reserve(reserve("a"))
    assert await broker.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.OK]


async def test_what_can_be_stored_is_if_that_is_wanted(broker: Broker) -> None:
    await broker.jobs.push([job("a")])
    pushed = [job("a"), job("b"), job("c"), job("b"), job("c"), job("a")]
    results = await broker.jobs.push(pushed, all_or_nothing=False)
    assert [result.outcome for result in results] == [
        *(CREATED, CREATED, REFUSED, CREATED, REFUSED, CREATED)
    ]
    assert [result.job_id for result in results] == [each.id for each in pushed]
    results = await broker.jobs.push([job("c")], all_or_nothing=False)
    assert [result.outcome for result in results] == [REFUSED]
    assert await names(broker) == ["a", "b"]


async def test_who_pushes_at_the_same_time_does_not_get_past_it() -> None:
    faulty = FaultyDriver()
    broker = Broker(faulty.driver, settings=CoreSettings(max_queues=2))
    await broker.start()
    faulty.hold("push")
    pushed = [[job(f"q{number}"), job("q0")] for number in range(10)]
    pushes = [asyncio.create_task(broker.jobs.push(jobs)) for jobs in pushed]
    await faulty.reached["push"].wait()
    await asyncio.sleep(0)
    faulty.let_go("push")
    done = await asyncio.gather(*pushes, return_exceptions=True)
    assert sum(isinstance(each, TooManyQueues) for each in done) == 8
    assert await names(broker) == ["q0", "q1"]
    await broker.stop()


async def test_jobs_that_are_not_stored_take_no_place(broker: Broker) -> None:
    first = job("a")
    await broker.jobs.push([first])
    for number in range(3):
        (result,) = await broker.jobs.push([replace(job(f"q{number}"), id=first.id)])
        assert result.outcome is EXISTING
    await broker.jobs.push([job("b")])
    assert await names(broker) == ["a", "b"]


async def test_a_push_that_failed_takes_no_place() -> None:
    faulty = FaultyDriver()
    broker = Broker(faulty.driver, settings=CoreSettings(max_queues=1))
    await broker.start()
    faulty.errors["push"] = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        await broker.jobs.push([job("a")])
    faulty.errors.clear()
    await broker.jobs.push([job("b")])
    await broker.stop()


@pytest.mark.parametrize("url", ["sqlite:///{}/jobs.db", "file:///{}"])
async def test_what_was_stored_before_counts_and_goes_on_above_a_lower_limit(
    url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = url.format(tmp_path_factory.mktemp("store"))
    before = Broker(create_driver(url))
    await before.start()
    await before.jobs.push([job("a"), job("b"), job("c")])
    await before.stop()
    after = Broker(create_driver(url), settings=CoreSettings(max_queues=2))
    await after.start()
    await after.jobs.push([job("a"), job("b"), job("c")])
    with pytest.raises(TooManyQueues):
        await after.jobs.push([job("d")])
    assert await names(after) == ["a", "b", "c"]
    await after.stop()


async def test_what_another_broker_makes_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_limit, "RECENT", 0.0)
    monkeypatch.setattr(queue_limit, "SELDOM", 0)
    server = Server()
    one, two = (Broker(SharedDriver(server), settings=CoreSettings(max_queues=2)) for _ in "12")
    await one.start()
    await two.start()
    await one.jobs.push([job("a")])
    await two.jobs.push([job("b")])
    with pytest.raises(TooManyQueues):
        await one.jobs.push([job("c")])
    await one.jobs.push([job("b")])
    await one.stop()
    await two.stop()

"""Several brokers on one store, each a core of its own."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator

import pytest

from tests.contract.shared_memory import Server, SharedDriver
from tests.core.factories import job, reserve
from tests.core.manual_clock import ManualClock
from tests.support.waiting import until
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, Directive, HeartbeatItem, LeaseOutcome
from towline_broker.domain.errors import WorkerNotFound
from towline_broker.domain.jobs import JobState, Leased
from towline_broker.domain.time import HOUR, MINUTE, SECOND
from towline_broker.drivers.interface import ReserveRequest
from towline_broker.drivers.memory.events import Events


@pytest.fixture
async def brokers() -> AsyncIterator[tuple[Broker, Broker]]:
    server = Server()
    one, two = Broker(SharedDriver(server)), Broker(SharedDriver(server))
    await one.start()
    await two.start()
    yield one, two
    await one.stop()
    await two.stop()


async def test_p8_a_worker_that_waits_at_one_broker_gets_a_job_pushed_at_another(
    brokers: tuple[Broker, Broker],
) -> None:
    one, two = brokers
    waiting = asyncio.create_task(one.leasing.reserve(reserve(wait=MINUTE)))
    await asyncio.sleep(0)
    await two.jobs.push([job()])
    async with asyncio.timeout(5):
        (leased,) = await waiting
    assert await two.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.OK]


async def test_who_waits_at_one_broker_hears_of_an_end_at_another(
    brokers: tuple[Broker, Broker],
) -> None:
    one, two = brokers
    (pushed,) = await one.jobs.push([job()])
    waiting = asyncio.create_task(one.jobs.get(pushed.job_id, MINUTE))
    (leased,) = await two.leasing.reserve(reserve())
    await two.settling.ack([AckCall(leased.ref)])
    async with asyncio.timeout(5):
        assert (await waiting).state is JobState.SUCCEEDED


async def test_p8_a_lost_lease_is_taken_back_by_whichever_broker_is_alive(
    brokers: tuple[Broker, Broker],
) -> None:
    one, two = brokers
    await one.jobs.push([job()])
    (lost,) = await one.leasing.reserve(reserve(lease=SECOND // 5))
    waiting = asyncio.create_task(two.leasing.reserve(reserve(wait=MINUTE)))
    await one.stop()
    async with asyncio.timeout(5):
        (leased,) = await waiting
    assert (leased.ref.job_id, leased.attempt) == (lost.ref.job_id, 2)


async def test_p10_a_broker_whose_machine_is_ahead_takes_no_lease_of_another_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, real = Server(), time.time_ns
    monkeypatch.setattr(server, "time", lambda: real() // 1_000)
    one = Broker(SharedDriver(server))
    await one.start()
    monkeypatch.setattr(time, "time_ns", lambda: real() + HOUR * 1_000)
    two = Broker(SharedDriver(server))
    await two.start()
    try:
        assert abs(two.now_of("emails") - one.now_of("emails")) < 5 * SECOND
        await one.jobs.push([job()])
        (leased,) = await one.leasing.reserve(reserve(lease=MINUTE))
        assert await two.leasing.reserve(reserve(wait=2 * SECOND)) == []
        assert (await two.operating.report()).uptime > 0
        assert await two.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.OK]
    finally:
        await one.stop()
        await two.stop()


async def test_every_broker_knows_the_workers_of_all(brokers: tuple[Broker, Broker]) -> None:
    one, two = brokers
    await one.jobs.push([job(), job("reports"), job("reports")])
    await one.leasing.reserve(reserve("emails", worker_id="w1"))
    await two.leasing.reserve(reserve("reports", worker_id="w1", max_jobs=2))
    await two.settling.heartbeat("w2", [])

    both = ["emails", "reports"]

    async def all_are_known() -> bool:
        views = [await broker.operating.workers() for broker in brokers]
        told = [[(v.key.id, dict(v.leases), list(v.queues)) for v in each] for each in views]
        return told == [[("w1", {"emails": 1, "reports": 2}, both), ("w2", {}, [])]] * 2

    await until(all_are_known, "both brokers know all workers")
    assert (await one.operating.report()).workers == 2


async def test_a_directive_reaches_a_worker_of_another_broker(
    brokers: tuple[Broker, Broker],
) -> None:
    one, two = brokers
    await two.settling.heartbeat("w1", [])

    async def told() -> bool:
        try:
            await one.operating.stop_worker("w1", Directive.STOP)
        except WorkerNotFound:
            return False
        return True

    await until(told, "the worker is known")

    async def heard() -> bool:
        return (await two.settling.heartbeat("w1", []))[1] is Directive.STOP

    await until(heard, "the directive has come")
    await two.operating.stop_worker("w1", Directive.NONE)
    for broker in brokers:
        assert (await broker.operating.workers())[0].directive is Directive.NONE
    with pytest.raises(WorkerNotFound):
        await one.operating.stop_worker("w9", Directive.STOP)


async def test_a_broker_that_has_gone_tells_of_no_worker(brokers: tuple[Broker, Broker]) -> None:
    one, two = brokers
    await two.settling.heartbeat("w1", [])

    async def known() -> bool:
        return len(await one.operating.workers()) == 1

    await until(known, "the worker is known")
    await two.stop()
    assert await one.operating.workers() == []


async def test_a_lease_settled_at_another_broker_counts_until_its_deadline_at_most(
    brokers: tuple[Broker, Broker],
) -> None:
    one, two = brokers
    await one.jobs.push([job()])
    (leased,) = await one.leasing.reserve(reserve(worker_id="w1", lease=SECOND // 2))
    await one.settling.heartbeat("w1", [HeartbeatItem(leased.ref)])
    await two.settling.ack([AckCall(leased.ref)])

    async def gone() -> bool:
        return not (await one.operating.workers())[0].leases

    await until(gone, "the lease is over")


async def test_who_waits_hears_of_an_end_even_if_the_news_is_lost(clock: ManualClock) -> None:
    class Deaf(SharedDriver):
        def hear(self, events: Events) -> None:
            """It is cut off from its peers."""

    server = Server()
    deaf, other = Broker(Deaf(server), clock=clock), Broker(SharedDriver(server), clock=clock)
    await deaf.start()
    await other.start()
    (pushed,) = await deaf.jobs.push([job()])
    waiting = asyncio.create_task(deaf.jobs.get(pushed.job_id, MINUTE))
    (leased,) = await other.leasing.reserve(reserve())
    await other.settling.ack([AckCall(leased.ref)])
    await clock.advance(10 * SECOND)
    assert waiting.done()
    assert (await waiting).state is JobState.SUCCEEDED
    await deaf.stop()
    await other.stop()


@pytest.mark.parametrize(
    "notice",
    [
        b"no notice",
        zlib.compress(b"[]"),
        zlib.compress(b'{"workers": [["w1"]], "directives": []}'),
        zlib.compress(b'{"workers": [["w1", [], 1, 0, 0, 1]], "directives": []}'),
        zlib.compress(b'{"workers": [], "directives": [["w1", "", 99, 0]]}'),
        zlib.compress(b'{"workers": [], "directives": {"w1": [3, 0]}}'),
        zlib.compress(b'{"workers": "' + bytes(1 << 27) + b'"}'),
    ],
    ids=["bytes", "list", "row", "count", "directive", "directives", "bomb"],
)
async def test_a_notice_that_cannot_be_read_hides_no_other(notice: bytes) -> None:
    server = Server()
    one, stranger = Broker(SharedDriver(server)), SharedDriver(server)
    await one.start()
    await stranger.post("stranger", notice, one.now_of("emails") + MINUTE)
    await one.settling.heartbeat("w1", [])
    assert [view.key.id for view in await one.operating.workers()] == ["w1"]
    await one.operating.stop_worker("w1", Directive.STOP)
    await one.stop()


class Deaf(SharedDriver):
    """It is cut off from its peers; counts its Reserves."""

    reserves = 0

    def hear(self, events: Events) -> None:
        pass

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        self.reserves += 1
        return await super().reserve(request)


@pytest.fixture
async def deaf(clock: ManualClock) -> AsyncIterator[tuple[Broker, Deaf, Broker]]:
    """One that is, its driver, and another broker on the same store."""
    server = Server()
    driver = Deaf(server)
    deaf, other = Broker(driver, clock=clock), Broker(SharedDriver(server), clock=clock)
    await deaf.start()
    await other.start()
    yield deaf, driver, other
    await deaf.stop()
    await other.stop()


async def test_a_waiting_reserve_finds_its_job_even_if_the_news_is_lost(
    clock: ManualClock, deaf: tuple[Broker, Deaf, Broker]
) -> None:
    broker, _, other = deaf
    waiting = asyncio.create_task(broker.leasing.reserve(reserve(wait=MINUTE)))
    await clock.advance(SECOND)
    await other.jobs.push([job()])
    await clock.advance(15 * SECOND)
    assert waiting.done()
    assert len(await waiting) == 1


async def test_in_case_that_news_is_lost_one_looks_for_all_who_wait(
    clock: ManualClock, deaf: tuple[Broker, Deaf, Broker]
) -> None:
    broker, driver, other = deaf
    waiting = [
        asyncio.create_task(broker.leasing.reserve(reserve(wait=10 * MINUTE))) for _ in range(50)
    ]
    await clock.advance(SECOND)
    before = driver.reserves
    await clock.advance(5 * MINUTE)
    assert 20 <= driver.reserves - before <= 60
    await other.jobs.push([job() for _ in waiting])
    await clock.advance(40 * SECOND)
    assert [len(await each) for each in waiting] == [1] * 50

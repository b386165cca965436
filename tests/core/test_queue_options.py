"""What is set for queues, by name or pattern: which option counts, and what it does."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from msgspec.structs import replace

from tests.contract.limited_memory import LimitedDriver
from tests.contract.shared_memory import Server, SharedDriver
from tests.core.factories import job, reserve
from tests.core.manual_clock import START, ManualClock, come_to_rest
from tests.support.faulty_driver import FaultyDriver
from tests.support.waiting import until
from towline_broker.core import queue_options
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, DeadLetter, LeaseOutcome, NackCall
from towline_broker.core.queue_options import FOREVER, QueueOptions, RuleBook
from towline_broker.core.routing import Routes
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.errors import InvalidField, OptionRefused, QueueFull
from towline_broker.domain.jobs import JobPage, JobState
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.domain.time import DAY, HOUR, MINUTE, SECOND
from towline_broker.drivers.interface import DeadQuery, Feature, PushOutcome
from towline_broker.drivers.memory import Engine, MemoryDriver

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def settings() -> CoreSettings:
    return CoreSettings(upkeep_batch=3)


@pytest.fixture
def driver() -> FaultyDriver:
    return FaultyDriver()


@pytest.fixture
async def broker(
    clock: ManualClock, settings: CoreSettings, driver: FaultyDriver
) -> AsyncIterator[Broker]:
    broker = Broker(driver.driver, clock=clock, settings=settings, rng=Random(7))
    await broker.start()
    yield broker
    await broker.stop()


async def push(broker: Broker, queue: str, count: int = 1) -> list[str]:
    jobs = [job(queue, retry=ONCE) for _ in range(count)]
    await broker.jobs.push(jobs)
    return [each.id for each in jobs]


async def die(broker: Broker, queue: str, count: int = 1) -> list[str]:
    ids = await push(broker, queue, count)
    leases = await broker.leasing.reserve(reserve(queue, max_jobs=count))
    await broker.settling.nack([NackCall(leased.ref) for leased in leases])
    return ids


async def dead(broker: Broker) -> list[str]:
    page = await broker.dead_letters.list_dead(DeadQuery(100))
    return [record.id for record in page.records]


# --- which option counts -------------------------------------------------------------------------


def test_each_option_comes_from_the_name_or_the_pattern_that_counts_most() -> None:
    book = RuleBook(
        CoreSettings(max_queue_depth=9, default_lease=7),
        {
            "*": QueueOptions(max_depth=1, lease=10, dead_letter_retention=DAY, jitter=0.5),
            "emails.*": QueueOptions(max_depth=2, paused=True, max_attempts=5),
            "emails.*.slow": QueueOptions(lease=20, backoff=DelayList((1,))),
            "emails.de.slow": QueueOptions(max_depth=3, paused=False, dead_letters=False),
            "reports": QueueOptions(),
        },
    )
    slow, mail, other = book.of("emails.de.slow"), book.of("emails.fr"), book.of("reports")
    assert (slow.max_depth, mail.max_depth, other.max_depth) == (3, 2, 1)
    assert (slow.lease, mail.lease, other.lease) == (20, 10, 10)
    assert (slow.paused, mail.paused, other.paused) == (False, True, False)
    assert (slow.dead_kept, mail.dead_kept, other.dead_kept) == (0, DAY, DAY)
    assert (slow.job.max_attempts, slow.job.backoff, slow.job.jitter) == (5, DelayList((1,)), 0.5)
    assert (other.job.max_attempts, other.job.backoff, other.job.jitter) == (None, None, 0.5)


def test_without_options_the_settings_of_the_broker_apply() -> None:
    book = RuleBook(CoreSettings(max_queue_depth=9, default_lease=7), {"a": QueueOptions()})
    rules = book.of("a")
    assert (rules.max_depth, rules.lease, rules.dead_kept, rules.paused) == (9, 7, FOREVER, False)
    flags = (book.any_for_jobs, book.any_lease, book.any_paused, book.any_dead_go)
    assert not any(flags)


def test_a_pattern_can_be_set_back_to_what_is_usual() -> None:
    book = RuleBook(
        CoreSettings(),
        {
            "*": QueueOptions(dead_letters=False, paused=True, retention=HOUR),
            "a": QueueOptions(dead_letters=True, paused=False, retention=0),
            "b": QueueOptions(dead_letters=True, dead_letter_retention=FOREVER),
        },
    )
    assert (book.of("a").dead_kept, book.of("a").paused, book.of("a").job.retention) == (
        FOREVER,
        False,
        0,
    )
    assert (book.of("b").dead_kept, book.of("c").dead_kept) == (FOREVER, 0)


def test_patterns_of_which_neither_comes_first_change_nothing() -> None:
    book = RuleBook(CoreSettings(), {"a": QueueOptions(max_depth=5)})
    with pytest.raises(ValueError, match="neither comes first"):
        book.replace({"a*x*c": QueueOptions(max_depth=1), "a*y*c": QueueOptions(max_depth=2)})
    assert book.of("a").max_depth == 5


def test_p11_names_that_callers_choose_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_options, "MOST_KNOWN", 3)
    book = RuleBook(CoreSettings(), {"q1*": QueueOptions(max_depth=5)})
    depths = [book.of(f"q{number}").max_depth for number in range(20)]
    assert depths == [5 if 10 <= n < 20 or n == 1 else 10_000_000 for n in range(20)]
    assert len(book._known) <= 3


# --- depth and lease -----------------------------------------------------------------------------


async def test_p11_a_queue_holds_its_own_number_of_jobs(broker: Broker) -> None:
    broker.apply({"small": QueueOptions(max_depth=2)})
    await push(broker, "small", 2)
    await push(broker, "large", 5)
    with pytest.raises(QueueFull) as full:
        await push(broker, "small")
    assert (full.value.queue, full.value.limit) == ("small", 2)
    results = await broker.jobs.push([job("small"), job("large")], all_or_nothing=False)
    assert [each.outcome for each in results] == [PushOutcome.QUEUE_FULL, PushOutcome.CREATED]
    broker.apply({"small": QueueOptions(max_depth=3)})
    await push(broker, "small")


async def test_a_lease_is_as_long_as_its_queue_says_unless_a_length_is_asked(
    broker: Broker,
) -> None:
    broker.apply({"slow": QueueOptions(lease=HOUR)})
    for queue in ("quick", "slow", "quick", "slow"):
        await push(broker, queue)
    granted = await broker.leasing.reserve(reserve("quick", "slow", max_jobs=3))
    lengths = [(leased.ref.queue, leased.lease_until - START) for leased in granted]
    assert lengths == [("quick", 30 * SECOND), ("quick", 30 * SECOND), ("slow", HOUR)]
    (asked,) = await broker.leasing.reserve(reserve("quick", "slow", lease=MINUTE))
    assert (asked.ref.queue, asked.lease_until - START) == ("slow", MINUTE)


async def test_p3_a_repeated_reserve_over_leases_of_several_lengths_gets_the_same(
    broker: Broker,
) -> None:
    broker.apply({"slow": QueueOptions(lease=HOUR)})
    await push(broker, "quick")
    await push(broker, "slow")
    call = reserve("quick", "slow", max_jobs=2, worker_id="w", request_id="r")
    first = await broker.leasing.reserve(call)
    assert first
    assert await broker.leasing.reserve(call) == first
    again = reserve("quick", "slow", max_jobs=2, worker_id="w", request_id="next")
    rest = await broker.leasing.reserve(again)
    assert sorted(leased.ref.queue for leased in [*first, *rest]) == ["quick", "slow"]


# --- pause ---------------------------------------------------------------------------------------


async def test_a_queue_that_the_settings_pause_gives_no_jobs_until_they_say_otherwise(
    broker: Broker,
) -> None:
    await push(broker, "held", 2)
    (running,) = await broker.leasing.reserve(reserve("held"))
    broker.apply({"held": QueueOptions(paused=True)})
    assert await broker.leasing.reserve(reserve("held")) == []
    await push(broker, "open")
    (other,) = await broker.leasing.reserve(reserve("held", "open", max_jobs=9))
    assert other.ref.queue == "open"
    assert await broker.settling.ack([AckCall(running.ref)]) == [LeaseOutcome.OK]
    waiting = asyncio.create_task(broker.leasing.reserve(reserve("held", "other", wait=MINUTE)))
    await push(broker, "held")
    await come_to_rest()
    assert not waiting.done()
    broker.apply({})
    async with asyncio.timeout(5):
        (freed,) = await waiting
    assert freed.ref.queue == "held"


async def test_a_paused_queue_costs_its_store_nothing(broker: Broker, driver: FaultyDriver) -> None:
    broker.apply({"held": QueueOptions(paused=True)})
    waiting = asyncio.create_task(broker.leasing.reserve(reserve("held", "open", wait=MINUTE)))
    await come_to_rest()
    driver.errors["reserve"] = AssertionError("the store was asked")
    await push(broker, "held")
    await come_to_rest()
    assert await broker.leasing.reserve(reserve("held")) == []
    assert not waiting.done()
    del driver.errors["reserve"]
    broker.drain()
    assert await waiting == []


async def test_p3_a_repeated_reserve_gets_its_leases_though_the_queue_is_paused_by_now(
    broker: Broker,
) -> None:
    await push(broker, "held", 2)
    call = reserve("held", worker_id="w", request_id="r")
    granted = await broker.leasing.reserve(call)
    broker.apply({"h*": QueueOptions(paused=True)})
    assert await broker.leasing.reserve(call) == granted
    assert await broker.leasing.reserve(reserve("held", worker_id="w", request_id="s")) == []


async def test_a_queue_is_paused_as_long_as_settings_or_an_operator_say_so(
    broker: Broker,
) -> None:
    await push(broker, "held")
    broker.apply({"held": QueueOptions(paused=True)})
    (view,) = await broker.operating.queues()
    (reading,) = (await broker.observing.readings(max_age=0, patience=5)).values()
    assert reading is not None
    assert [view.paused, *(state.paused for state in reading.states)] == [True, True]
    with pytest.raises(InvalidField, match="paused by the settings") as refused:
        await broker.operating.resume("held")
    assert refused.value.field == "queue"
    assert await broker.operating.pause("held")
    broker.apply({})
    assert await broker.leasing.reserve(reserve("held")) == []
    assert await broker.operating.resume("held")
    assert await broker.leasing.reserve(reserve("held")) != []


# --- dead letters --------------------------------------------------------------------------------


async def test_p7_without_dead_letters_what_dies_is_gone_counted_and_remembered(
    broker: Broker, clock: ManualClock
) -> None:
    broker.apply({"lossy": QueueOptions(dead_letters=False)})
    kept = await die(broker, "kept")
    exhausted = await die(broker, "lossy", 7)
    (rejected,) = await push(broker, "lossy")
    (leased,) = await broker.leasing.reserve(reserve("lossy"))
    await broker.settling.nack([NackCall(leased.ref, DeadLetter())])
    expired = job("lossy", expires_in=SECOND)
    await broker.jobs.push([expired])
    await clock.advance(SECOND)
    await broker.catch_up()
    assert await dead(broker) == kept
    for job_id in (*exhausted, rejected, expired.id):
        record = await broker.jobs.get(job_id)
        assert (record.state, record.type) == (JobState.DEAD, "")
    figures = (await broker.operating.report(["lossy"])).total
    assert (figures.totals.dead_lettered, figures.depth.dead) == (9, 0)
    assert figures.totals.failed == 8


async def test_dead_jobs_go_when_their_time_is_over_those_that_were_dead_before_too(
    broker: Broker, clock: ManualClock
) -> None:
    ever = await die(broker, "ever")
    first = await die(broker, "emails", 4)
    await clock.advance(10 * SECOND)
    second = await die(broker, "emails")
    broker.apply({"emails": QueueOptions(dead_letter_retention=20 * SECOND)})
    await broker.catch_up()
    assert await dead(broker) == [*ever, *first, *second]
    await clock.advance(10 * SECOND - 1)
    await broker.catch_up()
    assert await dead(broker) == [*ever, *first, *second]
    await clock.advance(1)
    await broker.catch_up()
    assert await dead(broker) == [*ever, *second]
    broker.apply({"em*": QueueOptions(dead_letter_retention=15 * SECOND)})
    await clock.advance(5 * SECOND - 1)
    await broker.catch_up()
    assert await dead(broker) == [*ever, *second]
    await clock.advance(1)
    await broker.catch_up()
    assert await dead(broker) == ever


async def test_dead_jobs_go_by_themselves_and_after_an_outage(
    driver: FaultyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "towline.broker")
    broker = Broker(driver.driver, queue_options={"*": QueueOptions(dead_letters=False)})
    await broker.start()
    try:
        driver.errors["discard_dead"] = ConnectionError("gone")
        await die(broker, "emails")
        await until(lambda: _told(caplog, "stay longer than they are to be kept"), "told")
        assert len(await dead(broker)) == 1
        del driver.errors["discard_dead"]
        await until(lambda: _told(caplog, "are deleted again"), "deleted")
        assert await dead(broker) == []
    finally:
        await broker.stop()


async def test_several_brokers_on_one_store_delete_each_dead_job_once() -> None:
    server = Server()
    options = {"emails": QueueOptions(dead_letters=False)}
    brokers = [Broker(SharedDriver(server), queue_options=options) for _ in range(2)]
    for broker in brokers:
        await broker.start()
    try:
        await die(brokers[0], "emails", 20)
        await asyncio.gather(*(broker.catch_up() for broker in brokers))
        assert await dead(brokers[1]) == []
        totals = (await brokers[0].operating.report()).total.totals
        assert (totals.dead_lettered, totals.cancelled) == (20, 0)
    finally:
        for broker in brokers:
            await broker.stop()


class ShortPages(MemoryDriver):
    """Its first page holds nothing: it has looked at so many jobs of other queues."""

    async def list_dead(self, query: DeadQuery) -> JobPage:
        if query.cursor is None:
            return JobPage([], "next")
        return await super().list_dead(replace(query, cursor=None))


async def test_a_store_may_look_past_dead_jobs_of_other_queues_page_by_page(
    clock: ManualClock,
) -> None:
    broker = Broker(ShortPages(Engine()), clock=clock)
    broker.apply({"emails": QueueOptions(dead_letter_retention=MINUTE)})
    await broker.start()
    try:
        await die(broker, "emails")
        await clock.advance(10 * SECOND)
        await die(broker, "emails")
        for left, pause in ((2, 49 * SECOND), (2, 1 * SECOND), (1, 10 * SECOND), (0, 0)):
            await broker.catch_up()
            page = await broker.dead_letters.list_dead(DeadQuery(9, cursor="next"))
            assert len(page.records) == left
            await clock.advance(pause)
    finally:
        await broker.stop()


async def _told(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


# --- what a store cannot keep --------------------------------------------------------------------

OPTIONS = {"*": QueueOptions(retention=HOUR), "logs.*": QueueOptions(dead_letters=False)}
ROUTES = Routes(patterns=(("sqs.*", "other"),))


def limited(missing: Feature, options: dict[str, QueueOptions], routes: Routes) -> Broker:
    drivers = {"default": FaultyDriver().driver, "other": LimitedDriver(missing)}
    return Broker(drivers, routes, queue_options=options)


async def refused(broker: Broker) -> str:
    with pytest.raises(OptionRefused) as error:
        await broker.start()
    return str(error.value)


async def test_an_option_that_a_store_cannot_keep_is_refused_at_the_start_by_its_name() -> None:
    told = await refused(limited(Feature.RETENTION, OPTIONS, ROUTES))
    assert told.startswith("queues.\"*\".retention: store 'other'")
    assert "keeping jobs that have ended" in told
    assert "set retention = 0 for those" in told
    others = {**OPTIONS, "sqs.logs": QueueOptions(retention=0)}
    assert "retention" in await refused(limited(Feature.RETENTION, others, ROUTES))
    gone = {"sqs.logs": QueueOptions(dead_letter_retention=DAY)}
    told = await refused(limited(Feature.DEAD_LETTERS, OPTIONS | gone, ROUTES))
    assert told.startswith("queues.\"sqs.logs\".dead_letter_retention: store 'other'")


@pytest.mark.parametrize(
    ("options", "routes"),
    [
        ({"emails": QueueOptions(retention=HOUR)}, ROUTES),
        ({"*": QueueOptions(retention=HOUR), "sqs.*": QueueOptions(retention=0)}, ROUTES),
        ({"*": QueueOptions(retention=HOUR), "sqs*": QueueOptions(retention=0)}, ROUTES),
        (
            {"sqs.x": QueueOptions(retention=HOUR)},
            Routes(exact={"sqs.x": "default"}, patterns=ROUTES.patterns),
        ),
        ({"*": QueueOptions(max_depth=1, lease=SECOND, paused=True, timeout=SECOND)}, ROUTES),
    ],
)
async def test_what_no_queue_of_that_store_would_have_is_not_refused(
    options: dict[str, QueueOptions], routes: Routes
) -> None:
    broker = limited(Feature.RETENTION, options, routes)
    await broker.start()
    await broker.stop()


async def test_options_that_are_refused_while_it_runs_change_nothing() -> None:
    broker = limited(Feature.RETENTION, {"a": QueueOptions(max_depth=1)}, ROUTES)
    await broker.start()
    try:
        with pytest.raises(OptionRefused):
            broker.apply({"a": QueueOptions(max_depth=2), "sqs.a": QueueOptions(retention=HOUR)})
        assert broker.rules_of("a").max_depth == 1
    finally:
        await broker.stop()


async def test_a_queue_left_in_a_store_that_cannot_keep_its_option_goes_without() -> None:
    drivers = {"default": FaultyDriver().driver, "other": LimitedDriver(Feature.RETENTION)}
    earlier = Broker(drivers, ROUTES)
    await earlier.start()
    await earlier.jobs.push([job("sqs.a")])
    await earlier.stop()
    options = {"*": QueueOptions(retention=HOUR, max_attempts=2)}
    broker = Broker(drivers, Routes(), queue_options=options)
    await broker.start()
    try:
        left, usual = (broker.jobs.defaults_of(queue) for queue in ("sqs.a", "emails"))
        assert (left.retention, left.max_attempts) == (None, 2)
        assert (usual.retention, usual.max_attempts) == (HOUR, 2)
    finally:
        await broker.stop()

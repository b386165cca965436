"""What the Redis driver keeps beyond the contract: bounds, a full server, nothing left behind."""

import itertools
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from importlib.resources import files

import pytest
import pytest_asyncio

from tests.support.servers.redis import Kind, RedisServer
from towline_broker.domain.errors import QueueFull, StoreFull
from towline_broker.domain.jobs import DeadReason, JobState, LeaseRef, NewJob, Settlement
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    CancelOutcome,
    CancelRequest,
    DeadSelection,
    ExtendBatch,
    ExtendItem,
    Handled,
    NackBatch,
    NackItem,
    PurgeRequest,
    PushBatch,
    PushOutcome,
    ReserveRequest,
)
from towline_broker.drivers.redis import RedisDriver, open_redis, scripts
from towline_broker.drivers.redis.link.interface import Script
from towline_broker.drivers.redis.partitions import MOST, News
from towline_broker.testing import new_job, new_jobs

NOW = 1_700_000_000 * SECOND
ALL = 1_000_000
SCRIPTS = {value.name: value for value in vars(scripts).values() if isinstance(value, Script)}

READING = {
    *("EXISTS", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "SISMEMBER", "SMEMBERS"),
    *("ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZSCORE"),
}

_RUN = secrets.token_hex(4)
_stores = itertools.count(1)


class Heard:
    """A listener."""

    def __init__(self) -> None:
        self.ready: list[tuple[str, int]] = []
        self.ended: list[str] = []

    def jobs_ready(self, queue: str, count: int) -> None:
        self.ready.append((queue, count))

    def jobs_coming(self, queue: str, count: int) -> None: ...

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        self.ended += job_ids


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    kind: Kind = request.param
    with RedisServer(kind) as server:
        yield server


@pytest.fixture
def prefix() -> str:
    return f"scripts-{_RUN}-{next(_stores)}"


@pytest_asyncio.fixture
async def driver(server: RedisServer, prefix: str) -> AsyncIterator[RedisDriver]:
    driver = open_redis(f"{server.url}?prefix={prefix}")
    await driver.open(NOW, Heard())
    yield driver
    await driver.close()


async def push(driver: RedisDriver, *jobs: NewJob, now: int = NOW) -> None:
    results = await driver.push(PushBatch(jobs, now))
    assert all(result.outcome is PushOutcome.CREATED for result in results)


async def reserve(
    driver: RedisDriver, count: int, now: int = NOW, request_id: str = ""
) -> list[LeaseRef]:
    grant = secrets.token_hex(4)
    request = ReserveRequest(["q"], count, HOUR, grant, now, "worker", request_id)
    return [leased.ref for leased in await driver.reserve(request)]


async def settle(driver: RedisDriver, refs: Sequence[LeaseRef], *items: NackItem) -> list[bool]:
    until = NOW + SECOND
    acked = await driver.ack(AckBatch([AckItem(ref, b"done") for ref in refs], NOW, until))
    nacked = await driver.nack(NackBatch(items, NOW, until))
    return [settled.applied for settled in (*acked, *nacked)]


def bury(ref: LeaseRef) -> NackItem:
    return NackItem(ref, Settlement.DEAD_LETTERED, dead_reason=DeadReason.REJECTED)


# --- what a script may not do ---------------------------------------------------------------------


def test_no_script_looks_through_all_keys_or_goes_by_the_servers_clock() -> None:
    assert len(SCRIPTS) > 20
    for script in SCRIPTS.values():
        commands = set(re.findall(r"redis\.p?call\('([A-Z]+)'", script.text))
        assert commands, script.name
        assert not commands & {"KEYS", "SCAN", "HSCAN", "ZSCAN", "SSCAN", "TIME", "RANDOMKEY"}


def test_a_script_that_is_said_to_read_only_reads() -> None:
    changing = re.compile(r"\b(write|put|take_places|leave|finish|bury|lease|wait)\(")
    reading = [script for script in SCRIPTS.values() if not script.write]
    assert len(reading) > 9
    for script in reading:
        own = files(scripts).joinpath(f"{script.name}.lua").read_text()
        assert not changing.search(own), script.name
        commands = set(re.findall(r"redis\.call\('([A-Z]+)'", own))
        assert commands <= READING, script.name


def test_every_script_compiles(server: RedisServer) -> None:
    for script in SCRIPTS.values():
        assert server.execute("SCRIPT", "LOAD", script.text) == script.sha


# --- large batches --------------------------------------------------------------------------------


async def test_p11_a_batch_larger_than_a_script_takes_is_done_in_several(
    driver: RedisDriver,
) -> None:
    jobs = new_jobs(2 * MOST + 500)
    await push(driver, *jobs)
    refs = await reserve(driver, 3 * MOST)
    assert [ref.job_id for ref in refs] == [job.id for job in jobs]
    assert len([record for record in await driver.leases(refs) if record]) == len(jobs)
    extended = await driver.extend(ExtendBatch([ExtendItem(ref) for ref in refs], NOW))
    assert all(one.lease_until for one in extended)
    assert all(await settle(driver, refs[:MOST], *map(bury, refs[MOST:])))
    selection = DeadSelection(ALL, NOW)
    assert await driver.count_dead(selection) == MOST + 500
    assert await driver.requeue_dead(selection) == Handled(MOST + 500, MOST + 500)
    ids = [ref.job_id for ref in refs]
    outcomes = await driver.cancel(CancelRequest(ids[: MOST + 200], NOW, NOW + 1))
    assert outcomes == [CancelOutcome.ALREADY_ENDED] * MOST + [CancelOutcome.CANCELLED] * 200
    purge = PurgeRequest("q", ALL, NOW, NOW + 1)
    assert await driver.purge(purge) == Handled(MOST + 300, MOST + 300)
    delayed = new_jobs(MOST + 5, due_at=NOW + 1, expires_at=NOW + 2)
    await push(driver, *delayed)
    assert await driver.promote(NOW + 1, ALL) == MOST + 5
    assert await driver.expire(NOW + 2, ALL) == MOST + 5
    assert await driver.discard_dead(selection, NOW + 1) == Handled(MOST + 5, MOST + 5)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "others"])
async def test_p3_leases_of_several_grants_end_in_one_call_each_with_its_own(
    driver: RedisDriver, plain: bool
) -> None:
    """What plain jobs of one grant have in common is made once for them; it is not for the next.
    Those with a key are done one by one, and come to the same."""
    types = ("T", "U", "T", "T", "U", "U")
    jobs = [
        new_job(type=type_, unique_key=None if plain else str(number))
        for number, type_ in enumerate(types)
    ]
    await push(driver, *jobs)
    refs = [ref for after in range(3) for ref in await reserve(driver, 2, NOW + after * SECOND)]
    mixed = [(place, refs[place]) for place in (0, 1, 4, 2, 3, 5)]
    now, until = NOW + 10 * SECOND, NOW + HOUR
    items = [AckItem(ref, f"result {place}".encode() * (place % 3)) for place, ref in mixed]
    settled = await driver.ack(AckBatch(items, now, until))
    assert [(one.applied, one.type, one.elapsed) for one in settled] == [
        (True, types[place], (10 - place // 2) * SECOND) for place, _ in mixed
    ]
    for item in items:
        job = await driver.get(item.ref.job_id)
        assert job is not None
        assert (job.state, job.result) == (JobState.SUCCEEDED, item.result)
    # A grant is remembered with its own jobs, and with no other.
    again = await driver.ack(AckBatch(items, now, until))
    assert [one.before for one in again] == [Settlement.ACKED] * 6
    exchanged = [AckItem(ref._replace(grant=refs[place - 2].grant)) for place, ref in mixed]
    strange = await driver.ack(AckBatch(exchanged, now, until))
    assert [(one.applied, one.before) for one in strange] == [(False, None)] * 6


async def test_p9_a_large_batch_that_meets_a_full_queue_leaves_nothing(
    driver: RedisDriver,
) -> None:
    await push(driver, new_job("full"))
    batch = [*new_jobs(MOST), *new_jobs(MOST, "full")]
    with pytest.raises(QueueFull):
        await driver.push(PushBatch(batch, NOW, max_depth={"full": MOST}))
    assert [queue.name for queue in await driver.queues()] == ["full"]
    results = await driver.push(PushBatch(batch, NOW, max_depth={"full": MOST + 1}))
    assert [result.outcome for result in results] == [PushOutcome.CREATED] * 2 * MOST
    more = PushBatch([*new_jobs(MOST), *new_jobs(2, "full")], NOW, False, {"full": MOST + 2})
    outcomes = [result.outcome for result in await driver.push(more)]
    assert outcomes[MOST:] == [PushOutcome.CREATED, PushOutcome.QUEUE_FULL]


async def test_p6_more_stale_jobs_than_a_script_looks_at_do_not_hide_a_fresh_one(
    driver: RedisDriver,
) -> None:
    await push(driver, *new_jobs(2 * MOST, expires_at=NOW + 1))
    await push(driver, fresh := new_job())
    refs = await reserve(driver, 1, NOW + 1)
    assert [ref.job_id for ref in refs] == [fresh.id]
    assert await driver.count_dead(DeadSelection(0, NOW)) == 2 * MOST


# --- a server without memory ----------------------------------------------------------------------


async def test_p11_without_memory_everything_but_storing_goes_on(
    driver: RedisDriver, server: RedisServer
) -> None:
    await push(driver, *new_jobs(12))
    await push(driver, new_job("other"), new_job(due_at=NOW + 1), new_job(expires_at=NOW + 1))
    leased = await reserve(driver, 5)
    server.execute("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(StoreFull):
            await push(driver, new_job())
        leased += await reserve(driver, 2, request_id="r")
        assert (await driver.extend(ExtendBatch([ExtendItem(leased[0])], NOW)))[0].lease_until
        retry = NackItem(leased[1], Settlement.RETRIED, NOW + SECOND)
        assert await settle(driver, leased[:1], retry, bury(leased[2])) == [True] * 3
        assert await driver.requeue_dead(DeadSelection(9, NOW)) == Handled(1, 1)
        assert await settle(driver, [], bury(leased[3])) == [True]
        assert await driver.discard_dead(DeadSelection(9, NOW), NOW + 1) == Handled(1, 1)
        cancelled = await driver.cancel(CancelRequest([leased[4].job_id], NOW, NOW + 1))
        assert cancelled == [CancelOutcome.CANCELLED]
        assert (await driver.promote(NOW + 1, 9), await driver.expire(NOW + 1, 9)) == (1, 1)
        assert await driver.set_paused("q", True)
        assert await driver.set_paused("q", False)
        assert (await driver.purge(PurgeRequest("other", 9, NOW, NOW + 1))).handled == 1
        await driver.post("broker", b"notice", NOW + HOUR)
        await driver.seal("q", "elsewhere")
        await driver.reset_totals()
        assert await driver.forget(NOW + HOUR, ALL) > 0
    finally:
        server.execute("CONFIG", "SET", "maxmemory", 0)
    await push(driver, new_job())


# --- nothing left behind --------------------------------------------------------------------------


async def test_p11_jobs_that_come_and_go_leave_nothing_behind(
    driver: RedisDriver, server: RedisServer, prefix: str
) -> None:
    for now in range(NOW, NOW + 20):
        jobs = [
            *new_jobs(4, expires_at=NOW + HOUR, unique_key=f"k{now}", unique_until=now + 1),
            *new_jobs(4, due_at=NOW + HOUR, priority=now % 5, unique_key=f"j{now}"),
            *new_jobs(4, retention=5, envelope=b"x" * 2000),
        ]
        await driver.push(PushBatch(jobs, now))
        refs = await reserve(driver, 6, now, request_id=f"r{now}")
        release = NackItem(refs[0], Settlement.RELEASED, due_at=NOW + HOUR)
        assert all(await settle(driver, refs[3:], release, *map(bury, refs[1:3])))
        await driver.requeue_dead(DeadSelection(1, now))
        await driver.discard_dead(DeadSelection(1, now), now + 10)
        await driver.cancel(CancelRequest([job.id for job in jobs], now, now + 10))
        await driver.purge(PurgeRequest("q", 3, now, now + 10))
    await driver.promote(NOW + HOUR, ALL)
    await driver.expire(NOW + HOUR, ALL)
    while refs := await reserve(driver, 100, NOW + HOUR):
        await settle(driver, refs)
    await driver.discard_dead(DeadSelection(ALL, NOW + HOUR), NOW + HOUR)
    while await driver.forget(NOW + 2 * HOUR, ALL):
        pass
    left = {key.rpartition("}:")[2] for key in server.execute("KEYS", f"{prefix}:{{0}}:*") if key}
    # What the store is, the sequence, and the queue with its depths and totals.
    assert left == {"meta", "seq", "q", "d", "t"}
    (counts,) = await driver.counts()
    assert counts.depth.live == counts.depth.dead == 0


# --- what is told when a reply is lost ------------------------------------------------------------


def news_of(call: str) -> bytes:
    return f"{call}\nq 3\njob-1\njob-2".encode()


async def test_p11_notices_of_brokers_that_went_without_a_word_are_forgotten(
    driver: RedisDriver,
) -> None:
    await driver.post("gone", b"notice", NOW)
    await driver.post("lately gone", b"notice", NOW + 2 * HOUR)
    await driver.post("there", b"notice", NOW + 2 * HOUR)
    assert set(await driver.notices(0)) == {"lately gone", "there"}


def test_p8_what_was_returned_is_told_once_though_it_is_heard_too() -> None:
    for heard_first in (True, False):
        news, listener = News(), Heard()
        news.listener = listener
        call = news.begin()
        if heard_first:
            news.heard(news_of(call))
        news.replied(call, news_of(call))
        if not heard_first:
            news.heard(news_of(call))
        assert (listener.ready, listener.ended) == ([("q", 3)], ["job-1", "job-2"])


def test_p8_a_change_whose_reply_was_lost_is_told_when_it_is_heard() -> None:
    for heard_first in (True, False):
        news, listener = News(), Heard()
        news.listener = listener
        call = news.begin()
        if heard_first:
            news.heard(news_of(call))
            assert listener.ready == []
        news.failed(call)
        if not heard_first:
            news.heard(news_of(call))
        assert (listener.ready, listener.ended) == ([("q", 3)], ["job-1", "job-2"])


def test_p11_calls_without_a_reply_are_not_kept_in_mind_for_ever() -> None:
    news, listener = News(), Heard()
    news.listener = listener
    calls = [news.begin() for _ in range(2 * News.KEPT)]
    for call in calls:
        news.failed(call)
    news.heard(news_of(calls[0]))
    assert listener.ready == []
    news.heard(news_of(calls[-1]))
    assert listener.ready == [("q", 3)]


def test_p8_what_another_broker_did_is_told() -> None:
    news, listener = News(), Heard()
    news.listener = listener
    news.heard(news_of(News().begin()))
    assert listener.ready == [("q", 3)]

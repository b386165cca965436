"""MariaDB: what a call reads depends on what it is about, not on how many jobs there are."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.support.databases import opened
from tests.support.servers.mariadb import MariaDBServer
from towline_broker.domain.time import HOUR, MINUTE
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    DeadQuery,
    DeadSelection,
    Driver,
    PurgeRequest,
    PushBatch,
    ReserveRequest,
)
from towline_broker.drivers.sql import moving
from towline_broker.drivers.sql.mysql.database import MySQLDatabase
from towline_broker.drivers.sql.mysql.session import MySQLSession
from towline_broker.drivers.sql.mysql.url import parse
from towline_broker.testing.factories import START, WINDOW, new_jobs

#: In each state.
MANY = 20_000
#: A call about so many jobs reads no more than this many rows, in all its statements.
BATCH, MOST_READ = 100, 1_000

_JOB = (
    "INSERT INTO towline_jobs (seq, id, queue, kind, priority, state, position, attempt, releases,"
    " enqueued_at, available_at, expires_at, retention, noted, finished_at, dead_reason)"
)


@pytest.fixture(scope="module")
def full(mariadb_server: MariaDBServer) -> Iterator[str]:
    """The url of a store with many jobs in each state: waiting, scheduled, dead, and dead of age.
    Those of the dead that expired lie before all others in the order of their expiry."""
    url = mariadb_server.create_database()

    async def push_some() -> None:
        async with opened(url) as driver:
            await push(driver)

    asyncio.run(push_some())
    states = (
        ("ready", 2, 0, START, "NULL", "NULL"),
        ("later", 1, 0, START + HOUR, "NULL", "NULL"),
        ("gone", 5, 3, START, str(START), "2"),
        ("aged", 5, 0, START, str(START), "3"),
    )
    sequence = f"seq_1_to_{MANY}"
    for number, (name, state, attempt, available_at, finished_at, reason) in enumerate(states):
        base = (number + 1) * 10_000_000
        mariadb_server.execute(
            f"{_JOB} SELECT {base} + seq, CONCAT('{name}-', seq), 1, 1, 0, {state}, {base} + seq,"
            f" {attempt}, 0, {START}, {available_at} + seq, {START} + {HOUR} + seq, 0, 0,"
            f" {finished_at} + seq, {reason} FROM {sequence};"
            f"INSERT INTO towline_envelopes SELECT {base} + seq, 'payload' FROM {sequence};",
            url,
        )
    mariadb_server.execute(
        f"UPDATE towline_counters SET ready = ready + {MANY}, scheduled = scheduled + {MANY},"
        f" dead = dead + {2 * MANY} LIMIT 1",
        url,
    )
    yield url
    mariadb_server.drop_database(url)


@pytest.fixture(params=["never analyzed", "analyzed"], scope="module")
def store(full: str, mariadb_server: MariaDBServer, request: pytest.FixtureRequest) -> str:
    if request.param == "analyzed":
        mariadb_server.execute("ANALYZE TABLE towline_jobs, towline_settled", full)
    return full


async def push(driver: Driver) -> object:
    return await driver.push(PushBatch(new_jobs(BATCH), START))


async def reserve_and_ack(driver: Driver) -> object:
    leased = await driver.reserve(ReserveRequest(["q"], BATCH, MINUTE, "grant", START))
    assert len(leased) == BATCH
    return await driver.ack(AckBatch([AckItem(one.ref) for one in leased], START, START + WINDOW))


async def promote(driver: Driver) -> object:
    assert await driver.promote(START + HOUR + MANY, BATCH) == BATCH
    return None


async def expire(driver: Driver) -> object:
    await driver.expire(START + HOUR, BATCH)
    assert await driver.expire(START + HOUR + MANY, BATCH) == BATCH
    return None


async def look_for_what_is_due(driver: Driver) -> object:
    assert await driver.expired_leases(START, BATCH) == []
    await driver.forget(START, BATCH)
    return await driver.next_due()


async def list_dead(driver: Driver) -> object:
    page = await driver.list_dead(DeadQuery(BATCH))
    assert len(page.records) == BATCH
    return page


async def list_dead_far_behind(driver: Driver) -> object:
    page = await driver.list_dead(DeadQuery(BATCH, cursor=f"{START + MANY // 2}.0"))
    assert len(page.records) == BATCH
    return page


async def requeue(driver: Driver) -> object:
    assert (await driver.requeue_dead(DeadSelection(BATCH, START))).handled == BATCH
    return None


async def purge(driver: Driver) -> object:
    assert (await driver.purge(PurgeRequest("q", BATCH, START, START + WINDOW))).handled == BATCH
    return None


async def count(driver: Driver) -> object:
    await driver.oldest_ready()
    return await driver.counts()


STATEMENTS = (
    *("rows", "rows_of", "select", "locked", "locked_of", "select_locked"),
    *("change_of", "change_many", "put_many"),
)


async def rows_read(session: MySQLSession) -> int:
    cursor = session._connection.cursor()
    await cursor.execute("SHOW SESSION STATUS LIKE 'Handler\\_read%'")
    return sum(int(number) for _, number in await cursor.fetchall())


@pytest.mark.parametrize(
    "call",
    [
        *(push, reserve_and_ack, promote, expire, look_for_what_is_due),
        *(list_dead, list_dead_far_behind, requeue, purge, count),
    ],
)
async def test_a_call_reads_what_it_is_about(
    store: str, call: Callable[[Driver], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, int] = {}

    def counting(statement: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(session: MySQLSession, *arguments: Any) -> Any:
            before = await rows_read(session)
            answer = await statement(session, *arguments)
            name = str(arguments[0])
            read[name] = read.get(name, 0) + await rows_read(session) - before
            return answer

        return counted

    async with opened(f"{store}?lanes=1&readers=1") as driver:
        # Names are learnt, and statements prepared.
        await driver.reserve(ReserveRequest(["q"], 1, MINUTE, "warm", START))
        for name in STATEMENTS:
            monkeypatch.setattr(MySQLSession, name, counting(getattr(MySQLSession, name)))
        await call(driver)
        monkeypatch.undo()
    worst = max(read, key=lambda text: read[text])
    assert sum(read.values()) <= MOST_READ, f"{read[worst]} of {sum(read.values())}: {worst}"


@pytest.mark.parametrize(
    "sql",
    [moving.OUTGOING_READY, moving.OUTGOING_SCHEDULED, moving.OUTGOING_DEAD, moving.OUTGOING_KEPT],
)
async def test_a_queue_that_moves_is_read_batch_by_batch(store: str, sql: str) -> None:
    session = await MySQLDatabase(parse(store)).session(changes=False)
    await session.rows(sql, 1, 1)
    before = await rows_read(session)
    found = await session.rows(sql, 1, BATCH)
    assert len(found) == (0 if sql == moving.OUTGOING_KEPT else BATCH)
    assert await rows_read(session) - before <= MOST_READ
    await session.close()

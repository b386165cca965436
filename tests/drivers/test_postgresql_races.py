"""PostgreSQL: calls and brokers that meet in the middle of their transactions. (What every database
owes: test_sql_races.)"""

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from tests.support.databases import opened
from tests.support.servers.postgres import PostgresServer
from tests.support.standstill import Standstill
from tests.support.stores import ack, push, reserve, with_options
from tests.support.waiting import until
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.time import HOUR
from towline_broker.drivers.interface import PushBatch, PushOutcome
from towline_broker.drivers.sql import pushes
from towline_broker.drivers.sql.postgresql import counters
from towline_broker.drivers.sql.postgresql.hot import PostgresHot
from towline_broker.drivers.sql.shared.transaction import SharedTransaction
from towline_broker.drivers.sql.transaction import Transaction
from towline_broker.testing.factories import START, new_job, new_jobs
from towline_broker.testing.heard import Heard


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.create_database()


@pytest.mark.parametrize("joined", [True, False])
async def test_p3_a_job_stored_and_settled_while_its_push_is_repeated_runs_once(
    url: str, monkeypatch: pytest.MonkeyPatch, joined: bool
) -> None:
    async with opened(url) as slow, opened(url) as fast:
        # One that expires is not joined with others.
        job = new_job() if joined else new_job(expires_at=START + HOUR)
        # The queue is there: who makes one is waited for.
        await push(slow, new_job())
        await ack(slow, await reserve(slow, 1))
        looked, go_on = asyncio.Event(), asyncio.Event()
        known_ids, insert = pushes.known_ids, PostgresHot.insert

        async def wait() -> None:
            if not looked.is_set():
                looked.set()
                await go_on.wait()

        async def and_then_wait(transaction: Transaction, ids: list[str]) -> set[str]:
            found = await known_ids(transaction, ids)
            await wait()
            return found

        async def wait_first(hot: PostgresHot, *arguments: Any) -> int:
            await wait()
            return await insert(hot, *arguments)

        monkeypatch.setattr(pushes, "known_ids", and_then_wait)
        monkeypatch.setattr(PostgresHot, "insert", wait_first)
        repeated = asyncio.create_task(push(slow, job))
        await looked.wait()
        await push(fast, job)
        await ack(fast, await reserve(fast, 1))
        go_on.set()
        assert (await repeated)[0].outcome is PushOutcome.EXISTING
        assert await reserve(fast, 1) == []


async def test_one_that_fails_takes_none_of_its_company_along(url: str) -> None:
    async with opened(with_options(url, "lanes=1")) as driver:
        await push(driver, new_job())

        async def spoil(transaction: Transaction) -> None:
            await transaction.change("DELETE FROM towline_jobs")
            raise ValueError("spoilt")

        calls = [asyncio.create_task(push(driver, new_job())) for _ in range(5)]
        spoilt = asyncio.create_task(driver._change(spoil))
        calls += [asyncio.create_task(push(driver, new_job())) for _ in range(5)]
        with pytest.raises(ValueError, match="spoilt"):
            await spoilt
        await asyncio.gather(*calls)
        assert len(await reserve(driver, 20)) == 11


async def test_p8_a_claim_that_was_rolled_back_leaves_its_jobs_to_the_next(url: str) -> None:
    heard = Heard()
    async with opened(with_options(url, "lanes=1"), heard) as driver:
        await push(driver, *(jobs := new_jobs(5)))

        async def claim_and_fail(transaction: Transaction) -> None:
            assert isinstance(transaction, SharedTransaction)
            columns = "SELECT seq, priority, position FROM towline_jobs"
            assert len(await transaction.next_ready(columns, 1, [0], 5)) == 5
            transaction.changed = True
            raise ValueError("spoilt")

        with pytest.raises(ValueError, match="spoilt"):
            await driver._change(claim_and_fail)
        assert [one.ref.job_id for one in await reserve(driver, 5)] == [job.id for job in jobs]


async def test_p8_of_two_pushes_the_one_that_is_committed_late_is_found_at_once(url: str) -> None:
    heard = Heard()
    async with opened(with_options(url, "lanes=2"), heard) as driver:
        await push(driver, new_job())
        await reserve(driver, 1)
        early, late = new_job(), new_job()
        took_its_place, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(transaction: Transaction) -> None:
            await transaction.sequence(1)
            took_its_place.set()
            await go_on.wait()
            await pushes.push(transaction, PushBatch([late], START))

        slow = asyncio.create_task(driver._change(slowly))
        await took_its_place.wait()
        await push(driver, early)
        assert [one.ref.job_id for one in await reserve(driver, 5)] == [early.id]
        go_on.set()
        await slow
        heard.take()
        with Standstill() as standstill:
            begun = time.monotonic()
            leased = await reserve(driver, 5)
            while not leased:
                # Whoever waits is told.
                async def told() -> bool:
                    return heard.ready["q"] > 0

                await until(told, "the job is told of", 5)
                heard.take()
                leased = await reserve(driver, 5)
            took = time.monotonic() - begun
        assert [one.ref.job_id for one in leased] == [late.id]
        assert took < 1 + standstill.longest


async def test_p8_jobs_below_what_was_claimed_are_found_soon(url: str) -> None:
    heard = Heard()
    async with opened(url, heard) as driver:
        await push(driver, *new_jobs(5))
        await reserve(driver, 5)
        assert await reserve(driver, 5) == []
        heard.take()
        connection = await asyncpg.connect(url)
        await connection.execute(
            "UPDATE towline_jobs SET state = 2, lease_grant = NULL, lease_until = NULL"
            " WHERE seq = (SELECT min(seq) FROM towline_jobs)"
        )
        await connection.close()

        async def told() -> bool:
            return heard.ready["q"] > 0

        await until(told, "the job is told of", 5)
        assert len(await reserve(driver, 5)) == 1


async def test_counters_of_a_connection_go_on_under_new_numbers_and_under_a_new_owner(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "_MOVE_AFTER", 3)
    for round_ in range(1, 4):
        async with opened(with_options(url, "lanes=2")) as driver:
            for number in range(20):
                await push(driver, new_job(type=f"T{number % 3}"))
            by_type = {one.type: one.totals.pushed for one in await driver.counts()}
            assert by_type == {"T0": 7 * round_, "T1": 7 * round_, "T2": 6 * round_}
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT kind, shard FROM towline_counters")
    await connection.close()
    # Two slots, three kinds: nothing is left behind under the old numbers.
    assert len(rows) <= 6
    assert {row["shard"] % counters.SLOTS for row in rows} <= {0, 1}
    assert max(row["shard"] for row in rows) > counters.SLOTS


async def test_p1_an_old_transaction_of_another_program_stops_nothing(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class")
        async with opened(url) as driver:
            for _ in range(30):
                await push(driver, *new_jobs(10))
                assert len(await ack(driver, await reserve(driver, 10))) == 10
            assert await driver.forget(START + HOUR, 1_000) == 300
            (counts,) = await driver.counts()
            assert counts.totals.completed == 300
    finally:
        await connection.close()


async def test_a_change_that_others_always_beat_is_given_up_in_the_end(url: str) -> None:
    async with opened(url) as driver:

        async def always_beaten(transaction: Transaction) -> None:
            await transaction.change(
                "INSERT INTO towline_lines (queue, priority) VALUES (?, ?)", 99, 99
            )
            await transaction.change(
                "INSERT INTO towline_lines (queue, priority) VALUES (?, ?)", 99, 99
            )

        with pytest.raises(StoreUnavailable, match="nothing was changed"):
            await driver._change(always_beaten)
        assert (await push(driver, new_job()))[0].outcome is PushOutcome.CREATED


async def test_p8_a_job_that_was_passed_over_is_found_though_a_first_look_for_it_fails(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    async with opened(url, heard) as driver:
        await push(driver, new_job())
        heard.take()
        other = await asyncpg.connect(url)
        try:
            await other.execute("BEGIN")
            await other.execute("SELECT * FROM towline_jobs FOR UPDATE")
            assert await reserve(driver, 1) == []
            assert driver._opened is not None
            readers = driver._opened.readers
            with monkeypatch.context() as patched:
                failed = 0

                async def fails(*_: object, **__: object) -> object:
                    nonlocal failed
                    failed += 1
                    raise StoreUnavailable("too many questions")

                patched.setattr(readers, "read", fails)

                async def has_failed() -> bool:
                    # After a pause, and once more.
                    return failed >= 2

                await until(has_failed, "the looks fail", 10)
        finally:
            await other.close()

        async def told() -> bool:
            return heard.ready["q"] >= 1

        await until(told, "the job is told of", 10)


async def test_claims_that_end_while_the_driver_is_closed_leave_no_look_behind(url: str) -> None:
    async with opened(url) as driver:
        room = driver._opened
        assert room is not None
        await push(driver, new_job())
        await reserve(driver, 1)
        claims = [asyncio.create_task(reserve(driver, 1)) for _ in range(50)]
        await asyncio.sleep(0)
    await asyncio.gather(*claims)
    assert room._timers
    assert all(timer.cancelled() for timer in room._timers.values())

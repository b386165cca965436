"""What every database owes: connections that break, sessions that are ended, servers that crash,
hang and return.

What is known to be undone is played again, what is committed is answered, and no call hangs.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.databases import Database, GivenUp, opened
from tests.support.proxy import Cut, CutAt, Proxy, Way
from tests.support.stores import ack, push, reserve, stored_ids, with_options
from tests.support.waiting import until
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import JobState, Settlement
from towline_broker.drivers.interface import CancelRequest, Driver, PushOutcome
from towline_broker.testing.factories import START, WINDOW, new_job, new_jobs


@pytest.fixture
def url(database: Database) -> str:
    return database.new_store()


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy.to_store(url) as proxy:
        yield proxy


@pytest.fixture
def url_by_proxy(proxy: Proxy, url: str) -> str:
    return with_options(proxy.behind(url), "sslmode=disable")


@pytest.fixture(params=[False, True], ids=["commit lost", "answer lost"])
def cut(request: pytest.FixtureRequest, database: Database) -> CutAt:
    """Of the connection, at the next COMMIT."""
    return CutAt(database.commit, done=request.param)


async def test_p3_a_push_whose_commit_is_not_answered_has_one_effect(
    proxy: Proxy, url_by_proxy: str, cut: CutAt
) -> None:
    async with opened(url_by_proxy) as driver:
        await push(driver, new_job())
        job = new_job()
        proxy.fail(cut)
        (result,) = await push(driver, job)
        assert proxy.figures().cuts == 1
        assert result.outcome is PushOutcome.CREATED
        (counts,) = await driver.counts()
        assert (counts.totals.pushed, counts.depth.ready) == (2, 2)
        assert (await push(driver, job))[0].outcome is PushOutcome.EXISTING


async def test_p3_an_ack_whose_commit_is_not_answered_has_one_effect(
    proxy: Proxy, url_by_proxy: str, cut: CutAt
) -> None:
    async with opened(url_by_proxy) as driver:
        await push(driver, *new_jobs(3))
        leased = await reserve(driver, 3)
        proxy.fail(cut)
        assert all(settled.applied for settled in await ack(driver, leased))
        assert proxy.figures().cuts == 1
        assert [one.before for one in await ack(driver, leased)] == [Settlement.ACKED] * 3
        (counts,) = await driver.counts()
        assert (counts.totals.completed, counts.depth.leased) == (3, 0)


async def test_p2_a_reserve_whose_commit_is_not_answered_leases_each_job_once(
    proxy: Proxy, url_by_proxy: str, cut: CutAt
) -> None:
    async with opened(url_by_proxy) as driver:
        jobs = new_jobs(3)
        await push(driver, *jobs)
        proxy.fail(cut)
        leased = await reserve(driver, 2)
        assert [(one.ref.job_id, one.attempt) for one in leased] == [
            (job.id, 1) for job in jobs[:2]
        ]
        assert [one.ref.job_id for one in await reserve(driver, 9)] == [jobs[2].id]


async def test_p9_calls_under_way_survive_the_end_of_every_session(
    database: Database, url: str
) -> None:
    async with opened(url) as driver:
        calls = [asyncio.create_task(push(driver, *new_jobs(20))) for _ in range(50)]
        for _ in range(3):
            await asyncio.to_thread(database.end_sessions, url)
        for results in await asyncio.gather(*calls):
            assert [result.outcome for result in results] == [PushOutcome.CREATED] * 20
        (counts,) = await driver.counts()
        assert (counts.totals.pushed, counts.depth.ready) == (1_000, 1_000)
        assert len(set(await stored_ids(driver))) == 1_000
        assert len(await reserve(driver, 1_000)) == 1_000


async def test_calls_over_connections_that_an_operator_ended_succeed(
    database: Database, url: str
) -> None:
    async with opened(url) as driver:
        await push(driver, job := new_job())
        await asyncio.to_thread(database.end_sessions, url)
        record = await driver.get(job.id)
        assert record is not None
        assert len(await reserve(driver, 1)) == 1
        assert await driver.time(0) > 0


async def test_p1_a_server_that_crashes_and_returns_has_lost_nothing(database: Database) -> None:
    with database.with_a_server_of_its_own() as own:
        async with opened(with_options(own.new_store(), "timeout=2")) as driver:
            await push(driver, *(before := new_jobs(50)))
            leased = await reserve(driver, 20)
            await asyncio.to_thread(own.server.kill)
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await push(driver, new_job())
            with pytest.raises(StoreUnavailable):
                await driver.counts()
            assert time.monotonic() - begun < 10
            await asyncio.to_thread(own.server.start)
            await until(lambda: pushes_work(driver), "pushes work again")
            assert all(settled.applied for settled in await ack(driver, leased))
            left = [one.ref.job_id for one in await reserve(driver, 50)]
            assert left == [job.id for job in before[20:]]


async def test_an_outage_is_a_line_in_the_log_and_its_end_another(
    database: Database,
    proxy: Proxy,
    url_by_proxy: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(*database.reconnect, 0.02)
    caplog.set_level("INFO", "towline.broker")

    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if "brokers" in each.getMessage()]

    async def tried() -> bool:
        return proxy.figures().connections >= before + 10

    async def over() -> bool:
        return any("other brokers are heard again" in line for line in told())

    async with opened(url_by_proxy) as driver:
        for outage in (1, 2):
            before = proxy.figures().connections
            # New ones are made, and end at once.
            proxy.fail(Cut(Way.REQUEST, 0, 0))
            proxy.cut_all()
            await until(tried, "several attempts to connect")
            proxy.heal()
            await until(over, "the connection is back")
            begin, end = told()
            assert begin.startswith("store default: other brokers cannot be heard: ")
            assert end.startswith("store default: other brokers are heard again, after ")
            caplog.clear()
            assert len(await push(driver, *new_jobs(outage))) == outage


async def test_a_call_that_meets_a_hung_server_is_told_so_soon(
    database: Database, url: str
) -> None:
    async with opened(with_options(url, "timeout=1", "lanes=1")) as driver:
        await push(driver, new_job())
        with database.hanging(url):
            begun = time.monotonic()
            results = await asyncio.gather(
                push(driver, new_job()), driver.counts(), return_exceptions=True
            )
            assert [type(result) for result in results] == [StoreUnavailable] * 2
            assert time.monotonic() - begun < 8
        await until(lambda: pushes_work(driver), "pushes work again")


async def test_a_transaction_that_stands_in_the_way_for_long_fails_the_call_and_nothing_else(
    database: Database, url: str
) -> None:
    async with (
        opened(with_options(url, "timeout=1")) as driver,
        opened(with_options(url, "timeout=10")) as patient,
        database.another_program(url) as execute,
    ):
        await push(driver, *(jobs := new_jobs(2)))
        leased = await reserve(driver, 2)
        await execute("BEGIN")
        await execute(f"SELECT * FROM towline_jobs WHERE id = '{jobs[0].id}' FOR UPDATE")
        with pytest.raises(StoreUnavailable):
            await ack(driver, leased[:1])
        assert (await ack(driver, leased[1:]))[0].applied
        waiting = asyncio.create_task(ack(patient, leased[:1]))
        await asyncio.sleep(0)
        await execute("COMMIT")
        assert (await waiting)[0].applied
        record = await driver.get(jobs[0].id)
        assert record is not None
        assert record.state is JobState.SUCCEEDED


@pytest.mark.parametrize("why", GivenUp)
async def test_what_the_database_gives_up_for_others_is_played_again(
    database: Database, url: str, why: GivenUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(url) as driver:
        failures = 3
        commit: Any = database.session.commit

        async def fail(session: Any) -> None:
            nonlocal failures
            if failures and session._changed:
                failures -= 1
                await database.give_up(session, why)
            await commit(session)

        monkeypatch.setattr(database.session, "commit", fail)
        results = await asyncio.gather(*(push(driver, new_job()) for _ in range(20)))
        assert [one.outcome for (one,) in results] == [PushOutcome.CREATED] * 20
        assert failures == 0
        (counts,) = await driver.counts()
        assert counts.totals.pushed == 20


async def test_a_real_deadlock_is_resolved(database: Database, url: str) -> None:
    async with (
        opened(with_options(url, "lanes=1")) as driver,
        database.another_program(url) as execute,
    ):
        await push(driver, *(jobs := new_jobs(2)))
        lock = "SELECT 1 FROM towline_jobs WHERE id = '{}' FOR UPDATE"
        await execute("BEGIN")
        await execute(database.wins_deadlocks)
        await execute(lock.format(jobs[1].id))
        request = CancelRequest([jobs[0].id, jobs[1].id], START, START + WINDOW)
        cancel = asyncio.create_task(driver.cancel(request))
        await until(lambda: database.lock_waits(execute), "the cancel waits for a lock")
        await execute(lock.format(jobs[0].id))
        await execute("ROLLBACK")
        await cancel
        (counts,) = await driver.counts()
        assert counts.totals.cancelled == 2


async def pushes_work(driver: Driver) -> bool:
    try:
        await push(driver, new_job("other"))
    except StoreUnavailable:
        return False
    return True

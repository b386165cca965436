"""MariaDB: connections that break, sessions that are killed, servers that crash, hang and return.

What is known to be undone is played again, what is committed is answered, and no call hangs.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.drivers.mysql_support import MySQLProxy, bare, opened, rows
from tests.drivers.postgresql_support import Cut, ack, push, reserve
from tests.support.servers.mariadb import MariaDBServer
from tests.support.waiting import until
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import JobState, Settlement
from towline_broker.drivers.interface import CancelRequest, Driver, PushOutcome
from towline_broker.drivers.sql.mysql import news
from towline_broker.drivers.sql.mysql.session import MySQLSession
from towline_broker.testing.factories import START, WINDOW, new_job, new_jobs


@pytest.fixture
def url(mariadb_server: MariaDBServer) -> str:
    return mariadb_server.create_database()


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[MySQLProxy]:
    async with MySQLProxy(url) as proxy:
        yield proxy


@pytest.mark.parametrize("cut", Cut)
async def test_p3_a_push_whose_commit_is_not_answered_has_one_effect(
    proxy: MySQLProxy, cut: Cut
) -> None:
    async with opened(proxy.url) as driver:
        await push(driver, new_job())
        job = new_job()
        proxy.cut_next(cut)
        (result,) = await push(driver, job)
        assert proxy.cuts == 1
        assert result.outcome is PushOutcome.CREATED
        (counts,) = await driver.counts()
        assert (counts.totals.pushed, counts.depth.ready) == (2, 2)
        assert (await push(driver, job))[0].outcome is PushOutcome.EXISTING


@pytest.mark.parametrize("cut", Cut)
async def test_p3_an_ack_whose_commit_is_not_answered_has_one_effect(
    proxy: MySQLProxy, cut: Cut
) -> None:
    async with opened(proxy.url) as driver:
        await push(driver, *new_jobs(3))
        leased = await reserve(driver, 3)
        proxy.cut_next(cut)
        assert all(settled.applied for settled in await ack(driver, leased))
        assert proxy.cuts == 1
        assert [one.before for one in await ack(driver, leased)] == [Settlement.ACKED] * 3
        (counts,) = await driver.counts()
        assert (counts.totals.completed, counts.depth.leased) == (3, 0)


@pytest.mark.parametrize("cut", Cut)
async def test_p2_a_reserve_whose_commit_is_not_answered_leases_each_job_once(
    proxy: MySQLProxy, cut: Cut
) -> None:
    async with opened(proxy.url) as driver:
        jobs = new_jobs(3)
        await push(driver, *jobs)
        proxy.cut_next(cut)
        leased = await reserve(driver, 2)
        assert [(one.ref.job_id, one.attempt) for one in leased] == [
            (job.id, 1) for job in jobs[:2]
        ]
        assert [one.ref.job_id for one in await reserve(driver, 9)] == [jobs[2].id]


async def test_p9_calls_under_way_survive_the_end_of_every_session(
    mariadb_server: MariaDBServer, url: str
) -> None:
    async with opened(url) as driver:
        calls = [asyncio.create_task(push(driver, *new_jobs(20))) for _ in range(50)]
        for _ in range(3):
            await asyncio.to_thread(kill_sessions, mariadb_server, url)
        for results in await asyncio.gather(*calls):
            assert [result.outcome for result in results] == [PushOutcome.CREATED] * 20
        (counts,) = await driver.counts()
        assert (counts.totals.pushed, counts.depth.ready) == (1_000, 1_000)
        assert len(await reserve(driver, 1_000)) == 1_000


async def test_calls_over_connections_that_an_operator_killed_succeed(
    mariadb_server: MariaDBServer, url: str
) -> None:
    async with opened(url) as driver:
        await push(driver, job := new_job())
        await asyncio.to_thread(kill_sessions, mariadb_server, url)
        record = await driver.get(job.id)
        assert record is not None
        assert len(await reserve(driver, 1)) == 1
        assert await driver.time(0) > 0


async def test_p1_a_server_that_crashes_and_returns_has_lost_nothing() -> None:
    with MariaDBServer(durable=True) as server:
        async with opened(f"{server.create_database()}?timeout=2") as driver:
            await push(driver, *(before := new_jobs(50)))
            leased = await reserve(driver, 20)
            await asyncio.to_thread(server.kill)
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await push(driver, new_job())
            with pytest.raises(StoreUnavailable):
                await driver.counts()
            assert time.monotonic() - begun < 10
            await asyncio.to_thread(server.start)
            await until(lambda: pushes_work(driver), "pushes work again")
            assert all(settled.applied for settled in await ack(driver, leased))
            left = [one.ref.job_id for one in await reserve(driver, 50)]
            assert left == [job.id for job in before[20:]]


async def test_an_outage_is_a_line_in_the_log_and_its_end_another(
    proxy: MySQLProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(news, "RECONNECT", 0.02)
    caplog.set_level("INFO", "towline.broker")

    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if "brokers" in each.getMessage()]

    async def tried() -> bool:
        return proxy.refused >= 10

    async def over() -> bool:
        return "the other brokers are heard again" in told()

    async with opened(proxy.url) as driver:
        for outage in (1, 2):
            proxy.refused = 0
            proxy.leave()
            await until(tried, "several attempts to connect")
            proxy.come_back()
            await until(over, "the connection is back")
            begin, end = told()
            assert begin.startswith("the other brokers cannot be heard: ")
            assert end == "the other brokers are heard again"
            caplog.clear()
            assert len(await push(driver, *new_jobs(outage))) == outage


async def test_a_call_that_meets_a_hung_server_is_told_so_soon() -> None:
    with MariaDBServer() as server:
        async with opened(f"{server.create_database()}?timeout=1&lanes=1") as driver:
            await push(driver, new_job())
            server.pause()
            begun = time.monotonic()
            results = await asyncio.gather(
                push(driver, new_job()), driver.counts(), return_exceptions=True
            )
            assert [type(result) for result in results] == [StoreUnavailable] * 2
            assert time.monotonic() - begun < 8
            server.resume()
            await until(lambda: pushes_work(driver), "pushes work again")


async def test_a_transaction_that_stands_in_the_way_for_long_fails_the_call_and_nothing_else(
    url: str,
) -> None:
    async with (
        opened(f"{url}?timeout=1") as driver,
        opened(f"{url}?timeout=10") as patient,
        bare(url) as other,
    ):
        await push(driver, *(jobs := new_jobs(2)))
        leased = await reserve(driver, 2)
        await rows(other, "BEGIN")
        await rows(other, f"SELECT * FROM towline_jobs WHERE id = '{jobs[0].id}' FOR UPDATE")
        with pytest.raises(StoreUnavailable):
            await ack(driver, leased[:1])
        assert (await ack(driver, leased[1:]))[0].applied
        waiting = asyncio.create_task(ack(patient, leased[:1]))
        await asyncio.sleep(0)
        await rows(other, "COMMIT")
        assert (await waiting)[0].applied
        record = await driver.get(jobs[0].id)
        assert record is not None
        assert record.state is JobState.SUCCEEDED


@pytest.mark.parametrize("code", [1213, 1205])
async def test_what_the_database_gives_up_for_others_is_played_again(
    url: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(url) as driver:
        failures = 3
        commit = MySQLSession.commit

        async def fail(session: MySQLSession) -> None:
            nonlocal failures
            if failures and session._changed:
                failures -= 1
                await session.run(f"SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = {code}")
            await commit(session)

        monkeypatch.setattr(MySQLSession, "commit", fail)
        results = await asyncio.gather(*(push(driver, new_job()) for _ in range(20)))
        assert [one.outcome for (one,) in results] == [PushOutcome.CREATED] * 20
        assert failures == 0
        (counts,) = await driver.counts()
        assert counts.totals.pushed == 20


async def test_a_real_deadlock_is_resolved(url: str) -> None:
    async with opened(f"{url}?lanes=1") as driver, bare(url) as other:
        await push(driver, *(jobs := new_jobs(2)))
        lock = "SELECT 1 FROM towline_jobs WHERE id = '{}' FOR UPDATE"
        await rows(other, "BEGIN")
        # The database gives up the transaction that has changed less.
        await rows(other, "INSERT INTO towline_ticks (id) SELECT seq FROM seq_1000_to_2000")
        await rows(other, lock.format(jobs[1].id))
        request = CancelRequest([jobs[0].id, jobs[1].id], START, START + WINDOW)
        cancel = asyncio.create_task(driver.cancel(request))

        async def waits() -> bool:
            # (INNODB_TRX is not renewed while somebody looks at it all the time.)
            found = await rows(other, "SHOW STATUS LIKE 'Innodb_row_lock_current_waits'")
            return found[0][1] != "0"

        await until(waits, "the cancel waits for a lock")
        await rows(other, lock.format(jobs[0].id))
        await rows(other, "ROLLBACK")
        await cancel
        (counts,) = await driver.counts()
        assert counts.totals.cancelled == 2


async def pushes_work(driver: Driver) -> bool:
    try:
        await push(driver, new_job("other"))
    except StoreUnavailable:
        return False
    return True


def kill_sessions(server: MariaDBServer, url: str) -> None:
    database = url.rpartition("/")[2]
    ids = server.execute(f"SELECT id FROM information_schema.PROCESSLIST WHERE db = '{database}'")
    for number in ids.split():
        # One may have ended by itself meanwhile.
        with contextlib.suppress(AssertionError):
            server.execute(f"KILL {number}")

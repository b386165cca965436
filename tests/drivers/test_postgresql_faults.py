"""PostgreSQL: connections that break, sessions that are ended, servers that crash, hang and return.

What is known to be undone is played again, what is committed is answered, and no call hangs.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.drivers.postgresql_support import (
    Cut,
    Proxy,
    ack,
    new_store,
    opened,
    push,
    reserve,
    with_options,
)
from tests.support.servers.postgres import PostgresServer
from tests.support.waiting import until
from towline_broker.domain.errors import StoreFull, StoreUnavailable
from towline_broker.domain.jobs import JobState, Settlement
from towline_broker.domain.time import HOUR, MINUTE
from towline_broker.drivers.interface import (
    Driver,
    ExtendBatch,
    ExtendItem,
    JobQuery,
    PushOutcome,
    ReserveRequest,
)
from towline_broker.drivers.sql.postgresql import notifications
from towline_broker.testing.factories import START, new_job, new_jobs


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def url(server: PostgresServer) -> str:
    return new_store(server)


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[Proxy]:
    async with Proxy(url) as proxy:
        yield proxy


@pytest.mark.parametrize("cut", Cut)
async def test_p3_a_push_whose_commit_is_not_answered_has_one_effect(
    proxy: Proxy, cut: Cut
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
    proxy: Proxy, cut: Cut
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
    proxy: Proxy, cut: Cut
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
    server: PostgresServer, url: str
) -> None:
    async with opened(url) as driver:
        calls = [asyncio.create_task(push(driver, *new_jobs(20))) for _ in range(50)]
        for _ in range(3):
            await asyncio.to_thread(_end_sessions, server, url)
        for results in await asyncio.gather(*calls):
            assert [result.outcome for result in results] == [PushOutcome.CREATED] * 20
        (counts,) = await driver.counts()
        assert counts.totals.pushed == 1_000
        records = [record async for record in _listed(driver)]
        assert len(set(records)) == 1_000


async def test_calls_over_connections_that_an_operator_ended_succeed(
    server: PostgresServer, url: str
) -> None:
    async with opened(url) as driver:
        await push(driver, job := new_job())
        await asyncio.to_thread(_end_sessions, server, url)
        record = await driver.get(job.id)
        assert record is not None
        assert len(await reserve(driver, 1)) == 1
        assert await driver.time(0) > 0


async def test_p1_a_server_that_crashes_and_returns_has_lost_nothing() -> None:
    with PostgresServer(durable=True) as server:
        async with opened(with_options(new_store(server), "timeout=2")) as driver:
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

            async def works() -> bool:
                try:
                    await push(driver, new_job("other"))
                except StoreUnavailable:
                    return False
                return True

            await until(works, "pushes work again")
            assert all(settled.applied for settled in await ack(driver, leased))
            left = [one.ref.job_id for one in await reserve(driver, 50)]
            assert left == [job.id for job in before[20:]]


async def test_an_outage_is_a_line_in_the_log_and_its_end_another(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifications, "_RECONNECT", 0.02)
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
    with PostgresServer() as server:
        async with opened(with_options(new_store(server), "timeout=1", "lanes=1")) as driver:
            await push(driver, new_job())
            pids = server.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'towline'"
            )
            server.pause()
            _signal(pids, "STOP")
            begun = time.monotonic()
            results = await asyncio.gather(
                push(driver, new_job()), driver.counts(), return_exceptions=True
            )
            assert [type(result) for result in results] == [StoreUnavailable] * 2
            assert time.monotonic() - begun < 8
            server.resume()
            _signal(pids, "CONT")

            async def works() -> bool:
                try:
                    return bool(await push(driver, new_job()))
                except StoreUnavailable:
                    return False

            await until(works, "pushes work again")


async def test_many_calls_that_meet_a_hung_server_do_not_wait_for_each_other() -> None:
    with PostgresServer() as server:
        async with opened(with_options(new_store(server), "timeout=1", "lanes=1")) as driver:
            await push(driver, new_job())
            pids = server.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'towline'"
            )
            server.pause()
            _signal(pids, "STOP")
            try:
                async with asyncio.timeout(15):
                    results = await asyncio.gather(
                        *(push(driver, new_job()) for _ in range(40)), return_exceptions=True
                    )
            finally:
                server.resume()
                _signal(pids, "CONT")
            assert {type(result) for result in results} == {StoreUnavailable}


async def test_p11_jobs_are_settled_while_a_full_disk_refuses_those_pushed_along_with_it(
    url: str,
) -> None:
    async with opened(with_options(url, "lanes=1")) as driver:
        await push(driver, *new_jobs(10))
        leased = await reserve(driver, 10)
        connection = await _bare(url)
        try:
            await connection.execute(
                "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$"
            )
            await connection.execute(
                "CREATE TRIGGER no_room BEFORE INSERT ON towline_envelopes"
                " FOR EACH ROW EXECUTE FUNCTION no_room()"
            )
        finally:
            await connection.close()
        pushing = [asyncio.create_task(push(driver, new_job())) for _ in range(10)]
        settled = await asyncio.gather(*(ack(driver, [one]) for one in leased))
        assert all(one.applied for (one,) in settled)
        refused = await asyncio.gather(*pushing, return_exceptions=True)
        assert {type(error) for error in refused} == {StoreFull}


async def test_p1_a_call_that_the_server_rejects_takes_nothing_along(url: str) -> None:
    async with opened(with_options(url, "lanes=1")) as driver:
        await push(driver, *new_jobs(10))
        leased = await reserve(driver, 10)
        extended = [
            asyncio.create_task(driver.extend(ExtendBatch([ExtendItem(one.ref, HOUR)], START)))
            for one in leased
        ]
        # PostgreSQL keeps no such text, and gives the transaction up for it.
        bad = ReserveRequest(("q",), 1, MINUTE, "grant", START, request_id="\0")
        with pytest.raises(asyncpg.CharacterNotInRepertoireError):
            await driver.reserve(bad)
        for (one,) in await asyncio.gather(*extended):
            assert one.lease_until == START + HOUR
        found = await driver.leases([one.ref for one in leased])
        assert [one and one.lease_until for one in found] == [START + HOUR] * 10


async def test_a_transaction_that_stands_in_the_way_for_long_fails_the_call_and_nothing_else(
    server: PostgresServer, url: str
) -> None:
    async with (
        opened(with_options(url, "timeout=1")) as driver,
        opened(with_options(url, "timeout=10")) as patient,
    ):
        await push(driver, *(jobs := new_jobs(2)))
        leased = await reserve(driver, 2)
        connection = await _bare(url)
        try:
            await connection.execute("BEGIN")
            await connection.execute(
                "SELECT * FROM towline_jobs WHERE id = $1 FOR UPDATE", jobs[0].id
            )
            with pytest.raises(StoreUnavailable):
                await ack(driver, leased[:1])
            assert (await ack(driver, leased[1:]))[0].applied
            waiting = asyncio.create_task(ack(patient, leased[:1]))
            await asyncio.sleep(0)
            await connection.execute("COMMIT")
            assert (await waiting)[0].applied
        finally:
            await connection.close()
        record = await driver.get(jobs[0].id)
        assert record is not None
        assert record.state is JobState.SUCCEEDED


async def _bare(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(url.partition("?")[0])


def _end_sessions(server: PostgresServer, url: str) -> None:
    database = url.partition("?")[0].rpartition("/")[2]
    sessions = f"FROM pg_stat_activity WHERE datname = '{database}'"
    server.execute(f"SELECT count(pg_terminate_backend(pid)) {sessions}")


def _signal(pids: str, name: str) -> None:
    for pid in pids.split():
        os.kill(int(pid), getattr(signal, f"SIG{name}"))


async def _listed(driver: Driver) -> AsyncIterator[str]:
    cursor = None
    while True:
        page = await driver.list_jobs(JobQuery(500, cursor=cursor))
        for record in page.records:
            yield record.id
        cursor = page.next_cursor
        if cursor is None:
            return

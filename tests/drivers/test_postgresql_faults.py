"""PostgreSQL: what its own ways of failing come to. (What every database owes: test_sql_faults.)"""

import asyncio

import asyncpg
import pytest

from tests.support.databases import PostgreSQL, opened
from tests.support.servers.postgres import PostgresServer
from tests.support.stores import ack, push, reserve, with_options
from towline_broker.domain.errors import StoreFull, StoreUnavailable
from towline_broker.domain.time import HOUR, MINUTE
from towline_broker.drivers.interface import ExtendBatch, ExtendItem, ReserveRequest
from towline_broker.drivers.sql.postgresql.database import PostgresDatabase
from towline_broker.drivers.sql.postgresql.url import parse
from towline_broker.drivers.sql.shared.session import Outcome
from towline_broker.testing.factories import START, new_job, new_jobs


@pytest.fixture
def database(postgres_server: PostgresServer) -> PostgreSQL:
    return PostgreSQL(postgres_server)


@pytest.fixture
def url(database: PostgreSQL) -> str:
    return database.new_store()


async def test_many_calls_that_meet_a_hung_server_do_not_wait_for_each_other(
    database: PostgreSQL, url: str
) -> None:
    async with opened(with_options(url, "timeout=1", "lanes=1")) as driver:
        await push(driver, new_job())
        with database.hanging(url):
            async with asyncio.timeout(15):
                results = await asyncio.gather(
                    *(push(driver, new_job()) for _ in range(40)), return_exceptions=True
                )
        assert {type(result) for result in results} == {StoreUnavailable}


async def test_p11_jobs_are_settled_while_a_full_disk_refuses_those_pushed_along_with_it(
    database: PostgreSQL, url: str
) -> None:
    async with (
        opened(with_options(url, "lanes=1")) as driver,
        database.another_program(url) as execute,
    ):
        await push(driver, *new_jobs(10))
        leased = await reserve(driver, 10)
        await execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$"
        )
        await execute(
            "CREATE TRIGGER no_room BEFORE INSERT ON towline_envelopes"
            " FOR EACH ROW EXECUTE FUNCTION no_room()"
        )
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


async def test_p1_the_number_of_a_transaction_says_nothing_after_a_crash(
    database: PostgreSQL,
) -> None:
    # Numbers that were not synced are given again, to other transactions.
    with database.with_a_server_of_its_own() as own:
        url = own.new_store()
        async with opened(url):
            pass
        store = PostgresDatabase(parse(url))
        before = await store.connect(changes=True)
        await before.begin()
        await before.change("DELETE FROM towline_notices")
        await before.commit()
        assert before.ticket is not None
        assert await before.outcome(before.ticket) is Outcome.COMMITTED
        await asyncio.to_thread(own.server.kill)
        await asyncio.to_thread(own.server.start)
        after = await store.connect(changes=True)
        number, _, life = before.ticket.partition(" ")
        for given in (int(number), int(number) + 10_000):
            assert await after.outcome(f"{given} {life}") is Outcome.UNKNOWN
        await before.close()
        await after.close()

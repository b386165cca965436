"""PostgreSQL: what is done at one broker is heard at the others at once (P8)."""

import asyncio
import time
from collections import Counter

import asyncpg
import pytest

from tests.support.databases import opened
from tests.support.servers.postgres import PostgresServer
from tests.support.stores import ack, push, reserve
from tests.support.waiting import until
from towline_broker.domain.jobs import Leased
from towline_broker.drivers.sql.postgresql import notifications
from towline_broker.drivers.sql.postgresql.notifications import _payloads
from towline_broker.drivers.sql.shared.driver import SharedSqlDriver
from towline_broker.testing.factories import new_id, new_job, new_jobs
from towline_broker.testing.heard import Heard


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.create_database()


def of(driver: SharedSqlDriver) -> notifications.Notifications:
    assert driver._opened is not None
    peers = driver._opened._peers
    assert isinstance(peers, notifications.Notifications)
    return peers


@pytest.fixture
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At who is there: for what is found by looking, and not by being told."""
    monkeypatch.setattr(notifications, "_LOOK_AROUND", 0.2)


async def meet(*drivers: SharedSqlDriver) -> None:
    """Until each knows of the others."""

    async def met() -> bool:
        return all(len(of(driver)._peers) == len(drivers) - 1 for driver in drivers)

    await until(met, "the brokers know of each other", 5)


async def test_p8_a_push_and_the_end_of_a_job_are_heard_within_milliseconds(url: str) -> None:
    here, there = Heard(), Heard()
    async with opened(url, here) as a, opened(url, there) as b:
        await meet(a, b)
        took: list[float] = []
        for _ in range(5):
            there.take()
            job = new_job()
            begun = time.monotonic()
            await push(a, job)

            async def ready() -> bool:
                return there.ready["q"] >= 1

            await until(ready, "the push is heard", 5)
            leased = await reserve(b, 1)
            assert [one.ref.job_id for one in leased] == [job.id]
            here.take()
            await ack(b, leased)
            ended_id = job.id

            async def ended(ended_id: str = ended_id) -> bool:
                return ended_id in here.ended

            await until(ended, "the end is heard", 5)
            took.append(time.monotonic() - begun)
        # Far from any interval at which somebody looks.
        assert min(took) < notifications._LOOK_AROUND / 10


async def test_a_broker_hears_of_its_own_changes_once(url: str) -> None:
    here, there = Heard(), Heard()
    async with opened(url, here) as a, opened(url, there) as b:
        await meet(a, b)
        await push(a, *new_jobs(3))

        async def heard() -> bool:
            return there.ready["q"] == 3

        await until(heard, "the push is heard at the other", 5)
        assert here.ready["q"] == 3


async def test_a_broker_that_is_alone_sends_nothing(url: str) -> None:
    async with opened(url) as driver:
        connection = await asyncpg.connect(url)
        try:
            heard: list[object] = []
            channel = await connection.fetchval(notifications._CHANNEL)
            await connection.add_listener(channel, lambda *said: heard.append(said[-1]))
            await ack(driver, await _pushed_and_reserved(driver))
            # A notification of our own comes behind whatever the driver has sent.
            await connection.execute("SELECT pg_notify($1, 'end')", channel)

            async def end() -> bool:
                return "end" in heard

            await until(end, "the last notification comes", 5)
            assert heard == ["end"]
        finally:
            await connection.close()


@pytest.mark.usefixtures("frequent_looks")
async def test_p8_after_a_lost_connection_a_broker_tells_what_it_may_have_missed(
    postgres_server: PostgresServer, url: str
) -> None:
    here, there = Heard(), Heard()
    async with opened(url, here) as a, opened(url, there) as b:
        await meet(a, b)
        await push(a, ended := new_job("ended"))
        leased = await reserve(a, 1, "ended")
        connection = of(b)._connection
        assert connection is not None
        there.take()
        await asyncio.to_thread(
            postgres_server.execute, f"SELECT pg_terminate_backend({connection.get_server_pid()})"
        )
        # Whether this is heard of directly or by looking: nothing is missed.
        await push(a, *new_jobs(2))
        await ack(a, leased)

        async def told() -> bool:
            return there.ready["q"] >= 2 and ended.id in there.ended

        await until(told, "what was missed is told", 10)
        await meet(a, b)


@pytest.mark.usefixtures("frequent_looks")
async def test_p8_when_a_broker_dies_the_others_look_for_what_it_did_not_tell(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Heard()
    async with opened(url, here) as a:
        async with opened(url) as b:
            await meet(a, b)
            # It commits, and is gone before it says so.
            monkeypatch.setattr(of(b), "tell", lambda _: None)
            here.take()
            await push(b, *new_jobs(2))
            assert here.ready["q"] == 0

        async def told() -> bool:
            return here.ready["q"] >= 2

        await until(told, "the jobs are told of", 10)


@pytest.mark.usefixtures("frequent_looks")
async def test_p8_a_broker_that_always_has_something_to_say_notices_when_another_dies(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Heard()
    async with opened(url, here) as a:
        async with opened(url) as b:
            await meet(a, b)
            # It commits, and is gone before it says so.
            monkeypatch.setattr(of(b), "tell", lambda _: None)
            await push(b, *(new_job("from b") for _ in range(2)))

        async def told() -> bool:
            await push(a, new_job("from a"))
            return here.ready["from b"] >= 2

        await until(told, "the jobs are told of", 10)


def test_news_are_cut_into_pieces_that_the_server_takes() -> None:
    queues = Counter({f"{'q' * 120}{number}": number for number in range(1, 200)})
    ids = [new_id() for _ in range(1_000)]
    pieces = list(_payloads(queues, ids))
    assert max(len(piece.encode()) for piece in pieces) < 8_000
    heard = Heard()
    for piece in pieces:
        notifications.pass_on(piece, heard)
    assert heard.take() == (dict(queues), ids)


async def _pushed_and_reserved(driver: SharedSqlDriver) -> list[Leased]:
    await push(driver, *new_jobs(5))
    return await reserve(driver, 5)

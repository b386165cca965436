"""P11: what waits for a database is bounded, and leases can be settled while pushes are refused."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.waiting import until
from towline_broker.domain.errors import StoreFull, StoreUnavailable
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    Driver,
    PushBatch,
    ReserveRequest,
)
from towline_broker.drivers.registry import create_driver
from towline_broker.drivers.sql import backlog
from towline_broker.drivers.sql.shared.batches import Batches, SubmittedUntil
from towline_broker.drivers.sql.shared.lanes import Lanes
from towline_broker.drivers.sql.shared.memory import Memory
from towline_broker.drivers.sql.shared.peers import Peers
from towline_broker.drivers.sql.shared.session import Database
from towline_broker.drivers.sql.sqlite.writer import Writer
from towline_broker.drivers.sql.transaction import Effects
from towline_broker.testing.factories import START, WINDOW, new_jobs
from towline_broker.testing.heard import Heard

#: What is waiting in these tests, in bytes, fills it.
ROOM = 100


class Nothing:
    """A database, its connection and its other brokers, in tests that come to none of them."""

    closed = False

    async def connect(self, *, changes: bool) -> "Nothing":
        return self

    async def close(self) -> None: ...

    def tell(self, effects: Effects) -> None: ...


@pytest.fixture
async def stuck(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """Until this is set, no transaction with new jobs in it comes to its end."""
    monkeypatch.setattr(backlog, "MOST_ROOM", ROOM)
    free = asyncio.Event()

    async def commit(
        self: Batches, batch: Sequence[SubmittedUntil], played: Callable[[], None]
    ) -> None:
        if any(submitted.room for submitted in batch):
            await free.wait()
        for submitted in batch:
            submitted.succeed(submitted.items, Effects())

    monkeypatch.setattr(Batches, "commit", commit)
    yield free
    free.set()


@pytest.fixture
async def lanes(stuck: asyncio.Event) -> AsyncIterator[Lanes]:
    nothing = Nothing()
    database, peers = cast(Database, nothing), cast(Peers, nothing)
    lanes = Lanes(database, 2, Memory(), lambda queue, pause: None, Heard(), peers, patience=10)
    await lanes.open()
    yield lanes
    stuck.set()
    await lanes.stop()


async def nothing_done(_: Any) -> int:
    return 0


def submit(lanes: Lanes, room: int = 0) -> asyncio.Task[int]:
    return asyncio.create_task(lanes.submit(nothing_done, items=1, room=room))


async def test_pushes_are_refused_once_too_much_waits_and_acks_go_on(
    lanes: Lanes, stuck: asyncio.Event
) -> None:
    waiting = submit(lanes, ROOM)
    await asyncio.sleep(0)
    with pytest.raises(StoreFull, match="faster than it takes them") as refused:
        await submit(lanes, 1)
    assert (refused.value.reason, refused.value.subject) == ("MEMORY_FULL", "memory")
    assert await submit(lanes) == 1  # an Ack
    stuck.set()
    assert [await waiting, await submit(lanes, ROOM)] == [1, 1]


async def test_one_push_is_taken_however_large_it_is(lanes: Lanes, stuck: asyncio.Event) -> None:
    stuck.set()
    assert [await submit(lanes, 10 * ROOM), await submit(lanes, 10 * ROOM)] == [1, 1]


async def test_everything_else_is_refused_beyond_a_limit_of_its_own(
    lanes: Lanes, stuck: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_CHANGES", 2)
    waiting = [submit(lanes, ROOM // 2) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="2 changes wait for the store already"):
        await submit(lanes)
    stuck.set()
    assert await asyncio.gather(*waiting) == [1, 1]
    assert await submit(lanes) == 1


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Driver]:
    driver = create_driver(f"sqlite:///{tmp_path}/towline.db")
    await driver.open(START, Heard())
    yield driver
    await driver.close()


async def test_a_sqlite_store_that_falls_behind_refuses_pushes_and_takes_acks(
    sqlite: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sqlite.push(PushBatch(new_jobs(1), START))
    (leased,) = await sqlite.reserve(ReserveRequest(["q"], 1, WINDOW, "grant", START))
    monkeypatch.setattr(backlog, "MOST_ROOM", ROOM)
    submitted, commit = [], Writer._commit_together
    slow = asyncio.Event()
    loop = asyncio.get_running_loop()

    def commit_slowly(self: Writer, batch: Any) -> None:
        submitted.append(len(batch))
        asyncio.run_coroutine_threadsafe(slow.wait(), loop).result()
        commit(self, batch)

    monkeypatch.setattr(Writer, "_commit_together", commit_slowly)
    pushing = asyncio.create_task(sqlite.push(PushBatch(new_jobs(1), START)))

    async def under_way() -> bool:
        return bool(submitted)

    await until(under_way, "the push is under way", 10)
    with pytest.raises(StoreFull):
        await sqlite.push(PushBatch(new_jobs(1), START))
    acking = asyncio.create_task(sqlite.ack(AckBatch([AckItem(leased.ref)], START, START + WINDOW)))
    await asyncio.sleep(0)
    slow.set()
    assert (await acking)[0].applied
    assert len(await pushing) == 1
    assert len(await sqlite.push(PushBatch(new_jobs(1), START))) == 1

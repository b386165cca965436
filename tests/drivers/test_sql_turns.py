"""P11: lanes of a shared SQL store take turns, and none waits for another that takes long."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest

from tests.support.waiting import until
from towline_broker.drivers.sql.shared import turns
from towline_broker.drivers.sql.shared.batches import Batches, SubmittedUntil
from towline_broker.drivers.sql.shared.lanes import Lanes
from towline_broker.drivers.sql.shared.memory import Memory
from towline_broker.drivers.sql.shared.peers import Peers
from towline_broker.drivers.sql.shared.session import Database
from towline_broker.drivers.sql.transaction import Effects
from towline_broker.testing.heard import Heard

#: Of an operation: it does not come to the end of its statements, or of its commit.
AT_STATEMENTS, AT_COMMIT = 1_000, 1_001


class Nothing:
    """A database, its connection and its other brokers, in tests that come to none of them."""

    closed = False

    async def connect(self, *, changes: bool) -> "Nothing":
        return self

    async def close(self) -> None: ...

    def tell(self, effects: Effects) -> None: ...


class Transactions:
    def __init__(self) -> None:
        #: How many operations each had.
        self.begun: list[int] = []
        self.free = asyncio.Event()

    async def commit(self, batch: Sequence[SubmittedUntil], played: Callable[[], None]) -> None:
        self.begun.append(len(batch))
        items = batch[0].items
        if items == AT_STATEMENTS:
            await self.free.wait()
        played()
        if items == AT_COMMIT:
            await self.free.wait()
        for submitted in batch:
            submitted.succeed(None, Effects())

    async def begin(self, number: int) -> None:
        async def so_many() -> bool:
            return len(self.begun) == number

        await until(so_many, f"{number} transactions have begun", 10)


@pytest.fixture
async def transactions(monkeypatch: pytest.MonkeyPatch) -> Transactions:
    made = Transactions()

    async def commit(
        _: Batches, batch: Sequence[SubmittedUntil], played: Callable[[], None]
    ) -> None:
        await made.commit(batch, played)

    monkeypatch.setattr(Batches, "commit", commit)
    return made


@pytest.fixture
async def lanes(transactions: Transactions) -> AsyncIterator[Lanes]:
    nothing = Nothing()
    database, peers = cast(Database, nothing), cast(Peers, nothing)
    lanes = Lanes(database, 4, Memory(), lambda queue, pause: None, Heard(), peers, patience=10)
    await lanes.open()
    yield lanes
    transactions.free.set()
    await lanes.stop()


async def nothing_done(_: Any) -> None: ...


def submit(lanes: Lanes, items: int = 1) -> "asyncio.Task[None]":
    return asyncio.create_task(lanes.submit(nothing_done, items=items, room=0))


async def test_what_comes_up_during_the_statements_of_one_goes_together_in_the_next(
    lanes: Lanes, transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LONG", 60.0)
    first = submit(lanes, AT_STATEMENTS)
    await transactions.begin(1)
    others = [submit(lanes) for _ in range(10)]
    await asyncio.sleep(0.02)
    assert transactions.begun == [1]
    transactions.free.set()
    await asyncio.gather(first, *others)
    assert transactions.begun == [1, 10]


async def test_nobody_waits_for_the_commit_of_another(
    lanes: Lanes, transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LONG", 60.0)
    committing = submit(lanes, AT_COMMIT)
    await transactions.begin(1)
    await asyncio.wait_for(submit(lanes), 10)
    assert not committing.done()


async def test_one_that_takes_long_is_not_waited_for(
    lanes: Lanes, transactions: Transactions
) -> None:
    long = submit(lanes, AT_STATEMENTS)
    await transactions.begin(1)
    await asyncio.wait_for(submit(lanes), 10)
    assert not long.done()
    assert transactions.begun == [1, 1]


async def test_a_transaction_is_bounded_however_much_waits(
    lanes: Lanes, transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LONG", 60.0)
    first = submit(lanes, AT_STATEMENTS)
    await transactions.begin(1)
    others = [submit(lanes) for _ in range(70)] + [submit(lanes, 999) for _ in range(5)]
    await asyncio.sleep(0)
    transactions.free.set()
    await asyncio.gather(first, *others)
    assert transactions.begun == [1, 64, 8, 3]

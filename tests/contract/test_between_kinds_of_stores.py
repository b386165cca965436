"""A queue moves from one kind of store to another as it does between two of one kind (P1)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.contract.test_memory import MemoryHarness
from tests.contract.test_sqlite import SqliteHarness
from towline_broker.testing import Store
from towline_broker.testing.contract_receive import MovedKeysContract, ReceiveContract
from towline_broker.testing.contract_sealing import ForwardContract


class _Move(ReceiveContract, MovedKeysContract, ForwardContract):
    async def opened(self, store: Store) -> AsyncIterator[Store]:
        await store.open()
        yield store
        await store.close()


class TestFromMemoryToSqlite(_Move):
    @pytest_asyncio.fixture
    async def store(self) -> AsyncIterator[Store]:
        async for store in self.opened(Store(MemoryHarness())):
            yield store

    @pytest_asyncio.fixture
    async def other(self, store: Store, tmp_path: Path) -> AsyncIterator[Store]:
        async for other in self.opened(store.beside(SqliteHarness(tmp_path))):
            yield other


class TestFromSqliteToMemory(_Move):
    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        async for store in self.opened(Store(SqliteHarness(tmp_path))):
            yield store

    @pytest_asyncio.fixture
    async def other(self, store: Store) -> AsyncIterator[Store]:
        async for other in self.opened(store.beside(MemoryHarness())):
            yield other

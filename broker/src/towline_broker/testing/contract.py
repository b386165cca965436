"""The contract suite as one class, to be subclassed for each driver."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from towline_broker.testing.contract_copies import CopiesContract
from towline_broker.testing.contract_dead import DeadLetterContract
from towline_broker.testing.contract_outgoing import DropContract, OutgoingContract
from towline_broker.testing.contract_push import PushContract, UniqueKeyContract
from towline_broker.testing.contract_queues import CancelContract, ListingContract, QueueContract
from towline_broker.testing.contract_races import RacesContract
from towline_broker.testing.contract_receive import MovedKeysContract, ReceiveContract
from towline_broker.testing.contract_reopen import (
    FullStoreContract,
    ReopenContract,
    SoleOwnerContract,
)
from towline_broker.testing.contract_reserve import OrderContract, ReserveContract
from towline_broker.testing.contract_sealing import ForwardContract, SealContract
from towline_broker.testing.contract_settle import AckContract, AtOnceContract, NackContract
from towline_broker.testing.contract_shared import PeersContract, SharedStoreContract
from towline_broker.testing.contract_upkeep import ExtendContract, UpkeepContract
from towline_broker.testing.features import skip_unless_offered
from towline_broker.testing.harness import NewHarness
from towline_broker.testing.store import Store


class _Opened:
    @pytest.fixture
    def new_harness(self) -> NewHarness:
        """Makes a harness over a new, empty store. Override it."""
        raise NotImplementedError("give your test class a fixture new_harness")

    @pytest_asyncio.fixture
    async def store(self, new_harness: NewHarness) -> AsyncIterator[Store]:
        store = Store(new_harness())
        seen = await store.open()
        try:
            assert seen == 0 or store.driver.capabilities.shared, "a new store has seen no time"
            store.skip_what_is_missing()
            yield store
        finally:
            await store.close()

    @pytest.fixture(autouse=True)
    def _leave_out(self, store: Store, request: pytest.FixtureRequest) -> None:
        skip_unless_offered(request.function, store.driver)

    @pytest_asyncio.fixture
    async def other(self, store: Store, new_harness: NewHarness) -> AsyncIterator[Store]:
        """Another store of the same kind."""
        other = store.beside(new_harness())
        await other.open()
        yield other
        await other.close()


class DriverContract(
    PushContract,
    UniqueKeyContract,
    OrderContract,
    ReserveContract,
    AckContract,
    AtOnceContract,
    NackContract,
    ExtendContract,
    UpkeepContract,
    CancelContract,
    ListingContract,
    QueueContract,
    DeadLetterContract,
    SealContract,
    OutgoingContract,
    CopiesContract,
    ReceiveContract,
    MovedKeysContract,
    DropContract,
    ForwardContract,
    _Opened,
):
    """What every driver owes, whatever it stores its jobs in."""


class DurableDriverContract(DriverContract, ReopenContract, SoleOwnerContract):
    """What a driver owes besides if its store outlives the broker, and only one uses it."""


class SharedDriverContract(
    DriverContract, ReopenContract, SharedStoreContract, PeersContract, RacesContract
):
    """What a driver owes besides if its store outlives the broker, and several may use it.

    The harness is asked for further drivers while the first is open.
    """

    @pytest_asyncio.fixture
    async def peer(self, store: Store) -> AsyncIterator[Store]:
        peer = store.peer()
        await peer.open()
        yield peer
        await peer.close()


class BoundedDriverContract(FullStoreContract, _Opened):
    """What a driver owes if its store can be full."""

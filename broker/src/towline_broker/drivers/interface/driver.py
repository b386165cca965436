"""The whole of a driver: every part of the interface, opened and closed once."""

from typing import Protocol

from towline_broker.domain.time import Micros
from towline_broker.drivers.interface.capabilities import Capabilities
from towline_broker.drivers.interface.dead_letters import DeadLetterStore
from towline_broker.drivers.interface.jobs import JobStore
from towline_broker.drivers.interface.leases import LeaseStore
from towline_broker.drivers.interface.listener import Listener
from towline_broker.drivers.interface.peers import PeerStore
from towline_broker.drivers.interface.queues import QueueStore
from towline_broker.drivers.interface.transfers import TransferStore
from towline_broker.drivers.interface.upkeep import UpkeepStore


class Driver(
    JobStore,
    LeaseStore,
    UpkeepStore,
    DeadLetterStore,
    QueueStore,
    TransferStore,
    PeerStore,
    Protocol,
):
    """A store, opened and closed once."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def open(self, now: Micros, listener: Listener) -> Micros:
        """Opens the store, making it if there is none, and returns the latest time it has seen (0
        if new): the core's clock goes on from there if the machine's has fallen behind.

        A store that only one broker may use is locked, and each live lease in it gets a fresh term
        of its granted length from the later of ``now`` and the returned time, unless a heartbeat
        has prolonged it beyond that. In a store that brokers share, other brokers may be at work:
        leases stay as they are, and the time returned is that of the store's own clock. Calls the
        listener for jobs that are READY.

        Raises StoreRefused (not ours, newer schema, owned by another broker) having changed
        nothing.
        """

    async def close(self) -> None:
        """Finishes what is under way, then releases the store. Safe to call twice."""

"""The other brokers on the store."""

from typing import Protocol

from towline_broker.drivers.sql.transaction import Effects


class Peers(Protocol):
    """How brokers on one store hear of each other's changes."""

    async def open(self) -> None:
        """From here on the listener hears of what other brokers change, and they of this one's.

        Raises StoreRefused and StoreUnavailable."""

    def tell(self, effects: Effects) -> None:
        """Passes on what a committed change came to, to the other brokers only. Does not wait, and
        costs nothing if there is no other."""

    async def close(self) -> None:
        """Safe to call twice."""

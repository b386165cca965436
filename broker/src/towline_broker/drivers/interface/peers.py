"""What brokers that share a store know of each other."""

from typing import Protocol

from towline_broker.domain.time import Micros


class PeerStore(Protocol):
    """What brokers that share a store know of each other by it."""

    async def time(self, now: Micros) -> Micros:
        """The time by the store's own clock; ``now`` if only one broker may use the store."""

    async def post(self, broker_id: str, notice: bytes, until: Micros) -> None:
        """Puts up a notice of this broker, in place of the one before, for the others to read until
        then. Need not be durable. Empty: takes it down."""

    async def notices(self, now: Micros) -> dict[str, bytes]:
        """What every broker has put up, by broker."""


class SoleOwner:
    """The :class:`PeerStore` of a store that only one broker may use."""

    async def time(self, now: Micros) -> Micros:
        return now

    async def post(self, broker_id: str, notice: bytes, until: Micros) -> None:
        """There is nobody to read it."""

    async def notices(self, now: Micros) -> dict[str, bytes]:
        return {}

"""What the room of a database gives to the driver."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from towline_broker.drivers.interface import Capabilities, Listener
from towline_broker.drivers.sql.shared.peers import Peers
from towline_broker.drivers.sql.shared.session import Database


class Room(Protocol):
    @property
    def database(self) -> Database: ...

    @property
    def capabilities(self) -> Capabilities:
        """Final once :meth:`prepare` has returned."""

    @property
    def lanes(self) -> int:
        """How many connections change the store."""

    @property
    def readers(self) -> int:
        """How many connections look."""

    @property
    def patience(self) -> float:
        """Seconds after which a call that meets no database is told so."""

    @property
    def clock(self) -> str:
        """The query for the database's time, in microseconds since the Unix epoch."""

    async def prepare(self) -> None:
        """Looks at the server, and makes the tables if there are none; several brokers may do this
        at the same time. Raises StoreRefused and StoreUnavailable."""

    def peers(self, listener: Listener, tell_all: Callable[[], Awaitable[None]]) -> Peers:
        """``tell_all``: tells the listener of every queue with READY jobs, and of jobs that ended
        of late, for when news may have been missed. May raise StoreUnavailable."""

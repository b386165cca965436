"""What the suite has to be given to check a driver."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from towline_broker.drivers.interface import Driver


class Harness(ABC):
    """One store, empty to begin with, and the drivers that open it: one after the other, or, if
    brokers share it, several at a time."""

    #: The store outlives its driver, and the broker's crash.
    persists = False

    @abstractmethod
    def driver(self) -> Driver:
        """A driver for the store, not yet opened. Called again after :meth:`crash`, if the store
        persists; and for a further broker, if brokers share it."""

    async def crash(self, driver: Driver) -> None:
        """Ends a driver as the end of its process would, as closely as one process can. The next
        :meth:`driver` opens what is left."""
        await driver.close()


#: Makes a harness over a new, empty store.
NewHarness: TypeAlias = Callable[[], Harness]

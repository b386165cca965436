"""How much may wait for a database that takes changes more slowly than they come (P11)."""

from collections.abc import Iterator
from contextlib import contextmanager

from towline_broker.domain.errors import StoreFull, StoreUnavailable

#: Bytes that the new jobs may take up on the disk, as they are counted for it: some 100,000 small
#: ones. The calls that brought them are in memory for as long as they wait.
MOST_ROOM = 512 * 1024 * 1024
#: Changes of every kind: more than new jobs alone, each of which takes 4 KiB at least, can come to.
MOST_CHANGES = 200_000


class Backlog:
    """Changes that wait or are under way. New jobs are refused long before anything else is: leases
    can be settled while they are."""

    def __init__(self) -> None:
        self._room = 0
        self._changes = 0

    @contextmanager
    def holding(self, room: int) -> Iterator[None]:
        """One more change, as long as the block runs; ``room``: bytes of the new jobs in it, 0 if
        it brings none. Raises StoreFull if it does, StoreUnavailable if it does not."""
        if room and self._room and self._room + room > MOST_ROOM:
            raise StoreFull(
                "memory",
                f"new jobs that take {MOST_ROOM >> 20} MiB wait for the store already, which is "
                "the limit: they come faster than it takes them; nothing was changed",
            )
        if self._changes >= MOST_CHANGES:
            raise StoreUnavailable(
                f"{MOST_CHANGES} changes wait for the store already, which is the limit: nothing "
                "was changed; try again"
            )
        self._room += room
        self._changes += 1
        try:
            yield
        finally:
            self._room -= room
            self._changes -= 1

"""How long the machine stood still while a test measured time: nobody is prompt meanwhile."""

import threading
import time
from typing import Self

#: Seconds from one look to the next, and by how much one may be late on any busy machine.
_INTERVAL, _BUSY = 0.05, 0.2


class Standstill:
    """Looks while the context lasts, by a thread that only sleeps, and so is woken in time by a
    machine that is well."""

    def __init__(self) -> None:
        #: The longest in seconds; 0: it was well all the time.
        self.longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        over = False
        while not over:
            before = time.monotonic()
            over = self._over.wait(_INTERVAL)
            late = time.monotonic() - before - _INTERVAL
            if late > _BUSY:
                self.longest = max(self.longest, late)

"""How long the machine stood still while a test measured time: nobody is prompt meanwhile."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Self

#: Seconds from one look to the next, and by how much one may be late on any busy machine.
_INTERVAL, _BUSY = 0.05, 0.2


class Standstill:
    """Looks while the context lasts, by a thread that only sleeps, and so is woken in time by a
    machine that is well. With the folder of a store that syncs what it promises, another thread
    syncs a file there: a disk that does not answer holds every store up."""

    def __init__(self, disk: Path | None = None) -> None:
        #: The longest in seconds; 0: it was well all the time.
        self.longest = 0.0
        self._over = Event()
        self._threads = [Thread(target=self._look, args=(lambda: None,))]
        self._probe: int | None = None
        if disk is not None:
            self._probe = os.open(disk / "standstill", os.O_WRONLY | os.O_CREAT)
            self._threads.append(Thread(target=self._look, args=(self._sync,)))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._probe is not None:
            os.close(self._probe)

    def _look(self, act: Callable[[], None]) -> None:
        over, stood = False, 0.0
        while not over:
            before = time.monotonic()
            act()
            over = self._over.wait(_INTERVAL)
            late = time.monotonic() - before - _INTERVAL
            # Looks that are late one after the other are of one standstill.
            stood = stood + late if late > _BUSY else 0.0
            self.longest = max(self.longest, stood)

    def _sync(self) -> None:
        assert self._probe is not None
        os.pwrite(self._probe, b"still here", 0)
        os.fsync(self._probe)

"""What is asked of every broker."""

import asyncio
import time
from typing import Protocol

#: Bytes of a job.
PAYLOAD = b"x" * 250


class Tally:
    """Jobs to be worked off by several connections together. The clock stops with the last job, and
    not when the last connection has noticed that there are none: how soon they do is a matter of
    clients, and nobody's rate."""

    def __init__(self, jobs: int) -> None:
        self.left = jobs
        self.finished = asyncio.Event()
        #: When the last job was done, on the clock of ``time.perf_counter``.
        self.ended = 0.0
        if not jobs:
            self.done(0)

    def done(self, jobs: int) -> None:
        self.left -= jobs
        if self.left <= 0 and not self.finished.is_set():
            self.ended = time.perf_counter()
            self.finished.set()

    def last(self, jobs: int) -> bool:
        """With these it is finished. Where acknowledgements have no answer, the last ones have to
        reach the broker before they are done."""
        return self.left <= jobs


class RawQueue(Protocol):
    """One connection to one queue of a broker that is set up as asked for."""

    async def open(self) -> None: ...

    async def push(self, jobs: int) -> None:
        """Returns when the broker has accepted all of them, as it promises it to be."""

    async def work(self, batch: int, tally: Tally) -> None:
        """Takes and acknowledges jobs, up to so many at a time, until the tally is finished."""

    async def take(self) -> None:
        """Waits for one job."""

    async def settle(self) -> None:
        """Acknowledges what :meth:`take` took."""

    async def close(self) -> None: ...

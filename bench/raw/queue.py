"""What is asked of every broker."""

import asyncio
from typing import Protocol

#: Bytes of a job.
PAYLOAD = b"x" * 250


class Tally:
    """Jobs to be worked off by several connections together."""

    def __init__(self, jobs: int) -> None:
        self.left = jobs
        self.finished = asyncio.Event()
        if not jobs:
            self.finished.set()

    def done(self, jobs: int) -> None:
        self.left -= jobs
        if self.left <= 0:
            self.finished.set()


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

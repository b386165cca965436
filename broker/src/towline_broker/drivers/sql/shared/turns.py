"""Lanes take turns: only one takes what waits, until its statements are done.

A lane that began as soon as there is anything to do would find one call there, and so would the
next: with many callers of one job each, every lane is busy with a transaction of two or three,
and a transaction costs the processor as much as several jobs. What comes up while one plays its
statements goes together in the next; while it is synced, others play theirs. One that takes long,
because it has many jobs or waits for a lock or for a database far away, is not waited for.
"""

import asyncio

#: Seconds after which a transaction that is still at its statements does not keep others from
#: theirs.
LONG = 0.005


class Turn:
    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def begins(self) -> None:
        """There is something to do."""
        self._timer = asyncio.get_running_loop().call_later(LONG, self.ends)

    def ends(self) -> None:
        """Lets the next one begin. Safe to call twice."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._lock.release()


class Turns:
    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def next(self) -> Turn:
        """Waits until it is the caller's turn. Who came first comes first."""
        await self._lock.acquire()
        return Turn(self._lock)

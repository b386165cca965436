"""How many new jobs a store is given at the same time (P11).

A store that is given all that comes has a queue of its own, in which Acks wait behind Pushes, and
workers behind Acks: offered more than it can take, it would get less and less done. So it is given
as many jobs as it stores within a moment; other Pushes wait here, and are refused when that takes
too long.
"""

import asyncio

from towline_broker.core.line import Line, Waiting
from towline_broker.domain.errors import Busy

#: What the store should need for a Push, in seconds. If it needs longer it is given fewer jobs.
TARGET = 0.1
#: Jobs at the same time: to begin with, and at least. So many calls are given in any case, if they
#: are small: stores write what comes together in one go.
FIRST = 4_000
LEAST = 1_000
LEAST_CALLS = 4
#: More jobs for each Push that came back in time while others waited.
MORE = 200
#: Jobs once the target was missed, as a share of those before.
FEWER = 0.7
#: A Push is refused at once if the line does not move, and when it has waited for so long itself,
#: in seconds.
LONGEST_WAIT = 5.0


class Admission:
    """Of one store."""

    def __init__(self) -> None:
        self._limit = float(FIRST)
        self._calls = 0
        self._jobs = 0
        self._line = Line()
        self._lowered = 0.0

    @property
    def crowded(self) -> bool:
        """Whether a further Push would be refused."""
        return self._line.crowded

    @property
    def waiting(self) -> int:
        """Pushes in the line."""
        return len(self._line)

    @property
    def window(self) -> int:
        """How many jobs the store is given at the same time."""
        return int(self._limit)

    def enter(self, jobs: int) -> float | None:
        """So many jobs are given to the store, until :meth:`leave`: when that began, in seconds of
        the event loop. None: they have to :meth:`wait` first."""
        if self._line or not self._has_room(jobs):
            return None
        self._enter(jobs)
        return asyncio.get_running_loop().time()

    async def wait(self, jobs: int) -> float:
        """The same, when it is their turn. Raises Busy."""
        await self._wait(jobs)
        return asyncio.get_running_loop().time()

    def leave(self, jobs: int, began: float) -> None:
        """The store is done with them."""
        self._calls -= 1
        self._jobs -= jobs
        self._learn(began, asyncio.get_running_loop().time())
        if self._line:
            self._let_in()

    async def _wait(self, jobs: int) -> None:
        if self.crowded:
            raise Busy
        waiting = self._line.join(jobs)
        timer = asyncio.get_running_loop().call_later(LONGEST_WAIT, self._give_up, waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if not self._line.leave(waiting) and not waiting.turn.cancelled():
                # It was its turn, at the same moment.
                self._calls -= 1
                self._jobs -= jobs
            self._let_in()
            raise
        finally:
            timer.cancel()

    def _give_up(self, waiting: Waiting) -> None:
        if not waiting.turn.done():
            self._line.leave(waiting)
            waiting.turn.set_exception(Busy())
            self._let_in()

    def _let_in(self) -> None:
        while self._line and self._has_room(self._line.first.size):
            waiting = self._line.advance()
            if waiting is not None:
                self._enter(waiting.size)

    def _has_room(self, jobs: int) -> bool:
        return self._calls < LEAST_CALLS or self._jobs + jobs <= self._limit

    def _enter(self, jobs: int) -> None:
        self._calls += 1
        self._jobs += jobs

    def _learn(self, began: float, ended: float) -> None:
        if ended - began <= TARGET:
            if self._line:
                self._limit += MORE
        elif began > self._lowered:  # it was begun since there are fewer
            self._limit = max(LEAST, self._limit * FEWER)
            self._lowered = ended

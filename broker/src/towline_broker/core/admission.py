"""How many new jobs a store is given at the same time (P11).

A store that is given all that comes has a queue of its own, in which Acks wait behind Pushes, and
workers behind Acks: offered more than it can take, it would get less and less done. So it is given
as many jobs as it stores within a moment; other Pushes wait here, and are refused when that takes
too long.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
#: A Push is refused at once if so many wait and the first of them has waited for so long, in
#: seconds ...
CROWD = 32
MOST_WAIT = 0.25
#: ... and when it has waited for so long itself.
LONGEST_WAIT = 5.0


class _Waiting:
    __slots__ = ("jobs", "since", "turn")

    def __init__(self, jobs: int, since: float, turn: "asyncio.Future[None]") -> None:
        self.jobs = jobs
        self.since = since
        self.turn = turn


class Admission:
    """Of one store."""

    def __init__(self) -> None:
        self._limit = float(FIRST)
        self._calls = 0
        self._jobs = 0
        self._line: deque[_Waiting] = deque()
        self._lowered = 0.0

    @property
    def crowded(self) -> bool:
        """Whether a further Push would be refused."""
        line = self._line
        if len(line) < CROWD:
            return False
        return asyncio.get_running_loop().time() - line[0].since > MOST_WAIT

    @asynccontextmanager
    async def of(self, jobs: int) -> AsyncIterator[None]:
        """Around the storing of so many jobs. Raises Busy."""
        if self._line or not self._has_room(jobs):
            await self._wait(jobs)
        else:
            self._enter(jobs)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            yield
        finally:
            self._calls -= 1
            self._jobs -= jobs
            self._learn(began, clock())
            self._let_in()

    async def _wait(self, jobs: int) -> None:
        if self.crowded:
            raise Busy
        loop = asyncio.get_running_loop()
        waiting = _Waiting(jobs, loop.time(), loop.create_future())
        self._line.append(waiting)
        timer = loop.call_later(LONGEST_WAIT, self._give_up, waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting in self._line:
                self._line.remove(waiting)
            elif not waiting.turn.cancelled():  # it was its turn, at the same moment
                self._calls -= 1
                self._jobs -= jobs
            self._let_in()
            raise
        finally:
            timer.cancel()

    def _give_up(self, waiting: _Waiting) -> None:
        if not waiting.turn.done():
            self._line.remove(waiting)
            waiting.turn.set_exception(Busy())
            self._let_in()

    def _let_in(self) -> None:
        while self._line and self._has_room(self._line[0].jobs):
            waiting = self._line.popleft()
            if not waiting.turn.done():
                self._enter(waiting.jobs)
                waiting.turn.set_result(None)

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

"""A line in which calls wait for their turn, and which is to be joined no more once it does not
move (P11)."""

import asyncio
from collections import deque

#: It does not move if the first call has waited for so long, in seconds ...
MOST_WAIT = 0.25
#: ... and so many wait: fewer are no crowd, but the machine stood still for a moment.
CROWD = 32


class Waiting:
    """A call in the line; ``size`` is what its owner counts by."""

    __slots__ = ("since", "size", "turn")

    def __init__(self, size: int) -> None:
        loop = asyncio.get_running_loop()
        self.size = size
        self.since = loop.time()
        #: Done when it is its turn; cancelled if its caller is gone.
        self.turn: asyncio.Future[None] = loop.create_future()


class Line:
    """Turns come in the order in which calls have joined."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def first(self) -> Waiting:
        return self._waiting[0]

    @property
    def crowded(self) -> bool:
        """Whether a further call should be refused."""
        if len(self._waiting) < CROWD:
            return False
        return asyncio.get_running_loop().time() - self.first.since > MOST_WAIT

    def join(self, size: int) -> Waiting:
        waiting = Waiting(size)
        self._waiting.append(waiting)
        return waiting

    def leave(self, waiting: Waiting) -> bool:
        """False if it was not in the line any more."""
        try:
            self._waiting.remove(waiting)
        except ValueError:
            return False
        return True

    def advance(self) -> Waiting | None:
        """The first has its turn, and is returned; None if its caller is gone."""
        waiting = self._waiting.popleft()
        if waiting.turn.done():
            return None
        waiting.turn.set_result(None)
        return waiting

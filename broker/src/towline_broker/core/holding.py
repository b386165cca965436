"""Holding back pushes to a queue, for the moment in which its move comes to an end."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Hold:
    """Without it, a queue that is pushed to without a pause would never be found empty."""

    def __init__(self) -> None:
        self._held: dict[str, asyncio.Event] = {}

    @property
    def any(self) -> bool:
        """Whether any queue is held."""
        return bool(self._held)

    async def passed(self, queues: Iterable[str]) -> None:
        """Returns when none of these is held."""
        if self._held:
            for queue in set(queues):
                held = self._held.get(queue)
                if held is not None:
                    await held.wait()

    @contextmanager
    def on(self, queue: str) -> Iterator[None]:
        """Not to be nested for one queue."""
        released = self._held[queue] = asyncio.Event()
        try:
            yield
        finally:
            del self._held[queue]
            released.set()

"""Work that several want done at the same time, done once for all of them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Together(Generic[T]):
    """Whoever asks gets what ``work`` returns, or raises, and it has begun after they asked: so
    nobody is told of a time before. Those who ask while it is under way share the next one; at any
    moment one is under way. ``start``: makes the task that it runs in.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        start: Callable[[Coroutine[Any, Any, T]], "asyncio.Task[T]"] = asyncio.create_task,
    ) -> None:
        self._work = work
        self._start = start
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def result(self) -> T:
        if self._next is None:
            self._next = self._start(self._after(self._running))
        return await asyncio.shield(self._next)

    async def _after(self, running: "asyncio.Task[T] | None") -> T:
        if running is not None and not running.done():
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        return await self._work()

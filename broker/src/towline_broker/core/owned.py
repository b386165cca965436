"""Work that the broker owns, whatever becomes of the caller (P9)."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from towline_broker.domain.errors import StoreFailed

T = TypeVar("T")


class OwnedTasks:
    """Runs coroutines to their end in tasks of their own.

    A caller that is cancelled stops waiting; the work goes on. ``failed`` is set for good when a
    store has broken a promise: the broker must end without answering anything else.
    """

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(
        self,
        work: Coroutine[Any, Any, T],
        if_abandoned: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> T:
        """Raises what ``work`` raises. ``if_abandoned`` gets the result if the caller was gone."""
        task = self.start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if if_abandoned is not None and not task.cancelled():
                self.start(_when_done(task, if_abandoned))
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def note(self, error: BaseException | None) -> None:
        """What has become of a call of a store that nobody awaits here."""
        if isinstance(error, StoreFailed):
            self.failed.set()

    async def settle(self) -> None:
        """Returns once nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self.note(task.exception())


async def _when_done(
    task: "asyncio.Task[T]", then: Callable[[T], Coroutine[Any, Any, None]]
) -> None:
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        await then(task.result())

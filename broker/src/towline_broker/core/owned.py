"""Work that the broker owns, whatever becomes of the caller (P9)."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
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
        heard: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = self.start(self._told(work, heard))
        try:
            return await heard
        except asyncio.CancelledError:
            if if_abandoned is not None and not task.cancelled():
                self.start(_when_done(task, if_abandoned))
            raise

    async def run_at_once(
        self,
        work: Coroutine[Any, Any, T],
        if_abandoned: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> T:
        """The same, for work that hardly ever waits: until it does it needs no task, for nobody can
        cancel it. It must not look at the task that it runs in."""
        try:
            waits_for = work.send(None)
        except StopIteration as ended:
            result: T = ended.value
            return result
        except BaseException as error:
            self.note(error)
            raise
        return await self.run(_rest_of(work, waits_for), if_abandoned)

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

    async def _told(self, work: Coroutine[Any, Any, T], heard: "asyncio.Future[T]") -> T:
        """Does it, and tells whoever waits for it, unless that one has gone."""
        try:
            result = await work
        except BaseException as error:
            self.note(error)
            if isinstance(error, asyncio.CancelledError):
                heard.cancel()
            elif not heard.done():
                heard.set_exception(error)
                heard.exception()  # somebody has heard, also if the caller goes in this moment
            raise
        if not heard.done():
            heard.set_result(result)
        return result

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self.note(task.exception())


async def _rest_of(work: Coroutine[Any, Any, T], waits_for: Any) -> T:
    result: T = await _go_on(work, waits_for)
    return result


@coroutine
def _go_on(work: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """To the end of what has begun, and waits for that."""
    try:
        while True:
            try:
                heard = yield waits_for
            except BaseException as error:  # it is for the work to say what then
                waits_for = work.throw(error)
            else:
                waits_for = work.send(heard)
    except StopIteration as ended:
        return ended.value


async def _when_done(
    task: "asyncio.Task[T]", then: Callable[[T], Coroutine[Any, Any, None]]
) -> None:
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        await then(task.result())

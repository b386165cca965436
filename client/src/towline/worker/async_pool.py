"""Async handlers on one event loop; a sync handler is run in a thread beside it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias

from towline.calls import Raised, Result, Returned, capture, is_awaitable
from towline.context import make_current
from towline.worker.attempt import Attempt
from towline.worker.copies import awaited_in_the_original, in_the_original
from towline.worker.pool import MOST_THREADS, DaemonThreads, Pool, run_coroutine

logger = logging.getLogger("towline.worker")

HandlerTask: TypeAlias = "asyncio.Task[Result]"

LAST_TURNS = 4
"""Of the loop, for what is left behind: to hear of its end, and for those who wait for it."""


class AsyncPool(Pool):
    """One loop in a thread of its own, and threads for handlers that are plain functions.

    A coroutine is cancelled when the timeout of its job strikes or its lease is lost; the outcome
    is reported once it has ended. A plain function cannot be stopped: see ThreadPool. An async
    handler that blocks the loop delays its neighbours and their timeouts, but no heartbeat.
    """

    def __init__(self, concurrency: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="towline-loop", daemon=True)
        self._threads = DaemonThreads(MOST_THREADS * concurrency, "towline-handler")
        self._tasks: set[asyncio.Task[Any]] = set()
        # What each job starts from, so that no contextvar leaks from one into the next.
        self._base = contextvars.copy_context()
        self._closing = False
        self._ended = False
        self._asked_at: float | None = None

    def start(self) -> None:
        self._thread.start()

    def submit(self, attempts: Sequence[Attempt]) -> None:
        self._loop.call_soon_threadsafe(self._spawn_all, attempts)

    def close(self, timeout: float) -> None:
        self._closing = True
        self._threads.close()
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(timeout)

    def blocked_for(self) -> float:
        """Asks the loop to answer, unless it has not answered yet."""
        asked_at = self._asked_at
        if asked_at is not None:
            return time.monotonic() - asked_at
        self._asked_at = time.monotonic()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._answer)
        return 0.0

    def _answer(self) -> None:
        self._asked_at = None

    def _end(self) -> None:
        self._ended = True
        self._loop.stop()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._ended:
                self._run_loop()
            # What was left behind is told to end, and has some turns of the loop to do it.
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            for _ in range(LAST_TURNS):
                self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _run_loop(self) -> None:
        """Until the pool is closed, or a handler or what it has started ends the loop."""
        try:
            self._loop.run_forever()
        except BaseException as error:  # a task raised SystemExit: asyncio lets that through
            logger.error("a task of the event loop raised %s", type(error).__name__)

    def _spawn_all(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self._spawn(attempt)

    def _spawn(self, attempt: Attempt | None) -> None:
        """Start it; if it is over at once, start those that have its slot after it."""
        while attempt is not None and not self._base.copy().run(self._start, attempt):
            attempt = attempt.end()

    def _start(self, attempt: Attempt) -> bool:
        """Return whether anything of it runs."""
        make_current(attempt.held.get_context)
        if not attempt.begin():
            return False
        if not attempt.is_async:
            self._keep(self._loop.create_task(self._run_in_thread(attempt)))
            return True
        called = capture(attempt.call)
        if isinstance(called, Raised) or not is_awaitable(called):
            attempt.conclude(called)
            return False
        self._await(attempt, called.value)
        return True

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)  # a loop alone does not keep its tasks alive
        task.add_done_callback(self._tasks.discard)

    # An async handler: in a task of its own, and nothing waits beside it that its end concerns.

    def _await(self, attempt: Attempt, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(awaited_in_the_original(coroutine))
        self._keep(task)
        remaining = attempt.remaining
        limit = None if remaining is None else self._loop.call_later(remaining, attempt.time_out)
        task.add_done_callback(partial(self._ended_task, attempt, coroutine, limit))
        attempt.held.state.cancellation.listen(partial(self._cancel, task))

    def _cancel(self, task: HandlerTask) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the pool left it behind
            self._loop.call_soon_threadsafe(task.cancel)

    def _ended_task(
        self,
        attempt: Attempt,
        coroutine: Coroutine[Any, Any, Any],
        limit: asyncio.TimerHandle | None,
        task: HandlerTask,
    ) -> None:
        if limit is not None:
            limit.cancel()
        if task.cancelled():  # before its first step, so that nothing has awaited the coroutine
            coroutine.close()
            attempt.conclude(Raised(asyncio.CancelledError()))
        else:
            attempt.conclude(task.result())
        self._spawn(attempt.end())

    # A plain function

    async def _run_in_thread(self, attempt: Attempt) -> None:
        try:
            attempt.conclude(await self._call(attempt))
        finally:
            self._spawn(attempt.end())

    async def _call(self, attempt: Attempt) -> Result:
        remaining = attempt.remaining
        limit = None if remaining is None else self._loop.call_later(remaining, attempt.time_out)
        try:
            if attempt.needs_loop:
                result: Result = Returned(attempt.call_on_loop(self._in_thread_to_its_end))
            else:
                result = await self._in_thread_to_its_end(attempt.call)
            if isinstance(result, Returned) and is_awaitable(result):
                return await run_coroutine(attempt, result.value)
            return result
        finally:
            if limit is not None:
                limit.cancel()

    def _in_thread(self, function: Callable[[], Any]) -> asyncio.Future[Result]:
        done: asyncio.Future[Result] = self._loop.create_future()
        context = contextvars.copy_context()

        def work() -> None:
            result = context.run(in_the_original, partial(capture, function))
            with contextlib.suppress(RuntimeError):  # the loop is closed: it was left behind
                self._loop.call_soon_threadsafe(self._resolve, done, result)

        self._threads.submit(work)
        return done

    async def _in_thread_to_its_end(self, function: Callable[[], Any]) -> Result:
        """A thread cannot be stopped, so being cancelled changes nothing until the pool closes."""
        done = self._in_thread(function)
        while True:
            try:
                return await asyncio.shield(done)
            except asyncio.CancelledError:
                if self._closing:
                    raise

    @staticmethod
    def _resolve(done: asyncio.Future[Result], result: Result) -> None:
        if not done.done():
            done.set_result(result)

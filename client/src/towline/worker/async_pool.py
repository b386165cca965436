"""Async handlers on one event loop; a sync handler is run in a thread beside it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from towline.calls import Result, Returned, capture, is_awaitable
from towline.context import running
from towline.worker.attempt import Attempt
from towline.worker.copies import in_the_original
from towline.worker.pool import MOST_THREADS, DaemonThreads, Pool, run_coroutine

logger = logging.getLogger("towline.worker")

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
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._ended = False
        self._asked_at: float | None = None

    def start(self) -> None:
        self._thread.start()

    def submit(self, attempt: Attempt) -> None:
        self._loop.call_soon_threadsafe(self._spawn, attempt)

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

    def _spawn(self, attempt: Attempt) -> None:
        task = self._loop.create_task(self._run(attempt))
        self._tasks.add(task)  # a loop alone does not keep its tasks alive
        task.add_done_callback(self._tasks.discard)

    async def _run(self, attempt: Attempt) -> None:
        try:
            with running(attempt.context):
                if attempt.begin():
                    attempt.conclude(await self._call(attempt))
        finally:
            attempt.end()

    async def _call(self, attempt: Attempt) -> Result:
        remaining = attempt.context.remaining
        limit = None if remaining is None else self._loop.call_later(remaining, attempt.time_out)
        try:
            if attempt.is_async:
                result = capture(attempt.call)
            elif attempt.needs_loop:
                result = Returned(attempt.call_on_loop(self._in_thread_to_its_end))
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

"""Handlers in threads; an async handler gets a loop of its own in its thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Iterator, Sequence
from functools import partial

from towline.calls import Result, Returned, capture, is_awaitable
from towline.context import make_current
from towline.worker.attempt import Attempt
from towline.worker.copies import in_the_original
from towline.worker.pool import MOST_THREADS, DaemonThreads, Pool, run_coroutine


class ThreadPool(Pool):
    """One thread per slot.

    A thread cannot be stopped from outside. When the timeout of a job strikes, or its lease is
    lost, ``current_job().cancelled`` becomes true and the handler should end. Until it does, its
    lease is kept, so that no second worker runs the job beside it, and its slot stays taken; only
    then is the failure reported. For timeouts that always hold use async handlers, which are
    cancelled in this pool too.
    """

    def __init__(self, concurrency: int) -> None:
        self._threads = DaemonThreads(MOST_THREADS * concurrency, "towline-handler")

    def start(self) -> None:
        # Threads come with the work.
        pass

    def submit(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self._threads.submit(partial(_run, [attempt]))

    def close(self, timeout: float) -> None:
        self._threads.close()


def _run(first: list[Attempt]) -> None:
    """Run it, and then in the same thread those that have its slot after it."""
    attempt: Attempt | None = first.pop()  # the list may live on, and the job need not
    while attempt is not None:
        try:
            # A context of its own, so that no contextvar leaks from one job into the next.
            contextvars.copy_context().run(_run_one, attempt)
        finally:
            attempt = attempt.end()


def _run_one(attempt: Attempt) -> None:
    make_current(attempt.held.get_context)
    if attempt.begin():
        attempt.conclude(call_in_thread(attempt))


def call_in_thread(attempt: Attempt) -> Result:
    """Call the handler in this thread; an async one on a loop of its own. Tells of its timeout."""
    return in_the_original(partial(_call, attempt))


def _call(attempt: Attempt) -> Result:
    remaining = attempt.remaining
    if remaining is None:
        return _call_to_its_end(attempt)
    with _time_limit(attempt, remaining):
        return _call_to_its_end(attempt)


def _call_to_its_end(attempt: Attempt) -> Result:
    result = capture(attempt.call)
    if isinstance(result, Returned) and is_awaitable(result):
        # A handler may do anything to its loop: stop it, or have a task of it raise SystemExit.
        ran = capture(partial(asyncio.run, run_coroutine(attempt, result.value)))
        return ran.value if isinstance(ran, Returned) else ran
    return result


@contextlib.contextmanager
def _time_limit(attempt: Attempt, remaining: float) -> Iterator[None]:
    timer = threading.Timer(min(remaining, threading.TIMEOUT_MAX), attempt.time_out)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

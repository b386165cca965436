"""Attempts in the hands of the caller: in its thread, or within the task that awaits them.

For what runs jobs without a pool: clients of ``sync://`` and the worker of towline.testing. The
outcome is decided by Attempt, as in every pool. What is different follows from there being no
other thread: nobody tells a plain function that it outlives its timeout; once it ends, it has
failed.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from towline.calls import Raised, Result, Returned, capture, is_awaitable
from towline.context import CancelReason, running
from towline.errors import ConfigurationError
from towline.worker.attempt import Attempt
from towline.worker.pool import run_coroutine

NO_LOOP_INSIDE_A_LOOP = (
    "an async handler cannot be run from a thread whose event loop is running, other than by what "
    "is awaited: AsyncClient, or run_all_async() of towline.testing"
)


def run(attempt: Attempt) -> None:
    """Run the attempt to its end, an async handler on an event loop of its own.

    In a thread whose event loop runs it has failed: see ``run_async``. Raises only what is meant
    for whoever runs this program and not for the job: KeyboardInterrupt, or pytest's own.
    """
    # A context of its own, so that no contextvar leaks from one job into the next.
    contextvars.copy_context().run(_run, attempt)


async def run_async(attempt: Attempt) -> None:
    """``run`` within the running event loop, which a handler that is a plain function blocks.

    When the caller is cancelled, the handler is, and the job is given back.
    """
    try:
        with running(attempt.context):
            if attempt.begin():
                result = await _call_async(attempt)
                attempt.conclude(result)
                _let_through(result)
    finally:
        attempt.end()


def _run(attempt: Attempt) -> None:
    try:
        with running(attempt.context):
            if attempt.begin():
                result = _call(attempt)
                attempt.conclude(result)
                _let_through(result)
    finally:
        attempt.end()


def _call(attempt: Attempt) -> Result:
    result = capture(attempt.call)
    if isinstance(result, Returned) and is_awaitable(result):
        if loop_runs():
            result.value.close()
            return Raised(ConfigurationError(NO_LOOP_INSIDE_A_LOOP))
        # A loop that is named is not made the current one of this thread.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(_await(attempt, result.value))
    _look_at_clock(attempt)
    return result


async def _call_async(attempt: Attempt) -> Result:
    if attempt.needs_loop and not attempt.is_async:
        result: Result = Returned(attempt.call_on_loop(_call_here))
    else:
        result = await _call_here(attempt.call)
    if isinstance(result, Returned) and is_awaitable(result):
        return await _await(attempt, result.value)
    _look_at_clock(attempt)
    return result


async def _call_here(function: Callable[[], Any]) -> Result:
    return contextvars.copy_context().run(capture, function)


async def _await(attempt: Attempt, coroutine: Coroutine[Any, Any, Any]) -> Result:
    loop = asyncio.get_running_loop()
    remaining = attempt.context.remaining
    limit = None if remaining is None else loop.call_later(remaining, attempt.time_out)
    handler = loop.create_task(run_coroutine(attempt, coroutine))
    try:
        return await asyncio.shield(handler)
    except asyncio.CancelledError:
        attempt.context.state.cancellation.cancel(CancelReason.STOPPING)
        attempt.conclude(await handler)
        raise
    finally:
        if limit is not None:
            limit.cancel()


def loop_runs() -> bool:
    """Whether this thread is within an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _look_at_clock(attempt: Attempt) -> None:
    if attempt.context.remaining == 0:
        attempt.time_out()


def _let_through(result: Result) -> None:
    if not isinstance(result, Raised):
        return
    for_the_job = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)
    if not isinstance(result.error, for_the_job):
        raise result.error

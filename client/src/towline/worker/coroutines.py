"""Awaiting what a handler returned, until it has ended and not a moment less."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from towline.calls import Raised, Result
from towline.context import Cancellation
from towline.worker.copies import awaited_in_the_original


async def until_ended(coroutine: Coroutine[Any, Any, Any], cancellation: Cancellation) -> Result:
    """Await it in a task, which is cancelled when the attempt is.

    Returns only when the coroutine has ended, also if it takes its time over being cancelled.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(awaited_in_the_original(coroutine))

    def cancel() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the pool left it behind
            loop.call_soon_threadsafe(task.cancel)

    with cancellation.listening(cancel):
        while not task.done():
            # A handler may cancel all tasks of its loop: that one which waits here goes on.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
    if task.cancelled():  # before its first step, so that nothing has awaited the coroutine
        coroutine.close()
        return Raised(asyncio.CancelledError())
    return task.result()

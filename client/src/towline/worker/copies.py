"""Copies of this process that a handler forks, and that come out of the handler like the original.

Such a copy would settle the job as well, and go on to take those of the original. It ends where its
handler does.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from towline.calls import Raised, Result, capture_awaited
from towline.worker.processes.forking import flush_output


def in_the_original(call: Callable[[], Result]) -> Result:
    """Call it. Returns in the process that has called; a copy of it ends here."""
    process = os.getpid()
    result = call()
    if os.getpid() != process:
        _end_copy(result)
    return result


async def awaited_in_the_original(awaitable: Awaitable[Any]) -> Result:
    """Return what comes of awaiting it; otherwise as ``in_the_original``."""
    process = os.getpid()
    result = await capture_awaited(awaitable)
    if os.getpid() != process:
        _end_copy(result)
    return result


def _end_copy(result: Result) -> NoReturn:
    """End as a program does that this comes of, but for what was registered for the exit."""
    code: object = 0
    if isinstance(result, Raised):
        code = 1
        if isinstance(result.error, SystemExit):
            code = result.error.code or 0
        else:
            traceback.print_exception(result.error)
    flush_output()
    os._exit(code if isinstance(code, int) else 1)

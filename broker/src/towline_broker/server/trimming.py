"""Memory that a burst of calls took up goes back to the machine (P11).

gRPC allocates in many threads, and glibc keeps what one of them has freed for itself: after floods
of calls a broker would go on to hold several times what it needs.
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

from towline_broker.server.looking import look_every
from towline_broker.server.open_files import read_bytes

#: Seconds between two looks.
INTERVAL = 5.0
#: What is resident has grown: by this factor, and so many bytes, since it was last trimmed. It
#: takes some milliseconds for each GiB, so a store that only grows is not trimmed all the time.
FACTOR = 1.25
SLACK = 64 * 1024 * 1024

_STATM = Path("/proc/self/statm")


async def give_memory_back() -> None:
    """Goes on until cancelled; returns at once where there is no glibc, or no Linux."""
    trim = _malloc_trim()
    if trim is not None and sys.platform == "linux":
        await trim_when_grown(resident, trim)


async def trim_when_grown(
    resident: Callable[[], int], trim: Callable[[], object], interval: float = INTERVAL
) -> None:
    """``resident``: bytes of memory that are in use or could be trimmed."""
    settled = resident()

    async def look() -> None:
        nonlocal settled
        if resident() > settled * FACTOR + SLACK:
            # In a thread, and without the interpreter's lock: calls go on meanwhile.
            await asyncio.to_thread(trim)
            settled = resident()

    await look_every(interval, look, "looking at the memory in use")


def resident() -> int:
    """Of this process, in bytes."""
    return int(read_bytes(_STATM).split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _malloc_trim() -> Callable[[], object] | None:
    try:
        function = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return lambda: function(ctypes.c_size_t(0))

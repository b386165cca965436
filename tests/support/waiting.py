"""Waiting for a condition, never for luck."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(
    condition: Callable[[], Awaitable[object]], what: str, seconds: float = 20.0
) -> None:
    """Returns once ``condition`` answers something true; fails, naming ``what``, after so long."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.01)

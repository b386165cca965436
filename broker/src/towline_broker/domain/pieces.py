"""Long work on the event loop, piece by piece: calls have their turn in between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

#: Of things that take some microseconds each.
PIECE = 500

T = TypeVar("T")


class OneByOne:
    """Long works one after the other: between two turns of others there is one piece, however many
    works there are. Short ones do not wait."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def turn(self, items: int) -> AbstractAsyncContextManager[None]:
        """Around a work with so many items."""
        return self._lock if items > PIECE else nullcontext()


async def pieces(items: Sequence[T], size: int = PIECE) -> AsyncIterator[Sequence[T]]:
    """The items, so many at a time. Few are not waited for."""
    for start in range(0, len(items), size):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + size]

"""Answers that are made and not read yet: they stand in memory, and are bounded for each identity.

A handler that has returned its answer hears no more of it. But its task goes on until the answer is
on the wire, which is when its reader has given room for all of it, or until the call is over.
"""

import asyncio
from collections.abc import Callable
from typing import Any

#: What a call takes whose answer is not read, beside the answer: 25 KiB were measured.
OVERHEAD = 24 * 1024
#: Smaller answers, as of Push and Ack, may take a quarter more than larger ones: who has too many
#: of these can still push and settle.
SMALL = 96 * 1024
RESERVED = 1.25


class Unread:
    """Those of one identity. ``most``: bytes, 0: no limit. ``refused`` is given how many there are,
    and makes the error that is raised when there are too many."""

    __slots__ = ("_bytes", "_refused", "most")

    def __init__(self, refused: Callable[[int], Exception]) -> None:
        self._refused = refused
        self._bytes = 0
        self.most = 0

    def __bool__(self) -> bool:
        return self._bytes > 0

    def check(self) -> None:
        """Before a call begins."""
        if self.most and self._bytes > self.most * RESERVED:
            raise self._refused(self._bytes)

    def check_growth(self, size: int, own: int) -> None:
        """Of an answer that holds ``own`` bytes, to ``size``. A single one may have any size:
        otherwise nobody could get it."""
        others = self._bytes - own
        if self.most and size > SMALL and others and others + size > self.most:
            raise self._refused(others)

    def add(self, size: int) -> None:
        self._bytes += size


class Answer:
    """Of the call that ``task`` answers. Counts until that task ends."""

    __slots__ = ("_bytes", "_unread")

    def __init__(self, unread: Unread, task: asyncio.Task[Any]) -> None:
        self._unread = unread
        self._bytes = 0
        task.add_done_callback(self._is_over)

    def grow(self, size: int) -> None:
        """While it is made. Raises what says that there is too much unread."""
        self.grow_to(size + (self._bytes or OVERHEAD))

    def grow_to(self, size: int) -> None:
        """In all, with what the call takes beside it. Raises as :meth:`grow` does."""
        self._unread.check_growth(size, self._bytes)
        self.come_to(size)

    def come_to(self, size: int) -> None:
        """Whatever that makes: it cannot be taken back."""
        self._unread.add(size - self._bytes)
        self._bytes = size

    def _is_over(self, _: object) -> None:
        self._unread.add(-self._bytes)

"""The leases of a worker in memory that another process can read: see towline.worker.guardian."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

from towline.worker.guardian_process import (
    ASKING,
    ASKING_AT,
    HEADER,
    HEADER_SIZE,
    MAX_TOKEN,
    SLOT,
    SLOT_SIZE,
)

MUCH_SHORTER = 0.9
"""Part of the shortest lease so far: what is left of one is always a little less than all of it."""


Entry: TypeAlias = tuple[str, float | None, float, float | None]
"""Token, deadline on time.monotonic(), and in seconds the length of the lease and the timeout of
its job."""


class Ledger:
    """The leases of one worker, where its guardian reads them. Safe from any thread.

    A lease that finds no room, or whose token is too long, is left out: it has no guardian then.
    With no ``slots`` that is every one. ``usual_lease``: seconds of those that are expected;
    ``on_shorter`` is called when one is much shorter than all before.
    """

    def __init__(self, slots: int = 0, usual_lease: float = 0.0) -> None:
        self._shortest = usual_lease
        self.on_shorter: Callable[[], None] = _nothing
        self.size = HEADER_SIZE + slots * SLOT_SIZE
        self.fd = _memory(self.size) if slots else -1
        self._book = mmap.mmap(self.fd, self.size)
        HEADER.pack_into(self._book, 0, 0.0, 0, usual_lease)
        self._lock = threading.Lock()
        self._free = list(range(slots - 1, -1, -1))
        self._used = 0
        self._closed = False
        self._slot_of: dict[str, int] = {}

    def add(self, token: str, deadline: float | None, length: float, timeout: float | None) -> None:
        """See Entry."""
        self.add_all([(token, deadline, length, timeout)])

    def add_all(self, entries: Iterable[Entry]) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._free:
                return
            shortest = min((self._add(entry, now) for entry in entries), default=math.inf)
            shorter = shortest < MUCH_SHORTER * self._shortest
            if shorter:
                self._shortest = shortest
            self._write_header(now)
        if shorter:
            self.on_shorter()

    def _add(self, entry: Entry, now: float) -> float:
        """Return the length of the lease; that of one that is left out does not count."""
        token, deadline, length, timeout = entry
        encoded = token.encode()
        if not self._free or len(encoded) > MAX_TOKEN or deadline is None:
            return math.inf
        slot = self._slot_of[token] = self._free.pop()
        start = HEADER_SIZE + slot * SLOT_SIZE
        until = math.inf if timeout is None else now + timeout + length
        # The length last: the slot is free until everything else is there.
        self._book[start + SLOT.size : start + SLOT.size + len(encoded)] = encoded
        SLOT.pack_into(self._book, start, deadline, length, until, len(encoded))
        self._used = max(self._used, slot + 1)
        return length

    def prolong(self, token: str, deadline: float, length: float) -> None:
        with self._lock:
            slot = self._slot_of.get(token)
            if slot is not None:
                start = HEADER_SIZE + slot * SLOT_SIZE
                _, _, until, size = SLOT.unpack_from(self._book, start)
                SLOT.pack_into(self._book, start, deadline, length, until, size)

    def remove(self, token: str) -> None:
        self.remove_all([token])

    def remove_all(self, tokens: Iterable[str]) -> None:
        with self._lock:
            for token in tokens:
                slot = self._slot_of.pop(token, None)
                if slot is not None:
                    SLOT.pack_into(self._book, HEADER_SIZE + slot * SLOT_SIZE, 0.0, 0.0, 0.0, 0)
                    self._free.append(slot)

    def asking(self, request_id: str) -> None:
        """Note the id of a Reserve that is about to be sent."""
        with self._lock:
            if not self._closed:
                ASKING.pack_into(self._book, ASKING_AT, request_id.encode())

    def worker_is_well(self) -> None:
        """Note that heartbeats are being sent, whatever becomes of them."""
        with self._lock:
            self._write_header(time.monotonic())

    def close(self) -> None:
        """Threads that were left behind may still call the others, which do nothing then."""
        with self._lock:
            self._closed = True
            self._free.clear()
            self._slot_of.clear()
            self._book.close()
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1

    def _write_header(self, word: float) -> None:
        if not self._closed:
            HEADER.pack_into(self._book, 0, word, self._used, self._shortest)


def _nothing() -> None:
    pass


def _memory(size: int) -> int:
    """A file descriptor of memory that another process can be given."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("towline-ledger")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd

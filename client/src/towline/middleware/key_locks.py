"""Locks by key, among the threads of a process and the processes that were forked with it."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Hashable
from importlib import import_module
from typing import Any


def _import_fcntl() -> Any:
    try:
        return import_module("fcntl")
    except ImportError:  # Windows, where nothing is forked either
        return None


fcntl = _import_fcntl()


class KeyLocks:
    """``take`` never waits. What a process has taken is free again when it ends, however it ends.

    Among processes each key is one byte of a file that has no name: its lock is the kernel's, which
    keeps it by process, so that threads need a set besides.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[Hashable] = set()
        if fcntl is not None:
            self._file, path = tempfile.mkstemp(prefix="towline-")
            os.unlink(path)  # noqa: PTH108 - it is a name, and gone
            weakref.finalize(self, os.close, self._file)

    def take(self, key: Hashable) -> bool:
        """False when it is taken already."""
        with self._lock:
            if key in self._taken or not self._take_from_others(key):
                return False
            self._taken.add(key)
            return True

    def give_back(self, key: Hashable) -> None:
        with self._lock:
            self._taken.discard(key)
            if fcntl is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(key))

    def _take_from_others(self, key: Hashable) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except (BlockingIOError, PermissionError):  # systems differ in which
            return False
        return True


def _place(key: Hashable) -> int:
    """Processes that were forked from one hash alike."""
    return hash(key) % 2**62

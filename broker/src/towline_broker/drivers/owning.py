"""One broker for a store that can have no more."""

import fcntl
import os
from pathlib import Path

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.disk import PRIVATE


class Owned(StoreRefused):
    """Another process has the store open."""

    def __init__(self, store: Path, holder: str) -> None:
        super().__init__(
            f"{store} is in use by another broker (process {holder}); stop that one, or give this "
            "broker a store of its own"
        )
        self.store = store
        self.holder = holder


class OwnerLock:
    """Held on a file for as long as the store is open.

    A broker keeps in memory what it knows of an embedded store and must be the only one. The file
    stays when the lock is released, for removing it would let two brokers lock two files of the
    same name.
    """

    def __init__(self, store: Path, file: Path) -> None:
        """``store`` is what a refusal names."""
        self._store = store
        self._path = file
        self._file: int | None = None

    def acquire(self) -> None:
        """Raises Owned if another broker holds it, and OSError."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            raise Owned(self._store, holder) from None
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError:
            os.close(file)  # and with it the lock
            raise
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

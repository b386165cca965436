"""What goes wrong in a worker, told to ``on_error`` by a thread that has nothing else to do.

A callback may take its time: it reports an outage over the network that is down. The threads which
keep leases, tell outcomes and ask for jobs must not wait for it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger("towline.worker")

MAX_WAITING = 1000
"""Errors that wait to be told. The log has each of them in any case."""


class Teller:
    """Owns one thread. ``tell`` may be called from any other, and never waits."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._on_error = on_error
        self._waiting: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="towline-errors", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, error: BaseException) -> None:
        if self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(error)
        else:
            logger.error("on_error is too slow: it is not told of %s", type(error).__name__)

    def close(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds until everything is told."""
        self._waiting.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (error := self._waiting.get()) is not None:
            self._on_error(error)

"""SIGTERM and SIGINT as events of the main thread."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_signals(events: queue.SimpleQueue[signal.Signals | None]) -> Iterator[None]:
    """Put SIGTERM and SIGINT into ``events`` in here; nothing changes in any other thread but main.

    A handler runs between two steps of whatever the main thread does, and must not take a lock
    that it may hold. SimpleQueue.put is made for this.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        events.put(signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: it was not set from Python, so Python cannot put it back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

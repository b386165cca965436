"""SIGTERM, SIGINT and SIGHUP as events of the thread that runs a worker."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from types import FrameType, TracebackType
from typing import Any, Self

#: A terminal that is closed sends it, often more than once: by the system and by its shell.
HANGUP = getattr(signal, "SIGHUP", None)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, *((HANGUP,) if HANGUP else ()))
_DONE = b"\0"


class StopSignals:
    """Within its block a thread waits for the end of a worker, and hears signals meanwhile.

    Python runs signal handlers between two steps of the main thread, so that one which comes just
    before that thread starts to wait is not seen until the wait is over. Hence the signals are
    read from a socket, into which the interpreter writes them the moment they come.

    Outside the main thread, where Python takes no signal handlers, it hears of the end only.
    ``others`` are further signals to be heard.
    """

    def __init__(self, *others: signal.Signals) -> None:
        self._numbers = (*STOP_SIGNALS, *others)
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._handlers: dict[signal.Signals, Any] = {}
        self._wakeup_fd = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._wakeup_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
            heeded = [number for number in self._numbers if is_heeded(number)]
            self._handlers = {number: signal.signal(number, _ignore) for number in heeded}
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            # None: it was not set from Python, so Python cannot put it back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._handlers:
            signal.set_wakeup_fd(self._wakeup_fd)
        self._sender.close()
        self._receiver.close()

    def done(self) -> None:
        """Tell of the end. Safe from any thread."""
        with contextlib.suppress(OSError):  # nobody waits any more
            self._sender.send(_DONE)

    def fileno(self) -> int:
        """Readable when ``wait`` has something to return."""
        return self._receiver.fileno()

    def wait(self) -> signal.Signals | None:
        """Wait for the next of the signals; None when the end has come."""
        while (byte := self._receiver.recv(1)) != _DONE:
            if byte[0] in self._numbers:  # it may be any other that this process handles
                return signal.Signals(byte[0])
        return None


def is_heeded(number: signal.Signals) -> bool:
    """Whether a worker may take this signal: one that nohup started is to outlive its terminal."""
    return number is not HANGUP or signal.getsignal(number) is not signal.SIG_IGN


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler there must be, for the interpreter to take notice of the signal."""

"""What ends a broker from outside: signals, or the end of the process that started it.

And what ends it if something hangs meanwhile: see :class:`HardEnd`.
"""

import asyncio
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from towline_broker.domain.events import event
from towline_broker.server.exits import ExitCode
from towline_broker.server.life.ready_file import remove

log = logging.getLogger("towline.broker")

SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Seconds beyond the time that running calls have: to turn clients away, and to close stores.
GRACE = 5.0
#: Seconds that a broker may take which ends at once.
LAST_SECONDS = 3.0
#: Seconds for telling why the process is ended the hard way; the log may hang, too.
TELLING = 1.0

_NO_SIGNAL = b"\0"


class HardEnd:
    """Ends this process at a certain moment, if it has not ended by itself until then.

    From a thread, so that it does so whatever hangs: a call, a store that does not close, a thread
    of an executor that the interpreter waits for, the event loop itself. Nothing that was
    acknowledged depends on a regular end.

    The same thread hears signals, of which the interpreter writes the numbers to a pipe. Handlers
    of signals in Python run in the main thread, and there the event loop may hang.
    """

    def __init__(self, heard: Callable[[int], None], ready_file: Path | None = None) -> None:
        """``heard`` is given the numbers of signals, in the thread of this."""
        self._heard = heard
        self._ready_file = ready_file
        self._moment, self._code = float("inf"), 0
        self._look = threading.TIMEOUT_MAX
        self._looks = self._missed = 0
        self._watched: asyncio.AbstractEventLoop | None = None
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        threading.Thread(target=self._watch, name="hard end", daemon=True).start()

    def within(self, seconds: float, code: int) -> None:
        """The moment, and the exit code, in the place of those that were named before."""
        self._moment, self._code = time.monotonic() + seconds, code
        self._wake()

    def watch(self, loop: asyncio.AbstractEventLoop, looks: int) -> None:
        """From now on the process ends, as of a defect, when the loop has not come round between
        so many looks, of which there is one in a second. What stops the whole process, as a
        debugger does or a machine that sleeps, stops these, too."""
        self._watched, self._looks, self._look = loop, looks, 1.0
        self._wake()

    def hear_signals(self) -> None:
        """All those that have a handler in Python. From the main thread only."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # enough is written to wake it
            os.write(self._write, _NO_SIGNAL)

    def _watch(self) -> None:
        while (rest := self._moment - time.monotonic()) > 0:
            told, _, _ = select.select([self._read], [], [], min(rest, self._look))
            for number in os.read(self._read, 4096) if told else b"":
                if number not in _NO_SIGNAL:
                    self._heard(number)
            if not told and self._watched is not None:
                self._look_at(self._watched)
        self._end(self._code)

    def _look_at(self, loop: asyncio.AbstractEventLoop) -> None:
        self._missed += 1
        if self._missed > self._looks:
            self._end(ExitCode.UNEXPECTED)
        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(self._came_round)

    def _came_round(self) -> None:
        self._missed = 0

    def _end(self, code: int) -> None:
        # The log may hang, too: then it is the system that ends the process.
        signal.setitimer(signal.ITIMER_REAL, TELLING)
        if self._ready_file is not None:
            remove(self._ready_file)
        log.error(
            "something hangs, and this broker ends without it:\n%s",
            _stacks(),
            extra=event("hung", code=code),
        )
        logging.shutdown()
        os._exit(code)


class Stopping:
    """Signals: the first asks for a drain, the second for an end at once, the third kills.

    ``patience``: seconds from the first one on after which the process ends whatever hangs, with
    CUT_OFF. From the second one on it is LAST_SECONDS, with the code of that signal.
    """

    def __init__(self, patience: float, ready_file: Path | None = None) -> None:
        self.asked = asyncio.Event()
        self.urgent = asyncio.Event()
        self.signal = 0
        self.patience = patience
        self.hard_end = HardEnd(self._caught, ready_file)
        self._loop = asyncio.get_running_loop()
        self._others: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._times = 0

    def listen(self) -> None:
        """From the main thread. Nothing else may set handlers by way of the event loop, which would
        take the signals away."""
        self.hard_end.hear_signals()
        for number in SIGNALS:
            signal.signal(number, _take_notice)

    def end_if_loop_hangs(self, seconds: int) -> None:
        """The process ends, as of a defect, when its event loop does not come round for so long."""
        self.hard_end.watch(self._loop, seconds)

    def on(self, number: int, call: Callable[[], None]) -> None:
        """Another signal, which ends nothing: ``call`` runs in the event loop. After listen()."""
        self._others[number] = call
        signal.signal(number, _take_notice)

    def hear(self, number: int) -> None:
        """As if this signal had come, and were one of those that end a broker. From any thread."""
        with self._lock:
            self._times += 1
            times = self._times
        if times == 1:
            self.hard_end.within(self.patience, ExitCode.CUT_OFF)
            self._in_loop(self.asked.set)
        elif times == 2:
            self.signal = number
            self.hard_end.within(LAST_SECONDS, 128 + number)
            self._in_loop(self.urgent.set)
        else:
            os._exit(128 + number)

    def _caught(self, number: int) -> None:
        if number in SIGNALS:
            self.hear(number)
        elif number in self._others:
            self._in_loop(self._others[number])

    def _in_loop(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended before
            self._loop.call_soon_threadsafe(call)


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Returns when one has ended, and cancels the others. Raises what that one raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _stacks() -> str:
    """Where each thread stands but this one: names of functions and lines, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame)).rstrip()}"
        for ident, frame in sys._current_frames().items()  # what the interpreter offers for this
        if ident != threading.get_ident()
    )


def _take_notice(number: int, frame: FrameType | None) -> None:
    """A handler there must be, for the interpreter to write the number of the signal."""

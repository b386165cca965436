"""What ends a broker from outside: signals, or the end of the process that started it.

And what ends it if something hangs meanwhile: see :class:`HardEnd`.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from towline_broker.server.exits import ExitCode

log = logging.getLogger("towline.broker")

SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Seconds beyond the time that running calls have: to turn clients away, and to close stores.
GRACE = 5.0
#: Seconds that a broker may take which ends at once.
LAST_SECONDS = 3.0
#: Seconds for telling why the process is ended the hard way; the log may hang, too.
TELLING = 1.0


class HardEnd:
    """Ends this process at a certain moment, if it has not ended by itself until then.

    From a thread, so that it does so whatever hangs: a call, a store that does not close, a thread
    of an executor that the interpreter waits for, the event loop itself. Nothing that was
    acknowledged depends on a regular end.
    """

    def __init__(self, ready_file: Path | None = None) -> None:
        self._ready_file = ready_file
        self._timer: threading.Timer | None = None

    def within(self, seconds: float, code: int) -> None:
        """The moment, and the exit code, in the place of those that were named before."""
        earlier, self._timer = self._timer, _daemon(seconds, self._end, code)
        if earlier is not None:
            earlier.cancel()

    def _end(self, code: int) -> None:
        _daemon(TELLING, os._exit, code)
        if self._ready_file is not None:
            with suppress(OSError):
                self._ready_file.unlink()
        log.error("something hangs, and this broker ends without it:\n%s", _stacks())
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
        self.hard_end = HardEnd(ready_file)
        self.patience = patience
        self._caught = 0

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            # Two ways to hear of it: the loop's, and one that does not wait for its turn in a loop
            # that may hang.
            loop.add_signal_handler(number, self._heard, number)
            signal.signal(number, self._catch)

    def hear(self, number: int) -> None:
        """As if this signal had come."""
        self._catch(number)
        self._heard(number)

    def _catch(self, number: int, frame: FrameType | None = None) -> None:
        self._caught += 1
        if self._caught == 1:
            self.hard_end.within(self.patience, ExitCode.CUT_OFF)
        else:
            self.hard_end.within(LAST_SECONDS, 128 + number)
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)

    def _heard(self, number: int) -> None:
        if not self.asked.is_set():
            self.asked.set()
        elif not self.urgent.is_set():
            self.signal = number
            self.urgent.set()


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


def _daemon(seconds: float, function: Any, *arguments: Any) -> threading.Timer:
    timer = threading.Timer(seconds, function, arguments)
    timer.daemon = True
    timer.start()
    return timer


def _stacks() -> str:
    """Where each thread stands but this one: names of functions and lines, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame)).rstrip()}"
        for ident, frame in sys._current_frames().items()  # what the interpreter offers for this
        if ident != threading.get_ident()
    )

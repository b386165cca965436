"""What systemd is told of a broker that it started, by the protocol of sd_notify(3).

A datagram of lines to the socket that NOTIFY_SOCKET names: that the broker serves, rereads its
settings, ends, and, if the unit asks for it (WatchdogSec=), that its event loop runs. Without that
variable nothing is told, and nothing here costs anything.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager

from towline_broker.domain.events import event

log = logging.getLogger("towline.broker")

_SOCKET, _WATCHDOG, _WATCHED = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Systemd:
    """Nothing here raises: a broker serves also if nobody hears it."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        """``address``: of the socket, as in NOTIFY_SOCKET; an empty one is told nothing.
        ``watchdog``: seconds after which systemd takes silence for a hang; 0: it does not."""
        self._address = address
        self._watchdog = watchdog
        self._status = ""
        #: How long an end may take. May be set anew.
        self.stop_seconds = 0.0

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> "Systemd":
        """As the environment says, from which it is taken: processes that this one starts are not
        the ones that systemd listens to."""
        address = environment.pop(_SOCKET, "")
        interval = environment.pop(_WATCHDOG, "")
        watched = environment.pop(_WATCHED, "")
        meant = interval.isascii() and interval.isdigit() and watched in ("", str(os.getpid()))
        return cls(address, int(interval) / 1_000_000 if meant else 0.0)

    def serving(self, status: str) -> None:
        """The start is over."""
        self._status = f"STATUS={status}"
        self._tell("READY=1", self._status)

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Around what rereads the settings."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")
        try:
            yield
        finally:
            self._tell("READY=1", self._status)

    @asynccontextmanager
    async def told(
        self, stopping: asyncio.Event, *, start_seconds: float, stop_seconds: float
    ) -> AsyncIterator[None]:
        """Around all that a broker does: tells that it starts, that it ends once ``stopping`` is
        set, how long both may take whatever the unit says, and that its event loop runs."""
        self.stop_seconds = stop_seconds
        self._tell("STATUS=starting", _longer(start_seconds))
        telling = [
            asyncio.create_task(self._tell_end(stopping)),
            asyncio.create_task(self._tell_alive()),
        ]
        try:
            yield
        finally:
            for task in telling:
                task.cancel()

    async def _tell_end(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._tell("STOPPING=1", "STATUS=draining", _longer(self.stop_seconds))

    async def _tell_alive(self) -> None:
        # Twice in each interval, from the loop that all calls run in.
        while self._watchdog:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog / 2)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # The abstract namespace of Linux is written with @ where it has a zero byte.
        name = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.setblocking(False)
                to.sendto("\n".join(filter(None, lines)).encode(), name)
        except OSError as error:
            log.warning(
                "systemd cannot be told %s: %s",
                lines[0],
                error,
                extra=event("systemd_unreachable", reason=str(error)),
            )


def _longer(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}"

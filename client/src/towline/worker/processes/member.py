"""One of several workers of a Supervisor, in the process that was forked for it."""

from __future__ import annotations

import contextlib
import json
import logging
import select
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeAlias

from towline.errors import CallFailed, ConfigurationError
from towline.worker.processes.limits import ChildLimits
from towline.worker.session import WIND_UP, Session
from towline.worker.signals import StopSignals
from towline.worker.stats import WorkerStats
from towline.worker.stop_reason import StopReason

logger = logging.getLogger("towline.worker")

Begin: TypeAlias = Callable[[str, ChildLimits, Callable[[], None]], Session]
"""Makes the session of a member: its worker_id, the limits at which it ends in order to be
replaced, and what is to be called when it is over."""

MAX_MESSAGE = 1000
"""Characters of an error's text that travel to the supervisor."""

_ORDER = struct.Struct("!?d")


def pack_order(*, halt: bool, drain_timeout: float | None) -> bytes:
    return _ORDER.pack(halt, -1.0 if drain_timeout is None else drain_timeout)


@dataclass(frozen=True)
class Ending:
    """Why a member has ended, as it tells its supervisor.

    again  it is to be replaced by another
    error  class name and text of what made working impossible, for any other process too
    """

    stats: WorkerStats
    again: bool = False
    error: tuple[str, str] | None = None

    def pack(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Ending:
        told = json.loads(data)
        error = told["error"]
        return cls(WorkerStats(**told["stats"]), told["again"], tuple(error) if error else None)


class Member:
    """A worker that obeys its supervisor, and stops gracefully when that is gone.

    A signal that comes to it directly also stops it gracefully, however often it comes: Ctrl-C in a
    terminal and some service managers send theirs to every process, the supervisor's among them,
    and it is for the supervisor to say that a second one means at once.
    """

    def __init__(self, orders: socket.socket, begin: Begin, limits: ChildLimits) -> None:
        self._orders = orders
        self._begin = begin
        self._limits = limits
        self._ordered = False
        self._again = False

    def run(self, worker_id: str) -> int:
        """Work until the end, and tell the supervisor of it; returns the exit code."""
        error: BaseException | None
        session: Session | None = None
        with StopSignals() as signals:
            try:
                session = self._begin(worker_id, self._limits, signals.done)
                session.start()
                self._wait(signals, session)
                error = session.error
            except Exception as raised:
                error = raised
            if session is not None and not session.wait(0):
                session.halt()
                session.wait(2 * WIND_UP)
        if error is not None:
            logger.error("worker %s: %s: %s", worker_id, type(error).__name__, error)
        if error is not None and not isinstance(error, (CallFailed, ConfigurationError)):
            return 1
        told = None if error is None else (type(error).__name__, str(error)[:MAX_MESSAGE])
        again = self._again and not self._ordered
        stats = WorkerStats() if session is None else session.stats
        with contextlib.suppress(OSError):  # the supervisor is gone
            self._orders.sendall(Ending(stats, again, told).pack())
        return 0

    def _wait(self, signals: StopSignals, session: Session) -> None:
        listened: list[StopSignals | socket.socket] = [signals, self._orders]
        while not session.wait(0):
            ready, _, _ = select.select(listened, [], [])
            if signals in ready and (number := signals.wait()) is not None:
                self._signalled(number, session)
            if self._orders in ready and not self._obey(session):
                listened.remove(self._orders)
        reason = session.stop_reason
        if reason is StopReason.MAX_JOBS:
            self._again |= self._limits.max_jobs is not None
        elif reason in (StopReason.MAX_MEMORY, StopReason.STUCK):
            self._again = True

    def _signalled(self, number: signal.Signals, session: Session) -> None:
        logger.debug("%s: stopping when the jobs that run are done", number.name)
        self._again = True
        session.request_stop()

    def _obey(self, session: Session) -> bool:
        """Do what the supervisor says; False when it is gone."""
        self._ordered = True
        try:
            order = self._orders.recv(_ORDER.size)
        except ConnectionError:
            order = b""
        if not order:
            logger.warning("the supervisor is gone: stopping when the jobs that run are done")
            session.request_stop()
            return False
        halt, drain_timeout = _ORDER.unpack(order)
        if halt:
            session.halt()
        else:
            session.request_stop(None if drain_timeout < 0 else drain_timeout)
        return True

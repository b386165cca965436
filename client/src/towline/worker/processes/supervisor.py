"""Several whole workers side by side, each in a process of its own.

The supervisor opens no channel and starts no thread, so that it can fork a new worker whenever one
is gone.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import time
from dataclasses import dataclass

from towline.worker.errors import WorkerProcessFailed
from towline.worker.options import WorkerOptions
from towline.worker.processes.children import how_it_ended
from towline.worker.processes.forking import fork_process
from towline.worker.processes.limits import ChildLimits
from towline.worker.processes.member import Begin, Ending, Member, pack_order
from towline.worker.signals import HANGUP, StopSignals
from towline.worker.stats import Stats

logger = logging.getLogger("towline.worker")

STEADY = 10.0
"""Seconds that a process must have lived to be replaced at once, if it died."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds until one that died sooner is replaced; doubled with each that follows."""

LONGEST_ENDING = 64 * 1024


@dataclass(eq=False)
class _Running:
    """A member that runs, or has died and is not yet replaced (``pid`` 0)."""

    worker_id: str = ""
    pid: int = 0
    orders: socket.socket | None = None
    started_at: float = 0.0
    early_deaths: int = 0
    start_at: float = 0.0


class Supervisor:
    """Runs ``options.processes`` members until each has ended or the whole is told to stop.

    A member that died, that has reached a limit of ``options.child_limits`` or whose handlers do
    not end is replaced, with a new number in its worker_id. One that ended for another reason is
    not: it has taken its ``max_jobs``, or the broker told it to stop. ``max_time`` ends the whole.
    """

    def __init__(self, options: WorkerOptions, begin: Begin, stats: Stats) -> None:
        self._options = options
        # Those of a process pool are for its children.
        self._limits = ChildLimits() if options.pool == "process" else options.child_limits
        self._begin = begin
        self._stats = stats
        self._last_number = 0
        self._members = [_Running() for _ in range(options.processes)]
        self._stopping = False
        self._error: WorkerProcessFailed | None = None

    def run(self) -> None:
        """Call it in the main thread. Raises WorkerProcessFailed when a member cannot work."""
        gc.collect()
        gc.freeze()  # shared with every member, for as long as neither writes to it
        max_time = self._options.max_time
        until = None if max_time is None else time.monotonic() + max_time
        with StopSignals(signal.SIGCHLD) as signals:
            try:
                while self._members:
                    self._start_due()
                    if select.select([signals], [], [], self._pause(until))[0]:
                        self._signalled(signals.wait())
                    if until is not None and time.monotonic() >= until and not self._stopping:
                        logger.info("max_time is over: stopping when the jobs that run are done")
                        self.request_stop()
            finally:  # also when the handler of some other signal raises in this thread
                for member in self._members:
                    if member.orders is not None:
                        member.orders.close()
        if self._error is not None:
            raise self._error

    def request_stop(self, drain_timeout: float | None = None, *, halt: bool = False) -> None:
        """Tell every member to stop, and replace none from now on."""
        self._stopping = True
        for member in list(self._members):
            if member.orders is None:
                self._members.remove(member)
            else:
                with contextlib.suppress(OSError):  # it has just ended
                    member.orders.send(pack_order(halt=halt, drain_timeout=drain_timeout))

    def _pause(self, until: float | None) -> float | None:
        due = [member.start_at for member in self._members if not member.pid]
        if until is not None and not self._stopping:
            due.append(until)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _signalled(self, number: signal.Signals | None) -> None:
        if number is signal.SIGCHLD:
            self._reap()
        elif self._stopping and number is HANGUP:
            return
        elif self._stopping:
            logger.warning("%s again: stopping at once", number and number.name)
            self.request_stop(0, halt=True)
        else:
            logger.info("%s: stopping when the jobs that run are done", number and number.name)
            self.request_stop()

    # Starting

    def _start_due(self) -> None:
        now = time.monotonic()
        for member in self._members:
            if not member.pid and member.start_at <= now:
                self._start(member)

    def _start(self, member: _Running) -> None:
        self._last_number += 1
        suffix = f".{self._last_number}"
        member.worker_id = self._options.worker_id[: 128 - len(suffix)] + suffix
        member.started_at = time.monotonic()
        orders, theirs = socket.socketpair()

        def main() -> int:
            for other in self._members:  # or none would notice that the supervisor is gone
                if other.orders is not None:
                    other.orders.close()
            orders.close()
            return Member(theirs, self._begin, self._limits).run(member.worker_id)

        try:
            member.pid = fork_process(main)
        except OSError as error:
            orders.close()
            self._died(member, f"could not be started: {error}")
        else:
            orders.setblocking(False)
            member.orders = orders
        finally:
            theirs.close()

    # The end of a member

    def _reap(self) -> None:
        for member in list(self._members):
            if not member.pid:
                continue
            pid, status = os.waitpid(member.pid, os.WNOHANG)
            if pid:
                self._ended(member, os.waitstatus_to_exitcode(status))

    def _ended(self, member: _Running, code: int) -> None:
        ending = _ending(member)
        if member.orders is not None:
            member.orders.close()
        member.pid, member.orders = 0, None
        if ending is None:
            self._died(member, how_it_ended(code))
            return
        self._stats.add(ending.stats)
        if ending.error is not None:
            self._error = WorkerProcessFailed(member.worker_id, *ending.error)
            self._members.remove(member)
            self.request_stop()
        elif ending.again and not self._stopping:
            logger.info("worker process %s has ended, and is replaced", member.worker_id)
            member.start_at, member.early_deaths = 0.0, 0
        else:
            self._members.remove(member)

    def _died(self, member: _Running, how: str) -> None:
        if self._stopping:
            logger.error("worker process %s %s", member.worker_id, how)
            self._members.remove(member)
            return
        now = time.monotonic()
        lived = now - member.started_at
        member.early_deaths = 0 if lived >= STEADY else member.early_deaths + 1
        pause = 0.0
        if member.early_deaths:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (member.early_deaths - 1))
        member.start_at = now + pause
        logger.error("worker process %s %s: replaced in %g s", member.worker_id, how, pause)


def _ending(member: _Running) -> Ending | None:
    """What it said before it ended; None if it could say nothing."""
    if member.orders is None:
        return None
    try:
        data = member.orders.recv(LONGEST_ENDING)
    except OSError:
        return None
    return Ending.unpack(data) if data else None

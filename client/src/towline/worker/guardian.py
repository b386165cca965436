"""Leases that outlive a handler which lets nothing else in its process run.

C code that does not give back the interpreter's lock (the GIL) stops every thread of its process,
that of the heartbeats too. So a worker starts a small process beside itself, its guardian. Both
share a piece of memory, the ledger: in it stand the tokens of the leases that the worker holds, and
when it was last seen well. While the worker sends its heartbeats the guardian sleeps; when they are
overdue it sends them itself, and ends the call with which the worker waits for more jobs, which
would only wait there: leases that are on their way already it keeps too. Progress, and what the
broker has to tell the worker, wait for the worker.

It does not keep the leases of a worker that is dead or stopped (SIGSTOP, a debugger), nor of one
that has neither said a word nor used the processor for ``HUNG_AFTER`` seconds; nor a lease for
longer than the timeout of its job and the length of one lease.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from towline.channel import Connection
from towline.worker import guardian_process
from towline.worker.errors import WorkerStateError
from towline.worker.guardian_process import LENGTH
from towline.worker.ledger import Ledger
from towline.worker.options import USUAL_LEASE, WorkerOptions

logger = logging.getLogger("towline.worker")

HUNG_AFTER = 600.0
"""Seconds without a word and without use of the processor; ten leases if that is longer."""

END_TIMEOUT = 1.0
"""Seconds that the guardian has to end with its worker, which takes it some milliseconds."""


class Guardian:
    """The process, for the time of one session. ``close`` it in any case."""

    def __init__(self, connection: Connection, ledger: Ledger, options: WorkerOptions) -> None:
        self.message = json.dumps(
            {
                "path": [os.fspath(entry) for entry in sys.path],
                "connection": connection.hand_over(),
                "worker_id": options.worker_id,
            }
        ).encode()
        self._ledger = ledger
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns at once; without a process to spare the worker works without a guardian."""
        fd = self._ledger.fd
        numbers = (fd, self._ledger.size, HUNG_AFTER)
        command = [sys.executable, "-I", "-S", guardian_process.__file__, *map(str, numbers)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[fd]
            )
            # Credentials go this way, which nobody else on the machine can read.
            self._pipe.write(LENGTH.pack(len(self.message)) + self.message)
            self._pipe.flush()
        except OSError as error:
            logger.warning("no guardian for this worker: %s", error.strerror)

    def wake(self) -> None:
        """Have it look at the ledger now: its next look would come too late for a lease there."""
        with contextlib.suppress(
            OSError, ValueError, WorkerStateError
        ):  # it is not there (any more)
            self._pipe.write(b"!")
            self._pipe.flush()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def has_failed(self) -> bool:
        """Whether it has ended although its worker has not."""
        return self._process is not None and self._process.poll() is not None

    def close(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            self._pipe.close()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        if self._process is None or self._process.stdin is None:
            raise WorkerStateError("the guardian was not started")
        return self._process.stdin


def watched_ledger(
    connection: Connection, options: WorkerOptions
) -> tuple[Ledger, Guardian | None]:
    """Return a ledger for the leases of a worker, and its guardian if it is to have one."""
    if not options.guardian or options.pool == "process":  # there no handler runs beside it
        return Ledger(), None
    reason = _why_none(connection)
    if reason is not None:
        logger.warning(
            "this worker has no guardian, so a handler that holds the GIL can lose its lease: %s",
            reason,
        )
        return Ledger(), None
    # As many leases as a worker has at most, with those that its handlers do not let go.
    most = 2 * options.prefetch + 3 * options.concurrency
    ledger = Ledger(most, options.lease or USUAL_LEASE)
    guardian = Guardian(connection, ledger, options)
    ledger.on_shorter = guardian.wake
    return ledger, guardian


def _why_none(connection: Connection) -> str | None:
    """Why no guardian can help a worker with this connection here; None: it can."""
    if os.name != "posix":
        return "this system lacks what it is made of"
    # A program that embeds or bundles Python may be named there itself.
    if not Path(sys.executable or "none").name.startswith(("python", "pypy")):
        return "there is no Python interpreter to run it with"
    if not connection.can_be_handed_over:
        return (
            "its credentials are an object of grpc, which no other process can be given; "
            "towline.TlsCredentials can be"
        )
    return None

"""A child: one process that runs attempts, one at a time, in its main thread.

The attempt is the one that every pool runs, with all that it calls: middleware, callbacks, hooks of
the job. What it decides, and progress, goes to the worker; a second thread hears from there that
the handler is to end, or that the lease was prolonged.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass

from towline.calls import Raised
from towline.context import CancelReason, make_current, running
from towline.middleware.handling import HandlerMiddleware
from towline.registry import Registry
from towline.v1 import job_pb2
from towline.v1.queue_service_pb2 import Ack
from towline.worker import outcome
from towline.worker.acceptance import FIRST_DELAY
from towline.worker.attempt import Attempt
from towline.worker.callbacks import Callbacks
from towline.worker.errors import UnknownJobType, WorkerChildDied
from towline.worker.leases import HeldLease, Settlement, hold, progress_message
from towline.worker.processes.forking import flush_output
from towline.worker.processes.frames import (
    BlockingFrames,
    Burial,
    Kind,
    Run,
    pack_done,
    unpack_cancel,
    unpack_prolonged,
)
from towline.worker.processes.limits import ChildLimits, resident_bytes
from towline.worker.thread_pool import call_in_thread

REPORT_INTERVAL = 0.1
"""Seconds between two reports of progress to the worker, which sends them on less often."""


@dataclass(frozen=True)
class Work:
    """What a child inherits in order to run jobs."""

    registry: Registry
    callbacks: Callbacks
    middleware: HandlerMiddleware
    limits: ChildLimits


def serve(work: Work, jobs: socket.socket, control: socket.socket) -> None:
    """Run the jobs that come over ``jobs`` until that is closed."""
    os.setsid()  # Ctrl-C is the worker's business; and all that a handler starts dies with it
    gc.enable()
    _seed()
    _Child(work, jobs, control).run()


def _seed() -> None:
    """Children are not to roll the same dice. The module random sees to itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


class _Child:
    def __init__(self, work: Work, jobs: socket.socket, control: socket.socket) -> None:
        self._does = work
        self._jobs = BlockingFrames(jobs)
        self._control = BlockingFrames(control)
        self._lock = threading.Lock()  # over the four that follow
        self._number = 0  # of the job, counted from 1; the worker counts alike
        self._held: HeldLease | None = None
        self._cancelled: tuple[int, CancelReason] | None = None
        self._reported_at = 0.0
        self._later: threading.Timer | None = None
        self._reporting = threading.Lock()  # so that no older report follows a newer one

    def run(self) -> None:
        threading.Thread(target=self._listen, name="towline-control", daemon=True).start()
        try:
            self._jobs.send(Kind.READY)
            while (frame := self._jobs.read()) is not None:
                kind, body = frame
                if kind is Kind.RUN:
                    run = Run.unpack(body)
                    self._run(run.lease, run.lease_deadline)
                else:
                    self._bury(Burial.unpack(body))
                self._jobs.send(Kind.DONE, pack_done(self._resident()))
        except OSError:  # the worker is gone: nobody is interested any more
            return

    def _resident(self) -> int:
        """Bytes, if anybody is interested."""
        return resident_bytes() if self._does.limits.max_memory is not None else 0

    # Running

    def _run(self, lease: job_pb2.Lease, lease_deadline: float) -> None:
        held = self._hold(lease)
        held.state.lease_deadline = lease_deadline
        with self._lock:
            self._number += 1
            self._held = held
            if self._cancelled is not None and self._cancelled[0] == self._number:
                held.state.cancellation.cancel(self._cancelled[1])
        attempt = self._attempt(held)
        if attempt is not None:
            # A context of its own, so that no contextvar leaks from one job into the next.
            contextvars.copy_context().run(self._work, attempt)
        with self._lock:
            self._held = None

    def _work(self, attempt: Attempt) -> None:
        make_current(attempt.held.get_context)
        if attempt.begin():
            if attempt.held.timeout is not None:
                self._jobs.send(Kind.BEGUN)
            attempt.conclude(call_in_thread(attempt))

    def _bury(self, burial: Burial) -> None:
        held = self._hold(burial.lease)
        with self._lock:
            self._number += 1
        attempt = self._attempt(held)
        if attempt is None:
            return
        if burial.reason is not None:
            held.state.cancellation.cancel(burial.reason)
        with running(attempt.context):
            attempt.bury(Raised(WorkerChildDied(burial.how)), burial.started_at)

    def _hold(self, lease: job_pb2.Lease) -> HeldLease:
        definition = self._does.registry.lookup(lease.job.type)
        timeout = None if definition is None else definition.timeout
        return hold(lease, timeout, self._report)

    def _attempt(self, held: HeldLease) -> Attempt | None:
        definition = self._does.registry.lookup(held.context.type)
        if definition is None:  # it was defined only after the template was forked
            failure = outcome.failure_of(UnknownJobType(held.context.type, held.context.queue))
            self._settle(held, outcome.release(held.token, failure, FIRST_DELAY))
            return None
        callbacks, middleware = self._does.callbacks, self._does.middleware
        return Attempt(held, definition, callbacks, self._settle, _nothing_more, middleware)

    def _settle(self, held: HeldLease, settlement: Settlement) -> bool:
        self._send_report(held)
        kind = Kind.ACK if isinstance(settlement, Ack) else Kind.NACK
        self._jobs.send(kind, settlement.SerializeToString())
        return True

    # Progress

    def _report(self) -> None:
        """The handler has something to tell: at once, or soon with what follows."""
        with self._lock:
            held = self._held
            pause = self._reported_at + REPORT_INTERVAL - time.monotonic()
            if held is None or (pause > 0 and self._later is not None):
                return
            if pause > 0:
                self._later = threading.Timer(pause, self._report_later, [held])
                self._later.daemon = True
                self._later.start()
                return
        self._send_report(held)

    def _report_later(self, held: HeldLease) -> None:
        with self._lock:
            self._later = None
            if held is not self._held:
                return
        self._send_report(held)

    def _send_report(self, held: HeldLease) -> None:
        with self._reporting:
            unsent = held.state.reports.unsent()
            if unsent is None:
                return
            version, progress = unsent
            report = progress_message(progress).SerializeToString()
            with contextlib.suppress(OSError):  # the worker is gone, and soon this process
                self._jobs.send(Kind.REPORT, report)
            held.state.reports.sent(version)
            self._reported_at = time.monotonic()

    # Control

    def _listen(self) -> None:
        while (frame := self._control.read()) is not None:
            self._obey(*frame)
        flush_output()
        if self._held is not None:
            # The worker is gone: nobody will hear of this job, which goes with all it has started.
            os.killpg(0, signal.SIGKILL)
        os._exit(0)

    def _obey(self, kind: Kind, body: bytes) -> None:
        with self._lock:
            if kind is Kind.CANCEL:
                number, reason = unpack_cancel(body)
                self._cancelled = number, reason
                if number == self._number and self._held is not None:
                    self._held.state.cancellation.cancel(reason)
            elif kind is Kind.PROLONGED:
                number, deadline = unpack_prolonged(body)
                if number == self._number and self._held is not None:
                    self._held.state.lease_deadline = deadline


def _nothing_more(_: Attempt) -> None:
    """The slot is the worker's: it hears of the end by DONE."""

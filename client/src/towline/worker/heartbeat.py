"""Keeping leases: heartbeats from a thread of their own, so that no busy handler loses its lease.

One call speaks for all leases of the worker, which may be of different lengths, as the operator has
set them for the queues. It is sent early enough that two more would fit into what is left of the
lease that needs it first; about every ten seconds in any case, so that the broker keeps
the worker listed and can tell it to be quiet or to stop; and soon after a handler told progress.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from towline.context import CancelReason
from towline.errors import BrokerError, JobCancelled, LeaseLost, TowlineError
from towline.v1.queue_service_pb2 import (
    HeartbeatRequest,
    HeartbeatResult,
    LeaseHeartbeat,
    LeaseOutcome,
    WorkerDirective,
)
from towline.worker.leases import HeldLease, LeaseTable, outcome_name, progress_message
from towline.worker.ledger import Ledger
from towline.worker.link import NOT_ALLOWED, Backoff, Link
from towline.worker.options import USUAL_LEASE, WorkerOptions
from towline.worker.stats import Stats

logger = logging.getLogger("towline.worker")

IDLE_INTERVAL = 10.0
"""Seconds between heartbeats when no lease asks for more."""

MIN_INTERVAL = 0.2
"""Seconds between heartbeats at the least, whatever the broker makes of the leases."""

PROGRESS_INTERVAL = 0.5
"""Seconds between heartbeats when handlers have new progress to tell."""

CALL_TIMEOUT = 5.0
"""Seconds until a heartbeat without an answer is tried again; a third of the shortest lease if that
is less, but no less than one."""

STANDSTILL = 2.0
"""Seconds by which a heartbeat is late before that is told of; a quarter of the shortest lease if
that is more."""

MAX_ITEMS = 1000
MAX_BYTES = 3 * 1024 * 1024
"""Of one call; checkpoints count."""


class Heartbeater:
    """Owns one thread. ``nudge`` and ``send`` may be called from any other."""

    def __init__(
        self,
        link: Link,
        table: LeaseTable,
        ledger: Ledger,
        stats: Stats,
        options: WorkerOptions,
        on_directive: Callable[[WorkerDirective.ValueType], None],
        on_error: Callable[[BaseException], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._link = link
        self._table = table
        self._ledger = ledger
        self._stats = stats
        self._worker_id = options.worker_id
        self._usual_lease = options.lease or USUAL_LEASE
        self._on_directive = on_directive
        self._on_error = on_error
        self._on_crash = on_crash
        # The first is due at once: the broker lists the worker, and the worker knows its broker.
        self._last = time.monotonic() - IDLE_INTERVAL
        self._turned_at = time.monotonic()
        self._planned = math.inf
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._possibly_lost: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="towline-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def nudge(self) -> None:
        """Have the thread look again at when the next heartbeat is due."""
        self._wake.set()

    def took(self, leases: Iterable[HeldLease]) -> None:
        """Have the thread look again, should one of these leases not wait for its next look."""
        due = min(
            (
                held.state.lease_deadline - held.length * 2 / 3
                for held in leases
                if held.state.lease_deadline is not None
            ),
            default=math.inf,
        )
        if due < self._planned:
            self.nudge()

    def close(self, timeout: float) -> None:
        """Send no more, and wait at most ``timeout`` seconds for the thread to end."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._on_crash(error)

    def _serve(self) -> None:
        backoff = Backoff()
        while self._wait_until_due():
            self._show_well()
            try:
                self.send(self._table.live())
            except TowlineError as error:
                self._link.failed("Heartbeat", error, backoff)
                self._tell_possibly_lost()
                self._show_well()
                self._closing.wait(min(backoff.pause(error), self._shortest() / 6))
            else:
                backoff.reset()

    def _show_well(self) -> None:
        self._turned_at = time.monotonic()
        self._ledger.worker_is_well()

    def silent_for(self) -> float:
        """Seconds since a heartbeat was last sent, or tried."""
        return time.monotonic() - self._turned_at

    def _wait_until_due(self) -> bool:
        """Return when the next heartbeat is to be sent; False when no more are."""
        while not self._closing.is_set():
            self._planned = math.inf  # whatever comes in while it is made up has it made up again
            self._planned = due = self._due()
            pause = due - time.monotonic()
            if pause <= 0:
                return True
            if self._wake.wait(pause):
                self._wake.clear()
            self._tell_of_standstill(time.monotonic() - due)
        return False

    def _tell_of_standstill(self, late: float) -> None:
        """Nothing but the whole process can delay this thread for so long."""
        if late > max(STANDSTILL, self._shortest() / 4):
            logger.warning(
                "this process stood still for %.1f s: it was stopped, or a handler was in C code "
                "that does not release the GIL",
                late,
            )

    def _due(self) -> float:
        """When the next heartbeat is to be sent, on the monotonic clock."""
        due = self._last + IDLE_INTERVAL
        for held in self._table.live():
            deadline = held.state.lease_deadline
            if deadline is not None:
                due = min(due, deadline - held.length * 2 / 3)
            if held.state.reports.unsent() is not None:
                due = min(due, self._last + PROGRESS_INTERVAL)
        return max(due, self._last + MIN_INTERVAL)

    def _shortest(self) -> float:
        """Seconds of the shortest lease that is held; of a usual one if there is none."""
        return min((held.length for held in self._table.live()), default=self._usual_lease)

    def send(self, leases: Sequence[HeldLease]) -> None:
        """Send one heartbeat now; raises what calls of Link raise."""
        for chunk in _chunks(leases):
            self._send(chunk)

    def _send(self, items: Sequence[tuple[HeldLease, int, LeaseHeartbeat]]) -> None:
        request = HeartbeatRequest(
            worker_id=self._worker_id, leases=[heartbeat for _, _, heartbeat in items]
        )
        # Before the call: the lease may be shorter than it seems, but never longer.
        sent_at = self._last = time.monotonic()
        timeout = max(1.0, min(CALL_TIMEOUT, self._shortest() / 3))
        response = self._link.heartbeat(request, timeout)
        if len(response.results) != len(items):
            raise BrokerError(f"{len(items)} leases were sent and {len(response.results)} answered")
        for (held, version, _), result in zip(items, response.results, strict=True):
            self._answered(held, version, result, sent_at)
        self._on_directive(response.directive)

    def _answered(
        self, held: HeldLease, version: int, result: HeartbeatResult, sent_at: float
    ) -> None:
        match result.outcome:
            case LeaseOutcome.LEASE_OUTCOME_OK:
                remaining = result.lease_remaining.ToTimedelta().total_seconds()
                self._table.prolonged(held, sent_at + remaining, remaining)
                held.state.reports.sent(version)
            case LeaseOutcome.LEASE_OUTCOME_REJECTED if result.error.reason == NOT_ALLOWED:
                error = LeaseLost(f"job {held.context.id} is not ours: {result.error.message}")
                self._lost(held, CancelReason.LEASE_LOST, error)
            case LeaseOutcome.LEASE_OUTCOME_REJECTED:
                # Only the progress can be wrong: without it the next heartbeat is taken.
                logger.error("the broker refused the progress of %s", held)
                held.state.reports.sent(version)
                self._on_error(
                    BrokerError(f"progress of job {held.context.id}: {result.error.message}")
                )
            case LeaseOutcome.LEASE_OUTCOME_CANCELLED:
                self._lost(held, CancelReason.JOB_CANCELLED, JobCancelled(held.context.id))
            case _:
                name = outcome_name(result.outcome)
                error = LeaseLost(f"the lease of job {held.context.id} is lost: {name}")
                self._lost(held, CancelReason.LEASE_LOST, error)

    def _lost(self, held: HeldLease, reason: CancelReason, error: TowlineError) -> None:
        # A lease whose end is decided may well be unknown by now, through its own Ack.
        if self._table.lost(held):
            logger.warning("%s is no longer ours: %s", held, reason.value)
            self._stats.count_lost()
            held.state.cancellation.cancel(reason)
            self._on_error(error)

    def _tell_possibly_lost(self) -> None:
        """Log each lease, once, that ran past its deadline because no heartbeat got through."""
        overdue = {held.token: held for held in self._table.live() if held.context.possibly_lost}
        for token, held in overdue.items():
            if token not in self._possibly_lost:
                logger.warning("%s may be lost: its lease could not be prolonged", held)
        self._possibly_lost = set(overdue)


def _chunks(
    leases: Iterable[HeldLease],
) -> list[list[tuple[HeldLease, int, LeaseHeartbeat]]]:
    """The leases with the progress that the broker has not got, in calls that are not too large.

    At least one call: without leases it says that the worker is there.
    """
    chunks: list[list[tuple[HeldLease, int, LeaseHeartbeat]]] = [[]]
    size = 0
    for held in leases:
        version, progress = held.state.reports.unsent() or (0, None)
        told = None if progress is None else progress_message(progress)
        heartbeat = LeaseHeartbeat(lease_token=held.token, progress=told)
        size += heartbeat.ByteSize()
        if len(chunks[-1]) == MAX_ITEMS or (chunks[-1] and size > MAX_BYTES):
            chunks.append([])
            size = heartbeat.ByteSize()
        chunks[-1].append((held, version, heartbeat))
    return chunks

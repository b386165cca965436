"""The leases that a worker holds, and what it knows about each of them."""

from __future__ import annotations

import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.duration_pb2 import Duration

from towline.context import (
    DEFAULT_MAX_ATTEMPTS,
    AttemptState,
    JobContext,
    Progress,
    ProgressReports,
)
from towline.status import read_failure, read_progress, read_time
from towline.v1 import job_pb2, queue_service_pb2
from towline.worker.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Settlement: TypeAlias = queue_service_pb2.Ack | queue_service_pb2.Nack
"""What is to be told to the broker about a lease that ends."""


class HeldLease:
    """One lease in the hands of this worker. Only its LeaseTable changes what stands here, but
    for ``begun``.

    timeout     seconds that its attempt may run; None for no limit
    length      seconds that it had when it came in, or was prolonged last
    running     it has a slot, and its handler has not ended, or not begun
    begun       a pool has taken it up
    abandoned   its handler was told to end and does not: it has no slot of the pool any more
    live        as far as is known the broker still takes heartbeats and an outcome for it
    settlement  how it is to end, once that is decided
    tries       how many attempts this worker lets it have, if that is fewer than its policy does
    """

    __slots__ = (
        "_context",
        "abandoned",
        "begun",
        "job",
        "lease",
        "length",
        "live",
        "running",
        "settlement",
        "state",
        "timeout",
        "token",
        "tries",
    )

    def __init__(
        self, lease: job_pb2.Lease, timeout: float | None, length: float, state: AttemptState
    ) -> None:
        self.token = lease.lease_token
        self.lease = lease
        self.job = lease.job
        self.timeout = timeout
        self.length = length
        self.state = state
        self.running = False
        self.begun = False
        self.abandoned = False
        self.live = True
        self.settlement: Settlement | None = None
        self.tries: int | None = None
        self._context: JobContext | None = None

    def get_context(self) -> JobContext:
        """What is known of the job, for its handler and for logs; made when it is asked for."""
        if self._context is None:
            self._context = _context_of(self.lease, self.timeout, self.state)
        return self._context

    @property
    def context(self) -> JobContext:
        return self.get_context()

    @property
    def payload(self) -> bytes:
        return self.job.payload

    @property
    def content_type(self) -> str:
        return self.job.content_type

    def __str__(self) -> str:
        """For logs."""
        return str(self.context)

    def __repr__(self) -> str:
        """Neither token nor payload nor result."""
        return f"<HeldLease id={self.job.id!r} running={self.running} live={self.live}>"


def hold(lease: job_pb2.Lease, timeout: float | None, on_report: Callable[[], None]) -> HeldLease:
    """Take up a lease that has just come in.

    ``timeout`` (seconds) applies to a job that names none itself.
    """
    if lease.job.HasField("timeout"):
        timeout = _seconds(lease.job.timeout)
    remaining = _seconds(lease.lease_remaining)
    state = AttemptState(
        reports=ProgressReports(on_report), lease_deadline=time.monotonic() + remaining
    )
    if lease.HasField("limits"):
        limits = lease.limits
        state.max_result = limits.result_bytes
        state.max_checkpoint = limits.checkpoint_bytes
        state.max_progress_message = limits.progress_message_bytes
    return HeldLease(lease, timeout, remaining, state)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos * 1e-9


def _context_of(lease: job_pb2.Lease, timeout: float | None, state: AttemptState) -> JobContext:
    job = lease.job
    return JobContext(
        id=job.id,
        queue=job.queue,
        type=job.type,
        attempt=lease.attempt,
        max_attempts=job.retry.max_attempts or DEFAULT_MAX_ATTEMPTS,
        lease_token=lease.lease_token,
        headers=MappingProxyType(dict(job.headers)),
        enqueued_at=read_time(lease.enqueued_at) if lease.HasField("enqueued_at") else None,
        timeout=timeout,
        last_failure=read_failure(lease.last_failure) if lease.HasField("last_failure") else None,
        last_progress=(
            read_progress(lease.last_progress) if lease.HasField("last_progress") else None
        ),
        state=state,
    )


def progress_message(progress: Progress) -> job_pb2.Progress:
    """What a handler told, as the broker is told."""
    return job_pb2.Progress(
        fraction=progress.fraction, message=progress.message, checkpoint=progress.checkpoint
    )


def outcome_name(outcome: queue_service_pb2.LeaseOutcome.ValueType) -> str:
    """For messages; a newer broker may answer what this SDK has no name for."""
    known = queue_service_pb2.LeaseOutcome.DESCRIPTOR.values_by_number.get(outcome)
    return str(outcome) if known is None else str(known.name).removeprefix("LEASE_OUTCOME_")


class LeaseTable:
    """Every lease whose handler runs or which is not settled yet. Safe from any thread.

    The live ones stand in the ``ledger`` as well, for the guardian.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._leases: dict[str, HeldLease] = {}
        self._abandoned = 0

    def add(self, leases: Iterable[HeldLease]) -> list[HeldLease]:
        """Return those that the table did not have already."""
        added = []
        with self._lock:
            for held in leases:
                if held.token not in self._leases:
                    self._leases[held.token] = held
                    added.append(held)
            self._ledger.add_all(
                (held.token, held.state.lease_deadline, held.length, held.timeout) for held in added
            )
        return added

    def started(self, leases: Iterable[HeldLease]) -> None:
        """Note that these have slots now."""
        with self._lock:
            for held in leases:
                held.running = True

    def prolonged(self, held: HeldLease, deadline: float, length: float) -> None:
        held.length = length
        held.state.lease_deadline = deadline
        self._ledger.prolong(held.token, deadline, length)

    def settle(self, held: HeldLease, settlement: Settlement) -> bool:
        """Decide how the lease ends. False when that was decided before, or the lease is lost."""
        with self._lock:
            if not held.live or held.settlement is not None:
                return False
            held.settlement = settlement
            return True

    def settle_otherwise(self, held: HeldLease, settlement: Settlement) -> None:
        """Change the decision, after the broker has refused it."""
        with self._lock:
            held.settlement = settlement

    def lost(self, held: HeldLease) -> bool:
        """Note that the lease is no longer ours. False when it was settled or lost before."""
        with self._lock:
            if not held.live or held.settlement is not None:
                return False
            held.live = False
            self._forget(held)
            self._ledger.remove(held.token)
            return True

    def settled(self, leases: Sequence[HeldLease]) -> None:
        """Note that the broker has answered their settlements, or never will."""
        with self._lock:
            for held in leases:
                held.live = False
                self._forget(held)
            self._ledger.remove_all(held.token for held in leases)

    def abandon(self, held: HeldLease) -> bool:
        """Give its slot to other jobs. False when its handler has ended meanwhile."""
        with self._lock:
            if not held.running or held.abandoned:
                return False
            held.abandoned = True
            self._abandoned += 1
            return True

    def ended(self, held: HeldLease) -> bool:
        """Note that the handler is over. False when it had been abandoned."""
        with self._lock:
            abandoned = held.abandoned
            self._abandoned -= abandoned
            held.running = held.abandoned = False
            self._forget(held)
            return not abandoned

    def _forget(self, held: HeldLease) -> None:
        if not held.live and not held.running:
            self._leases.pop(held.token, None)

    def live(self) -> list[HeldLease]:
        with self._lock:
            return [held for held in self._leases.values() if held.live]

    def running(self) -> list[HeldLease]:
        """Those whose handlers have a slot of the pool."""
        with self._lock:
            return [held for held in self._leases.values() if held.running and not held.abandoned]

    def not_begun(self) -> list[HeldLease]:
        """Those that wait for the pool to take them up."""
        with self._lock:
            return [
                held for held in self._leases.values() if held.live and held.running > held.begun
            ]

    @property
    def abandoned(self) -> int:
        """How many handlers were told to end, do not, and have no slot any more."""
        return self._abandoned

    def unsettled(self) -> list[HeldLease]:
        """Live leases about whose end nothing is decided."""
        with self._lock:
            return [held for held in self._leases.values() if held.live and not held.settlement]

    def room(self, most: int) -> int:
        """How many more leases may be taken of ``most`` that are held at a time.

        As many outcomes again may be on their way to the broker meanwhile: beyond that it does not
        take what it is told, and should not hand out more.
        """
        with self._lock:
            return max(0, 2 * most - (len(self._leases) - self._abandoned))

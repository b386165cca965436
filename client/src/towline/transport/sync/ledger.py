"""The jobs of a client without a broker, and what becomes of them by the rules of the contract.

It holds states and no policy of its own: how an attempt ends is decided by the worker's Attempt,
and when another one follows by the job's retry policy. Nothing here runs a job or sleeps.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from towline.context import DEFAULT_MAX_ATTEMPTS
from towline.errors import NotFound
from towline.transport.sync.backoff import retry_delay
from towline.transport.sync.counting import Totals
from towline.v1 import job_pb2
from towline.v1.admin_service_pb2 import StatsResponse
from towline.v1.job_pb2 import DeadReason, JobInfo, JobState
from towline.v1.queue_service_pb2 import Ack, CancelOutcome, Nack, PushOutcome, PushResult
from towline.worker.leases import HeldLease, Settlement, hold, progress_message

MAX_JOBS = 10_000
"""Jobs that are remembered; beyond that those that ended longest ago are forgotten."""

MAX_RELEASES = 10
"""Times that a job is run again after it was released: nothing changes in between, unless it is
made to by the handler itself."""

WORKER_ID = "sync"

_LEASE = timedelta(hours=12)
"""Nobody else can take the job meanwhile."""

_ENDED = frozenset(
    {JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_DEAD, JobState.JOB_STATE_CANCELLED}
)


@dataclass(eq=False)
class Entry:
    """One job.

    ``thread`` is what runs it, now or next; 0 if nothing will. ``delays`` are the seconds that it
    would have waited before each of its attempts.
    """

    info: JobInfo
    pushed_at: float
    thread: int
    delays: list[float] = field(default_factory=list)
    held: HeldLease | None = None

    @property
    def job(self) -> job_pb2.Job:
        return self.info.job

    @property
    def ended(self) -> bool:
        return self.info.state in _ENDED

    def holds_key(self) -> bool:
        if self.info.state == JobState.JOB_STATE_CANCELLED:
            return False
        if self.job.HasField("unique_for"):
            unique_for = self.job.unique_for.ToTimedelta().total_seconds()
            return time.monotonic() < self.pushed_at + unique_for
        return not self.ended


class Ledger:
    """Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._keys: dict[tuple[str, str], Entry] = {}
        self._totals = Totals()

    # What a producer does

    def push(self, jobs: Sequence[job_pb2.Job]) -> list[PushResult]:
        """Take jobs in."""
        with self._changed:
            return [self._push(job) for job in jobs]

    def _push(self, job: job_pb2.Job) -> PushResult:
        known = self._entries.get(job.id)
        if known is None and job.unique_key:
            holder = self._keys.get((job.queue, job.unique_key))
            known = holder if holder is not None and holder.holds_key() else None
        if known is not None:
            return PushResult(job_id=known.job.id, outcome=PushOutcome.PUSH_OUTCOME_EXISTING)
        # As bytes, so that the job is what a worker would get, and nobody can change it any more.
        info = JobInfo(job=job_pb2.Job.FromString(job.SerializeToString()))
        info.enqueued_at.GetCurrentTime()
        entry = self._entries[job.id] = Entry(info, time.monotonic(), threading.get_ident())
        self._totals.count(job, "pushed")
        if job.unique_key:
            self._keys[job.queue, job.unique_key] = entry
        self._wait(entry, first_delay(job))
        self._forget()
        return PushResult(job_id=job.id, outcome=PushOutcome.PUSH_OUTCOME_CREATED)

    def get(self, job_id: str) -> JobInfo:
        """Return a copy. Raises NotFound."""
        with self._changed:
            return _copy(self._entry(job_id).info)

    def jobs(self) -> list[JobInfo]:
        """Copies, in the order in which they were pushed."""
        with self._changed:
            return [_copy(entry.info) for entry in self._entries.values()]

    def stats(self, queues: Sequence[str]) -> StatsResponse:
        """Return the figures of these queues, or of all. Raises NotFound."""
        with self._changed:
            return self._totals.report((entry.info for entry in self._entries.values()), queues)

    def delays(self, job_id: str) -> list[float]:
        """The seconds before each attempt that was made or is to be made. Raises NotFound."""
        with self._changed:
            return list(self._entry(job_id).delays)

    def wait(self, job_id: str, timeout: float) -> JobInfo | None:
        """Return the job once it has ended, or as it stands after ``timeout`` seconds.

        None if it cannot end: nothing runs it, or what runs it is the caller. Raises NotFound.
        """
        with self._changed:
            entry = self._entry(job_id)
            if not entry.ended and entry.thread in (0, threading.get_ident()):
                return None
            self._changed.wait_for(lambda: entry.ended or not entry.thread, timeout)
            return _copy(entry.info)

    def runs(self, job_id: str) -> bool:
        """Whether an attempt runs or is to follow. Raises NotFound."""
        with self._changed:
            return self._entry(job_id).thread != 0

    def cancel(self, job_id: str) -> CancelOutcome.ValueType:
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is None:
                return CancelOutcome.CANCEL_OUTCOME_NOT_FOUND
            if entry.ended and entry.info.state != JobState.JOB_STATE_CANCELLED:
                return CancelOutcome.CANCEL_OUTCOME_ALREADY_ENDED
            if not entry.ended:
                self._totals.count(entry.job, "cancelled")
                self._end(entry, JobState.JOB_STATE_CANCELLED)
            return CancelOutcome.CANCEL_OUTCOME_CANCELLED

    def held(self, job_id: str) -> HeldLease | None:
        """The lease of the attempt that runs, if one does."""
        with self._changed:
            entry = self._entries.get(job_id)
            return None if entry is None else entry.held

    # What a worker does

    def lease(self, job_id: str, timeout: float | None) -> HeldLease | None:
        """Begin the next attempt. None when there is to be none.

        ``timeout`` (seconds) is that of a job that names none itself.
        """
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is None or entry.ended or entry.held is not None:
                return None
            info = entry.info
            if info.attempt == 0 and _is_late(entry):
                self._die(entry, DeadReason.DEAD_REASON_EXPIRED)
                return None
            self._totals.count(info.job, "started")
            info.state = JobState.JOB_STATE_LEASED
            info.attempt += 1
            info.worker_id = WORKER_ID
            info.started_at.GetCurrentTime()
            info.ClearField("available_at")
            entry.held = self._hold(entry, timeout)
            return entry.held

    def _hold(self, entry: Entry, timeout: float | None) -> HeldLease:
        info = entry.info
        lease = job_pb2.Lease(
            lease_token=str(uuid.uuid4()),
            job=info.job,
            attempt=info.attempt,
            enqueued_at=info.enqueued_at,
            last_failure=info.last_failure if info.HasField("last_failure") else None,
            last_progress=info.progress if info.HasField("progress") else None,
        )
        lease.lease_remaining.FromTimedelta(_LEASE)
        return hold(lease, timeout, lambda: self._take_progress(entry))

    def _take_progress(self, entry: Entry) -> None:
        with self._changed:
            unsent = None if entry.held is None else entry.held.state.reports.unsent()
            if entry.held is None or unsent is None:
                return
            version, progress = unsent
            earlier = entry.info.progress.checkpoint
            entry.info.progress.CopyFrom(progress_message(progress))
            entry.info.progress.checkpoint = progress.checkpoint or earlier
            entry.held.state.reports.sent(version)

    def settle(self, held: HeldLease, settlement: Settlement) -> bool:
        """Record how an attempt ended. False when it was settled before, or its job cancelled."""
        with self._changed:
            entry = self._entries.get(held.context.id)
            if entry is None or entry.held is not held or entry.ended:
                return False
            entry.held = None
            if isinstance(settlement, Ack):
                entry.info.result = settlement.result
                self._totals.count(entry.job, "completed")
                self._end(entry, JobState.JOB_STATE_SUCCEEDED)
            else:
                self._give_back(entry, settlement)
            return True

    def _give_back(self, entry: Entry, nack: Nack) -> None:
        info = entry.info
        if nack.HasField("failure"):
            info.last_failure.CopyFrom(nack.failure)
            info.last_failure.failed_at.GetCurrentTime()
        action = nack.WhichOneof("action")
        self._totals.count(info.job, "released" if action == "release" else "failed")
        if action == "release":
            info.attempt -= 1
            info.releases += 1
            self._wait(entry, nack.release.delay.ToTimedelta().total_seconds())
        elif action == "dead_letter":
            self._die(entry, DeadReason.DEAD_REASON_REJECTED)
        elif info.attempt >= (info.job.retry.max_attempts or DEFAULT_MAX_ATTEMPTS):
            self._die(entry, DeadReason.DEAD_REASON_ATTEMPTS_EXHAUSTED)
        else:
            self._totals.count(info.job, "retried")
            if action == "retry_after":
                self._wait(entry, nack.retry_after.ToTimedelta().total_seconds())
            else:
                self._wait(entry, retry_delay(info.job.retry, info.attempt))

    def abandon(self, job_id: str) -> None:
        """Note that nothing runs the job any more: it has ended, or stays as it is."""
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is not None:
                entry.thread = 0
                self._changed.notify_all()

    def next_delay(self, job_id: str) -> float | None:
        """The seconds before the attempt that is to come; None if none is."""
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is None or entry.ended or entry.info.releases > MAX_RELEASES:
                return None
            return entry.delays[-1]

    # How states change

    def _wait(self, entry: Entry, delay: float) -> None:
        info = entry.info
        info.state = JobState.JOB_STATE_SCHEDULED if delay else JobState.JOB_STATE_READY
        info.ClearField("worker_id")
        info.available_at.GetCurrentTime()
        info.available_at.FromNanoseconds(info.available_at.ToNanoseconds() + round(delay * 1e9))
        entry.delays.append(delay)

    def _die(self, entry: Entry, reason: DeadReason.ValueType) -> None:
        entry.info.dead_reason = reason
        self._totals.count(entry.job, "dead_lettered")
        self._end(entry, JobState.JOB_STATE_DEAD)

    def _end(self, entry: Entry, state: JobState.ValueType) -> None:
        entry.info.state = state
        entry.info.ClearField("worker_id")
        entry.info.ClearField("available_at")
        entry.info.finished_at.GetCurrentTime()
        self._changed.notify_all()

    def _entry(self, job_id: str) -> Entry:
        entry = self._entries.get(job_id)
        if entry is None:
            raise NotFound(
                f"no job {job_id} is known here", code="NOT_FOUND", reason="JOB_NOT_FOUND"
            )
        return entry

    def _forget(self) -> None:
        if len(self._entries) <= MAX_JOBS:
            return
        oldest = next((entry for entry in self._entries.values() if entry.ended), None)
        if oldest is not None:
            del self._entries[oldest.job.id]
            key = oldest.job.queue, oldest.job.unique_key
            if self._keys.get(key) is oldest:
                del self._keys[key]


def first_delay(job: job_pb2.Job) -> float:
    """Return the seconds from now to when a job may start."""
    if job.WhichOneof("start") == "run_at":
        return max(0.0, job.run_at.ToNanoseconds() / 1e9 - time.time())
    return job.delay.ToTimedelta().total_seconds()


def _is_late(entry: Entry) -> bool:
    """Whether a worker would have come to it after it expired."""
    if not entry.job.HasField("expires_in"):
        return False
    return sum(entry.delays) >= entry.job.expires_in.ToTimedelta().total_seconds()


def _copy(info: JobInfo) -> JobInfo:
    copy = JobInfo()
    copy.CopyFrom(info)
    return copy

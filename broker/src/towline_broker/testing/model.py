"""What a driver owes, once more in the plainest way: a list of jobs, searched each time.

It shares nothing with any driver but the domain types. Where the interface leaves a choice open
(which waiting jobs a limited purge takes, which of several jobs that died at the same time comes
first), the model is told what the driver chose.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from towline_broker.domain.jobs import (
    DeadReason,
    JobState,
    Leased,
    LeaseRef,
    NewJob,
    Settlement,
    Totals,
)
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    AckItem,
    CancelOutcome,
    DeadFilter,
    Extended,
    ExtendItem,
    NackItem,
    PushBatch,
    PushOutcome,
    PushResult,
    ReserveRequest,
    Settled,
)
from towline_broker.testing.model_job import LIVE, WAITING, ModelJob, Remembered


@dataclass
class Model:
    now: Micros
    window: Micros
    #: In the order of their push.
    jobs: list[ModelJob] = field(default_factory=list)
    ended_jobs: dict[str, Remembered] = field(default_factory=dict)
    ended_leases: dict[LeaseRef, tuple[Settlement, Micros]] = field(default_factory=dict)
    #: (queue, key) to holder and time.
    keys: dict[tuple[str, str], tuple[str, Micros | None]] = field(default_factory=dict)
    paused: dict[str, bool] = field(default_factory=dict)
    moving_to: dict[str, str] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    #: Queues in which a job that came from another store may stand behind a younger one.
    mixed: set[str] = field(default_factory=set)
    totals: dict[tuple[str, str], Totals] = field(default_factory=dict)
    places: int = 0
    told_ready: Counter[str] = field(default_factory=Counter)
    told_ended: list[str] = field(default_factory=list)

    def find(self, job_id: str) -> ModelJob | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    def those(self, *states: JobState, queue: str | None = None) -> list[ModelJob]:
        return [
            job
            for job in self.jobs
            if job.state in states and (queue is None or job.new.queue == queue)
        ]

    def totals_of(self, queue: str, type_: str) -> Totals:
        return self.totals.setdefault((queue, type_), Totals())

    def count(self, job: ModelJob) -> Totals:
        return self.totals_of(job.new.queue, job.new.type)

    # --- producers ----------------------------------------------------------------------------

    def push(self, batch: PushBatch) -> list[PushResult] | None:
        """None: refused as a whole, because a queue is full or has moved."""
        if any(new.queue in self.moved for new in batch.jobs):
            return None
        if batch.all_or_nothing and self._would_overflow(batch):
            return None
        return [self._push(new, batch) for new in batch.jobs]

    def _would_overflow(self, batch: PushBatch) -> bool:
        trial = Model(self.now, self.window, list(self.jobs), self.ended_jobs, {}, dict(self.keys))
        results = [trial._push(new, batch) for new in batch.jobs]
        return any(result.outcome is PushOutcome.QUEUE_FULL for result in results)

    def _push(self, new: NewJob, batch: PushBatch) -> PushResult:
        if self.find(new.id) is not None or new.id in self.ended_jobs:
            return PushResult(new.id, PushOutcome.EXISTING)
        if new.unique_key is not None:
            holder, until = self.keys.get((new.queue, new.unique_key), (None, None))
            if holder is not None and (until is None or until > self.now):
                return PushResult(holder, PushOutcome.EXISTING)
        limit = batch.max_depth.get(new.queue)
        if limit is not None and len(self.those(*LIVE, queue=new.queue)) >= limit:
            return PushResult(new.id, PushOutcome.QUEUE_FULL)
        job = ModelJob(new, self.now, new.expires_at)
        self.jobs.append(job)
        self.paused.setdefault(new.queue, False)
        self.count(job).pushed += 1
        if new.unique_key is not None:
            self.keys[new.queue, new.unique_key] = (new.id, new.unique_until)
        self._wait(job, new.due_at)
        return PushResult(new.id, PushOutcome.CREATED)

    def cancel(self, job_id: str) -> CancelOutcome:
        job = self.find(job_id)
        remembered = self.ended_jobs.get(job_id)
        if job is None and remembered is None:
            return CancelOutcome.NOT_FOUND
        state = job.state if job is not None else remembered and remembered.state
        if state is JobState.CANCELLED:
            return CancelOutcome.CANCELLED
        if job is None or job.state not in LIVE:
            return CancelOutcome.ALREADY_ENDED
        if job.state is JobState.LEASED:
            self._end_lease(job, Settlement.CANCELLED)
        self.count(job).cancelled += 1
        self._finish(job, JobState.CANCELLED)
        return CancelOutcome.CANCELLED

    # --- workers ------------------------------------------------------------------------------

    def reserve(self, request: ReserveRequest, got: Sequence[str]) -> list[Leased]:
        """``got``: the ids that the driver granted. Among jobs of equal place it may choose."""
        held = [job for job in self.those(JobState.LEASED) if request.request_id == job.request_id]
        if request.request_id and held:
            return [job.leased() for job in held]
        granted: list[Leased] = []
        for queue in request.queues:
            while self._has_room(request, granted) and self.gives(queue):
                ready = self.those(JobState.READY, queue=queue)
                if not ready:
                    break
                first = min((-job.new.priority, job.place) for job in ready)
                able = [job for job in ready if (-job.new.priority, job.place) == first]
                wanted = got[len(granted)] if len(granted) < len(got) else ""
                job = next((job for job in able if job.id == wanted), able[0])
                if self._too_old(job):
                    self._bury(job, DeadReason.EXPIRED)
                    continue
                self._lease(job, request)
                granted.append(job.leased())
        return granted

    def gives(self, queue: str) -> bool:
        return not self.paused.get(queue, True) and queue not in self.moving_to

    @staticmethod
    def _has_room(request: ReserveRequest, granted: Sequence[Leased]) -> bool:
        size = sum(len(leased.envelope) for leased in granted)
        return len(granted) < request.max_jobs and (
            request.max_bytes is None or size < request.max_bytes
        )

    def _lease(self, job: ModelJob, request: ReserveRequest) -> None:
        job.state = JobState.LEASED
        job.attempt += 1
        job.started_at = self.now
        job.grant = request.grant
        job.lease_length = request.lease
        job.lease_until = self.now + request.lease
        job.worker_id = request.worker_id
        job.request_id = request.request_id
        self.count(job).started += 1

    def live_lease(self, ref: LeaseRef) -> ModelJob | None:
        return next((job for job in self.those(JobState.LEASED) if job.ref == ref), None)

    def before(self, ref: LeaseRef) -> Settlement | None:
        return self.ended_leases[ref][0] if ref in self.ended_leases else None

    def ack(self, item: AckItem) -> Settled:
        job = self.live_lease(item.ref)
        if job is None:
            return Settled(False, self.before(item.ref))
        self._end_lease(job, Settlement.ACKED)
        self.count(job).completed += 1
        job.result = item.result
        self._finish(job, JobState.SUCCEEDED)
        return Settled(True, None, job.new.type, self.now - (job.started_at or 0))

    def nack(self, item: NackItem) -> Settled:
        job = self.live_lease(item.ref)
        if job is None:
            return Settled(False, self.before(item.ref))
        if item.settlement is Settlement.LOST and job.lease_until > self.now:
            return Settled(False)
        self._end_lease(job, item.settlement)
        totals = self.count(job)
        if item.settlement is Settlement.RELEASED:
            totals.released += 1
            job.attempt -= 1
            job.releases += 1
        else:
            totals.failed += 1
            totals.lease_expired += item.settlement is Settlement.LOST
            totals.retried += item.dead_reason is None
        job.failure = item.failure or job.failure
        if item.dead_reason is not None:
            self._bury(job, item.dead_reason)
        else:
            self._wait(job, item.due_at)
        return Settled(True, None, job.new.type, self.now - (job.started_at or 0))

    def extend(self, item: ExtendItem) -> Extended:
        job = self.live_lease(item.ref)
        if job is None:
            return Extended(None, self.before(item.ref))
        job.lease_until = self.now + (job.lease_length if item.lease is None else item.lease)
        if item.progress is not None:
            job.progress = item.progress.merged_into(job.progress)
        return Extended(job.lease_until)

    # --- upkeep -------------------------------------------------------------------------------

    def promote(self, limit: int) -> int:
        due = [job for job in self.those(JobState.SCHEDULED) if job.available_at <= self.now]
        due = sorted(due, key=lambda job: (job.available_at, job.place))[:limit]
        for job in due:
            self._wait(job, None)
        return len(due)

    def _too_old(self, job: ModelJob) -> bool:
        return job.attempt == 0 and job.expires_at is not None and job.expires_at <= self.now

    def expirable(self) -> list[ModelJob]:
        return [job for job in self.those(*WAITING) if self._too_old(job)]

    def expire(self, job_ids: Iterable[str]) -> None:
        for job in self._named(job_ids):
            self._bury(job, DeadReason.EXPIRED)

    def expired_leases(self) -> list[ModelJob]:
        past = [job for job in self.those(JobState.LEASED) if job.lease_until <= self.now]
        return sorted(past, key=lambda job: job.lease_until)

    def forget(self) -> None:
        for job in self.those(JobState.SUCCEEDED, JobState.CANCELLED):
            if (job.finished_at or 0) + job.new.retention <= self.now:
                self.jobs.remove(job)
        self.ended_jobs = {k: v for k, v in self.ended_jobs.items() if v.until > self.now}
        self.ended_leases = {k: v for k, v in self.ended_leases.items() if v[1] > self.now}
        self.keys = {k: v for k, v in self.keys.items() if v[1] is None or v[1] > self.now}

    def next_due(self) -> Micros | None:
        times = [job.available_at for job in self.those(JobState.SCHEDULED)]
        times += [job.lease_until for job in self.those(JobState.LEASED)]
        times += [
            job.expires_at
            for job in self.those(*WAITING)
            if job.expires_at is not None and job.attempt == 0
        ]
        return min(times, default=None)

    def renew_leases(self) -> None:
        for job in self.those(JobState.LEASED):
            job.lease_until = max(job.lease_until, self.now + job.lease_length)

    # --- operators ----------------------------------------------------------------------------

    def dead(self, ids: Sequence[str] | None, wanted: DeadFilter) -> list[ModelJob]:
        found = [
            job
            for job in self.those(JobState.DEAD)
            if (
                job.id in ids
                if ids is not None
                else wanted.queue in (None, job.new.queue)
                and wanted.type in (None, job.new.type)
                and wanted.reason in (None, job.dead_reason)
                and (wanted.dead_after is None or (job.finished_at or 0) >= wanted.dead_after)
                and (wanted.dead_before is None or (job.finished_at or 0) < wanted.dead_before)
            )
        ]
        return sorted(found, key=lambda job: job.finished_at or 0)

    def requeue(self, job_ids: Iterable[str]) -> None:
        place = 0
        died: Micros | None = None
        for job in sorted(self._named(job_ids), key=lambda job: job.finished_at or 0):
            if job.finished_at != died:
                self.places += 1
                place, died = self.places, job.finished_at
            self.count(job).requeued += 1
            job.attempt = 0
            job.expires_at = job.finished_at = job.dead_reason = None
            self._wait(job, None)
            # Those that died at the same time come in any order.
            job.place = place

    def discard(self, job_ids: Iterable[str]) -> None:
        for job in self._named(job_ids):
            self.jobs.remove(job)
            self._remember(job, JobState.DEAD, job.finished_at or 0, b"")
            self._free_key(job, even_if_timed=True)

    def purge(self, job_ids: Iterable[str]) -> None:
        for job in self._named(job_ids):
            self.count(job).cancelled += 1
            self.jobs.remove(job)
            self._remember(job, JobState.CANCELLED, self.now, b"")
            self._free_key(job, even_if_timed=True)
            self.told_ended.append(job.id)

    def set_paused(self, queue: str, paused: bool) -> bool:
        changed = self.paused[queue] != paused
        self.paused[queue] = paused
        if changed and not paused:
            self.told_ready[queue] += len(self.those(JobState.READY, queue=queue))
        return changed

    def drop(self, job: ModelJob) -> None:
        self.jobs.remove(job)
        self.ended_jobs.pop(job.id, None)
        self._free_key(job, even_if_timed=True)

    # --- steps --------------------------------------------------------------------------------

    def _named(self, job_ids: Iterable[str]) -> list[ModelJob]:
        wanted = set(job_ids)
        return [job for job in self.jobs if job.id in wanted]

    def _wait(self, job: ModelJob, due_at: Micros | None) -> None:
        self.places += 1
        job.place = self.places
        if due_at is not None and due_at > self.now:
            job.state, job.available_at = JobState.SCHEDULED, due_at
        else:
            job.state, job.available_at, job.ready_at = JobState.READY, self.now, self.now
            self.told_ready[job.new.queue] += 1

    def _end_lease(self, job: ModelJob, settlement: Settlement) -> None:
        self.ended_leases[job.ref] = (settlement, self.now + self.window)

    def _bury(self, job: ModelJob, reason: DeadReason) -> None:
        job.state, job.dead_reason, job.finished_at = JobState.DEAD, reason, self.now
        self.count(job).dead_lettered += 1
        self._free_key(job, even_if_timed=False)
        self.told_ended.append(job.id)

    def _finish(self, job: ModelJob, state: JobState) -> None:
        job.state, job.finished_at = state, self.now
        if job.new.retention == 0:
            self.jobs.remove(job)
        self._remember(job, state, self.now, job.result)
        self._free_key(job, even_if_timed=state is JobState.CANCELLED)
        self.told_ended.append(job.id)

    def _remember(self, job: ModelJob, state: JobState, at: Micros, result: bytes) -> None:
        until = self.now + self.window
        self.ended_jobs[job.id] = Remembered(job.new.queue, state, result, at, until)

    def _free_key(self, job: ModelJob, *, even_if_timed: bool) -> None:
        name = (job.new.queue, job.new.unique_key or "")
        holder, until = self.keys.get(name, (None, None))
        if holder == job.id and (until is None or even_if_timed):
            del self.keys[name]

"""Granting leases, extending and ending them: the part of the engine that works with leases.

The jobs of one call mostly have their queue, their type and their lease in common. What is the same
for all of them is done once.
"""

import sys
from collections.abc import Sequence

from towline_broker.domain.jobs import (
    DeadReason,
    JobState,
    Leased,
    LeaseRecord,
    LeaseRef,
    Settlement,
)
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    ExtendBatch,
    Extended,
    ExtendItem,
    NackBatch,
    NackItem,
    ReserveRequest,
    Settled,
)
from towline_broker.drivers.memory.alike import alike
from towline_broker.drivers.memory.changes import FAILURE, PROGRESS, RESULT
from towline_broker.drivers.memory.queue import Queue
from towline_broker.drivers.memory.records import Job, Lease, all_leased
from towline_broker.drivers.memory.state import State
from towline_broker.drivers.memory.successes import Successes


class Leasing:
    """The verbs of :class:`towline_broker.drivers.interface.LeaseStore`, on a state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def reserve(self, request: ReserveRequest) -> list[Leased]:
        if request.request_id:
            held = self._state.leases.requests.get(request.request_id)
            if held:
                leased = [(job, job.lease) for job in held.values()]
                return [one for job, lease in leased if lease for one in all_leased([job], lease)]
        granted: list[Leased] = []
        room = sys.maxsize if request.max_bytes is None else request.max_bytes
        for name in request.queues:
            queue = self._state.queues.get(name)
            if queue is not None and not queue.paused and not queue.moving_to:
                room = self._reserve_from(queue, request, granted, room)
        return granted

    def _reserve_from(
        self, queue: Queue, request: ReserveRequest, granted: list[Leased], room: int
    ) -> int:
        """Returns for how many further bytes there is room."""
        now = request.now
        lease = Lease(
            request.grant,
            now,
            now + request.lease,
            request.lease,
            request.worker_id,
            request.request_id,
        )
        while len(granted) < request.max_jobs and room > 0:
            front = queue.ready.front(request.max_jobs - len(granted))
            if not front:
                break
            fitting, room = self._fitting(front, now, room)
            if fitting:
                queue.ready.remove_front(fitting)
                self._state.grant(fitting, lease)
                granted += all_leased(fitting, lease)
        return room

    def _fitting(self, front: list[Job], now: Micros, room: int) -> tuple[list[Job], int]:
        """Those to be granted, and for how many further bytes there is room then. The first one
        that is too large is among them. Jobs that have expired are buried."""
        size = sum([len(job.envelope) for job in front])
        if size < room and [job.expires_at for job in front].count(None) == len(front):
            return front, room - size
        fitting: list[Job] = []
        for job in front:
            if room <= 0:
                break
            if job.expires_at is not None and job.attempt == 0 and job.expires_at <= now:
                self._state.bury(job, DeadReason.EXPIRED, now)
                continue
            fitting.append(job)
            room -= len(job.envelope)
        return fitting, room

    def leases(self, refs: Sequence[LeaseRef]) -> list[LeaseRecord | None]:
        records: list[LeaseRecord | None] = []
        for ref in refs:
            held = self._held(ref)
            records.append(held[0].lease_record(held[1]) if held else None)
        return records

    def _held(self, ref: LeaseRef) -> tuple[Job, Lease] | None:
        """The job that is leased by exactly this grant, and its lease."""
        job = self._state.jobs.get(ref.job_id)
        if job is None or job.lease is None:
            return None
        if job.lease.grant != ref.grant or job.queue != ref.queue:
            return None
        return job, job.lease

    def ack(self, batch: AckBatch) -> list[Settled]:
        successes = Successes(self._state, batch.now, batch.remember_until)
        if len(batch.acks) == 1:
            settled = [self._ack(batch.acks[0], batch, successes)]
        else:
            settled = self._ack_all(batch, successes)
        successes.finish()
        return settled

    def _ack_all(self, batch: AckBatch, successes: Successes) -> list[Settled]:
        """Acks of several calls may have come together, each mostly of the jobs of one lease."""
        settled: list[Settled] = []
        grants = [(item.ref.queue, item.ref.grant) for item in batch.acks]
        for (queue, grant), acks in alike(batch.acks, grants):
            together = self._ack_together(queue, grant, acks, successes)
            if together is None:
                together = [self._ack(item, batch, successes) for item in acks]
            settled += together
        return settled

    def _ack_together(
        self, queue: str, grant: str, acks: Sequence[AckItem], successes: Successes
    ) -> list[Settled] | None:
        """Of this grant: jobs of one lease and one type that have nothing else to be told or kept,
        each named once; None: they are something else, or fewer than two."""
        if len(acks) < 2:
            return None
        ids = [item.ref.job_id for item in acks]
        if len(set(ids)) < len(ids):
            return None
        jobs: list[Job] = []
        lease, tally = None, None
        for job in self._state.jobs.get_all(ids):
            if job is None or job.retention or job.unique_key is not None:
                return None
            if job.lease is not lease or job.tally is not tally:
                if jobs:
                    return None
                lease, tally = job.lease, job.tally
            jobs.append(job)
        if lease is None or tally is None or lease.grant != grant or tally.queue != queue:
            return None
        if [item.result for item in acks].count(b"") < len(acks):
            return None
        return successes.add_all(jobs, ids, lease, tally)

    def _ack(self, item: AckItem, batch: AckBatch, successes: Successes) -> Settled:
        held = self._held(item.ref)
        if held is None:
            return self._settled_before(item.ref)
        job, lease = held
        if job.retention == 0 and job.unique_key is None:
            return successes.add(job, lease, item.result)
        job.tally.totals.completed += 1
        if item.result:
            job.result = item.result
            self._state.resize(job, RESULT)
        self._state.finish(
            job, JobState.SUCCEEDED, batch.now, batch.remember_until, acked=lease.grant
        )
        return Settled(True, type=job.type, elapsed=batch.now - lease.granted_at)

    def nack(self, batch: NackBatch) -> list[Settled]:
        return [self._nack(item, batch) for item in batch.nacks]

    def _nack(self, item: NackItem, batch: NackBatch) -> Settled:
        held = self._held(item.ref)
        if held is None:
            return self._settled_before(item.ref)
        job, lease = held
        if item.settlement is Settlement.LOST and lease.until > batch.now:
            return Settled(False)
        self._state.memory.remember_lease(item.ref, item.settlement, batch.remember_until)
        self._count_nack(job, item)
        if item.failure is not None:
            job.failure = item.failure
            self._state.resize(job, FAILURE)
        if item.dead_reason is not None:
            self._state.bury(job, item.dead_reason, batch.now)
        else:
            self._state.wait(job, batch.now, item.due_at)
        return Settled(True, type=job.type, elapsed=batch.now - lease.granted_at)

    @staticmethod
    def _count_nack(job: Job, item: NackItem) -> None:
        totals = job.tally.totals
        if item.settlement is Settlement.RELEASED:
            job.attempt -= 1
            job.releases += 1
            totals.released += 1
            return
        totals.failed += 1
        totals.lease_expired += item.settlement is Settlement.LOST
        totals.retried += item.dead_reason is None

    def _settled_before(self, ref: LeaseRef) -> Settled:
        return Settled(False, before=self._state.memory.settlement(ref))

    def extend(self, batch: ExtendBatch) -> list[Extended]:
        return [self._extend(item, batch.now) for item in batch.items]

    def _extend(self, item: ExtendItem, now: Micros) -> Extended:
        held = self._held(item.ref)
        if held is None:
            return Extended(None, before=self._state.memory.settlement(item.ref))
        job, lease = held
        until = now + (lease.length if item.lease is None else item.lease)
        self._state.set_lease(job, lease._replace(until=until))
        if item.progress is not None:
            job.progress = item.progress.merged_into(job.progress)
            self._state.resize(job, PROGRESS)
        return Extended(until)

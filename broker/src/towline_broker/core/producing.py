"""Pushing, looking up and cancelling jobs."""

from collections.abc import Sequence

from towline_broker.core.calls import JobRequest
from towline_broker.core.clock import Clock
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.settings import CoreSettings
from towline_broker.core.upkeep import Upkeep
from towline_broker.core.waiting import EndWatch, WaitLimit
from towline_broker.domain.errors import Draining, JobNotFound
from towline_broker.domain.jobs import JobPage, JobRecord, NewJob
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    CancelOutcome,
    CancelRequest,
    Driver,
    JobQuery,
    PushBatch,
    PushResult,
)


class Producing:
    def __init__(
        self,
        driver: Driver,
        clock: Clock,
        settings: CoreSettings,
        owned: OwnedTasks,
        upkeep: Upkeep,
        watch: EndWatch,
        limit: WaitLimit,
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._settings = settings
        self._owned = owned
        self._upkeep = upkeep
        self._watch = watch
        self._limit = limit
        self._draining = False

    async def push(
        self, requests: Sequence[JobRequest], all_or_nothing: bool = True
    ) -> list[PushResult]:
        """Raises Draining, QueueFull (only if ``all_or_nothing``), StoreFull, StoreError."""
        if self._draining:
            raise Draining
        now = self._clock.now()
        jobs = [_to_new_job(request, now) for request in requests]
        batch = PushBatch(
            jobs,
            now,
            all_or_nothing,
            {job.queue: self._settings.max_queue_depth for job in jobs},
        )
        results = await self._owned.run(self._driver.push(batch))
        times = [t for job in jobs for t in (job.due_at, job.expires_at) if t is not None]
        if times:
            self._upkeep.no_later_than(min(times))
        return results

    async def get(self, job_id: str, wait: Micros = 0) -> JobRecord:
        """With ``wait``, holds the answer back until the job has ended or the wait is over.

        Raises JobNotFound, TooManyWaiters, StoreError.
        """
        record = await self._read(job_id)
        if record.state.ended or wait <= 0 or self._draining:
            return record
        with self._limit:
            ended = self._watch.add(job_id)
            timer = self._clock.call_at(self._clock.now() + wait, ended.set)
            try:
                record = await self._read(job_id)
                if record.state.ended:
                    return record
                await ended.wait()
                return await self._read(job_id)
            finally:
                timer.cancel()
                self._watch.remove(job_id, ended)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return await self._owned.run(self._driver.list_jobs(query))

    async def cancel(self, job_ids: Sequence[str]) -> list[CancelOutcome]:
        now = self._clock.now()
        request = CancelRequest(job_ids, now, now + self._settings.settle_memory)
        return await self._owned.run(self._driver.cancel(request))

    def drain(self) -> None:
        """No new jobs from here on; calls that wait for an end are answered as things stand."""
        self._draining = True
        self._watch.wake_all()

    async def _read(self, job_id: str) -> JobRecord:
        record = await self._owned.run(self._driver.get(job_id))
        if record is None:
            raise JobNotFound(job_id)
        return record


def _to_new_job(request: JobRequest, now: Micros) -> NewJob:
    due_at = now + request.delay if request.delay is not None else request.run_at
    expires_in, unique_for = request.expires_in, request.unique_for
    return NewJob(
        id=request.id,
        queue=request.queue,
        type=request.type,
        envelope=request.envelope,
        priority=request.priority,
        due_at=due_at if due_at is not None and due_at > now else None,
        expires_at=None if expires_in is None else now + expires_in,
        retention=request.retention,
        unique_key=request.unique_key,
        unique_until=None if unique_for is None else now + unique_for,
        retry=request.retry,
    )

"""A memory store that cannot do one thing, and says so."""

from collections.abc import Sequence
from typing import Any, NoReturn

from msgspec.structs import replace

from towline_broker.domain.errors import NotSupported
from towline_broker.domain.jobs import JobPage, JobRecord, NewJob
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    CancelOutcome,
    CancelRequest,
    Capabilities,
    CopyPage,
    DeadFilter,
    DeadQuery,
    DeadSelection,
    Driver,
    Feature,
    Handled,
    JobQuery,
    PurgeRequest,
    PushBatch,
    PushResult,
    Standing,
    Transfer,
)
from towline_broker.drivers.memory import Engine, MemoryDriver
from towline_broker.testing import Harness


class LimitedDriver(MemoryDriver):
    def __init__(self, missing: Feature) -> None:
        super().__init__(Engine())
        self.missing = missing

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, missing=frozenset({self.missing}))

    def _refuse(self) -> NoReturn:
        raise NotSupported("limited", self.missing)

    def _refuse_if(self, *features: Feature) -> None:
        if self.missing in features:
            self._refuse()

    async def push(self, batch: PushBatch) -> list[PushResult]:
        if any(_needs(job, self.missing) for job in batch.jobs):
            self._refuse()
        return await super().push(batch)

    async def get(self, job_id: str) -> JobRecord | None:
        self._refuse_if(Feature.LOOKUP)
        return await super().get(job_id)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        self._refuse_if(Feature.LISTING)
        return await super().list_jobs(query)

    async def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        self._refuse_if(Feature.CANCEL)
        return await super().cancel(request)

    async def list_dead(self, query: DeadQuery) -> JobPage:
        self._refuse_if(Feature.DEAD_LETTERS)
        return await super().list_dead(query)

    def _refuse_to_choose(self, selection: DeadSelection) -> None:
        """A store that cannot look at its dead jobs can handle all of a queue only."""
        if selection.ids is not None or selection.filter != DeadFilter(selection.filter.queue):
            self._refuse_if(Feature.DEAD_LETTERS)

    async def count_dead(self, selection: DeadSelection) -> int:
        self._refuse_to_choose(selection)
        return await super().count_dead(selection)

    async def requeue_dead(self, selection: DeadSelection) -> Handled:
        self._refuse_to_choose(selection)
        return await super().requeue_dead(selection)

    async def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        self._refuse_to_choose(selection)
        return await super().discard_dead(selection, remember_until)

    async def purge(self, request: PurgeRequest) -> Handled:
        """Of a store that cannot do it by numbers: all goes, and nobody knows how many."""
        if self.missing is not Feature.PURGE:
            return await super().purge(request)
        await super().purge(replace(request, limit=1_000_000))
        return Handled(0, 0)

    async def seal(self, queue: str, to: str | None) -> None:
        self._refuse_if(Feature.TRANSFER)
        await super().seal(queue, to)

    async def copies(self, limit: int, cursor: str | None = None) -> CopyPage:
        self._refuse_if(Feature.TRANSFER)
        return await super().copies(limit, cursor)

    async def outgoing(self, queue: str, limit: int) -> list[Transfer]:
        self._refuse_if(Feature.TRANSFER)
        return await super().outgoing(queue, limit)

    async def receive(self, transfers: Sequence[Transfer], now: Micros) -> int:
        self._refuse_if(Feature.TRANSFER)
        return await super().receive(transfers, now)

    async def drop(self, queue: str, seen: Sequence[Standing]) -> list[str]:
        self._refuse_if(Feature.TRANSFER)
        return await super().drop(queue, seen)

    async def forward(self, queue: str) -> bool:
        self._refuse_if(Feature.TRANSFER)
        return await super().forward(queue)


def _needs(job: NewJob, feature: Feature) -> bool:
    asked: dict[Feature, Any] = {
        Feature.PRIORITY: job.priority,
        Feature.UNIQUE_KEYS: job.unique_key,
        Feature.EXPIRY: job.expires_at,
        Feature.RETENTION: job.retention,
    }
    return bool(asked.get(feature))


class LimitedHarness(Harness):
    def __init__(self, missing: Feature) -> None:
        self._missing = missing

    def driver(self) -> Driver:
        return LimitedDriver(self._missing)

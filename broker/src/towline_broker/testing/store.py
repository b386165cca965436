"""A driver in the hands of a test: short verbs, a clock that the test moves, and a listener.

After every change the store's own accounts are held against each other.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from towline_broker.domain.jobs import (
    Counts,
    DeadReason,
    Failure,
    JobRecord,
    JobState,
    Leased,
    LeaseRef,
    NewJob,
    Progress,
    Settlement,
)
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    CancelOutcome,
    CancelRequest,
    Copy,
    DeadFilter,
    DeadQuery,
    DeadSelection,
    Driver,
    ExtendBatch,
    Extended,
    ExtendItem,
    Feature,
    Handled,
    JobQuery,
    NackBatch,
    NackItem,
    PurgeRequest,
    PushBatch,
    PushOutcome,
    PushResult,
    ReserveRequest,
    Settled,
    Standing,
    Transfer,
)
from towline_broker.testing import accounts
from towline_broker.testing.factories import LEASE, START, WINDOW
from towline_broker.testing.features import skipping
from towline_broker.testing.harness import Harness
from towline_broker.testing.heard import Heard

#: More than any test stores.
ALL = 1_000_000


class Shared:
    """What the drivers of a test have in common."""

    def __init__(self) -> None:
        self.now = START
        #: A test that comes to what its driver declares as missing is skipped.
        self.skips = False
        #: Queues in which jobs that came from another store may stand behind younger ones.
        self.mixed: set[str] = set()
        self._grants = itertools.count(1)

    def new_grant(self) -> str:
        return f"grant-{next(self._grants)}"


class Store:
    def __init__(self, harness: Harness, shared: Shared | None = None) -> None:
        self._harness = harness
        self._shared = shared or Shared()
        self.heard = Heard()
        self.driver = self._new_driver()

    # --- opening, time ------------------------------------------------------------------------

    @property
    def now(self) -> Micros:
        return self._shared.now

    @now.setter
    def now(self, now: Micros) -> None:
        self._shared.now = now

    def _new_driver(self) -> Driver:
        driver = self._harness.driver()
        return skipping(driver) if self._shared.skips else driver

    def skip_what_is_missing(self) -> None:
        """From here on a test that comes to what the driver declares as missing is skipped."""
        if self.driver.capabilities.missing:
            self._shared.skips = True
            self.driver = skipping(self.driver)

    def peer(self) -> "Store":
        """Another broker's driver on the same store, not yet opened, with a listener of its own.
        Both go by the same time."""
        return Store(self._harness, self._shared)

    def beside(self, harness: Harness) -> "Store":
        """Another store, not yet opened, that goes by the same time."""
        return Store(harness, self._shared)

    async def open(self) -> Micros:
        return await self.driver.open(self.now, self.heard)

    async def close(self) -> None:
        await self.driver.close()

    async def crash(self) -> None:
        await self._harness.crash(self.driver)

    async def reopen(self) -> Micros:
        """Opens the store as after a crash of the broker."""
        await self.crash()
        self.driver = self._new_driver()
        self.heard = Heard()
        seen = await self.open()
        await self.check()
        return seen

    def advance(self, by: Micros) -> Micros:
        self.now += by
        return self.now

    # --- producers ----------------------------------------------------------------------------

    async def push(
        self,
        *jobs: NewJob,
        all_or_nothing: bool = True,
        max_depth: Mapping[str, int] | None = None,
    ) -> list[PushResult]:
        batch = PushBatch(jobs, self.now, all_or_nothing, max_depth or {})
        results = await self.driver.push(batch)
        await self.check()
        return results

    async def create(self, *jobs: NewJob) -> None:
        """Pushes jobs that must be new."""
        for job, result in zip(jobs, await self.push(*jobs), strict=True):
            assert result == PushResult(job.id, PushOutcome.CREATED)

    async def get(self, job_id: str) -> JobRecord:
        record = await self.driver.get(job_id)
        assert record is not None, f"job {job_id} is neither stored nor remembered"
        return record

    async def state(self, job_id: str) -> JobState | None:
        record = await self.driver.get(job_id)
        return None if record is None else record.state

    async def cancel(self, *job_ids: str) -> list[CancelOutcome]:
        request = CancelRequest(job_ids, self.now, self.now + WINDOW)
        outcomes = await self.driver.cancel(request)
        await self.check()
        return outcomes

    # --- workers ------------------------------------------------------------------------------

    def new_grant(self) -> str:
        return self._shared.new_grant()

    async def reserve(
        self,
        *queues: str,
        max_jobs: int = 1,
        lease: Micros = LEASE,
        worker_id: str = "",
        request_id: str = "",
        max_bytes: int | None = None,
    ) -> list[Leased]:
        """From queue "q" if none is named."""
        request = self.request(
            *queues,
            max_jobs=max_jobs,
            lease=lease,
            worker_id=worker_id,
            request_id=request_id,
            max_bytes=max_bytes,
        )
        leased = await self.driver.reserve(request)
        await self.check()
        return leased

    def request(self, *queues: str, lease: Micros = LEASE, **options: Any) -> ReserveRequest:
        """For one job if ``max_jobs`` is not given."""
        return ReserveRequest(
            queues=queues or ("q",),
            lease=lease,
            grant=self.new_grant(),
            now=self.now,
            **{"max_jobs": 1, **options},
        )

    async def reserve_one(self, *queues: str, **options: Any) -> Leased:
        leased = await self.reserve(*queues, **options)
        assert len(leased) == 1
        return leased[0]

    async def reserve_ids(self, *queues: str, max_jobs: int = 100) -> list[str]:
        return [leased.ref.job_id for leased in await self.reserve(*queues, max_jobs=max_jobs)]

    async def ack(self, *refs: LeaseRef, result: bytes = b"") -> list[Settled]:
        items = [AckItem(ref, result) for ref in refs]
        settled = await self.driver.ack(AckBatch(items, self.now, self.now + WINDOW))
        await self.check()
        return settled

    async def nack(self, *items: NackItem) -> list[Settled]:
        settled = await self.driver.nack(NackBatch(items, self.now, self.now + WINDOW))
        await self.check()
        return settled

    async def retry(
        self, ref: LeaseRef, delay: Micros = 0, failure: Failure | None = None
    ) -> Settled:
        item = NackItem(ref, Settlement.RETRIED, self.now + delay, failure=failure)
        return (await self.nack(item))[0]

    async def release(
        self, ref: LeaseRef, delay: Micros = 0, failure: Failure | None = None
    ) -> Settled:
        item = NackItem(ref, Settlement.RELEASED, self.now + delay, failure=failure)
        return (await self.nack(item))[0]

    async def bury(
        self,
        ref: LeaseRef,
        reason: DeadReason = DeadReason.REJECTED,
        failure: Failure | None = None,
    ) -> Settled:
        item = NackItem(ref, Settlement.DEAD_LETTERED, dead_reason=reason, failure=failure)
        return (await self.nack(item))[0]

    async def lose(self, ref: LeaseRef, dead_reason: DeadReason | None = None) -> Settled:
        """Takes a job back whose lease ran out."""
        return (await self.nack(NackItem(ref, Settlement.LOST, dead_reason=dead_reason)))[0]

    async def extend(
        self, ref: LeaseRef, lease: Micros | None = None, progress: Progress | None = None
    ) -> Extended:
        batch = ExtendBatch([ExtendItem(ref, lease, progress)], self.now)
        extended = await self.driver.extend(batch)
        await self.check()
        return extended[0]

    # --- operators ----------------------------------------------------------------------------

    async def make_dead(self, *jobs: NewJob) -> list[str]:
        """Pushes jobs and has each rejected, a second after the other."""
        for job in jobs:
            await self.create(job)
            await self.bury((await self.reserve_one(job.queue)).ref)
            self.advance(1_000_000)
        return [job.id for job in jobs]

    async def requeue(self, *job_ids: str, limit: int = ALL) -> Handled:
        handled = await self.driver.requeue_dead(DeadSelection(limit, self.now, ids=job_ids))
        await self.check()
        return handled

    async def requeue_by(self, wanted: DeadFilter, limit: int = ALL) -> Handled:
        handled = await self.driver.requeue_dead(DeadSelection(limit, self.now, filter=wanted))
        await self.check()
        return handled

    async def discard(self, *job_ids: str, limit: int = ALL) -> Handled:
        selection = DeadSelection(limit, self.now, ids=job_ids)
        handled = await self.driver.discard_dead(selection, self.now + WINDOW)
        await self.check()
        return handled

    async def discard_by(self, wanted: DeadFilter, limit: int = ALL) -> Handled:
        selection = DeadSelection(limit, self.now, filter=wanted)
        handled = await self.driver.discard_dead(selection, self.now + WINDOW)
        await self.check()
        return handled

    async def purge(self, queue: str = "q", limit: int = ALL) -> Handled:
        handled = await self.driver.purge(PurgeRequest(queue, limit, self.now, self.now + WINDOW))
        await self.check()
        return handled

    async def listed(self, limit: int = 100, **filters: Any) -> list[JobRecord]:
        """Every page of list_jobs."""
        records: list[JobRecord] = []
        cursor = None
        while True:
            page = await self.driver.list_jobs(JobQuery(limit, cursor=cursor, **filters))
            assert len(page.records) <= limit
            records += page.records
            cursor = page.next_cursor
            if cursor is None:
                return records

    async def dead(self, wanted: DeadFilter | None = None, limit: int = 100) -> list[JobRecord]:
        """Every page of list_dead."""
        records: list[JobRecord] = []
        cursor = None
        while True:
            query = DeadQuery(limit, wanted or DeadFilter(), cursor)
            page = await self.driver.list_dead(query)
            assert len(page.records) <= limit
            records += page.records
            cursor = page.next_cursor
            if cursor is None:
                return records

    async def dead_ids(self, wanted: DeadFilter | None = None, limit: int = 100) -> list[str]:
        return [record.id for record in await self.dead(wanted, limit)]

    async def counts(self, queue: str = "q", type_: str = "T") -> Counts:
        for counts in await self.driver.counts():
            if (counts.queue, counts.type) == (queue, type_):
                return counts
        return Counts(queue, type_)

    # --- moving a queue -----------------------------------------------------------------------

    async def seal(self, to: str | None, queue: str = "q") -> None:
        await self.driver.seal(queue, to)
        await self.check()

    async def outgoing(self, queue: str = "q", limit: int = ALL) -> list[Transfer]:
        """What is to leave for another store; nobody is told of it, and nothing changes."""
        told = self.heard.ready.copy(), list(self.heard.ended)
        transfers = await self.driver.outgoing(queue, limit)
        assert (self.heard.ready, self.heard.ended) == told
        await self.check()
        return transfers

    async def copies(self, limit: int = ALL) -> list[Copy]:
        """All that is stored, page by page; nobody is told of it, and nothing changes."""
        told = self.heard.ready.copy(), list(self.heard.ended)
        found: list[Copy] = []
        page = await self.driver.copies(limit)
        found += page.copies
        while page.next_cursor is not None:
            page = await self.driver.copies(limit, page.next_cursor)
            found += page.copies
        assert (self.heard.ready, self.heard.ended) == told
        await self.check()
        return found

    async def about_to_receive(self) -> None:
        """Jobs will come to stand behind those that are READY now, in whatever order of time."""
        self._shared.mixed |= set(await self.driver.oldest_ready())

    async def receive(self, *transfers: Transfer) -> int:
        await self.about_to_receive()
        received = await self.driver.receive(transfers, self.now)
        await self.check()
        return received

    async def seen(self, *job_ids: str) -> list[Standing]:
        """How jobs stand now; one that is not there, as if it were READY."""
        found = [await self.driver.get(job_id) for job_id in job_ids]
        return [
            Standing(job_id, JobState.READY, 0) if record is None else Standing.of(record)
            for job_id, record in zip(job_ids, found, strict=True)
        ]

    async def drop(self, *jobs: Transfer | Standing, queue: str = "q") -> list[str]:
        """Returns the ids of those that stay."""
        seen = [Standing.of(one.record) if isinstance(one, Transfer) else one for one in jobs]
        stay = await self.driver.drop(queue, seen)
        await self.check()
        return stay

    async def forward(self, queue: str = "q") -> bool:
        complete = await self.driver.forward(queue)
        await self.check()
        return complete

    # --- upkeep -------------------------------------------------------------------------------

    async def promote(self, limit: int = ALL) -> int:
        promoted = await self.driver.promote(self.now, limit)
        await self.check()
        return promoted

    async def expire(self, limit: int = ALL) -> int:
        expired = await self.driver.expire(self.now, limit)
        await self.check()
        return expired

    async def forget_all(self) -> int:
        """Forgets until there is nothing left to forget."""
        forgotten = 0
        while count := await self.driver.forget(self.now, ALL):
            forgotten += count
        await self.check()
        return forgotten

    # --- the store's accounts -----------------------------------------------------------------

    async def check(self) -> None:
        missing = self.driver.capabilities.missing
        if Feature.LISTING in missing:
            return
        records = await self.listed()
        accounts.check_counts(records, await self.driver.counts())
        if Feature.DEAD_LETTERS not in missing:
            accounts.check_dead(records, await self.dead())
        oldest = await self.driver.oldest_ready()
        accounts.check_oldest_ready(records, oldest, self._shared.mixed)

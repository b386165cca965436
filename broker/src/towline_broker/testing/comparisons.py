"""A driver beside the model, and the comparison of all that they tell."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
)

from towline_broker.domain.jobs import JobRecord, JobState, LeaseRef
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    DeadFilter,
    Feature,
    QueueState,
    Transfer,
)
from towline_broker.testing import random_input as draw
from towline_broker.testing.harness import Harness, NewHarness
from towline_broker.testing.model import Model
from towline_broker.testing.store import Store

T = TypeVar("T")


class Comparison(RuleBasedStateMachine):
    """Holds the two, names what operations can be about, and compares after each operation."""

    def __init__(self, new_harness: NewHarness) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._harness: Harness = new_harness()
        self.store = Store(self._harness)
        self.driver = self.store.driver
        #: Another broker on the store, if it can be shared.
        self.peer: Store | None = None
        self.model = Model(self.store.now, draw.WINDOW)
        #: Ids and leases that ever were, for the operations to name; the newest are named most.
        self.ids: list[str] = []
        self.refs: list[LeaseRef] = []
        self.operations = 0
        #: What has left the store for another, the newest last.
        self.away: list[Transfer] = []

    def do(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self._runner.run(wait())

    @property
    def shared(self) -> bool:
        return self.driver.capabilities.shared

    @property
    def missing(self) -> frozenset[Feature]:
        return self.driver.capabilities.missing

    def offers(self, feature: Feature) -> bool:
        return feature not in self.missing

    def teardown(self) -> None:
        try:
            for store in (self.store, self.peer):
                if store is not None:
                    self.do(store.close())
        finally:
            self._runner.close()

    @property
    def now(self) -> Micros:
        return self.model.now

    def named_ids(self, picks: Sequence[int]) -> list[str]:
        return [self.ids[-1 - pick % len(self.ids)] for pick in picks] if self.ids else []

    def named_refs(self, picks: Sequence[int]) -> list[LeaseRef]:
        """Live leases come first, so that most picks meet one; then the others, newest first."""
        live = [job.ref for job in self.model.those(JobState.LEASED)]
        refs = [*live, *(ref for ref in reversed(self.refs) if ref not in live)]
        return [refs[pick % len(refs)] for pick in picks]

    def has(self, *states: JobState) -> bool:
        return bool(self.model.those(*states))

    @invariant()
    def agrees_with_the_model(self) -> None:
        self.operations += 1
        self._compare_what_was_told()
        self._compare_jobs()
        self._compare_memory()
        self._compare_leases()
        self._compare_counts()
        self._compare_times_and_queues()

    def _compare_what_was_told(self) -> None:
        ready, ended = self.store.heard.take()
        for queue in filter(self.model.gives, self.model.paused):
            told, expected = ready.get(queue, 0), self.model.told_ready[queue]
            # What another broker did may be told late.
            assert told >= expected if self.shared else told == expected
        more = Counter(ended)
        more.subtract(self.model.told_ended)
        assert all(count >= 0 for count in more.values()), "of an ended job nothing was told"
        live = {job.id for job in self.model.jobs if not job.state.ended}
        called_ended = any(more[job_id] for job_id in live)
        assert self.shared or not called_ended, "a live job was called ended"
        self.model.told_ready.clear()
        self.model.told_ended.clear()

    def _compare_jobs(self) -> None:
        records = self.do(self.store.listed(limit=7))
        assert records == [job.record() for job in self.model.jobs]
        if not self.offers(Feature.DEAD_LETTERS):
            return
        dead = self.do(self.store.dead(limit=3))
        assert [one.finished_at for one in dead] == [
            job.finished_at for job in self.model.dead(None, DeadFilter())
        ]
        assert sorted(one.id for one in dead) == sorted(
            job.id for job in self.model.those(JobState.DEAD)
        )

    def _compare_memory(self) -> None:
        for job_id in self.ids:
            stored = self.model.find(job_id)
            remembered = self.model.ended_jobs.get(job_id)
            record = self.do(self.driver.get(job_id))
            if stored is not None:
                assert record == stored.record()
            elif remembered is None:
                assert record is None
            else:
                assert record == JobRecord(
                    id=job_id,
                    queue=remembered.queue,
                    type=record.type if record else "",
                    envelope=b"",
                    priority=record.priority if record else 0,
                    state=remembered.state,
                    attempt=record.attempt if record else 0,
                    enqueued_at=record.enqueued_at if record else 0,
                    finished_at=remembered.finished_at,
                    result=remembered.result,
                )

    def _compare_leases(self) -> None:
        expected = [self.model.live_lease(ref) for ref in self.refs]
        assert self.do(self.driver.leases(self.refs)) == [
            job and job.lease_record() for job in expected
        ]

    def _compare_counts(self) -> None:
        counted = {(one.queue, one.type): one for one in self.do(self.driver.counts())}
        names = {(job.new.queue, job.new.type) for job in self.model.jobs} | set(self.model.totals)
        assert names <= set(counted)
        for (queue, type_), counts in counted.items():
            jobs = [
                job for job in self.model.those(*JobState, queue=queue) if job.new.type == type_
            ]
            states = Counter(job.state for job in jobs)
            depth = counts.depth
            assert (depth.scheduled, depth.ready, depth.leased, depth.dead) == (
                states[JobState.SCHEDULED],
                states[JobState.READY],
                states[JobState.LEASED],
                states[JobState.DEAD],
            )
            assert counts.totals == self.model.totals_of(queue, type_)

    def _compare_times_and_queues(self) -> None:
        oldest: dict[str, Micros] = {}
        for job in self.model.those(JobState.READY):
            since = oldest.get(job.new.queue, job.ready_at)
            oldest[job.new.queue] = min(since, job.ready_at)
        told = self.do(self.driver.oldest_ready())
        assert told.keys() == oldest.keys()
        assert all(
            told[queue] == oldest[queue] for queue in oldest if queue not in self.model.mixed
        )
        assert self.do(self.driver.next_due()) == self.model.next_due()
        assert self.do(self.driver.queues()) == [
            QueueState(
                queue, paused, self.model.moving_to.get(queue, ""), queue in self.model.moved
            )
            for queue, paused in sorted(self.model.paused.items())
        ]

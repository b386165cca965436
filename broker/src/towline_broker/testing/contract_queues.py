"""Cancelling, listing, and queues as a whole."""

import pytest

from towline_broker.domain.errors import InvalidField, QueueNotFound
from towline_broker.domain.jobs import Counts, JobState, LeaseRef, Settlement, Totals
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import (
    CancelOutcome,
    Extended,
    Feature,
    Handled,
    JobQuery,
    QueueState,
    Settled,
)
from towline_broker.testing.factories import START, new_id, new_job, new_jobs
from towline_broker.testing.features import needs
from towline_broker.testing.store import Store


class CancelContract:
    async def test_p3_waiting_jobs_never_start_once_cancelled(self, store: Store) -> None:
        ready, scheduled, other = new_job(), new_job(due_at=START + SECOND), new_job()
        await store.create(ready, scheduled, other)
        store.heard.take()
        assert await store.cancel(ready.id, scheduled.id) == [CancelOutcome.CANCELLED] * 2
        told, ended = store.heard.take()
        assert (told, sorted(ended)) == ({}, sorted([ready.id, scheduled.id]))
        store.advance(SECOND)
        assert await store.promote() == 0
        assert await store.reserve_ids() == [other.id]
        assert (await store.counts()).totals.cancelled == 2

    async def test_p2_the_lease_of_a_cancelled_job_ends(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        leased = await store.reserve_one(request_id="r1")
        store.heard.take()
        assert await store.cancel(job.id) == [CancelOutcome.CANCELLED]
        assert store.heard.take() == ({}, [job.id])
        ended = Settled(False, before=Settlement.CANCELLED)
        assert await store.ack(leased.ref) == [ended]
        assert await store.retry(leased.ref) == ended
        assert await store.extend(leased.ref) == Extended(None, Settlement.CANCELLED)
        assert await store.driver.leases([leased.ref]) == [None]
        assert await store.reserve(request_id="r1") == []
        store.advance(HOUR)
        assert await store.driver.expired_leases(store.now, 9) == []
        totals = (await store.counts()).totals
        assert (totals.cancelled, totals.failed, totals.completed) == (1, 0, 0)

    async def test_p3_each_id_has_its_outcome(self, store: Store) -> None:
        (dead, discarded) = await store.make_dead(*new_jobs(2))
        await store.discard(discarded)
        done, kept = new_job(), new_job(retention=HOUR)
        await store.create(done, kept)
        await store.ack(*[leased.ref for leased in await store.reserve(max_jobs=2)])
        waiting, purged = new_job("a"), new_job("b")
        await store.create(waiting, purged)
        await store.purge("b")
        outcomes = await store.cancel(
            waiting.id, new_id(), dead, discarded, done.id, kept.id, purged.id, waiting.id
        )
        assert outcomes == [
            CancelOutcome.CANCELLED,
            CancelOutcome.NOT_FOUND,
            CancelOutcome.ALREADY_ENDED,
            CancelOutcome.ALREADY_ENDED,
            CancelOutcome.ALREADY_ENDED,
            CancelOutcome.ALREADY_ENDED,
            CancelOutcome.CANCELLED,
            CancelOutcome.CANCELLED,
        ]
        assert await store.cancel(waiting.id) == [CancelOutcome.CANCELLED]
        assert (await store.counts("a")).totals.cancelled == 1
        assert await store.dead_ids() == [dead]

    async def test_p4_a_cancelled_job_stays_for_its_retention(self, store: Store) -> None:
        kept, gone = new_job(retention=HOUR, envelope=b"all of it"), new_job()
        await store.create(kept, gone)
        await store.cancel(kept.id, gone.id)
        assert [record.id for record in await store.listed()] == [kept.id]
        record = await store.get(kept.id)
        assert (record.state, record.envelope) == (JobState.CANCELLED, b"all of it")
        assert (record.finished_at, record.available_at) == (START, None)
        remembered = await store.get(gone.id)
        assert (remembered.state, remembered.finished_at) == (JobState.CANCELLED, START)
        store.advance(HOUR)
        await store.forget_all()
        assert await store.driver.get(kept.id) is None

    async def test_p4_a_cancelled_id_is_remembered_longer_than_a_short_retention(
        self, store: Store
    ) -> None:
        job = new_job(retention=SECOND)
        await store.create(job)
        await store.cancel(job.id)
        store.advance(SECOND)
        await store.forget_all()
        assert await store.state(job.id) is JobState.CANCELLED
        assert await store.listed() == []


class ListingContract:
    async def test_jobs_are_listed_in_push_order_page_by_page(self, store: Store) -> None:
        jobs = [new_job("b"), new_job("a", priority=5), new_job("b", due_at=START + HOUR)]
        jobs += new_jobs(4, "a")
        await store.create(*jobs)
        await store.retry((await store.reserve_one("a")).ref)
        await store.bury((await store.reserve_one("b")).ref)
        await store.requeue(jobs[0].id)
        for limit in (1, 3, 7, 100):
            listed = await store.listed(limit=limit)
            assert [record.id for record in listed] == [job.id for job in jobs]

    async def test_a_listing_goes_on_while_jobs_come_and_go(self, store: Store) -> None:
        jobs = new_jobs(4)
        await store.create(*jobs)
        page = await store.driver.list_jobs(JobQuery(2))
        await store.cancel(jobs[1].id, jobs[2].id)
        late = new_job()
        await store.create(late)
        rest = await store.driver.list_jobs(JobQuery(9, cursor=page.next_cursor))
        assert [record.id for record in rest.records] == [jobs[3].id, late.id]

    async def test_a_filter_finds_what_matches_all_of_it(self, store: Store) -> None:
        a, b, u = new_job("a"), new_job("b"), new_job("a", type="U")
        later = new_job("a", due_at=START + HOUR)
        await store.create(a, b, u, later)
        await store.reserve_one("b")

        async def ids(**filters: object) -> list[str]:
            return [record.id for record in await store.listed(limit=1, **filters)]

        assert await ids(queue="a") == [a.id, u.id, later.id]
        assert await ids(type="T") == [a.id, b.id, later.id]
        assert await ids(queue="a", type="U") == [u.id]
        assert await ids(states=frozenset({JobState.LEASED})) == [b.id]
        either = frozenset({JobState.LEASED, JobState.SCHEDULED})
        assert await ids(states=either) == [b.id, later.id]
        assert await ids(queue="b", states=frozenset({JobState.READY})) == []
        assert await ids(queue="nowhere") == []

    async def test_ended_jobs_are_listed_while_they_are_kept(self, store: Store) -> None:
        done, gone = new_job(retention=HOUR), new_job()
        await store.create(done, gone)
        await store.ack(*[leased.ref for leased in await store.reserve(max_jobs=2)])
        (record,) = await store.listed(states=frozenset({JobState.SUCCEEDED}))
        assert record.id == done.id
        assert record == await store.get(done.id)

    async def test_a_cursor_that_was_never_given_is_refused(self, store: Store) -> None:
        await store.create(new_job())
        with pytest.raises(InvalidField) as refused:
            await store.driver.list_jobs(JobQuery(10, cursor="not a cursor"))
        assert refused.value.field == "page_token"

    async def test_an_unknown_job_is_not_found(self, store: Store) -> None:
        assert await store.driver.get(new_id()) is None


class QueueContract:
    async def test_a_queue_exists_from_its_first_job_on(self, store: Store) -> None:
        assert await store.driver.queues() == []
        await store.create(new_job("b"), new_job("a"))
        await store.purge("a")
        assert await store.driver.queues() == [QueueState("a", False), QueueState("b", False)]

    async def test_pausing_tells_whether_it_changed_anything(self, store: Store) -> None:
        await store.create(new_job("a"), new_job("b"))
        assert await store.driver.set_paused("a", True)
        assert not await store.driver.set_paused("a", True)
        assert await store.driver.queues() == [QueueState("a", True), QueueState("b", False)]
        assert await store.driver.set_paused("a", False)
        assert not await store.driver.set_paused("a", False)

    async def test_a_queue_that_does_not_exist_is_not_found(self, store: Store) -> None:
        await store.create(new_job())
        with pytest.raises(QueueNotFound):
            await store.driver.set_paused("nowhere", True)
        with pytest.raises(QueueNotFound):
            await store.purge("nowhere")
        assert [queue.name for queue in await store.driver.queues()] == ["q"]

    @needs(Feature.PURGE)
    async def test_a_purge_removes_what_waits_and_nothing_else(self, store: Store) -> None:
        await store.make_dead(new_job())
        leased_job, other = new_job(), new_job("other")
        await store.create(leased_job, other)
        leased = await store.reserve_one()
        waiting = [new_job(retention=HOUR), new_job(due_at=store.now + HOUR)]
        await store.create(*waiting)
        store.heard.take()
        assert await store.purge() == Handled(2, 2)
        told, ended = store.heard.take()
        assert (told, sorted(ended)) == ({}, sorted(job.id for job in waiting))
        for job in waiting:
            record = await store.get(job.id)
            assert (record.state, record.finished_at) == (JobState.CANCELLED, store.now)
        counts = await store.counts()
        depth = counts.depth
        assert (depth.ready, depth.scheduled, depth.leased, depth.dead) == (0, 0, 1, 1)
        assert counts.totals.cancelled == 2
        assert len(await store.listed(queue="q")) == 2
        assert await store.driver.next_due() == leased.lease_until
        assert (await store.ack(leased.ref))[0].applied
        assert await store.reserve_ids("q", "other") == [other.id]

    @needs(Feature.PURGE)
    async def test_a_purge_keeps_to_its_limit(self, store: Store) -> None:
        jobs = [*new_jobs(3), *new_jobs(2, due_at=START + HOUR)]
        await store.create(*jobs)
        assert await store.purge(limit=4) == Handled(5, 4)
        assert len(await store.listed()) == 1
        assert await store.purge(limit=4) == Handled(1, 1)
        assert await store.purge(limit=4) == Handled(0, 0)
        assert (await store.counts()).totals.cancelled == 5

    async def test_counts_are_kept_for_each_queue_and_type(self, store: Store) -> None:
        await store.create(new_job("a"), new_job("a", type="U"), *new_jobs(2, "b"))
        await store.ack((await store.reserve_one("b")).ref)
        totals = {
            (counts.queue, counts.type): (counts.depth.ready, counts.totals)
            for counts in await store.driver.counts()
        }
        assert totals == {
            ("a", "T"): (1, Totals(pushed=1)),
            ("a", "U"): (1, Totals(pushed=1)),
            ("b", "T"): (1, Totals(pushed=2, started=1, completed=1)),
        }

    async def test_counts_are_the_callers_to_keep(self, store: Store) -> None:
        await store.create(new_job())
        before = await store.counts()
        await store.create(new_job())
        assert (before.depth.ready, before.totals.pushed) == (1, 1)

    async def test_resetting_totals_leaves_depths(self, store: Store) -> None:
        await store.make_dead(new_job())
        await store.create(*new_jobs(2), new_job(due_at=store.now + HOUR))
        await store.reserve_one()
        await store.driver.reset_totals()
        counts = await store.counts()
        depth = counts.depth
        assert (depth.scheduled, depth.ready, depth.leased, depth.dead) == (1, 1, 1, 1)
        assert counts == Counts("q", "T", depth, Totals())
        await store.create(new_job())
        assert (await store.counts()).totals == Totals(pushed=1)

    async def test_the_longest_waiting_job_is_known_whatever_its_priority(
        self, store: Store
    ) -> None:
        assert await store.driver.oldest_ready() == {}
        await store.create(new_job("a", priority=-1))
        store.advance(SECOND)
        await store.create(new_job("a", priority=1), new_job("b"))
        assert await store.driver.oldest_ready() == {"a": START, "b": START + SECOND}
        await store.reserve(max_jobs=1)
        low, _ = await store.listed(queue="a")
        await store.cancel(low.id)
        assert await store.driver.oldest_ready() == {"a": START + SECOND, "b": START + SECOND}
        await store.reserve("a", "b", max_jobs=2)
        assert await store.driver.oldest_ready() == {}

    async def test_a_lease_of_another_queue_is_not_settled(self, store: Store) -> None:
        await store.create(new_job("a"), new_job("b"))
        (a,) = await store.reserve("a")
        ref = LeaseRef("b", a.ref.job_id, a.ref.grant)
        assert not (await store.retry(ref)).applied
        assert (await store.counts("a")).depth.leased == 1

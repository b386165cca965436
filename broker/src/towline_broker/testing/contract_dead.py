"""Dead letters: looking at them, requeueing and discarding them."""

import pytest

from towline_broker.domain.errors import InvalidField
from towline_broker.domain.jobs import DeadReason, JobState, Progress
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import (
    DeadFilter,
    DeadQuery,
    DeadSelection,
    Handled,
    PushOutcome,
)
from towline_broker.testing.factories import BOOM, START, new_id, new_job, new_jobs
from towline_broker.testing.store import Store


class DeadLetterContract:
    async def test_p7_dead_jobs_are_listed_once_in_the_order_of_their_deaths(
        self, store: Store
    ) -> None:
        jobs = [new_job("b"), new_job("a", type="U"), *new_jobs(3, "b"), new_job("a")]
        ids = await store.make_dead(*reversed(jobs))
        for limit in (1, 2, 6, 100):
            assert await store.dead_ids(limit=limit) == ids

    async def test_p7_jobs_that_died_together_are_listed_once_page_by_page(
        self, store: Store
    ) -> None:
        jobs = new_jobs(7, expires_at=START + 1)
        await store.create(*jobs)
        store.advance(1)
        await store.expire()
        once = await store.dead_ids(limit=100)
        assert sorted(once) == sorted(job.id for job in jobs)
        assert await store.dead_ids(limit=2) == once

    async def test_p7_a_filter_finds_what_matches_all_of_it(self, store: Store) -> None:
        a, b, u = await store.make_dead(new_job("a"), new_job("b"), new_job("a", type="U"))
        expired = new_job("a", expires_at=store.now)
        await store.create(expired)
        await store.expire()
        found = {
            DeadFilter(): [a, b, u, expired.id],
            DeadFilter(queue="a"): [a, u, expired.id],
            DeadFilter(type="T"): [a, b, expired.id],
            DeadFilter(reason=DeadReason.EXPIRED): [expired.id],
            DeadFilter(dead_after=START + SECOND): [b, u, expired.id],
            DeadFilter(dead_before=START + SECOND): [a],
            DeadFilter(dead_after=START, dead_before=START + 3 * SECOND): [a, b, u],
            DeadFilter(queue="a", type="T", reason=DeadReason.REJECTED): [a],
            DeadFilter(queue="nowhere"): [],
            DeadFilter(queue="b", type="U"): [],
        }
        for wanted, ids in found.items():
            assert await store.dead_ids(wanted, limit=2) == ids
            selection = DeadSelection(1, store.now, filter=wanted)
            assert await store.driver.count_dead(selection) == len(ids)

    async def test_p7_a_cursor_that_was_never_given_is_refused(self, store: Store) -> None:
        await store.make_dead(new_job())
        with pytest.raises(InvalidField) as refused:
            await store.driver.list_dead(DeadQuery(10, cursor="not a cursor"))
        assert refused.value.field == "page_token"

    async def test_p7_a_job_that_dies_again_is_listed_once_at_its_new_place(
        self, store: Store
    ) -> None:
        first, second = await store.make_dead(*new_jobs(2))
        await store.requeue(first)
        assert await store.dead_ids() == [second]
        await store.bury((await store.reserve_one()).ref)
        assert await store.dead_ids() == [second, first]
        assert (await store.counts()).totals.dead_lettered == 3

    async def test_p7_a_requeued_job_starts_over(self, store: Store) -> None:
        job = new_job(expires_at=START + SECOND)
        await store.create(job)
        leased = await store.reserve_one()
        await store.extend(leased.ref, progress=Progress(0.5, "", b"row 5"))
        await store.bury(leased.ref, failure=BOOM)
        store.heard.take()
        store.advance(HOUR)
        assert await store.requeue(job.id) == Handled(1, 1)
        record = await store.get(job.id)
        assert (record.state, record.attempt) == (JobState.READY, 0)
        assert (record.available_at, record.enqueued_at) == (store.now, START)
        assert (record.dead_reason, record.finished_at) == (None, None)
        assert (record.failure, record.progress) == (BOOM, Progress(0.5, "", b"row 5"))
        assert store.heard.take() == ({"q": 1}, [])
        totals = (await store.counts()).totals
        assert (totals.requeued, totals.pushed) == (1, 1)
        # Its validity no longer counts.
        assert await store.driver.next_due() is None
        assert await store.expire() == 0
        assert (await store.reserve_one()).attempt == 1

    async def test_p7_an_expired_job_can_be_requeued(self, store: Store) -> None:
        job = new_job(expires_at=START + SECOND)
        await store.create(job)
        store.advance(SECOND)
        await store.expire()
        await store.requeue(job.id)
        await store.release((await store.reserve_one()).ref)
        assert await store.expire() == 0
        assert await store.reserve_ids() == [job.id]

    async def test_p7_requeueing_keeps_to_its_limit_oldest_death_first(self, store: Store) -> None:
        ids = await store.make_dead(*new_jobs(5))
        assert await store.requeue_by(DeadFilter(), limit=2) == Handled(5, 2)
        assert await store.dead_ids() == ids[2:]
        assert await store.requeue(*reversed(ids[2:]), limit=1) == Handled(3, 1)
        assert await store.dead_ids() == ids[3:]
        assert await store.requeue_by(DeadFilter()) == Handled(2, 2)
        assert await store.reserve_ids() == ids

    async def test_p7_ids_that_are_not_dead_are_passed_over(self, store: Store) -> None:
        (dead,) = await store.make_dead(new_job())
        ready = new_job()
        await store.create(ready)
        ids = (ready.id, dead, new_id(), dead)
        selection = DeadSelection(1, store.now, ids=ids)
        assert await store.driver.count_dead(selection) == 1
        assert await store.requeue(*ids) == Handled(1, 1)
        assert await store.requeue(*ids) == Handled(0, 0)
        assert await store.discard(*ids) == Handled(0, 0)
        assert await store.requeue() == Handled(0, 0)
        assert await store.state(ready.id) is JobState.READY

    async def test_p7_a_discarded_job_is_gone_and_its_id_remembered(self, store: Store) -> None:
        ids = await store.make_dead(*new_jobs(3))
        died = [record.finished_at for record in await store.dead()]
        assert await store.discard(*ids[1:], limit=1) == Handled(2, 1)
        assert await store.dead_ids() == [ids[0], ids[2]]
        assert [record.id for record in await store.listed()] == [ids[0], ids[2]]
        record = await store.get(ids[1])
        assert (record.state, record.finished_at) == (JobState.DEAD, died[1])
        assert await store.requeue(ids[1]) == Handled(0, 0)
        assert await store.reserve() == []

    async def test_p7_discarding_by_filter_keeps_to_its_limit(self, store: Store) -> None:
        a = await store.make_dead(*new_jobs(3, "a"))
        b = await store.make_dead(*new_jobs(2, "b"))
        assert await store.discard_by(DeadFilter(queue="a"), limit=2) == Handled(3, 2)
        assert await store.dead_ids() == [a[2], *b]
        assert await store.discard_by(DeadFilter()) == Handled(3, 3)
        assert await store.dead_ids() == []
        assert (await store.counts("a")).totals.dead_lettered == 3

    async def test_p7_discarding_by_age_leaves_younger_jobs_and_other_queues(
        self, store: Store
    ) -> None:
        queues = ("a", "b", "a", "a")
        _, other, old, young = await store.make_dead(*(new_job(each) for each in queues))
        died = {record.id: record.finished_at or 0 for record in await store.dead()}
        over = DeadFilter(queue="a", dead_before=died[old] + 1)
        assert await store.discard_by(over, limit=1) == Handled(2, 1)
        assert await store.dead_ids() == [other, old, young]
        assert await store.discard_by(over) == Handled(1, 1)
        assert await store.discard_by(over) == Handled(0, 0)
        assert await store.dead_ids() == [other, young]

    async def test_p6_dead_jobs_are_out_of_the_way(self, store: Store) -> None:
        await store.make_dead(*new_jobs(3, priority=9))
        job = new_job()
        await store.create(job)
        assert await store.reserve_ids() == [job.id]
        assert (await store.push(new_job(), max_depth={"q": 2}))[0].outcome is PushOutcome.CREATED
        assert len(await store.dead_ids()) == 3

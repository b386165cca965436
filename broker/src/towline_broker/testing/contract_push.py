"""Push: what is stored, what is recognized as there before, and what is refused."""

import pytest

from towline_broker.domain.errors import QueueFull
from towline_broker.domain.jobs import JobRecord, JobState, NewJob
from towline_broker.domain.retry import DelayList, ExponentialBackoff, RetryPolicy
from towline_broker.domain.time import DAY, HOUR, SECOND
from towline_broker.drivers.interface import PushOutcome, PushResult
from towline_broker.testing.factories import START, WINDOW, new_job, new_jobs
from towline_broker.testing.store import Store

LOWEST, HIGHEST = -(2**31), 2**31 - 1


def existing(job_id: str) -> list[PushResult]:
    return [PushResult(job_id, PushOutcome.EXISTING)]


class PushContract:
    async def test_p1_a_job_is_stored_as_it_was_pushed(self, store: Store) -> None:
        job = new_job("mail.out:eu-1", type="billing.Invoice", envelope=b"\x00\xff", priority=7)
        await store.create(job)
        assert await store.get(job.id) == JobRecord(
            id=job.id,
            queue="mail.out:eu-1",
            type="billing.Invoice",
            envelope=b"\x00\xff",
            priority=7,
            state=JobState.READY,
            attempt=0,
            enqueued_at=START,
            available_at=START,
        )

    async def test_p1_a_delayed_job_is_scheduled_for_its_time(self, store: Store) -> None:
        job = new_job(due_at=START + HOUR)
        await store.create(job)
        record = await store.get(job.id)
        assert (record.state, record.available_at) == (JobState.SCHEDULED, START + HOUR)

    async def test_p1_a_time_that_is_past_means_at_once(self, store: Store) -> None:
        now, past = new_job(due_at=START), new_job(due_at=START - DAY)
        await store.create(now, past)
        for job in (now, past):
            record = await store.get(job.id)
            assert (record.state, record.available_at) == (JobState.READY, START)

    async def test_p1_any_bytes_come_back_as_they_were(self, store: Store) -> None:
        envelopes = [b"", b"\x00", bytes(range(256)), "Grüße 😀".encode(), b"\xff" * (1 << 20)]
        jobs = [new_job(envelope=envelope) for envelope in envelopes]
        await store.create(*jobs)
        assert [(await store.get(job.id)).envelope for job in jobs] == envelopes
        assert [leased.envelope for leased in await store.reserve(max_jobs=9)] == envelopes

    async def test_p1_a_retry_policy_comes_back_with_the_lease(self, store: Store) -> None:
        policies = [
            RetryPolicy(),
            RetryPolicy(max_attempts=1, backoff=DelayList((0, 5 * SECOND, 366 * DAY)), jitter=0),
            RetryPolicy(1000, ExponentialBackoff(1, 1.5, 366 * DAY), jitter=1.0),
        ]
        await store.create(*[new_job(retry=policy) for policy in policies])
        leased = await store.reserve(max_jobs=3)
        records = await store.driver.leases([one.ref for one in leased])
        assert [record and record.retry for record in records] == policies

    async def test_p1_a_whole_batch_is_stored_in_its_order(self, store: Store) -> None:
        jobs = new_jobs(1000)
        await store.create(*jobs)
        assert [one.id for one in await store.listed(limit=300)] == [job.id for job in jobs]

    async def test_p1_an_empty_batch_is_nothing(self, store: Store) -> None:
        assert await store.push() == []

    async def test_p8_the_listener_hears_how_many_jobs_became_ready(self, store: Store) -> None:
        delayed = new_job("b", due_at=START + 1)
        await store.create(*new_jobs(3, "a"), *new_jobs(2, "b"), delayed)
        assert store.heard.take() == ({"a": 3, "b": 2}, [])

    async def test_counts_of_pushed_jobs(self, store: Store) -> None:
        await store.create(*new_jobs(2), new_job(due_at=START + 1), new_job(type="U"))
        counts = await store.counts()
        assert (counts.depth.ready, counts.depth.scheduled, counts.totals.pushed) == (2, 1, 3)
        assert (await store.counts(type_="U")).totals.pushed == 1

    # --- the same id --------------------------------------------------------------------------

    async def test_p3_a_repeated_push_stores_nothing(self, store: Store) -> None:
        job = new_job(envelope=b"first")
        await store.create(job)
        store.heard.take()
        again = NewJob(job.id, "other", "U", b"second")
        assert await store.push(again) == existing(job.id)
        assert (await store.get(job.id)).envelope == b"first"
        assert [queue.name for queue in await store.driver.queues()] == ["q"]
        assert (await store.counts()).totals.pushed == 1
        assert store.heard.take() == ({}, [])

    async def test_p3_a_repeat_beside_new_jobs_is_told_apart(self, store: Store) -> None:
        old, new = new_job(), new_job()
        await store.create(old)
        assert await store.push(old, new) == [
            PushResult(old.id, PushOutcome.EXISTING),
            PushResult(new.id, PushOutcome.CREATED),
        ]

    async def test_p3_an_id_twice_in_one_batch_is_stored_once(self, store: Store) -> None:
        job = new_job()
        first, second = await store.push(job, NewJob(job.id, "q", "T", b"other"))
        assert (first.outcome, second.outcome) == (PushOutcome.CREATED, PushOutcome.EXISTING)
        assert second.job_id == job.id
        assert (await store.get(job.id)).envelope == b"payload"

    async def test_p3_a_push_repeated_while_the_job_is_leased_stores_nothing(
        self, store: Store
    ) -> None:
        job = new_job()
        await store.create(job)
        await store.reserve_one()
        assert await store.push(job) == existing(job.id)
        assert await store.reserve() == []

    async def test_p4_a_push_repeated_after_the_job_was_done_stores_nothing(
        self, store: Store
    ) -> None:
        job = new_job()
        await store.create(job)
        await store.ack((await store.reserve_one()).ref)
        assert await store.push(job) == existing(job.id)
        assert await store.reserve() == []

    async def test_p4_ids_of_cancelled_purged_and_discarded_jobs_are_remembered(
        self, store: Store
    ) -> None:
        cancelled, purged, discarded = new_job("a"), new_job("b"), new_job("c")
        await store.create(cancelled, purged)
        await store.make_dead(discarded)
        await store.cancel(cancelled.id)
        await store.purge("b")
        await store.discard(discarded.id)
        for job in (cancelled, purged, discarded):
            assert await store.push(job) == existing(job.id)

    async def test_p4_an_id_is_free_once_it_is_forgotten(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        await store.ack((await store.reserve_one()).ref)
        store.advance(WINDOW - 1)
        await store.forget_all()
        assert await store.push(job) == existing(job.id)
        store.advance(1)
        assert await store.forget_all() > 0
        await store.create(job)

    # --- limits -------------------------------------------------------------------------------

    async def test_p11_a_full_queue_refuses_the_batch(self, store: Store) -> None:
        await store.create(*new_jobs(2))
        with pytest.raises(QueueFull) as refused:
            await store.push(*new_jobs(2), max_depth={"q": 3})
        assert refused.value.subject == "queue:q"
        assert (await store.counts()).depth.ready == 2

    async def test_p11_a_queue_can_be_filled_to_its_limit(self, store: Store) -> None:
        await store.create(new_job())
        await store.push(*new_jobs(2), max_depth={"q": 3})
        assert (await store.counts()).depth.ready == 3

    async def test_p9_a_refused_batch_leaves_nothing(self, store: Store) -> None:
        first = new_job("fresh", unique_key="k")
        with pytest.raises(QueueFull):
            await store.push(first, *new_jobs(2, "full"), max_depth={"full": 1})
        assert await store.driver.queues() == []
        assert await store.driver.counts() == []
        assert await store.driver.get(first.id) is None
        assert store.heard.take() == ({}, [])
        # Neither the id nor the key is taken.
        await store.create(first)

    async def test_p11_with_allow_partial_what_fits_is_stored(self, store: Store) -> None:
        jobs = [new_job("a"), new_job("b"), new_job("a"), new_job("b")]
        results = await store.push(*jobs, all_or_nothing=False, max_depth={"a": 1})
        assert [result.outcome for result in results] == [
            PushOutcome.CREATED,
            PushOutcome.CREATED,
            PushOutcome.QUEUE_FULL,
            PushOutcome.CREATED,
        ]
        assert await store.state(jobs[2].id) is None
        assert store.heard.take() == ({"a": 1, "b": 2}, [])

    async def test_p11_scheduled_and_leased_jobs_count_and_ended_ones_do_not(
        self, store: Store
    ) -> None:
        await store.make_dead(new_job())
        done = new_job(retention=HOUR)
        await store.create(done)
        await store.ack((await store.reserve_one()).ref)
        await store.create(new_job(), new_job(due_at=store.now + 1))
        await store.reserve_one()
        await store.push(new_job(), max_depth={"q": 3})
        with pytest.raises(QueueFull):
            await store.push(new_job(), max_depth={"q": 3})

    async def test_p11_a_repeat_needs_no_room(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        results = await store.push(job, max_depth={"q": 1})
        assert results == existing(job.id)


class UniqueKeyContract:
    async def test_p3_a_held_key_answers_with_its_holder(self, store: Store) -> None:
        holder = new_job(unique_key="Ключ 😀")
        await store.create(holder)
        assert await store.push(new_job(unique_key="Ключ 😀")) == existing(holder.id)
        assert (await store.counts()).depth.ready == 1

    async def test_p3_a_key_belongs_to_its_queue(self, store: Store) -> None:
        await store.create(new_job("a", unique_key="k"), new_job("b", unique_key="k"))
        await store.create(new_job("a", unique_key="K"), new_job("a"))

    async def test_p3_a_key_twice_in_one_batch_is_stored_once(self, store: Store) -> None:
        first, second = new_job(unique_key="k"), new_job(unique_key="k")
        assert await store.push(first, second) == [
            PushResult(first.id, PushOutcome.CREATED),
            PushResult(first.id, PushOutcome.EXISTING),
        ]

    async def test_p3_a_key_is_held_until_the_job_has_ended(self, store: Store) -> None:
        holder = new_job(unique_key="k", due_at=START + SECOND)
        await store.create(holder)
        store.advance(SECOND)
        await store.promote()
        assert await store.push(new_job(unique_key="k")) == existing(holder.id)
        leased = await store.reserve_one()
        assert await store.push(new_job(unique_key="k")) == existing(holder.id)
        await store.retry(leased.ref)
        assert await store.push(new_job(unique_key="k")) == existing(holder.id)
        await store.ack((await store.reserve_one()).ref)
        await store.create(new_job(unique_key="k"))

    async def test_p3_death_and_expiry_free_the_key(self, store: Store) -> None:
        await store.make_dead(new_job(unique_key="k"))
        await store.create(new_job(unique_key="k", expires_at=store.now + 1))
        store.advance(1)
        await store.expire()
        await store.create(new_job(unique_key="k"))

    async def test_p3_cancelling_and_purging_free_the_key(self, store: Store) -> None:
        for held_until in (None, START + DAY):
            first = new_job(unique_key="k", unique_until=held_until)
            await store.create(first)
            await store.cancel(first.id)
            await store.create(new_job(unique_key="k", unique_until=held_until))
            await store.purge()

    async def test_p3_discarding_frees_a_key_held_for_a_time(self, store: Store) -> None:
        holder = new_job(unique_key="k", unique_until=START + DAY)
        await store.make_dead(holder)
        assert await store.push(new_job(unique_key="k")) == existing(holder.id)
        await store.discard(holder.id)
        await store.create(new_job(unique_key="k"))

    async def test_p3_a_key_held_for_a_time_outlives_its_job(self, store: Store) -> None:
        holder = new_job(unique_key="k", unique_until=START + HOUR)
        await store.create(holder)
        await store.ack((await store.reserve_one()).ref)
        store.advance(HOUR - 1)
        await store.forget_all()
        assert await store.push(new_job(unique_key="k")) == existing(holder.id)
        store.advance(1)
        await store.create(new_job(unique_key="k"))

    async def test_p3_a_key_held_for_a_time_is_free_after_it_though_its_job_waits(
        self, store: Store
    ) -> None:
        first = new_job(unique_key="k", unique_until=START + HOUR)
        await store.create(first)
        store.advance(HOUR)
        second = new_job(unique_key="k")
        await store.create(second)
        # The end of the one that held it before does not free it again.
        await store.cancel(first.id)
        assert await store.push(new_job(unique_key="k")) == existing(second.id)
        await store.forget_all()
        assert await store.push(new_job(unique_key="k")) == existing(second.id)

    async def test_p3_forgetting_frees_no_key_that_is_held(self, store: Store) -> None:
        timed = new_job(unique_key="timed", unique_until=START + HOUR)
        plain = new_job(unique_key="plain")
        await store.create(timed, plain)
        store.advance(HOUR - 1)
        await store.forget_all()
        assert await store.push(new_job(unique_key="timed")) == existing(timed.id)
        assert await store.push(new_job(unique_key="plain")) == existing(plain.id)

    async def test_p3_requeueing_takes_no_key(self, store: Store) -> None:
        dead = new_job(unique_key="k")
        await store.make_dead(dead)
        await store.requeue(dead.id)
        other = new_job(unique_key="k")
        await store.create(other)
        # Nor does its second end free the key of the other.
        await store.cancel(dead.id)
        assert await store.push(new_job(unique_key="k")) == existing(other.id)

"""Ack and Nack: every lease ends once, and whoever asks again is told how."""

from collections.abc import Coroutine
from typing import Any

from towline_broker.domain.jobs import DeadReason, Failure, JobState, LeaseRef, Settlement
from towline_broker.domain.time import DAY, HOUR, SECOND
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    ExtendBatch,
    ExtendItem,
    NackBatch,
    NackItem,
    PushBatch,
    Settled,
)
from towline_broker.testing.factories import BOOM, LEASE, START, WINDOW, new_id, new_job, new_jobs
from towline_broker.testing.store import Store


class AckContract:
    async def test_p3_an_ack_ends_the_job_with_success(self, store: Store) -> None:
        job = new_job(type="U", retention=HOUR)
        await store.create(job)
        leased = await store.reserve_one()
        store.heard.take()
        store.advance(2 * SECOND)
        settled = await store.ack(leased.ref, result=b"\x00done\xff")
        assert settled == [Settled(True, type="U", elapsed=2 * SECOND)]
        record = await store.get(job.id)
        assert (record.state, record.result) == (JobState.SUCCEEDED, b"\x00done\xff")
        assert (record.finished_at, record.attempt) == (store.now, 1)
        assert (record.lease_until, record.worker_id) == (None, "")
        assert store.heard.take() == ({}, [job.id])
        counts = await store.counts(type_="U")
        assert (counts.totals.completed, counts.depth.leased) == (1, 0)

    async def test_p3_a_repeated_ack_has_one_effect(self, store: Store) -> None:
        job = new_job(retention=HOUR)
        await store.create(job)
        leased = await store.reserve_one()
        await store.ack(leased.ref, result=b"first")
        store.heard.take()
        before = Settled(False, before=Settlement.ACKED)
        assert await store.ack(leased.ref, result=b"second") == [before]
        assert (await store.get(job.id)).result == b"first"
        assert (await store.counts()).totals.completed == 1
        assert store.heard.take() == ({}, [])

    async def test_p3_an_ack_twice_in_one_batch_has_one_effect(self, store: Store) -> None:
        await store.create(new_job())
        leased = await store.reserve_one()
        first, second = await store.ack(leased.ref, leased.ref)
        assert first.applied
        assert second == Settled(False, before=Settlement.ACKED)
        assert (await store.counts()).totals.completed == 1

    async def test_p9_one_bad_item_does_not_fail_its_batch(self, store: Store) -> None:
        await store.create(*new_jobs(2))
        one, two = await store.reserve(max_jobs=2)
        unknown = LeaseRef("q", new_id(), "grant-0")
        settled = await store.ack(one.ref, unknown, two.ref)
        assert [item.applied for item in settled] == [True, False, True]
        assert settled[1] == Settled(False, before=None)

    async def test_p4_a_result_is_readable_without_retention(self, store: Store) -> None:
        job = new_job(retention=0)
        await store.create(job)
        await store.ack((await store.reserve_one()).ref, result=b"42")
        assert await store.listed() == []
        record = await store.get(job.id)
        assert (record.id, record.queue, record.envelope) == (job.id, "q", b"")
        assert (record.state, record.result) == (JobState.SUCCEEDED, b"42")
        assert record.finished_at == START

    async def test_p4_with_retention_the_whole_job_stays_readable(self, store: Store) -> None:
        job = new_job(retention=HOUR, envelope=b"all of it")
        await store.create(job)
        await store.ack((await store.reserve_one()).ref, result=b"42")
        store.advance(HOUR - 1)
        await store.forget_all()
        record = await store.get(job.id)
        assert (record.envelope, record.result) == (b"all of it", b"42")
        store.advance(1)
        await store.forget_all()
        assert await store.driver.get(job.id) is None

    async def test_p4_state_and_result_outlive_a_short_retention(self, store: Store) -> None:
        job = new_job(retention=SECOND)
        await store.create(job)
        leased = await store.reserve_one()
        await store.ack(leased.ref, result=b"42")
        store.advance(SECOND)
        await store.forget_all()
        assert await store.listed() == []
        record = await store.get(job.id)
        assert (record.state, record.result) == (JobState.SUCCEEDED, b"42")
        store.advance(WINDOW - SECOND)
        await store.forget_all()
        assert await store.driver.get(job.id) is None

    async def test_p4_settlements_are_remembered_for_their_time_and_no_longer(
        self, store: Store
    ) -> None:
        await store.create(new_job(), new_job(retention=DAY))
        acked = await store.reserve(max_jobs=2)
        await store.ack(*[one.ref for one in acked])
        await store.create(new_job())
        retried = await store.reserve_one()
        await store.retry(retried.ref)
        store.advance(WINDOW - 1)
        await store.forget_all()
        for leased in acked:
            assert (await store.ack(leased.ref))[0].before is Settlement.ACKED
        assert (await store.ack(retried.ref))[0].before is Settlement.RETRIED
        store.advance(1)
        await store.forget_all()
        for leased in (*acked, retried):
            assert await store.ack(leased.ref) == [Settled(False, before=None)]

    async def test_p2_an_ack_after_the_deadline_counts_until_the_job_is_taken_back(
        self, store: Store
    ) -> None:
        await store.create(new_job())
        leased = await store.reserve_one(lease=LEASE)
        store.advance(LEASE + HOUR)
        assert (await store.ack(leased.ref))[0].applied

    async def test_p2_a_stale_ack_changes_nothing(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        stale = await store.reserve_one()
        store.advance(LEASE)
        await store.lose(stale.ref)
        live = await store.reserve_one()
        assert await store.ack(stale.ref) == [Settled(False, before=Settlement.LOST)]
        assert await store.state(job.id) is JobState.LEASED
        assert (await store.ack(live.ref))[0].applied

    async def test_p2_a_lease_is_named_by_all_of_its_reference(self, store: Store) -> None:
        await store.create(*new_jobs(2))
        one, two = (leased.ref for leased in await store.reserve(max_jobs=2))
        other = await store.reserve()
        assert other == []
        wrong = [
            one._replace(grant="grant-0"),
            one._replace(queue="other"),
            one._replace(job_id=new_id()),
        ]
        assert await store.ack(*wrong) == [Settled(False)] * 3
        assert [item.applied for item in await store.ack(one, two)] == [True, True]
        assert await store.ack(*wrong) == [Settled(False)] * 3


class AtOnceContract:
    async def test_answers_that_are_said_to_be_there_at_once_are(self, store: Store) -> None:
        driver, now, until = store.driver, store.now, store.now + WINDOW
        if not driver.capabilities.answers_at_once:
            return
        at_once(driver.push(PushBatch(new_jobs(2), now, all_or_nothing=True, max_depth={})))
        refs = [leased.ref for leased in at_once(driver.reserve(store.request(max_jobs=2)))]
        assert None not in at_once(driver.leases(refs))
        at_once(driver.extend(ExtendBatch([ExtendItem(refs[0])], now)))
        at_once(driver.ack(AckBatch([AckItem(refs[0], b"")], now, until)))
        at_once(driver.nack(NackBatch([NackItem(refs[1], Settlement.RETRIED, now)], now, until)))


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """What it comes to, if it waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value
    work.close()
    raise AssertionError("the store says that it answers at once, and waits for something")


class NackContract:
    async def test_p3_a_retried_job_waits_for_its_time(self, store: Store) -> None:
        job = new_job(type="U")
        await store.create(job)
        leased = await store.reserve_one(worker_id="w")
        store.heard.take()
        store.advance(2 * SECOND)
        settled = await store.retry(leased.ref, delay=SECOND, failure=BOOM)
        assert settled == Settled(True, type="U", elapsed=2 * SECOND)
        record = await store.get(job.id)
        assert (record.state, record.available_at) == (JobState.SCHEDULED, store.now + SECOND)
        assert (record.attempt, record.failure, record.releases) == (1, BOOM, 0)
        assert (record.lease_until, record.worker_id) == (None, "")
        assert store.heard.take() == ({}, [])
        totals = (await store.counts(type_="U")).totals
        assert (totals.failed, totals.retried, totals.released) == (1, 1, 0)

    async def test_p3_a_retry_without_delay_is_ready_at_once(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        store.heard.take()
        for delay in (0, -SECOND):
            await store.retry((await store.reserve_one()).ref, delay=delay)
            record = await store.get(job.id)
            assert (record.state, record.available_at) == (JobState.READY, store.now)
        assert store.heard.take() == ({"q": 2}, [])

    async def test_p5_a_release_gives_the_attempt_back(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        await store.release((await store.reserve_one()).ref)
        record = await store.get(job.id)
        assert (record.state, record.attempt, record.releases) == (JobState.READY, 0, 1)
        leased = await store.reserve_one()
        assert leased.attempt == 1
        await store.release(leased.ref, delay=SECOND)
        record = await store.get(job.id)
        assert (record.state, record.attempt, record.releases) == (JobState.SCHEDULED, 0, 2)
        totals = (await store.counts()).totals
        assert (totals.released, totals.started, totals.failed, totals.retried) == (2, 2, 0, 0)

    async def test_p5_attempts_equal_leases_less_releases(self, store: Store) -> None:
        await store.create(new_job())
        attempts = []
        for release in (False, True, True, False, True, False):
            leased = await store.reserve_one()
            attempts.append(leased.attempt)
            await (store.release if release else store.retry)(leased.ref)
        assert attempts == [1, 2, 2, 2, 3, 3]

    async def test_p7_a_dead_job_says_why(self, store: Store) -> None:
        job = new_job(type="U")
        await store.create(job)
        leased = await store.reserve_one()
        store.heard.take()
        store.advance(SECOND)
        settled = await store.bury(leased.ref, DeadReason.ATTEMPTS_EXHAUSTED, BOOM)
        assert settled == Settled(True, type="U", elapsed=SECOND)
        record = await store.get(job.id)
        assert (record.state, record.attempt) == (JobState.DEAD, 1)
        assert record.dead_reason is DeadReason.ATTEMPTS_EXHAUSTED
        assert (record.failure, record.finished_at) == (BOOM, store.now)
        assert (record.lease_until, record.available_at) == (None, None)
        assert [dead.id for dead in await store.dead()] == [job.id]
        assert store.heard.take() == ({}, [job.id])
        counts = await store.counts(type_="U")
        assert (counts.depth.dead, counts.totals.dead_lettered) == (1, 1)
        assert (counts.totals.failed, counts.totals.retried) == (1, 0)

    async def test_p7_a_repeated_nack_buries_the_job_once(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        leased = await store.reserve_one()
        await store.bury(leased.ref)
        again = await store.bury(leased.ref, DeadReason.ATTEMPTS_EXHAUSTED)
        assert again == Settled(False, before=Settlement.DEAD_LETTERED)
        assert await store.dead_ids() == [job.id]
        assert (await store.get(job.id)).dead_reason is DeadReason.REJECTED
        assert (await store.counts()).totals.dead_lettered == 1

    async def test_p7_a_dead_job_is_not_leased_or_expired(self, store: Store) -> None:
        await store.make_dead(new_job(expires_at=START + SECOND))
        store.advance(HOUR)
        assert await store.reserve() == []
        assert await store.expire() == 0
        assert await store.promote() == 0

    async def test_p2_a_job_is_lost_only_once_its_lease_ran_out(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        leased = await store.reserve_one(lease=LEASE)
        store.advance(LEASE - 1)
        assert await store.lose(leased.ref) == Settled(False, before=None)
        assert await store.state(job.id) is JobState.LEASED
        store.advance(1)
        assert (await store.lose(leased.ref)).applied
        assert await store.state(job.id) is JobState.READY
        totals = (await store.counts()).totals
        assert (totals.lease_expired, totals.failed, totals.retried) == (1, 1, 1)

    async def test_p5_a_job_that_kills_its_workers_ends_dead(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        leased = await store.reserve_one(lease=LEASE)
        store.advance(LEASE)
        await store.lose(leased.ref, DeadReason.LEASE_EXPIRED)
        assert (await store.get(job.id)).dead_reason is DeadReason.LEASE_EXPIRED
        totals = (await store.counts()).totals
        assert (totals.lease_expired, totals.failed, totals.retried) == (1, 1, 0)
        assert totals.dead_lettered == 1

    async def test_p2_an_extended_lease_is_not_lost_at_its_old_deadline(self, store: Store) -> None:
        await store.create(new_job())
        leased = await store.reserve_one(lease=LEASE)
        store.advance(LEASE - 1)
        await store.extend(leased.ref)
        store.advance(1)
        assert not (await store.lose(leased.ref)).applied
        assert (await store.ack(leased.ref))[0].applied

    async def test_p3_later_settlements_hear_of_the_first(self, store: Store) -> None:
        ends = {
            Settlement.RETRIED: NackItem(_ANY, Settlement.RETRIED),
            Settlement.RELEASED: NackItem(_ANY, Settlement.RELEASED),
            Settlement.DEAD_LETTERED: NackItem(
                _ANY, Settlement.DEAD_LETTERED, dead_reason=DeadReason.REJECTED
            ),
            Settlement.LOST: NackItem(_ANY, Settlement.LOST, dead_reason=DeadReason.LEASE_EXPIRED),
        }
        for settlement, item in ends.items():
            queue = settlement.name.lower()
            await store.create(new_job(queue))
            ref = (await store.reserve_one(queue, lease=LEASE)).ref
            store.advance(LEASE)
            assert (await store.nack(_for(ref, item)))[0].applied
            totals = (await store.counts(queue)).totals
            for later in ends.values():
                assert await store.nack(_for(ref, later)) == [Settled(False, before=settlement)]
            assert await store.ack(ref) == [Settled(False, before=settlement)]
            assert (await store.extend(ref)).before is settlement
            assert (await store.counts(queue)).totals == totals

    async def test_p3_a_nack_after_an_ack_changes_nothing(self, store: Store) -> None:
        job = new_job(retention=HOUR)
        await store.create(job)
        leased = await store.reserve_one()
        await store.ack(leased.ref)
        assert await store.retry(leased.ref) == Settled(False, before=Settlement.ACKED)
        assert await store.state(job.id) is JobState.SUCCEEDED
        assert await store.reserve() == []

    async def test_p9_a_batch_of_nacks_answers_each(self, store: Store) -> None:
        jobs = new_jobs(3)
        await store.create(*jobs)
        one, two, three = (leased.ref for leased in await store.reserve(max_jobs=3))
        settled = await store.nack(
            NackItem(one, Settlement.RETRIED),
            NackItem(two, Settlement.DEAD_LETTERED, dead_reason=DeadReason.REJECTED),
            NackItem(one, Settlement.RELEASED),
            NackItem(LeaseRef("q", new_id(), "grant-0"), Settlement.RETRIED),
            NackItem(three, Settlement.RELEASED, due_at=store.now + SECOND),
        )
        assert [item.applied for item in settled] == [True, True, False, False, True]
        assert [item.before for item in settled[2:4]] == [Settlement.RETRIED, None]
        states = [await store.state(job.id) for job in jobs]
        assert states == [JobState.READY, JobState.DEAD, JobState.SCHEDULED]

    async def test_a_failure_stays_until_another_is_told(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        later = Failure("Späterer", "", "…\n" * 3, START + SECOND)
        for failure, kept in ((BOOM, BOOM), (None, BOOM), (later, later)):
            await store.retry((await store.reserve_one()).ref, failure=failure)
            assert (await store.get(job.id)).failure == kept


_ANY = LeaseRef("", "", "")


def _for(ref: LeaseRef, item: NackItem) -> NackItem:
    return NackItem(ref, item.settlement, item.due_at, item.dead_reason, item.failure)

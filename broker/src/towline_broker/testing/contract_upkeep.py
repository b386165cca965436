"""Live leases, and what has to happen because time passes."""

from towline_broker.domain.jobs import (
    DeadReason,
    JobState,
    LeaseRecord,
    LeaseRef,
    Progress,
    Settlement,
)
from towline_broker.domain.retry import RetryPolicy
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import ExtendBatch, Extended, ExtendItem
from towline_broker.testing.factories import LEASE, START, WINDOW, new_id, new_job, new_jobs
from towline_broker.testing.store import ALL, Store


class ExtendContract:
    async def test_p10_an_extension_counts_from_now(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        leased = await store.reserve_one(lease=LEASE)
        store.advance(SECOND)
        assert await store.extend(leased.ref) == Extended(store.now + LEASE)
        assert (await store.get(job.id)).lease_until == store.now + LEASE
        assert await store.extend(leased.ref, HOUR) == Extended(store.now + HOUR)
        assert await store.extend(leased.ref, SECOND) == Extended(store.now + SECOND)
        # Without a length it is the one that was granted, not the last one.
        assert await store.extend(leased.ref) == Extended(store.now + LEASE)

    async def test_p2_a_lease_can_be_extended_after_its_deadline(self, store: Store) -> None:
        await store.create(new_job())
        leased = await store.reserve_one(lease=LEASE)
        store.advance(LEASE + SECOND)
        assert await store.extend(leased.ref) == Extended(store.now + LEASE)
        assert await store.driver.expired_leases(store.now, ALL) == []

    async def test_p2_an_extension_does_not_revive_a_lost_lease(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        leased = await store.reserve_one(lease=LEASE)
        store.advance(LEASE)
        await store.lose(leased.ref)
        progress = Progress(1.0, "too late")
        assert await store.extend(leased.ref, progress=progress) == Extended(None, Settlement.LOST)
        record = await store.get(job.id)
        assert (record.state, record.progress) == (JobState.READY, None)
        other = await store.reserve_one(lease=LEASE)
        assert (await store.extend(leased.ref, HOUR)).lease_until is None
        assert (await store.get(job.id)).lease_until == other.lease_until

    async def test_p2_an_extension_of_no_lease_says_so(self, store: Store) -> None:
        await store.create(new_job())
        leased = await store.reserve_one()
        for ref in (
            LeaseRef("q", new_id(), leased.ref.grant),
            leased.ref._replace(grant="grant-0"),
            leased.ref._replace(queue="other"),
        ):
            assert await store.extend(ref) == Extended(None, None)
        assert await store.driver.leases([leased.ref]) != [None]

    async def test_progress_is_kept_and_a_checkpoint_stays_until_the_next(
        self, store: Store
    ) -> None:
        job = new_job()
        await store.create(job)
        leased = await store.reserve_one()
        reports = [
            (None, None),
            (Progress(0.25, "ein Viertel ¼"), Progress(0.25, "ein Viertel ¼")),
            (Progress(0.5, "", b"\x00row 5"), Progress(0.5, "", b"\x00row 5")),
            (Progress(0.75, "on"), Progress(0.75, "on", b"\x00row 5")),
            (None, Progress(0.75, "on", b"\x00row 5")),
            (Progress(1.0, "", b"end"), Progress(1.0, "", b"end")),
        ]
        for report, kept in reports:
            await store.extend(leased.ref, progress=report)
            assert (await store.get(job.id)).progress == kept

    async def test_p9_a_batch_of_extensions_answers_each(self, store: Store) -> None:
        await store.create(*new_jobs(2))
        one, two = (leased.ref for leased in await store.reserve(max_jobs=2))
        await store.ack(one)
        items = [ExtendItem(one), ExtendItem(two, HOUR), ExtendItem(LeaseRef("q", new_id(), "g"))]
        assert await store.driver.extend(ExtendBatch(items, store.now)) == [
            Extended(None, Settlement.ACKED),
            Extended(store.now + HOUR),
            Extended(None, None),
        ]

    async def test_p2_live_leases_are_told_from_others(self, store: Store) -> None:
        policy = RetryPolicy(max_attempts=7)
        await store.create(new_job(type="U", retry=policy), new_job())
        live, ended = await store.reserve(max_jobs=2, lease=LEASE)
        await store.ack(ended.ref)
        store.advance(HOUR)
        refs = [ended.ref, live.ref, live.ref._replace(grant="g"), live.ref._replace(queue="other")]
        record = LeaseRecord(live.ref, "U", 1, START + LEASE, policy)
        assert await store.driver.leases(refs) == [None, record, None, None]


class UpkeepContract:
    async def test_p10_leases_run_out_at_their_deadline_earliest_first(self, store: Store) -> None:
        await store.create(*new_jobs(3))
        late = await store.reserve_one(lease=30 * SECOND)
        early = await store.reserve_one(lease=10 * SECOND)
        middle = await store.reserve_one(lease=20 * SECOND)

        async def expired(limit: int = ALL) -> list[LeaseRef]:
            return [lease.ref for lease in await store.driver.expired_leases(store.now, limit)]

        store.advance(10 * SECOND - 1)
        assert await expired() == []
        store.advance(1)
        assert await expired() == [early.ref]
        store.advance(HOUR)
        assert await expired() == [early.ref, middle.ref, late.ref]
        assert await expired(limit=2) == [early.ref, middle.ref]
        # Looking changes nothing, settling does.
        assert (await store.counts()).depth.leased == 3
        await store.lose(early.ref)
        await store.ack(middle.ref)
        await store.extend(late.ref)
        assert await expired() == []

    async def test_p10_an_expired_lease_brings_what_the_core_must_know(self, store: Store) -> None:
        policy = RetryPolicy(max_attempts=2)
        await store.create(new_job(type="U", retry=policy))
        leased = await store.reserve_one(lease=LEASE)
        store.advance(LEASE)
        (record,) = await store.driver.expired_leases(store.now, ALL)
        assert record == LeaseRecord(leased.ref, "U", 1, START + LEASE, policy)

    async def test_p10_promotion_comes_at_the_time_and_up_to_the_limit(self, store: Store) -> None:
        jobs = [new_job(due_at=START + after) for after in (1, 2, 3, 4)]
        await store.create(*jobs)
        store.heard.take()
        assert await store.promote() == 0
        store.advance(3)
        assert await store.promote(limit=2) == 2
        assert store.heard.take() == ({"q": 2}, [])
        assert await store.promote(limit=2) == 1
        assert await store.promote() == 0
        states = [await store.state(job.id) for job in jobs]
        assert states == [JobState.READY] * 3 + [JobState.SCHEDULED]
        assert (await store.get(jobs[0].id)).available_at == START + 3

    async def test_p10_a_retried_job_is_promoted_too(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        await store.retry((await store.reserve_one()).ref, delay=SECOND)
        store.advance(SECOND - 1)
        assert await store.promote() == 0
        store.advance(1)
        assert await store.promote() == 1
        assert (await store.reserve_one()).attempt == 2

    async def test_p7_unstarted_jobs_expire_at_their_time_and_up_to_the_limit(
        self, store: Store
    ) -> None:
        ready = new_job(expires_at=START + 3)
        scheduled = new_job(expires_at=START + 1, due_at=START + HOUR)
        other = new_job(expires_at=START + 2)
        lasting = new_job(expires_at=START + 4)
        await store.create(ready, scheduled, other, lasting, new_job())
        store.heard.take()
        assert await store.expire() == 0
        store.advance(3)
        assert await store.expire(limit=2) == 2
        assert sorted(await store.dead_ids()) == sorted([scheduled.id, other.id])
        assert await store.expire(limit=2) == 1
        assert await store.expire() == 0
        dead = sorted([ready.id, scheduled.id, other.id])
        assert sorted(await store.dead_ids()) == dead
        told, ended = store.heard.take()
        assert (told, sorted(ended)) == ({}, dead)
        record = await store.get(scheduled.id)
        assert (record.dead_reason, record.finished_at) == (DeadReason.EXPIRED, store.now)
        assert record.available_at is None
        totals = (await store.counts()).totals
        assert (totals.dead_lettered, totals.failed) == (3, 0)

    async def test_p7_a_leased_job_does_not_expire(self, store: Store) -> None:
        await store.create(new_job(expires_at=START + SECOND))
        leased = await store.reserve_one()
        store.advance(SECOND)
        assert await store.expire() == 0
        assert (await store.ack(leased.ref))[0].applied

    async def test_p6_an_expired_job_is_out_of_the_way(self, store: Store) -> None:
        fresh = new_job()
        await store.create(new_job(expires_at=START + 1), fresh)
        store.advance(1)
        await store.expire()
        assert await store.reserve_ids() == [fresh.id]
        assert await store.promote() == 0

    async def test_p11_forgetting_keeps_to_its_limit(self, store: Store) -> None:
        jobs = new_jobs(6, retention=SECOND)
        await store.create(*jobs)
        await store.ack(*[leased.ref for leased in await store.reserve(max_jobs=6)])
        assert await store.driver.forget(store.now, ALL) == 0
        store.advance(SECOND)
        assert 0 < await store.driver.forget(store.now, 2) <= 2
        assert len(await store.listed()) >= 4
        store.advance(WINDOW)
        await store.forget_all()
        assert [await store.driver.get(job.id) for job in jobs] == [None] * 6

    async def test_p4_forgetting_touches_nothing_that_lives(self, store: Store) -> None:
        await store.make_dead(new_job())
        await store.create(*new_jobs(2), new_job(due_at=store.now + 1))
        await store.reserve_one()
        store.advance(366 * 24 * HOUR)
        await store.forget_all()
        depth = (await store.counts()).depth
        assert (depth.scheduled, depth.ready, depth.leased, depth.dead) == (1, 1, 1, 1)

    async def test_p10_the_next_time_is_the_earliest_of_all(self, store: Store) -> None:
        assert await store.driver.next_due() is None
        await store.create(new_job())
        assert await store.driver.next_due() is None
        delayed = new_job(due_at=START + 40)
        await store.create(delayed)
        assert await store.driver.next_due() == START + 40
        leased = await store.reserve_one(lease=30)
        assert await store.driver.next_due() == START + 30
        await store.create(new_job(expires_at=START + 20))
        assert await store.driver.next_due() == START + 20
        expiring = await store.reserve_one(lease=HOUR)
        assert await store.driver.next_due() == START + 30
        await store.release(expiring.ref, delay=HOUR)
        assert await store.driver.next_due() == START + 20
        store.advance(20)
        await store.expire()
        assert await store.driver.next_due() == START + 30
        await store.extend(leased.ref, lease=50)
        assert await store.driver.next_due() == START + 40
        await store.cancel(delayed.id)
        assert await store.driver.next_due() == START + 70
        await store.ack(leased.ref)
        assert await store.driver.next_due() is None

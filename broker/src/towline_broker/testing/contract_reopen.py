"""What a store still holds after a crash, and what it does when it is full."""

import pytest
from msgspec.structs import replace

from towline_broker.domain.errors import QueueMoved, StoreFull
from towline_broker.domain.jobs import DeadReason, JobState, Progress, Settlement
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import Durability, PushOutcome, QueueState
from towline_broker.testing.factories import BOOM, LEASE, START, new_job, new_jobs
from towline_broker.testing.store import Store


class ReopenContract:
    """Of every store that outlives its driver. Its harness says ``persists``."""

    async def test_p1_the_store_says_that_it_is_durable(self, store: Store) -> None:
        assert store.driver.capabilities.durability in (Durability.WINDOW, Durability.DURABLE)
        assert store.driver.capabilities.durability_note

    async def test_p1_jobs_of_every_state_survive(self, store: Store) -> None:
        policy = RetryPolicy(5, DelayList((SECOND, HOUR)), 0.5)
        kept, dead, leased_job = new_job(retention=HOUR), new_job(), new_job(retry=policy)
        await store.create(kept)
        await store.ack((await store.reserve_one()).ref, result=b"\x00\xff")
        await store.create(dead)
        await store.bury((await store.reserve_one()).ref, failure=BOOM)
        await store.create(leased_job)
        leased = await store.reserve_one(worker_id="w")
        await store.extend(leased.ref, progress=Progress(0.5, "halb ½", b"\x00"))
        cancelled = new_job(retention=HOUR)
        await store.create(cancelled)
        await store.cancel(cancelled.id)
        await store.create(new_job(due_at=START + HOUR), *new_jobs(3, envelope=b"\x00\xff"))
        before = await store.listed()
        counts = await store.driver.counts()
        await store.reopen()
        assert await store.listed() == before
        assert await store.driver.counts() == counts
        (record,) = await store.driver.leases([leased.ref])
        assert record is not None
        assert record.retry == policy

    async def test_p6_the_order_survives(self, store: Store) -> None:
        first, second, third, urgent = *new_jobs(3), new_job(priority=1)
        await store.create(first, second, third, urgent)
        await store.reserve_one()
        await store.retry((await store.reserve_one()).ref)
        await store.reopen()
        await store.create(last := new_job())
        assert await store.reserve_ids() == [second.id, third.id, first.id, last.id]

    async def test_p4_the_settle_memory_survives(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        leased = await store.reserve_one()
        await store.ack(leased.ref, result=b"42")
        await store.reopen()
        assert (await store.ack(leased.ref))[0].before is Settlement.ACKED
        assert (await store.get(job.id)).result == b"42"
        assert (await store.push(job))[0].outcome is PushOutcome.EXISTING

    async def test_p3_unique_keys_survive(self, store: Store) -> None:
        plain = new_job(unique_key="plain")
        timed = new_job(unique_key="timed", unique_until=START + HOUR)
        await store.create(plain, timed)
        await store.ack(*[leased.ref for leased in await store.reserve(max_jobs=2)])
        await store.create(holder := new_job(unique_key="plain"))
        await store.reopen()
        results = await store.push(new_job(unique_key="plain"), new_job(unique_key="timed"))
        assert [result.job_id for result in results] == [holder.id, timed.id]
        store.advance(HOUR)
        await store.create(new_job(unique_key="timed"))

    async def test_p3_a_repeated_request_gets_its_leases_after_a_crash(self, store: Store) -> None:
        await store.create(*new_jobs(3))
        first = await store.reserve(max_jobs=2, request_id="r1")
        await store.reopen()
        again = await store.reserve(max_jobs=2, request_id="r1")
        assert {leased.ref for leased in again} == {leased.ref for leased in first}

    async def test_p8_ready_jobs_are_told_of_at_opening(self, store: Store) -> None:
        await store.create(*new_jobs(2, "a"), new_job("b"), new_job("c", due_at=START + 1))
        await store.create(*new_jobs(2, "paused"))
        await store.driver.set_paused("paused", True)
        await store.reopen()
        told, ended = store.heard.take()
        assert ({queue: told.get(queue) for queue in "abc"}, ended) == (
            {"a": 2, "b": 1, "c": None},
            [],
        )

    async def test_a_pause_survives(self, store: Store) -> None:
        await store.create(new_job())
        await store.driver.set_paused("q", True)
        await store.reopen()
        assert await store.driver.queues() == [QueueState("q", True)]
        assert await store.reserve() == []

    async def test_p7_dead_letters_survive_in_their_order(self, store: Store) -> None:
        ids = await store.make_dead(*reversed(new_jobs(4)))
        await store.create(expired := new_job(expires_at=store.now))
        await store.expire()
        await store.reopen()
        assert await store.dead_ids(limit=2) == [*ids, expired.id]
        record = await store.get(expired.id)
        assert (record.state, record.dead_reason) == (JobState.DEAD, DeadReason.EXPIRED)
        await store.requeue(ids[0])
        assert await store.reserve_ids() == [ids[0]]

    async def test_p1_a_queue_on_its_way_survives(self, store: Store) -> None:
        await store.create(new_job("a"), new_job("b"))
        await store.ack((await store.reserve_one("a")).ref)
        await store.seal("elsewhere", "a")
        await store.seal("there", "b")
        assert await store.forward("a")
        await store.reopen()
        assert await store.driver.queues() == [
            QueueState("a", False, "elsewhere", moved=True),
            QueueState("b", False, "there"),
        ]
        assert await store.reserve("b") == []
        with pytest.raises(QueueMoved):
            await store.push(new_job("a"))

    async def test_p1_received_jobs_survive_and_dropped_ones_do_not(
        self, store: Store, other: Store
    ) -> None:
        dropped, kept = await store.make_dead(*new_jobs(2))
        await store.create(new_job(unique_key="k", due_at=START + HOUR), new_job(retention=HOUR))
        await store.ack((await store.reserve_one()).ref, result=b"42")
        leaving = await store.outgoing()
        await other.receive(*leaving)
        await other.reopen()
        assert await other.outgoing() == leaving
        await store.drop(*await store.seen(dropped))
        await store.reopen()
        assert await store.driver.get(dropped) is None
        assert await store.dead_ids() == [kept]
        assert await store.receive(*leaving) == 1

    async def test_closing_twice_is_safe(self, store: Store) -> None:
        await store.create(job := new_job())
        await store.close()
        await store.close()
        await store.reopen()
        assert await store.state(job.id) is JobState.READY


class SoleOwnerContract:
    """Of durable stores that only one broker uses at a time."""

    async def test_p10_live_leases_get_a_fresh_full_term(self, store: Store) -> None:
        await store.create(*new_jobs(3))
        short = await store.reserve_one(lease=10 * SECOND)
        long = await store.reserve_one(lease=60 * SECOND)
        extended = await store.reserve_one(lease=20 * SECOND)
        await store.extend(extended.ref, lease=HOUR)
        store.advance(5 * HOUR)
        await store.reopen()
        assert await store.driver.expired_leases(store.now, 9) == []
        terms = {10 * SECOND: short, 60 * SECOND: long, 20 * SECOND: extended}
        for length, leased in terms.items():
            (record,) = await store.driver.leases([leased.ref])
            assert record is not None
            assert record.lease_until == store.now + length
        assert await store.driver.next_due() == store.now + 10 * SECOND
        store.advance(10 * SECOND)
        (expired,) = await store.driver.expired_leases(store.now, 9)
        assert expired.ref == short.ref
        assert (await store.ack(long.ref))[0].applied

    async def test_p2_a_prolonged_lease_does_not_end_earlier_than_its_worker_was_told(
        self, store: Store
    ) -> None:
        await store.create(new_job())
        leased = await store.reserve_one(lease=10 * SECOND)
        extended = await store.extend(leased.ref, lease=HOUR)
        store.advance(SECOND)
        await store.reopen()
        (record,) = await store.driver.leases([leased.ref])
        assert record is not None
        assert record.lease_until == extended.lease_until

    async def test_p10_the_clock_goes_on_from_the_latest_time_seen(self, store: Store) -> None:
        await store.create(new_job())
        latest = store.advance(HOUR)
        await store.create(new_job())
        leased = await store.reserve_one(lease=LEASE)
        # The machine's clock fell back while the broker was down.
        store.now = START - HOUR
        assert await store.reopen() == latest
        store.now = latest
        (record,) = await store.driver.leases([leased.ref])
        assert record is not None
        assert record.lease_until == latest + LEASE

    async def test_p10_a_new_store_has_seen_no_time(self, store: Store) -> None:
        await store.reopen()
        seen = await store.reopen()
        assert seen in (0, START)


class FullStoreContract:
    """Of stores whose harness can make one that is full soon: the fixture ``store`` has room for
    some jobs of 10,000 bytes, and for fewer than 1,000."""

    async def test_p11_a_full_store_refuses_pushes_and_goes_on_settling(self, store: Store) -> None:
        stored = await self._fill(store)
        leased = await store.reserve(max_jobs=3, request_id="r1")
        await store.extend(leased[0].ref, progress=Progress(0.5, "on", b"x" * 1000))
        assert (await store.ack(leased[0].ref, result=b"x" * 1000))[0].applied
        assert (await store.retry(leased[1].ref, failure=BOOM)).applied
        assert (await store.bury(leased[2].ref, failure=BOOM)).applied
        assert (await store.counts()).totals.pushed == stored

    async def test_p9_a_batch_that_does_not_fit_leaves_nothing(self, store: Store) -> None:
        await self._fill(store)
        counts = await store.driver.counts()
        batch = [new_job("other", envelope=b"x" * 10_000) for _ in range(20)]
        store.heard.take()
        with pytest.raises(StoreFull):
            await store.push(*batch)
        assert await store.driver.counts() == counts
        assert store.heard.take() == ({}, [])
        assert [await store.driver.get(job.id) for job in batch] == [None] * 20
        assert [queue.name for queue in await store.driver.queues()] == ["q"]

    async def test_p9_a_transfer_that_does_not_fit_leaves_nothing(
        self, store: Store, other: Store
    ) -> None:
        jobs = [new_job("moved", envelope=b"x" * 10_000) for _ in range(20)]
        await other.create(jobs[0])
        (first,) = await other.outgoing("moved")
        leaving = [replace(first, new=job, record=replace(first.record, id=job.id)) for job in jobs]
        await self._fill(store)
        counts = await store.driver.counts()
        store.heard.take()
        with pytest.raises(StoreFull):
            await store.receive(*leaving)
        assert await store.driver.counts() == counts
        assert store.heard.take() == ({}, [])
        assert [await store.driver.get(job.id) for job in jobs] == [None] * 20

    async def test_p11_room_comes_back(self, store: Store) -> None:
        await self._fill(store)
        while leased := await store.reserve(max_jobs=50):
            await store.ack(*[one.ref for one in leased])
        store.advance(24 * HOUR)
        await store.forget_all()
        await store.create(*[new_job(envelope=b"x" * 10_000) for _ in range(5)])

    async def _fill(self, store: Store) -> int:
        """Pushes until there is no room; returns how many jobs were stored."""

        async def push_until_refused() -> None:
            for _ in range(1000):
                await store.push(new_job(envelope=b"x" * 10_000))

        with pytest.raises(StoreFull) as full:
            await push_until_refused()
        assert full.value.subject in ("memory", "disk")
        stored = (await store.counts()).totals.pushed
        assert stored > 3
        return stored

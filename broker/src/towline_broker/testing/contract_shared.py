"""What a store owes that brokers share: leases outlive a broker, and each broker sees what another
does."""

import asyncio
import time

import pytest

from towline_broker.domain.errors import QueueMoved
from towline_broker.domain.jobs import JobState, LeaseRef, Settlement
from towline_broker.domain.time import HOUR, MINUTE, SECOND, Micros
from towline_broker.drivers.interface import (
    CancelOutcome,
    PushOutcome,
    QueueState,
)
from towline_broker.testing.factories import LEASE, new_job, new_jobs
from towline_broker.testing.store import Store

#: How far the clock of a store may be from that of this machine.
LEEWAY: Micros = MINUTE


class SharedStoreContract:
    """What one broker can tell of a store that others may use, too."""

    async def test_the_store_says_that_it_is_shared(self, store: Store) -> None:
        assert store.driver.capabilities.shared

    async def test_p10_opening_and_asking_tell_the_time_of_the_store(self, store: Store) -> None:
        for told in (await store.reopen(), await store.driver.time(store.now)):
            assert abs(told - _machine_time()) < LEEWAY

    async def test_p10_the_time_of_the_store_goes_on(self, store: Store) -> None:
        first = await store.driver.time(store.now)
        await asyncio.sleep(0.01)
        assert await store.driver.time(store.now) > first

    async def test_p10_leases_keep_their_deadlines_through_a_crash(self, store: Store) -> None:
        await store.create(*new_jobs(3))
        short = await store.reserve_one(lease=10 * SECOND)
        long = await store.reserve_one(lease=HOUR)
        extended = await store.reserve_one(lease=20 * SECOND)
        until = (await store.extend(extended.ref, lease=2 * HOUR)).lease_until
        store.advance(MINUTE)
        await store.reopen()
        records = await store.driver.leases([short.ref, long.ref, extended.ref])
        assert [record and record.lease_until for record in records] == [
            short.lease_until,
            long.lease_until,
            until,
        ]
        assert [one.ref for one in await store.driver.expired_leases(store.now, 9)] == [short.ref]
        assert await store.driver.next_due() == short.lease_until
        assert (await store.lose(short.ref)).applied
        assert (await store.ack(long.ref))[0].applied


class PeersContract:
    """What brokers on one store owe each other: ``store`` is one of them, ``peer`` the other."""

    # --- each sees what the other does --------------------------------------------------------

    async def test_p8_a_broker_leases_what_another_one_pushed(
        self, store: Store, peer: Store
    ) -> None:
        jobs = [new_job(envelope=b"\x00a"), new_job(type="U", envelope=b"b")]
        await store.create(*jobs)
        leased = await peer.reserve(max_jobs=9)
        assert [(one.ref.job_id, one.type, one.envelope) for one in leased] == [
            (job.id, job.type, job.envelope) for job in jobs
        ]
        assert await store.reserve() == []
        assert await store.listed() == await peer.listed()

    async def test_p6_jobs_pushed_in_turn_leave_in_that_order(
        self, store: Store, peer: Store
    ) -> None:
        jobs = [*new_jobs(6), new_job(priority=1)]
        for number, job in enumerate(jobs):
            await (peer if number % 2 else store).create(job)
        order = [jobs[-1].id, *[job.id for job in jobs[:-1]]]
        assert [record.id for record in await peer.listed()] == [job.id for job in jobs]
        for number, job_id in enumerate(order):
            by = store if number % 2 else peer
            assert await by.reserve_ids(max_jobs=1) == [job_id]

    async def test_p6_a_job_retried_at_one_broker_stands_behind_what_another_one_pushed(
        self, store: Store, peer: Store
    ) -> None:
        first, second, third = new_jobs(3)
        await store.create(first)
        leased = await store.reserve_one()
        await peer.create(second)
        await store.retry(leased.ref)
        await peer.create(third)
        assert await peer.reserve_ids() == [second.id, first.id, third.id]

    async def test_p2_a_lease_granted_by_one_broker_is_settled_at_another(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(*new_jobs(3))
        first, second, third = [one.ref for one in await store.reserve(max_jobs=3)]
        peer.advance(SECOND)
        extended = await peer.extend(first, lease=HOUR)
        assert extended.lease_until == peer.now + HOUR
        (record,) = await store.driver.leases([first])
        assert record is not None
        assert record.lease_until == peer.now + HOUR
        settled = (await peer.ack(first, result=b"42"))[0]
        assert (settled.applied, settled.type, settled.elapsed) == (True, "T", SECOND)
        assert (await peer.retry(second, delay=HOUR)).applied
        assert (await peer.bury(third)).applied
        assert await store.driver.leases([first, second, third]) == [None, None, None]
        assert await store.dead_ids() == [third.job_id]

    async def test_p3_a_settle_repeated_at_another_broker_gets_the_same_answer(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(*new_jobs(2))
        acked, nacked = [one.ref for one in await store.reserve(max_jobs=2)]
        await store.ack(acked, result=b"42")
        await store.bury(nacked)
        assert (await peer.ack(acked))[0].before is Settlement.ACKED
        assert (await peer.bury(nacked)).before is Settlement.DEAD_LETTERED
        assert (await peer.get(acked.job_id)).result == b"42"
        totals = (await peer.counts()).totals
        assert (totals.completed, totals.dead_lettered) == (1, 1)

    async def test_p3_a_push_repeated_at_another_broker_stores_nothing(
        self, store: Store, peer: Store
    ) -> None:
        stored, gone = new_job(), new_job()
        keyed, timed = (
            new_job(unique_key="k"),
            new_job(unique_key="t", unique_until=store.now + HOUR),
        )
        await store.create(gone)
        await store.ack((await store.reserve_one()).ref)
        await store.create(stored, keyed, timed)
        again = await peer.push(stored, gone, new_job(unique_key="k"), new_job(unique_key="t"))
        assert [(one.job_id, one.outcome) for one in again] == [
            (job.id, PushOutcome.EXISTING) for job in (stored, gone, keyed, timed)
        ]

    async def test_p3_a_request_repeated_at_another_broker_gets_the_same_leases(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(*new_jobs(5))
        first = await store.reserve(max_jobs=3, request_id="r1")
        for again in (
            await peer.reserve(max_jobs=3, request_id="r1"),
            await peer.reserve(max_jobs=0, request_id="r1"),
        ):
            assert {one.ref for one in again} == {one.ref for one in first}
        assert (await peer.counts()).depth.leased == 3

    async def test_queues_and_types_made_by_another_broker_are_known(
        self, store: Store, peer: Store
    ) -> None:
        for by, other, name in ((store, peer, "a"), (peer, store, "b")):
            await by.create(new_job(name, type="New"), new_job(name))
            assert QueueState(name, False) in await other.driver.queues()
            assert (await other.counts(name, "New")).totals.pushed == 1
            assert [one.queue for one in await other.listed(type="New")][-1] == name
            await other.create(job := new_job(name, type="New"))
            assert (await by.counts(name, "New")).totals.pushed == 2
            leased = await other.reserve(name, max_jobs=9)
            assert [one.type for one in leased] == ["New", "T", "New"]
            assert leased[-1].ref == LeaseRef(name, job.id, leased[-1].ref.grant)
            assert all(one.applied for one in await by.ack(*[one.ref for one in leased]))

    async def test_a_pause_holds_at_every_broker(self, store: Store, peer: Store) -> None:
        await store.create(*new_jobs(2))
        await store.driver.set_paused("q", True)
        assert await peer.driver.queues() == [QueueState("q", True)]
        assert await peer.reserve() == []
        assert not await peer.driver.set_paused("q", True)
        await peer.driver.set_paused("q", False)
        await store.reserve_one()

    async def test_a_cancelled_lease_is_lost_at_every_broker(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(new_job())
        leased = await store.reserve_one()
        assert await peer.cancel(leased.ref.job_id) == [CancelOutcome.CANCELLED]
        extended = await store.extend(leased.ref)
        assert (extended.lease_until, extended.before) == (None, Settlement.CANCELLED)

    async def test_totals_are_those_of_all_brokers(self, store: Store, peer: Store) -> None:
        for by in (store, peer, store):
            await by.create(new_job())
            await by.ack((await by.reserve_one()).ref)
        for asked in (store, peer):
            totals = (await asked.counts()).totals
            assert (totals.pushed, totals.started, totals.completed) == (3, 3, 3)
        await peer.driver.reset_totals()
        assert (await store.counts()).totals.pushed == 0

    # --- each is told what the other does -----------------------------------------------------

    async def test_p8_every_broker_is_told_of_jobs_that_become_ready(
        self, store: Store, peer: Store
    ) -> None:
        self._needs_news(store)
        delayed = new_jobs(3, "promoted", due_at=store.now + SECOND)
        retried, released, dead = new_job("retried"), new_job("released"), new_job("requeued")
        await store.create(*new_jobs(2, "pushed"))
        await peer.heard.until_ready("pushed", 2)
        await peer.create(*delayed, retried, released, *new_jobs(2, "resumed"))
        await peer.make_dead(dead)
        leases = [await peer.reserve_one(name) for name in ("retried", "released")]
        await peer.driver.set_paused("resumed", True)
        for name, count in {"resumed": 2, "retried": 1, "released": 1, "requeued": 1}.items():
            await store.heard.until_ready(name, count)
        store.heard.take()
        await peer.promote()
        await peer.retry(leases[0].ref)
        await peer.release(leases[1].ref)
        await peer.requeue(dead.id)
        await peer.driver.set_paused("resumed", False)
        for name, count in {
            "promoted": 3,
            "retried": 1,
            "released": 1,
            "requeued": 1,
            "resumed": 2,
        }.items():
            await store.heard.until_ready(name, count)

    async def test_p8_every_broker_is_told_of_jobs_that_ended(
        self, store: Store, peer: Store
    ) -> None:
        self._needs_news(store)
        succeeded, kept, rejected = new_job("s"), new_job("k", retention=HOUR), new_job("r")
        cancelled, expired, purged = new_job("c"), new_job("e", expires_at=store.now), new_job("p")
        jobs = (succeeded, kept, rejected, cancelled, expired, purged)
        await store.create(*jobs)
        for job in (succeeded, kept):
            await peer.ack((await peer.reserve_one(job.queue)).ref)
        await peer.bury((await peer.reserve_one("r")).ref)
        await peer.cancel(cancelled.id)
        await peer.expire()
        await peer.purge("p")
        await store.heard.until_ended(*[job.id for job in jobs])

    async def test_p8_a_broker_is_told_at_once_of_what_it_did_itself(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(*new_jobs(2))
        assert store.heard.take() == ({"q": 2}, [])
        leased = await store.reserve_one()
        await store.ack(leased.ref)
        assert store.heard.take() == ({}, [leased.ref.job_id])

    async def test_p8_a_broker_is_told_once_of_what_it_did_itself(
        self, store: Store, peer: Store
    ) -> None:
        self._needs_news(store)
        told: list[tuple[int, int]] = []
        # When a peer has just come, all is told of once more, at some moment.
        while (2, 1) not in told and len(told) < 5:
            queue = f"q{len(told)}"
            await store.create(*new_jobs(2, queue))
            await store.ack((await store.reserve_one(queue)).ref)
            # Once these have come, so would have what came before them.
            await peer.create(new_job("later"))
            await store.heard.until_ready("later")
            ready, ended = store.heard.take()
            told.append((ready[queue], len(ended)))
        assert told[-1] == (2, 1), told

    async def test_p8_a_broker_that_comes_is_told_what_is_ready(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(*new_jobs(2, "a"), new_job("b"), new_job("c", due_at=store.now + 1))
        third = store.peer()
        await third.open()
        try:
            ready, _ = third.heard.take()
            assert (ready.get("a"), ready.get("b"), ready.get("c")) == (2, 1, None)
        finally:
            await third.close()

    async def test_p8_large_batches_are_told_in_full(self, store: Store, peer: Store) -> None:
        self._needs_news(store)
        await peer.create(*(job for queue in "abcdefgh" for job in new_jobs(120, queue)))
        for queue in "abcdefgh":
            await store.heard.until_ready(queue, 120)
        leased = [one.ref for one in await peer.reserve(*"abcdefgh", max_jobs=960)]
        assert len(leased) == 960
        await peer.ack(*leased)
        await store.heard.until_ended(*[ref.job_id for ref in leased])

    # --- moving a queue -----------------------------------------------------------------------

    async def test_a_seal_holds_at_every_broker(self, store: Store, peer: Store) -> None:
        self._needs_news(store)
        await store.create(*new_jobs(2))
        await store.seal("elsewhere")
        assert await peer.driver.queues() == [QueueState("q", False, "elsewhere")]
        assert await peer.reserve() == []
        await peer.create(new_job())
        store.heard.take()
        await peer.seal(None)
        await store.heard.until_ready("q", 3)
        assert len(await store.reserve_ids()) == 3

    async def test_a_queue_that_moved_has_moved_for_every_broker(
        self, store: Store, peer: Store
    ) -> None:
        await peer.create(new_job())
        await peer.ack((await peer.reserve_one()).ref)
        await store.seal("elsewhere")
        assert await store.forward()
        with pytest.raises(QueueMoved) as moved:
            await peer.push(new_job())
        assert moved.value.to == "elsewhere"
        await peer.seal(None)
        await store.create(new_job())

    async def test_p1_jobs_received_and_dropped_by_one_broker_come_and_go_for_all(
        self, store: Store, peer: Store, other: Store
    ) -> None:
        self._needs_news(store)
        await other.create(*new_jobs(3, "new", type="New"), new_job("new", unique_key="k"))
        leaving = await other.outgoing("new")
        assert await peer.receive(*leaving) == 4
        await store.heard.until_ready("new", 4)
        assert (await store.push(new_job("new", unique_key="k")))[0].job_id == leaving[-1].new.id
        assert await store.receive(*leaving) == 0
        leased = await store.reserve_one("new")
        assert leased.type == "New"
        assert await store.drop(*leaving, queue="new") == [leased.ref.job_id]
        assert [record.id for record in await peer.listed()] == [leased.ref.job_id]
        assert (await peer.ack(leased.ref))[0].applied

    # --- notices, time, going and coming ------------------------------------------------------

    async def test_notices_are_read_by_every_broker(self, store: Store, peer: Store) -> None:
        assert await peer.driver.notices(peer.now) == {}
        until = store.now + MINUTE
        await store.driver.post("one", b"\x00\xff", until)
        await peer.driver.post("two", b"second", until)
        for by in (store, peer):
            assert await by.driver.notices(by.now) == {"one": b"\x00\xff", "two": b"second"}
        await store.driver.post("one", b"other", until + MINUTE)
        assert (await peer.driver.notices(peer.now))["one"] == b"other"
        assert await peer.driver.notices(until) == {"one": b"other"}
        await store.driver.post("one", b"", until)
        assert await peer.driver.notices(store.now) == {"two": b"second"}

    async def test_p10_brokers_agree_about_the_time(self, store: Store, peer: Store) -> None:
        first = await store.driver.time(store.now)
        second = await peer.driver.time(peer.now - HOUR)
        assert 0 <= second - first + SECOND < 10 * SECOND

    async def test_p1_a_broker_that_closes_leaves_the_others_at_work(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(*new_jobs(2))
        ref = (await store.reserve_one()).ref
        await store.close()
        await self._is_at_work(peer, ref)

    async def test_p1_a_broker_that_crashes_leaves_the_others_at_work(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(*new_jobs(2))
        ref = (await store.reserve_one()).ref
        await store.crash()
        await self._is_at_work(peer, ref)

    async def _is_at_work(self, peer: Store, ref: LeaseRef) -> None:
        """It keeps the lease of the broker that went, and everything goes on."""
        (record,) = await peer.driver.leases([ref])
        assert record is not None
        assert record.lease_until == peer.now + LEASE
        await peer.create(job := new_job())
        assert (await peer.ack(ref))[0].applied
        assert len(await peer.reserve_ids()) == 2
        assert ref.job_id in peer.heard.ended
        assert await peer.state(job.id) is JobState.LEASED

    async def test_p8_a_broker_that_comes_back_is_told_again(
        self, store: Store, peer: Store
    ) -> None:
        self._needs_news(store)
        await store.reopen()
        await peer.create(*new_jobs(2))
        await store.heard.until_ready("q", 2)

    @staticmethod
    def _needs_news(store: Store) -> None:
        if store.driver.capabilities.poll_interval is not None:
            pytest.skip("this store declares that its brokers have to look for new work")


def _machine_time() -> Micros:
    return time.time_ns() // 1000

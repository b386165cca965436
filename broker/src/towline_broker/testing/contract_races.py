"""What brokers that share a store owe each other when they do the same at the same time."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from towline_broker.domain.jobs import DeadReason, JobState, LeaseRef, NewJob, Settlement
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    CancelOutcome,
    CancelRequest,
    DeadSelection,
    NackBatch,
    NackItem,
    PurgeRequest,
    PushBatch,
    PushOutcome,
    PushResult,
    Settled,
    Standing,
)
from towline_broker.testing.factories import WINDOW, new_job, new_jobs
from towline_broker.testing.store import ALL, Store

#: How often a race is run.
ROUNDS = 10


class RacesContract:
    """``store`` is one of two brokers, ``peer`` the other. Each race takes place once as if one had
    come after the other."""

    async def test_p2_concurrent_reserves_get_distinct_jobs_and_all_of_them(
        self, store: Store, peer: Store
    ) -> None:
        jobs = new_jobs(240)
        await store.create(*jobs)
        got: Counter[str] = Counter()
        for _ in range(ROUNDS * 4):
            calls = [
                by.driver.reserve(by.request("nowhere", "q", max_jobs=5))
                for _ in range(6)
                for by in (store, peer)
            ]
            for leased in await asyncio.gather(*calls):
                got.update(one.ref.job_id for one in leased)
            if len(got) == len(jobs):
                break
        assert got == Counter(job.id for job in jobs)
        await store.check()
        assert await peer.reserve() == []

    async def test_p3_the_same_job_pushed_at_both_is_stored_once(
        self, store: Store, peer: Store
    ) -> None:
        for _ in range(ROUNDS):
            jobs = new_jobs(5)
            a, b = await asyncio.gather(_push(store, jobs), _push(peer, list(reversed(jobs))))
            for one, other in zip(a, reversed(b), strict=True):
                assert {one.outcome, other.outcome} == {PushOutcome.CREATED, PushOutcome.EXISTING}
                assert one.job_id == other.job_id
        await store.check()
        assert (await peer.counts()).totals.pushed == 5 * ROUNDS

    async def test_p3_a_unique_key_pushed_at_both_is_given_to_one(
        self, store: Store, peer: Store
    ) -> None:
        for number in range(ROUNDS):
            until = None if number % 2 else store.now + HOUR
            keys = [f"key {number}.{one}" for one in range(3)]
            mine, yours = (
                [new_job(unique_key=key, unique_until=until) for key in order]
                for order in (keys, list(reversed(keys)))
            )
            a, b = await asyncio.gather(_push(store, mine), _push(peer, yours))
            created = [
                [one.job_id for one in results if one.outcome is PushOutcome.CREATED]
                for results in (a, b)
            ]
            assert len(created[0]) + len(created[1]) == 3
            holders = [one.job_id for one in a]
            assert holders == [one.job_id for one in reversed(b)]
        await store.check()

    async def test_p3_new_queues_and_types_made_at_both_are_one(
        self, store: Store, peer: Store
    ) -> None:
        for number in range(ROUNDS):
            name = f"queue-{number}"
            await asyncio.gather(
                *(_push(by, [new_job(name), new_job(name, type="U")]) for by in (store, peer))
            )
            for by in (store, peer):
                assert (await by.counts(name)).depth.ready == 2
                assert (await by.counts(name, "U")).depth.ready == 2
        assert len(await store.driver.queues()) == ROUNDS
        await peer.check()

    async def test_p3_a_lease_acked_at_both_is_settled_once(
        self, store: Store, peer: Store
    ) -> None:
        for _ in range(ROUNDS):
            await store.create(*new_jobs(5))
            refs = [one.ref for one in await store.reserve(max_jobs=5)]
            a, b = await asyncio.gather(_ack(store, refs), _ack(peer, list(reversed(refs))))
            for one, other in zip(a, reversed(b), strict=True):
                assert sorted((one.applied, other.applied)) == [False, True]
                loser = other if one.applied else one
                assert loser.before is Settlement.ACKED
        assert (await store.counts()).totals.completed == 5 * ROUNDS
        await peer.check()

    async def test_p3_of_an_ack_a_nack_and_a_cancel_at_once_one_takes_place(
        self, store: Store, peer: Store
    ) -> None:
        for number in range(ROUNDS):
            await store.create(job := new_job(retention=HOUR))
            ref = (await store.reserve_one()).ref
            item = NackItem(ref, Settlement.DEAD_LETTERED, dead_reason=DeadReason.REJECTED)
            mine, yours = (store, peer) if number % 2 else (peer, store)
            (acked,), (nacked,), (cancelled,) = await asyncio.gather(
                _ack(mine, [ref]),
                yours.driver.nack(NackBatch([item], yours.now, yours.now + WINDOW)),
                yours.driver.cancel(CancelRequest([job.id], yours.now, yours.now + WINDOW)),
            )
            assert not (acked.applied and nacked.applied)
            state = await store.state(job.id)
            if acked.applied:
                assert cancelled is CancelOutcome.ALREADY_ENDED
                assert state is JobState.SUCCEEDED
            elif nacked.applied:
                assert cancelled is CancelOutcome.ALREADY_ENDED
                assert state is JobState.DEAD
            else:
                assert cancelled is CancelOutcome.CANCELLED
                assert state is JobState.CANCELLED
        await store.check()

    async def test_p8_upkeep_at_both_does_everything_once(self, store: Store, peer: Store) -> None:
        due = new_jobs(60, "due", due_at=store.now + SECOND)
        stale = new_jobs(60, "stale", expires_at=store.now + SECOND)
        await store.create(*due, *stale)
        store.advance(SECOND)
        now = store.now
        promoted, expired = 0, 0
        for _ in range(60):
            counts = await asyncio.gather(
                *(by.driver.promote(now, 7) for by in (store, peer, store)),
                *(by.driver.expire(now, 7) for by in (store, peer, store)),
            )
            promoted += sum(counts[:3])
            expired += sum(counts[3:])
            if not any(counts):
                break
        assert (promoted, expired) == (60, 60)
        await store.check()
        assert sorted(await store.dead_ids()) == sorted(job.id for job in stale)
        assert (await peer.counts("stale")).totals.dead_lettered == 60
        assert sorted(await peer.reserve_ids("due")) == sorted(job.id for job in due)

    async def test_p3_leases_that_ran_out_are_taken_back_once(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(*new_jobs(20))
        await store.reserve(max_jobs=20, lease=SECOND)
        now = store.advance(SECOND)

        async def lose_all(by: Store) -> int:
            records = await by.driver.expired_leases(now, ALL)
            items = [NackItem(record.ref, Settlement.LOST, now) for record in records]
            return sum(one.applied for one in await by.driver.nack(NackBatch(items, now, now + 1)))

        assert sum(await asyncio.gather(*map(lose_all, (store, peer, store, peer)))) == 20
        await store.check()
        counts = await peer.counts()
        assert (counts.totals.lease_expired, counts.totals.retried) == (20, 20)
        assert counts.depth.ready == 20

    async def test_p3_requeue_and_purge_at_both_handle_each_job_once(
        self, store: Store, peer: Store
    ) -> None:
        await store.create(*new_jobs(20))
        leases = [one.ref for one in await store.reserve(max_jobs=20)]
        for ref in leases:
            await store.bury(ref)
        chosen = DeadSelection(ALL, store.now)
        handled = await asyncio.gather(*(by.driver.requeue_dead(chosen) for by in (store, peer)))
        assert sum(one.handled for one in handled) == 20
        await store.check()
        assert (await peer.counts()).totals.requeued == 20
        request = PurgeRequest("q", ALL, store.now, store.now + WINDOW)
        handled = await asyncio.gather(*(by.driver.purge(request) for by in (store, peer)))
        assert sum(one.handled for one in handled) == 20
        await store.check()
        assert (await peer.counts()).totals.cancelled == 20

    async def test_counts_are_exact_when_both_work_at_once(self, store: Store, peer: Store) -> None:
        async def work(by: Store, queue: str) -> None:
            for _ in range(ROUNDS):
                await _push(by, new_jobs(3, queue))
                leased = await by.driver.reserve(by.request("a", "b", max_jobs=2))
                refs = [one.ref for one in leased]
                await _ack(by, refs[:1])
                retry = [NackItem(ref, Settlement.RETRIED) for ref in refs[1:]]
                await by.driver.nack(NackBatch(retry, by.now, by.now + WINDOW))

        await asyncio.gather(*(work(by, queue) for by in (store, peer) for queue in "ab"))
        await store.check()
        await peer.check()
        for queue in "ab":
            assert (await store.counts(queue)).totals.pushed == 2 * 3 * ROUNDS

    async def test_p3_transfers_received_and_dropped_at_both_come_and_go_once(
        self, store: Store, peer: Store, other: Store
    ) -> None:
        await other.create(*new_jobs(20), new_job("k", unique_key="k"))
        leaving = [*await other.outgoing(), *await other.outgoing("k")]
        now = store.now
        came = await asyncio.gather(
            store.driver.receive(leaving, now), peer.driver.receive(leaving[::-1], now)
        )
        assert sum(came) == len(leaving)
        await store.check()
        seen = [Standing.of(one.record) for one in leaving]
        stayed = await asyncio.gather(
            store.driver.drop("q", seen), peer.driver.drop("q", seen[::-1])
        )
        # What one has dropped is not there any more for the other, and one is in another queue.
        assert sum(map(len, stayed)) == 2 * len(leaving) - 20
        await peer.check()


async def _push(by: Store, jobs: Sequence[NewJob]) -> list[PushResult]:
    return await by.driver.push(PushBatch(jobs, by.now))


async def _ack(by: Store, refs: Sequence[LeaseRef]) -> list[Settled]:
    items = [AckItem(ref) for ref in refs]
    return await by.driver.ack(AckBatch(items, by.now, by.now + WINDOW))

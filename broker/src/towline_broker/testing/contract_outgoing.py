"""Jobs that leave for another store: which go first, and that those that arrived are let go."""

from collections.abc import Sequence

from msgspec.structs import replace

from towline_broker.domain.jobs import Depth, JobState
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import Transfer
from towline_broker.testing.factories import START, WINDOW, new_id, new_job, new_jobs
from towline_broker.testing.store import Store
from towline_broker.testing.transfers import fill, in_any_order_if_kept


class OutgoingContract:
    """What leaves first."""

    async def test_p6_jobs_leave_in_the_order_of_their_lines(self, store: Store) -> None:
        low, retried, high = new_job(), new_job(), new_job(priority=5)
        late, soon, also_soon = (new_job(due_at=START + at) for at in (HOUR, SECOND, SECOND))
        await store.create(retried)
        lease = await store.reserve_one()
        await store.create(low, high, late, soon, also_soon)
        await store.retry(lease.ref)
        kept = new_job("other", retention=HOUR)
        first, second = await self._dead_of_q(store)
        await store.create(kept)
        await store.ack((await store.reserve_one("other")).ref)
        await store.create(ended := new_job(retention=HOUR), priority := new_job(priority=9))
        await store.cancel(ended.id)
        leased = await store.reserve_one()
        assert leased.ref.job_id == priority.id
        await store.seal("elsewhere")
        order = [high, low, retried, soon, also_soon, late]
        expected = [*[job.id for job in order], first, second, ended.id]
        for limit in (1, 4, 6, 7, 9, 100):
            assert [one.new.id for one in await store.outgoing(limit=limit)] == expected[:limit]
        assert [one.new.id for one in await store.outgoing("other")] == [kept.id]

    @staticmethod
    async def _dead_of_q(store: Store) -> Sequence[str]:
        return await store.make_dead(new_job(priority=9), new_job(type="U", priority=9))

    async def test_a_transfer_tells_all_of_the_job(self, store: Store) -> None:
        policy = RetryPolicy(7, DelayList((SECOND, HOUR)), 0.25)
        job = new_job(
            type="U",
            envelope=b"\x00\xff",
            priority=-3,
            due_at=START + SECOND,
            expires_at=START + HOUR,
            retention=HOUR,
            unique_key="k",
            unique_until=START + 2 * HOUR,
            retry=policy,
        )
        await store.create(job)
        (transfer,) = await store.outgoing()
        assert transfer == Transfer(
            replace(job, due_at=None), await store.get(job.id), holds_key=True, keep_until=None
        )

    async def test_an_expiry_that_no_longer_counts_is_left_out(self, store: Store) -> None:
        waits, started, dead, requeued, released = new_jobs(5, expires_at=START + HOUR)
        await store.create(started, dead, requeued, released)
        leases = [one.ref for one in await store.reserve(max_jobs=4)]
        await store.retry(leases[0])
        await store.bury(leases[1])
        await store.bury(leases[2])
        await store.requeue(requeued.id)
        await store.release(leases[3])
        await store.create(waits)
        told = {one.new.id: one.new.expires_at for one in await store.outgoing()}
        assert told == {
            waits.id: START + HOUR,
            released.id: START + HOUR,
            started.id: None,
            dead.id: None,
            requeued.id: None,
        }

    async def test_a_transfer_tells_whether_the_job_holds_its_key(self, store: Store) -> None:
        lost, timed, plain = (
            new_job(unique_key="a"),
            new_job(unique_key="b", unique_until=START + HOUR),
            new_job(unique_key="c"),
        )
        await store.make_dead(lost, timed)
        await store.create(plain, new_job())
        told = {one.new.id: one for one in await store.outgoing()}
        assert [one.holds_key for one in told.values()].count(True) == 2
        assert told[plain.id].holds_key
        assert told[plain.id].new.unique_key == "c"
        assert told[timed.id].holds_key
        assert told[timed.id].new.unique_until == START + HOUR
        assert not told[lost.id].holds_key

    async def test_the_end_of_the_retention_is_told(self, store: Store) -> None:
        await store.create(new_job(retention=HOUR))
        ref = (await store.reserve_one()).ref
        store.advance(SECOND)
        await store.ack(ref, result=b"42")
        (transfer,) = await store.outgoing()
        assert transfer.keep_until == store.now + HOUR
        assert (transfer.record.state, transfer.record.result) == (JobState.SUCCEEDED, b"42")


class DropContract:
    """The old store lets go of what has arrived."""

    async def test_dropped_jobs_are_gone_without_a_trace(self, store: Store) -> None:
        await fill(store)
        leaving = await store.outgoing()
        totals = [one.totals for one in await store.driver.counts()]
        store.heard.take()
        assert await store.drop(*leaving) == []
        assert store.heard.take() == ({}, [])
        assert [await store.driver.get(one.new.id) for one in leaving] == [None] * len(leaving)
        assert await store.listed() == []
        counted = await store.driver.counts()
        assert [one.totals for one in counted] == totals
        assert [one.depth for one in counted] == [Depth()] * len(counted)
        assert await store.driver.next_due() is None
        store.advance(10 * HOUR)
        await store.forget_all()
        assert (await store.promote(), await store.expire()) == (0, 0)
        await store.create(new_job("later"))
        assert store.heard.take() == ({"later": 1}, [])

    async def test_dropped_jobs_can_come_back(self, store: Store, other: Store) -> None:
        await fill(store)
        leaving = await store.outgoing()
        await other.receive(*leaving)
        await store.drop(*leaving)
        assert await store.receive(*await other.outgoing()) == len(leaving)
        assert in_any_order_if_kept(await store.outgoing()) == in_any_order_if_kept(leaving)
        store.advance(WINDOW + 1)
        await store.forget_all()
        assert len(await store.listed()) == len(leaving)

    async def test_what_is_leased_or_elsewhere_is_not_dropped(self, store: Store) -> None:
        leased, ready, apart = new_job(), new_job(), new_job("other")
        await store.create(leased, ready, apart)
        lease = await store.reserve_one()
        seen = await store.seen(leased.id, ready.id, apart.id, unknown := new_id())
        assert await store.drop(*seen) == [leased.id, apart.id, unknown]
        assert await store.drop(*seen) == [leased.id, ready.id, apart.id, unknown]
        assert await store.state(apart.id) is JobState.READY
        assert (await store.ack(lease.ref))[0].applied

    async def test_p3_a_job_that_has_changed_since_it_was_seen_is_not_dropped(
        self, store: Store
    ) -> None:
        (requeued,) = await store.make_dead(new_job())
        cancelled, retried, same = new_job(retention=HOUR), new_job(priority=1), new_job()
        soon = store.now + SECOND
        promoted, expired = new_job(due_at=soon), new_job(expires_at=soon)
        await store.create(cancelled, same, promoted, expired, retried)
        seen = await store.outgoing()
        store.advance(SECOND)
        await store.requeue(requeued)
        await store.cancel(cancelled.id)
        await store.promote()
        await store.expire()
        await store.retry((await store.reserve_one()).ref)
        changed = {requeued, cancelled.id, retried.id, promoted.id, expired.id}
        stay = await store.drop(*seen)
        assert stay == [one.new.id for one in seen if one.new.id in changed]
        assert await store.state(same.id) is None
        assert {one.new.id for one in await store.outgoing()} == changed
        assert await store.drop(*await store.outgoing()) == []

    async def test_the_keys_of_dropped_jobs_are_free(self, store: Store) -> None:
        plain, timed = new_job(unique_key="a"), new_job(unique_key="b", unique_until=START + HOUR)
        await store.create(plain, timed)
        await store.drop(*await store.seen(plain.id, timed.id))
        await store.create(new_job(unique_key="a"), new_job(unique_key="b"))

    async def test_a_key_that_another_job_holds_stays_held(self, store: Store) -> None:
        (dead,) = await store.make_dead(new_job(unique_key="k"))
        await store.create(holder := new_job(unique_key="k"))
        assert await store.drop(*await store.seen(dead)) == []
        assert (await store.push(new_job(unique_key="k")))[0].job_id == holder.id

"""A queue on its way to another store: sealed, emptied, and sending producers on at last."""

import pytest

from towline_broker.domain.errors import QueueMoved, QueueNotFound
from towline_broker.domain.jobs import Depth, JobState
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import CancelOutcome, PushOutcome, QueueState, Standing
from towline_broker.testing.factories import START, new_id, new_job, new_jobs
from towline_broker.testing.store import Store
from towline_broker.testing.transfers import fill


class SealContract:
    """A queue that is on its way gives no jobs; all else goes on."""

    async def test_a_sealed_queue_gives_nothing(self, store: Store) -> None:
        a, b = new_jobs(2, "a"), new_jobs(2, "b")
        await store.create(*a, *b)
        await store.seal("elsewhere", "a")
        assert await store.reserve("a") == []
        assert await store.reserve_ids("a", "b") == [job.id for job in b]

    async def test_a_sealed_queue_says_where_it_goes(self, store: Store) -> None:
        await store.create(new_job("a"), new_job("b"))
        await store.seal("elsewhere", "a")
        assert await store.driver.queues() == [
            QueueState("a", False, "elsewhere"),
            QueueState("b", False),
        ]

    async def test_a_sealed_queue_goes_on_taking_jobs(self, store: Store) -> None:
        await store.create(job := new_job())
        await store.seal("elsewhere")
        assert (await store.push(job))[0].outcome is PushOutcome.EXISTING
        await store.create(*new_jobs(2), new_job(due_at=START + SECOND))
        assert (await store.counts()).depth == Depth(scheduled=1, ready=3)

    async def test_p3_leases_of_a_sealed_queue_end_as_always(self, store: Store) -> None:
        await store.create(*new_jobs(5))
        leases = await store.reserve(max_jobs=5, request_id="r1")
        acked, retried, released, buried, lost = [one.ref for one in leases]
        await store.seal("elsewhere")
        assert await store.reserve(max_jobs=5, request_id="r1") == leases
        assert (await store.extend(lost, lease=SECOND)).lease_until == START + SECOND
        assert (await store.ack(acked))[0].applied
        assert (await store.retry(retried)).applied
        assert (await store.release(released, delay=HOUR)).applied
        assert (await store.bury(buried)).applied
        store.advance(SECOND)
        assert [one.ref for one in await store.driver.expired_leases(store.now, 9)] == [lost]
        assert (await store.lose(lost)).applied
        assert (await store.counts()).depth == Depth(scheduled=1, ready=2, dead=1)

    async def test_upkeep_of_a_sealed_queue_goes_on(self, store: Store) -> None:
        due, stale = new_job(due_at=START + SECOND), new_job(expires_at=START + SECOND)
        await store.create(due, stale)
        await store.seal("elsewhere")
        store.advance(SECOND)
        assert (await store.promote(), await store.expire()) == (1, 1)
        assert await store.cancel(due.id) == [CancelOutcome.CANCELLED]
        assert (await store.requeue(stale.id)).handled == 1
        await store.purge()
        assert (await store.counts()).depth == Depth()

    async def test_a_seal_and_a_pause_stand_beside_each_other(self, store: Store) -> None:
        await store.create(new_job())
        await store.driver.set_paused("q", True)
        await store.seal("elsewhere")
        assert await store.driver.queues() == [QueueState("q", True, "elsewhere")]
        await store.driver.set_paused("q", False)
        assert await store.driver.queues() == [QueueState("q", False, "elsewhere")]
        assert await store.reserve() == []
        await store.driver.set_paused("q", True)
        await store.seal(None)
        assert await store.driver.queues() == [QueueState("q", True)]
        assert await store.reserve() == []

    async def test_p8_a_queue_that_stays_after_all_is_told_of(self, store: Store) -> None:
        jobs = new_jobs(3)
        await store.create(*jobs, new_job(due_at=START + HOUR))
        await store.seal("elsewhere")
        store.heard.take()
        await store.seal(None)
        assert store.heard.take() == ({"q": 3}, [])
        assert await store.driver.queues() == [QueueState("q", False)]
        assert await store.reserve_ids() == [job.id for job in jobs]

    async def test_sealing_can_be_repeated(self, store: Store) -> None:
        await store.create(new_job())
        for to in ("elsewhere", "elsewhere", "nowhere"):
            await store.seal(to)
            assert await store.driver.queues() == [QueueState("q", False, to)]
        await store.seal(None)
        store.heard.take()
        await store.seal(None)
        assert store.heard.take() == ({}, [])

    async def test_what_is_not_there_cannot_be_moved(self, store: Store) -> None:
        await store.create(new_job())
        with pytest.raises(QueueNotFound):
            await store.seal("elsewhere", "nowhere")
        with pytest.raises(QueueNotFound):
            await store.outgoing("nowhere")
        with pytest.raises(QueueNotFound):
            await store.forward("nowhere")
        await store.driver.seal("nowhere", None)
        nobody = Standing(new_id(), JobState.READY, 0)
        assert await store.drop(nobody, queue="nowhere") == [nobody.job_id]
        assert [queue.name for queue in await store.driver.queues()] == ["q"]


class ForwardContract:
    """Once nothing is left, the old store sends producers to the new one."""

    async def test_a_queue_that_holds_nothing_forwards(self, store: Store) -> None:
        await store.create(new_job(), new_job("other"))
        await store.ack((await store.reserve_one()).ref)
        await store.seal("elsewhere")
        assert await store.forward()
        assert QueueState("q", False, "elsewhere", moved=True) in await store.driver.queues()
        with pytest.raises(QueueMoved) as moved:
            await store.push(new_job())
        assert (moved.value.queue, moved.value.to) == ("q", "elsewhere")
        await store.create(new_job("other"))
        assert await store.forward()

    async def test_p9_a_batch_with_a_job_for_a_queue_that_moved_leaves_nothing(
        self, store: Store
    ) -> None:
        await store.create(new_job())
        await store.ack((await store.reserve_one()).ref)
        await store.seal("elsewhere")
        await store.forward()
        store.heard.take()
        before = await store.driver.counts()
        batch = [new_job("new"), new_job("q"), new_job("new")]
        for all_or_nothing in (True, False):
            with pytest.raises(QueueMoved):
                await store.push(*batch, all_or_nothing=all_or_nothing)
        assert store.heard.take() == ({}, [])
        assert await store.driver.counts() == before
        assert [queue.name for queue in await store.driver.queues()] == ["q"]
        assert [await store.state(job.id) for job in batch] == [None] * 3

    async def test_a_queue_that_is_not_sealed_does_not_forward(self, store: Store) -> None:
        await store.create(new_job())
        await store.ack((await store.reserve_one()).ref)
        assert not await store.forward()
        await store.create(new_job())

    async def test_p1_a_queue_forwards_only_when_it_holds_no_job_of_any_state(
        self, store: Store
    ) -> None:
        await store.create(job := new_job(retention=HOUR))
        await store.seal("elsewhere")
        assert not await store.forward()  # READY
        await store.seal(None)
        leased = await store.reserve_one()
        await store.seal("elsewhere")
        assert not await store.forward()  # LEASED
        await store.retry(leased.ref, delay=SECOND)
        assert not await store.forward()  # SCHEDULED
        store.advance(SECOND)
        await store.promote()
        await store.seal(None)
        ref = (await store.reserve_one()).ref
        await store.seal("elsewhere")
        await store.bury(ref)
        assert not await store.forward()  # DEAD
        await store.requeue(job.id)
        await store.cancel(job.id)
        assert not await store.forward()  # kept
        await store.create(last := new_job())
        assert await store.drop(*await store.seen(job.id, last.id)) == []
        assert await store.forward()

    async def test_a_queue_that_moved_can_be_at_home_again(self, store: Store) -> None:
        await store.create(new_job())
        await store.ack((await store.reserve_one()).ref)
        await store.seal("elsewhere")
        await store.forward()
        await store.seal(None)
        assert await store.driver.queues() == [QueueState("q", False)]
        await store.create(job := new_job())
        assert await store.reserve_ids() == [job.id]
        assert not await store.forward()

    async def test_p1_a_queue_moves_as_a_whole_batch_by_batch(
        self, store: Store, other: Store
    ) -> None:
        await fill(store)
        leased = await store.reserve_one()
        stored = {record.id for record in await store.listed()}
        await store.seal("other")
        rounds = 0
        while not await store.forward():
            leaving = await store.outgoing(limit=2)
            await other.receive(*leaving)
            if rounds % 2:  # the broker died here, and begins the batch anew
                await other.receive(*await store.outgoing(limit=2))
            await store.drop(*leaving)
            if not leaving:
                await store.retry(leased.ref)
            rounds += 1
            assert rounds < 100
        assert {record.id for record in await other.listed()} == stored
        with pytest.raises(QueueMoved):
            await store.push(new_job())

"""Jobs on their way to another store: ``store`` is where they were at home, ``other`` where they
go."""

from collections.abc import Sequence
from dataclasses import replace

from towline_broker.domain.jobs import DeadReason, Depth, JobRecord, JobState, Progress, Totals
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import PushOutcome, QueueState, Transfer
from towline_broker.testing.factories import BOOM, START, WINDOW, new_id, new_job, new_jobs
from towline_broker.testing.store import Store


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


class ReceiveContract:
    """The new store takes jobs over as they are."""

    async def test_p1_jobs_of_every_state_arrive_as_they_were(
        self, store: Store, other: Store
    ) -> None:
        await fill(store)
        leaving = await store.outgoing()
        assert {one.record.state for one in leaving} == set(JobState) - {JobState.LEASED}
        assert await other.receive(*leaving) == len(leaving)
        assert _in_any_order_if_kept(await other.outgoing()) == _in_any_order_if_kept(leaving)
        assert _by_id(await other.listed()) == _by_id(await store.listed())
        assert await other.dead_ids() == await store.dead_ids()

    async def test_p6_they_stand_behind_those_that_are_there(
        self, store: Store, other: Store
    ) -> None:
        coming = [new_job(), new_job(), new_job(priority=1)]
        there = [new_job(), new_job(priority=1)]
        await store.create(*coming)
        other.advance(SECOND)
        await other.create(*there)
        leaving = await store.outgoing()
        await other.receive(*leaving[:2])
        await other.receive(*leaving[2:])
        await other.create(last := new_job())
        order = [there[1], coming[2], there[0], coming[0], coming[1], last]
        assert await other.reserve_ids() == [job.id for job in order]

    async def test_p8_the_listener_hears_of_those_that_are_ready(
        self, store: Store, other: Store
    ) -> None:
        await store.create(*new_jobs(3), new_job(due_at=START + HOUR), new_job(retention=HOUR))
        await store.make_dead(new_job(priority=9))
        await store.ack((await store.reserve_one()).ref)
        await other.receive(*await store.outgoing())
        assert other.heard.take() == ({"q": 3}, [])

    async def test_p6_a_delayed_job_becomes_ready_at_its_time(
        self, store: Store, other: Store
    ) -> None:
        first, second = (new_job(due_at=START + HOUR) for _ in range(2))
        soon = new_job(due_at=START + SECOND)
        await store.create(first, second, soon)
        await other.receive(*await store.outgoing())
        assert await other.driver.next_due() == START + SECOND
        assert await other.promote() == 0
        other.advance(SECOND)
        assert await other.promote() == 1
        other.advance(HOUR)
        assert await other.promote() == 2
        assert await other.reserve_ids() == [job.id for job in (soon, first, second)]

    async def test_p6_a_job_whose_time_came_on_the_way_is_promoted(
        self, store: Store, other: Store
    ) -> None:
        await store.create(job := new_job(due_at=START + SECOND))
        leaving = await store.outgoing()
        other.advance(HOUR)
        await other.receive(*leaving)
        assert await other.state(job.id) is JobState.SCHEDULED
        assert await other.promote() == 1
        assert await other.reserve_ids() == [job.id]

    async def test_p7_validity_goes_on_for_jobs_that_were_never_started(
        self, store: Store, other: Store
    ) -> None:
        started, ready, delayed = (
            new_job(expires_at=START + SECOND),
            new_job(expires_at=START + SECOND),
            new_job(expires_at=START + SECOND, due_at=START + HOUR),
        )
        await store.create(started, ready, delayed)
        await store.retry((await store.reserve_one()).ref)
        await other.receive(*await store.outgoing())
        assert await other.driver.next_due() == START + SECOND
        other.advance(SECOND)
        assert await other.expire() == 2
        assert sorted(await other.dead_ids()) == sorted((ready.id, delayed.id))
        assert await other.reserve_ids() == [started.id]

    async def test_p5_the_next_attempt_counts_on(self, store: Store, other: Store) -> None:
        policy = RetryPolicy(5, DelayList((SECOND,)), 0.5)
        await store.create(new_job(retry=policy))
        first = await store.reserve_one()
        await store.extend(first.ref, progress=Progress(0.5, "", b"row 12"))
        await store.retry(first.ref, failure=BOOM)
        await other.receive(*await store.outgoing())
        second = await other.reserve_one()
        assert (second.attempt, second.failure) == (2, BOOM)
        assert second.progress == Progress(0.5, "", b"row 12")
        assert (second.enqueued_at, second.ready_at) == (START, START)
        (record,) = await other.driver.leases([second.ref])
        assert record is not None
        assert record.retry == policy

    async def test_p7_dead_jobs_keep_their_place_in_time(self, store: Store, other: Store) -> None:
        first = await store.make_dead(*new_jobs(2))
        here = await other.make_dead(*new_jobs(2))
        last = await store.make_dead(new_job())
        await other.receive(*await store.outgoing())
        for limit in (1, 2, 100):
            assert await other.dead_ids(limit=limit) == [*first, *here, *last]
        assert (await other.requeue(first[1], here[0])).handled == 2
        assert await other.dead_ids() == [first[0], here[1], *last]
        assert (await other.discard(last[0])).handled == 1

    async def test_retention_ends_when_it_would_have(self, store: Store, other: Store) -> None:
        await store.create(job := new_job(retention=HOUR))
        await store.ack((await store.reserve_one()).ref, result=b"42")
        leaving = await store.outgoing()
        other.advance(HOUR - 1)
        await other.receive(*leaving)
        await other.forget_all()
        assert (await other.get(job.id)).result == b"42"
        other.advance(1)
        await other.forget_all()
        assert await other.driver.get(job.id) is None

    async def test_p3_a_job_that_is_there_is_passed_over(self, store: Store, other: Store) -> None:
        await store.create(*new_jobs(3))
        leaving = await store.outgoing()
        assert await other.receive(leaving[0], leaving[0]) == 1
        await other.ack((await other.reserve_one()).ref)
        assert await other.receive(*leaving[:2]) == 1
        counts = await other.driver.counts()
        other.heard.take()
        assert await other.receive(*leaving[:2]) == 0
        assert other.heard.take() == ({}, [])
        assert await other.driver.counts() == counts
        assert await other.receive(*leaving) == 1
        assert len(await other.reserve_ids()) == 2

    async def test_depths_count_and_totals_do_not(self, store: Store, other: Store) -> None:
        await fill(store)
        leaving = await store.outgoing()
        depths = {one.type: one.depth for one in await store.driver.counts()}
        await other.receive(*leaving)
        counted = await other.driver.counts()
        assert {one.type: one.depth for one in counted} == depths
        assert [one.totals for one in counted] == [Totals()] * len(counted)

    async def test_a_paused_queue_stays_paused(self, store: Store, other: Store) -> None:
        await other.create(new_job(due_at=START + HOUR))
        await other.driver.set_paused("q", True)
        await store.create(job := new_job())
        await other.receive(*await store.outgoing())
        assert await other.driver.queues() == [QueueState("q", True)]
        assert await other.reserve() == []
        await other.driver.set_paused("q", False)
        assert await other.reserve_ids() == [job.id]

    async def test_a_queue_that_was_not_there_comes_into_being(
        self, store: Store, other: Store
    ) -> None:
        await store.create(new_job(), new_job(type="U"))
        await store.driver.set_paused("q", True)
        await other.receive(*await store.outgoing())
        assert await other.driver.queues() == [QueueState("q", False)]
        assert {one.type for one in await other.reserve(max_jobs=9)} == {"T", "U"}

    async def test_nothing_is_received_of_nothing(self, other: Store) -> None:
        assert await other.receive() == 0
        assert await other.driver.queues() == []


class MovedKeysContract:
    """Unique keys go with the jobs that hold them."""

    async def test_p3_a_key_is_held_by_its_job_in_the_new_store(
        self, store: Store, other: Store
    ) -> None:
        await store.create(job := new_job(unique_key="k"))
        await other.receive(*await store.outgoing())
        (result,) = await other.push(new_job(unique_key="k"))
        assert (result.outcome, result.job_id) == (PushOutcome.EXISTING, job.id)
        await other.ack((await other.reserve_one()).ref)
        await other.create(new_job(unique_key="k"))

    async def test_p3_a_key_with_a_time_of_its_own_is_held_until_then(
        self, store: Store, other: Store
    ) -> None:
        await store.create(job := new_job(unique_key="k", unique_until=START + HOUR))
        await other.receive(*await store.outgoing())
        await other.ack((await other.reserve_one()).ref)
        (result,) = await other.push(new_job(unique_key="k"))
        assert (result.outcome, result.job_id) == (PushOutcome.EXISTING, job.id)
        other.advance(HOUR)
        await other.create(new_job(unique_key="k"))

    async def test_a_key_whose_time_is_over_is_not_taken(self, store: Store, other: Store) -> None:
        await store.create(new_job(unique_key="k", unique_until=START + SECOND))
        leaving = await store.outgoing()
        other.advance(SECOND)
        await other.create(holder := new_job(unique_key="k"))
        await other.receive(*leaving)
        assert (await other.push(new_job(unique_key="k")))[0].job_id == holder.id

    async def test_a_job_that_did_not_hold_its_key_does_not_take_it(
        self, store: Store, other: Store
    ) -> None:
        (job_id,) = await store.make_dead(new_job(unique_key="k"))
        await store.requeue(job_id)
        await other.receive(*await store.outgoing())
        await other.create(new_job(unique_key="k"))

    async def test_p3_a_key_stays_with_whoever_holds_it_there(
        self, store: Store, other: Store
    ) -> None:
        plain, timed = new_job(unique_key="a"), new_job(unique_key="b", unique_until=START + HOUR)
        await store.create(plain, timed)
        holders = [new_job(unique_key=key, priority=-1) for key in "ab"]
        await other.create(*holders)
        assert await other.receive(*await store.outgoing()) == 2
        leases = await other.reserve(max_jobs=2)
        assert [one.ref.job_id for one in leases] == [plain.id, timed.id]
        await other.ack(*[one.ref for one in leases])
        results = await other.push(new_job(unique_key="a"), new_job(unique_key="b"))
        assert [one.job_id for one in results] == [job.id for job in holders]

    async def test_p3_of_two_that_come_with_one_key_the_first_takes_it(
        self, store: Store, other: Store
    ) -> None:
        await store.create(job := new_job(unique_key="k"))
        (transfer,) = await store.outgoing()
        twin = replace(transfer, new=replace(transfer.new, id=new_id()))
        twin = replace(twin, record=replace(twin.record, id=twin.new.id))
        assert await other.receive(transfer, twin) == 2
        assert (await other.push(new_job(unique_key="k")))[0].job_id == job.id


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
        assert _in_any_order_if_kept(await store.outgoing()) == _in_any_order_if_kept(leaving)
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


async def fill(store: Store) -> None:
    """Jobs of every state but LEASED, each with a past."""
    failed, rejected, done = new_job(), new_job(type="U"), new_job(retention=HOUR)
    silent, released = new_job(retention=2 * HOUR), new_job(unique_key="k")
    await store.create(failed, rejected, done, silent, released)
    leases = [one.ref for one in await store.reserve(max_jobs=5, worker_id="w")]
    store.advance(SECOND)
    await store.extend(leases[0], progress=Progress(0.5, "halb ½", b"\x00"))
    await store.retry(leases[0], failure=BOOM)
    await store.bury(leases[1], DeadReason.ATTEMPTS_EXHAUSTED, failure=BOOM)
    await store.ack(leases[2], result=b"\x00\xff")
    await store.ack(leases[3])
    await store.release(leases[4], delay=HOUR)
    stale, cancelled = new_job(expires_at=store.now), new_job(retention=HOUR)
    await store.create(stale, cancelled)
    assert await store.expire() == 1
    await store.cancel(cancelled.id)
    await store.create(new_job(), new_job(priority=3), new_job(due_at=START + HOUR))


def _by_id(records: Sequence[JobRecord]) -> list[JobRecord]:
    return sorted(records, key=lambda record: record.id)


def _in_any_order_if_kept(transfers: Sequence[Transfer]) -> list[Transfer]:
    kept = [one for one in transfers if one.keep_until is not None]
    others = [one for one in transfers if one.keep_until is None]
    return [*others, *sorted(kept, key=lambda one: one.new.id)]

"""Jobs that come from another store: ``store`` was their home, ``other`` is where they go."""

from msgspec.structs import replace

from towline_broker.domain.jobs import JobState, Progress, Totals
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import PushOutcome, QueueState
from towline_broker.testing.factories import BOOM, START, new_id, new_job, new_jobs
from towline_broker.testing.store import Store
from towline_broker.testing.transfers import by_id, fill, in_any_order_if_kept


class ReceiveContract:
    """The new store takes jobs over as they are."""

    async def test_p1_jobs_of_every_state_arrive_as_they_were(
        self, store: Store, other: Store
    ) -> None:
        await fill(store)
        leaving = await store.outgoing()
        assert {one.record.state for one in leaving} == set(JobState) - {JobState.LEASED}
        assert await other.receive(*leaving) == len(leaving)
        assert in_any_order_if_kept(await other.outgoing()) == in_any_order_if_kept(leaving)
        assert by_id(await other.listed()) == by_id(await store.listed())
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

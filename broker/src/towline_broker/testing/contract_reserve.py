"""Reserve: who gets which job, in which order, and for how long."""

from towline_broker.domain.jobs import DeadReason, Depth, JobState, Leased, LeaseRef, Progress
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.testing.factories import BOOM, LEASE, START, new_id, new_job, new_jobs
from towline_broker.testing.store import Store


class OrderContract:
    async def test_p6_jobs_leave_in_push_order(self, store: Store) -> None:
        first, second = new_jobs(5), new_jobs(5)
        await store.create(*first)
        await store.create(*second)
        assert await store.reserve_ids() == [job.id for job in (*first, *second)]

    async def test_p6_push_order_holds_for_any_ids(self, store: Store) -> None:
        jobs = [new_job(id=job_id) for job_id in reversed([new_id() for _ in range(5)])]
        await store.create(*jobs)
        assert await store.reserve_ids() == [job.id for job in jobs]

    async def test_p6_higher_priority_leaves_first(self, store: Store) -> None:
        priorities = [0, -1, 2**31 - 1, 5, -(2**31), 0]
        jobs = [new_job(priority=priority) for priority in priorities]
        await store.create(*jobs)
        expected = [jobs[index].id for index in (2, 3, 0, 5, 1, 4)]
        assert await store.reserve_ids(max_jobs=4) == expected[:4]
        assert await store.reserve_ids() == expected[4:]

    async def test_p6_p11_a_bound_in_bytes_leaves_the_rest_where_it_is(self, store: Store) -> None:
        sizes = (400, 400, 400, 1)
        jobs = [new_job(queue, envelope=b"x" * size) for queue in ("q", "r") for size in sizes]
        await store.create(*jobs)
        first = await store.reserve("q", "r", max_jobs=9, max_bytes=401)
        second = await store.reserve("q", "r", max_jobs=9, max_bytes=402)
        taken = [[leased.ref.job_id for leased in leases] for leases in (first, second)]
        assert taken == [[job.id for job in jobs[:2]], [job.id for job in jobs[2:5]]]
        assert await store.reserve_ids("q", "r") == [job.id for job in jobs[5:]]

    async def test_p6_a_delayed_job_is_not_leased_before_its_time(self, store: Store) -> None:
        delayed = new_job(due_at=START + SECOND, priority=9)
        ready = new_job()
        await store.create(delayed, ready)
        assert await store.reserve_ids() == [ready.id]
        store.advance(SECOND - 1)
        assert await store.promote() == 0
        assert await store.reserve_ids() == []
        store.advance(1)
        assert await store.promote() == 1
        assert await store.reserve_ids() == [delayed.id]

    async def test_p6_a_delayed_job_stands_behind_those_that_are_ready(self, store: Store) -> None:
        delayed, early, late = new_job(due_at=START + SECOND), new_job(), new_job()
        await store.create(delayed, early)
        store.advance(SECOND)
        await store.promote()
        await store.create(late)
        assert await store.reserve_ids() == [early.id, delayed.id, late.id]

    async def test_p6_delayed_jobs_become_ready_in_the_order_of_their_times(
        self, store: Store
    ) -> None:
        later, sooner, same = (new_job(due_at=START + after) for after in (30, 10, 10))
        await store.create(later, sooner, same)
        store.advance(SECOND)
        assert await store.promote(limit=2) == 2
        assert await store.promote() == 1
        assert await store.reserve_ids() == [sooner.id, same.id, later.id]

    async def test_p6_a_retried_job_stands_behind_those_that_are_ready(self, store: Store) -> None:
        first, second, third = new_jobs(3)
        await store.create(first, second)
        await store.retry((await store.reserve_one()).ref)
        await store.create(third)
        assert await store.reserve_ids() == [second.id, first.id, third.id]

    async def test_p6_a_released_job_stands_behind_those_that_are_ready(self, store: Store) -> None:
        first, second, third = new_jobs(3)
        await store.create(first, second)
        await store.release((await store.reserve_one()).ref)
        await store.create(third)
        assert await store.reserve_ids() == [second.id, first.id, third.id]

    async def test_p6_a_requeued_job_stands_behind_those_that_are_ready(self, store: Store) -> None:
        dead, early, late = new_job(), new_job(), new_job()
        await store.make_dead(dead)
        await store.create(early)
        await store.requeue(dead.id)
        await store.create(late)
        assert await store.reserve_ids() == [early.id, dead.id, late.id]

    async def test_p6_a_job_that_became_ready_again_keeps_its_priority(self, store: Store) -> None:
        urgent, other = new_job(priority=1), new_job()
        await store.create(urgent, other)
        await store.retry((await store.reserve_one()).ref)
        assert await store.reserve_ids() == [urgent.id, other.id]

    async def test_p6_queues_are_served_in_the_order_given(self, store: Store) -> None:
        a, b = new_jobs(2, "a"), new_jobs(2, "b", priority=100)
        await store.create(*b, *a)
        assert await store.reserve_ids("a", "b", max_jobs=3) == [a[0].id, a[1].id, b[0].id]
        assert await store.reserve_ids("a", "b") == [b[1].id]

    async def test_p6_taking_jobs_out_of_the_line_leaves_the_others_in_order(
        self, store: Store
    ) -> None:
        jobs = new_jobs(6)
        await store.create(*jobs)
        await store.cancel(jobs[0].id, jobs[3].id)
        assert await store.reserve_ids() == [jobs[index].id for index in (1, 2, 4, 5)]


class ReserveContract:
    async def test_p2_a_leased_job_is_not_leased_again(self, store: Store) -> None:
        await store.create(new_job())
        await store.reserve_one()
        assert await store.reserve() == []
        store.advance(LEASE + HOUR)
        assert await store.reserve() == []

    async def test_p2_one_job_goes_to_one_of_two_workers(self, store: Store) -> None:
        jobs = new_jobs(10)
        await store.create(*jobs)
        first, second = await store.reserve_ids(max_jobs=6), await store.reserve_ids(max_jobs=6)
        assert [*first, *second] == [job.id for job in jobs]

    async def test_at_most_max_jobs_are_leased(self, store: Store) -> None:
        await store.create(*new_jobs(5))
        assert len(await store.reserve(max_jobs=3)) == 3
        counts = await store.counts()
        assert (counts.depth.ready, counts.depth.leased, counts.totals.started) == (2, 3, 3)

    async def test_nothing_comes_of_queues_that_are_empty_or_unknown(self, store: Store) -> None:
        await store.create(new_job("a"))
        assert await store.reserve("b", "c") == []
        assert [queue.name for queue in await store.driver.queues()] == ["a"]

    async def test_a_lease_carries_the_job(self, store: Store) -> None:
        job = new_job(due_at=START + SECOND, type="U", envelope=b"work")
        await store.create(job)
        store.advance(3 * SECOND)
        await store.promote()
        store.advance(SECOND)
        leased = await store.reserve_one(lease=LEASE)
        assert leased == Leased(
            ref=LeaseRef("q", job.id, leased.ref.grant),
            type="U",
            envelope=b"work",
            attempt=1,
            lease_until=store.now + LEASE,
            enqueued_at=START,
            ready_at=START + 3 * SECOND,
        )

    async def test_a_leased_job_says_so(self, store: Store) -> None:
        job = new_job()
        await store.create(job)
        store.advance(SECOND)
        await store.reserve_one(worker_id="worker-7@host", lease=LEASE)
        record = await store.get(job.id)
        assert (record.state, record.attempt) == (JobState.LEASED, 1)
        assert (record.worker_id, record.started_at) == ("worker-7@host", store.now)
        assert (record.lease_until, record.available_at) == (store.now + LEASE, None)

    async def test_p5_a_later_lease_carries_what_the_attempt_before_left(
        self, store: Store
    ) -> None:
        await store.create(new_job())
        first = await store.reserve_one()
        progress = Progress(0.5, "halfway — ½", b"\x00row 12")
        await store.extend(first.ref, progress=progress)
        await store.retry(first.ref, failure=BOOM)
        second = await store.reserve_one()
        assert (second.attempt, second.failure, second.progress) == (2, BOOM, progress)
        assert second.ref.grant != first.ref.grant

    async def test_p3_the_same_request_gets_the_same_leases(self, store: Store) -> None:
        await store.create(*new_jobs(5))
        first = await store.reserve(max_jobs=3, request_id="r1")
        store.heard.take()
        store.advance(SECOND)
        again = await store.reserve(max_jobs=5, request_id="r1", lease=HOUR, worker_id="other")
        assert sorted(again, key=_id) == sorted(first, key=_id)
        counts = await store.counts()
        assert (counts.depth.leased, counts.totals.started) == (3, 3)
        assert store.heard.take() == ({}, [])

    async def test_p3_a_repeated_request_gets_those_leases_that_still_live(
        self, store: Store
    ) -> None:
        await store.create(*new_jobs(4))
        one, two, three = await store.reserve(max_jobs=3, request_id="r1")
        await store.ack(one.ref)
        store.advance(SECOND)
        extended = await store.extend(two.ref, lease=HOUR)
        await store.lose(three.ref)
        again = {leased.ref: leased for leased in await store.reserve(request_id="r1", max_jobs=9)}
        assert set(again) == {two.ref, three.ref}
        assert again[two.ref].lease_until == extended.lease_until == store.now + HOUR
        assert again[three.ref].lease_until == three.lease_until

    async def test_p3_a_request_none_of_whose_leases_live_is_granted_anew(
        self, store: Store
    ) -> None:
        jobs = new_jobs(2)
        await store.create(*jobs)
        await store.ack((await store.reserve_one(request_id="r1")).ref)
        assert (await store.reserve_one(request_id="r1")).ref.job_id == jobs[1].id

    async def test_p3_a_reserve_of_no_jobs_gets_what_its_request_was_granted(
        self, store: Store
    ) -> None:
        await store.create(*new_jobs(3))
        granted = await store.reserve(max_jobs=2, request_id="r1")
        store.heard.take()
        for queues in (["q"], ["elsewhere"]):
            again = await store.reserve(*queues, max_jobs=0, request_id="r1")
            assert sorted(again, key=_id) == sorted(granted, key=_id)
        await store.ack(granted[0].ref)
        assert await store.reserve(max_jobs=0, request_id="r1") == granted[1:]
        await store.ack(granted[1].ref)
        assert await store.reserve(max_jobs=0, request_id="r1") == []
        assert (await store.counts()).depth == Depth(ready=1)

    async def test_a_reserve_of_no_jobs_changes_nothing(self, store: Store) -> None:
        await store.create(new_job(), stale := new_job(expires_at=START + SECOND))
        store.heard.take()
        store.advance(SECOND)
        for request_id in ("", "r1"):
            assert await store.reserve(max_jobs=0, request_id=request_id) == []
            assert await store.reserve(max_jobs=0, request_id=request_id, max_bytes=1) == []
        assert store.heard.take() == ({}, [])
        assert await store.state(stale.id) is JobState.READY
        assert (await store.counts()).totals.started == 0

    async def test_p3_other_requests_and_nameless_ones_get_other_jobs(self, store: Store) -> None:
        jobs = new_jobs(4)
        await store.create(*jobs)
        refs = [
            (await store.reserve_one(request_id=request_id)).ref.job_id
            for request_id in ("r1", "r2", "", "")
        ]
        assert refs == [job.id for job in jobs]

    async def test_p7_a_job_past_its_validity_is_not_leased_but_dead(self, store: Store) -> None:
        stale = [new_job(expires_at=START + SECOND) for _ in range(3)]
        fresh, last = new_job(expires_at=START + SECOND + 1), new_job(expires_at=START + SECOND)
        await store.create(*stale, fresh, last)
        store.heard.take()
        store.advance(SECOND)
        assert await store.reserve_ids(max_jobs=1) == [fresh.id]
        assert sorted(await store.dead_ids()) == sorted(job.id for job in stale)
        assert sorted(store.heard.take()[1]) == sorted(job.id for job in stale)
        dead = await store.get(stale[0].id)
        assert (dead.dead_reason, dead.finished_at) == (DeadReason.EXPIRED, store.now)
        assert (dead.attempt, dead.started_at, dead.available_at) == (0, None, None)
        totals = (await store.counts()).totals
        assert (totals.dead_lettered, totals.failed, totals.started) == (3, 0, 1)

    async def test_p7_a_job_that_was_started_does_not_expire(self, store: Store) -> None:
        job = new_job(expires_at=START + SECOND)
        await store.create(job)
        await store.retry((await store.reserve_one()).ref)
        store.advance(HOUR)
        assert await store.expire() == 0
        assert await store.reserve_ids() == [job.id]

    async def test_p7_a_job_that_was_only_released_does_expire(self, store: Store) -> None:
        jobs = new_jobs(2, expires_at=START + SECOND)
        await store.create(*jobs)
        for leased in await store.reserve(max_jobs=2):
            await store.release(leased.ref)
        store.advance(SECOND)
        assert await store.expire(limit=1) == 1
        assert await store.reserve() == []
        assert sorted(await store.dead_ids()) == sorted(job.id for job in jobs)

    async def test_a_paused_queue_gives_nothing(self, store: Store) -> None:
        a, b = new_jobs(2, "a"), new_jobs(2, "b")
        await store.create(*a, *b)
        await store.driver.set_paused("a", True)
        assert await store.reserve_ids("a", "b", max_jobs=3) == [job.id for job in b]
        await store.create(new_job("a"))
        assert await store.reserve("a") == []
        await store.driver.set_paused("a", False)
        assert len(await store.reserve_ids("a")) == 3

    async def test_a_pause_leaves_running_leases_alone(self, store: Store) -> None:
        await store.create(*new_jobs(2))
        leased = await store.reserve_one(request_id="r1")
        await store.driver.set_paused("q", True)
        assert await store.reserve(request_id="r1") == [leased]
        assert (await store.ack(leased.ref))[0].applied

    async def test_p8_a_resume_tells_the_listener_what_can_be_leased(self, store: Store) -> None:
        await store.create(*new_jobs(3))
        await store.driver.set_paused("q", True)
        store.heard.take()
        await store.driver.set_paused("q", False)
        assert store.heard.take() == ({"q": 3}, [])


def _id(leased: Leased) -> str:
    return leased.ref.job_id

"""Bugs in who gets which job."""

from typing import Any

from msgspec.structs import replace

from tests.contract.planted_bugs.planting import bug, put_in_front, with_ready_line, wrap
from towline_broker.domain.jobs import JobState
from towline_broker.drivers.memory import Engine
from towline_broker.drivers.memory.lines import ReadyLine
from towline_broker.drivers.memory.records import Lease, all_leased


@bug("test_p2_a_leased_job_is_not_leased_again")
def a_lease_is_granted_twice(engine: Engine) -> None:
    def make(reserve_from: Any) -> Any:
        def broken(queue: Any, request: Any, granted: Any, room: int) -> Any:
            rest = reserve_from(queue, request, granted, room)
            for job in engine._state.jobs.values():
                wanted = len(granted) < request.max_jobs and job.new.queue == queue.name
                if wanted and job.state is JobState.LEASED:
                    length = request.lease
                    lease = Lease(request.grant, request.now, request.now + length, length, "", "")
                    granted.extend(all_leased([job], lease))
            return rest

        return broken

    wrap(engine, "_reserve_from", make)


@bug("test_p5_attempts_equal_leases_less_releases")
def attempts_are_off_by_one(engine: Engine) -> None:
    def make(grant: Any) -> Any:
        def broken(jobs: Any, lease: Any) -> None:
            grant(jobs, lease)
            for job in jobs:
                job.attempt += job.attempt > 1

        return broken

    wrap(engine._state, "grant", make)


@bug("test_p6_higher_priority_leaves_first")
def priority_is_reversed(engine: Engine) -> None:
    def front(line: ReadyLine, most: int) -> Any:
        if not line._priorities:
            return []
        return line._by_priority[line._priorities[0]].front(most)

    with_ready_line(engine, front=front)


@bug("test_p6_push_order_holds_for_any_ids")
def jobs_leave_in_the_order_of_their_ids(engine: Engine) -> None:
    def front(line: ReadyLine, most: int) -> Any:
        if not line._priorities:
            return []
        jobs = line._by_priority[line._priorities[-1]]
        return sorted(jobs, key=lambda job: job.id)[:most]

    def remove_front(line: ReadyLine, jobs: Any) -> None:
        for job in jobs:
            line.remove(job)

    with_ready_line(engine, front=front, remove_front=remove_front)


@bug("test_p6_a_delayed_job_stands_behind_those_that_are_ready")
def a_delayed_job_comes_in_front(engine: Engine) -> None:
    def make(promote: Any) -> Any:
        def broken(now: Any, limit: Any) -> Any:
            job_ids = engine._state.due.due(now, limit)
            count = promote(now, limit)
            for job_id in reversed(job_ids):
                put_in_front(engine, job_id)
            return count

        return broken

    wrap(engine, "promote", make)


@bug("test_p6_a_retried_job_stands_behind_those_that_are_ready")
def a_retried_job_comes_in_front(engine: Engine) -> None:
    def make(nack: Any) -> Any:
        def broken(item: Any, batch: Any) -> Any:
            settled = nack(item, batch)
            job = engine._state.jobs.get(item.ref.job_id)
            if settled.applied and job is not None and job.state is JobState.READY:
                put_in_front(engine, job.new.id)
            return settled

        return broken

    wrap(engine, "_nack", make)


@bug("test_p6_a_delayed_job_is_not_leased_before_its_time")
def a_delayed_job_comes_too_early(engine: Engine) -> None:
    wrap(engine, "promote", lambda promote: lambda now, limit: promote(now + 1, limit))


@bug("test_at_most_max_jobs_are_leased")
def more_than_max_jobs_are_leased(engine: Engine) -> None:
    def make(reserve_from: Any) -> Any:
        def broken(queue: Any, request: Any, granted: Any, room: int) -> Any:
            one_more = replace(request, max_jobs=request.max_jobs + 1)
            return reserve_from(queue, one_more, granted, room)

        return broken

    wrap(engine, "_reserve_from", make)


@bug("test_p6_p11_a_bound_in_bytes_leaves_the_rest_where_it_is")
def each_queue_has_a_bound_in_bytes_of_its_own(engine: Engine) -> None:
    def make(reserve_from: Any) -> Any:
        def broken(queue: Any, request: Any, granted: Any, room: int) -> Any:
            reserve_from(queue, request, granted, room)
            return room

        return broken

    wrap(engine, "_reserve_from", make)


@bug("test_p7_a_job_past_its_validity_is_not_leased_but_dead")
def an_expired_job_is_leased(engine: Engine) -> None:
    def make(reserve_from: Any) -> Any:
        def broken(queue: Any, request: Any, granted: Any, room: int) -> Any:
            for job in queue.ready:
                job.expires_at = None
            return reserve_from(queue, request, granted, room)

        return broken

    wrap(engine, "_reserve_from", make)


@bug("test_a_paused_queue_gives_nothing")
def a_paused_queue_leaks(engine: Engine) -> None:
    def make(reserve: Any) -> Any:
        def broken(request: Any) -> Any:
            paused = [queue for queue in engine._state.queues.values() if queue.paused]
            for queue in paused:
                queue.paused = False
            try:
                return reserve(request)
            finally:
                for queue in paused:
                    queue.paused = True

        return broken

    wrap(engine, "reserve", make)


@bug("test_p3_the_same_request_gets_the_same_leases")
def a_repeated_request_gets_new_leases(engine: Engine) -> None:
    def make(reserve: Any) -> Any:
        return lambda request: reserve(replace(request, request_id=""))

    wrap(engine, "reserve", make)

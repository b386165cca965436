"""Bugs in moving a queue to another store."""

from typing import Any

from msgspec.structs import replace

from tests.contract.planted_bugs.planting import bug, put_in_front, wrap
from towline_broker.domain.errors import QueueMoved
from towline_broker.domain.jobs import JobState
from towline_broker.drivers.interface import CopyPage, Transfer
from towline_broker.drivers.memory import Engine

# --- sealing --------------------------------------------------------------------------------------


@bug("test_a_sealed_queue_gives_nothing")
def a_sealed_queue_leaks(engine: Engine) -> None:
    def make(reserve: Any) -> Any:
        def broken(request: Any) -> Any:
            sealed = {queue: queue.moving_to for queue in engine._state.queues.values()}
            for queue in sealed:
                queue.moving_to = ""
            try:
                return reserve(request)
            finally:
                for queue, to in sealed.items():
                    queue.moving_to = to

        return broken

    wrap(engine, "reserve", make)


@bug("test_a_sealed_queue_goes_on_taking_jobs")
def a_sealed_queue_takes_no_jobs(engine: Engine) -> None:
    def make(push: Any) -> Any:
        def broken(batch: Any) -> Any:
            for job in batch.jobs:
                queue = engine._state.queues.get(job.queue)
                if queue is not None and queue.moving_to:
                    raise QueueMoved(queue.name, queue.moving_to)
            return push(batch)

        return broken

    wrap(engine, "push", make)


@bug("test_a_seal_and_a_pause_stand_beside_each_other")
def sealing_ends_a_pause(engine: Engine) -> None:
    def make(seal: Any) -> Any:
        def broken(queue: Any, to: str) -> None:
            queue.paused = False
            seal(queue, to)

        return broken

    wrap(engine._state, "seal", make)


@bug("test_p8_a_queue_that_stays_after_all_is_told_of", found_at_random=False)
def nobody_is_told_that_a_queue_stays(engine: Engine) -> None:
    def make(seal: Any) -> Any:
        def broken(queue: Any, to: str) -> None:
            before = engine._state.events.ready[queue.name]
            seal(queue, to)
            engine._state.events.ready[queue.name] = before

        return broken

    wrap(engine._state, "seal", make)


# --- leaving --------------------------------------------------------------------------------------


def with_transfers(engine: Engine, change: Any) -> None:
    """Changes what is told of the jobs that leave."""

    def make(outgoing: Any) -> Any:
        return lambda name, limit: change(outgoing(name, limit))

    wrap(engine, "outgoing", make)


@bug("test_p6_jobs_leave_in_the_order_of_their_lines")
def jobs_leave_in_no_order(engine: Engine) -> None:
    with_transfers(engine, lambda leaving: sorted(leaving, key=lambda one: one.new.id))


@bug("test_p6_jobs_leave_in_the_order_of_their_lines")
def the_dead_stay_behind(engine: Engine) -> None:
    def change(leaving: list[Transfer]) -> list[Transfer]:
        return [one for one in leaving if one.record.state is not JobState.DEAD]

    with_transfers(engine, change)


@bug("test_an_expiry_that_no_longer_counts_is_left_out")
def a_started_job_expires_again(engine: Engine) -> None:
    def change(leaving: list[Transfer]) -> list[Transfer]:
        jobs = [engine._state.jobs[one.new.id] for one in leaving]
        return [
            replace(one, new=replace(one.new, expires_at=job.expires_at))
            for one, job in zip(leaving, jobs, strict=True)
        ]

    with_transfers(engine, change)


@bug("test_a_transfer_tells_whether_the_job_holds_its_key")
def every_key_counts_as_held(engine: Engine) -> None:
    def change(leaving: list[Transfer]) -> list[Transfer]:
        return [replace(one, holds_key=one.new.unique_key is not None) for one in leaving]

    with_transfers(engine, change)


@bug("test_a_transfer_tells_all_of_the_job")
def a_key_loses_its_time(engine: Engine) -> None:
    def change(leaving: list[Transfer]) -> list[Transfer]:
        return [replace(one, new=replace(one.new, unique_until=None)) for one in leaving]

    with_transfers(engine, change)


@bug("test_p1_jobs_of_every_state_arrive_as_they_were", found_at_random=False)
def results_stay_behind(engine: Engine) -> None:
    def change(leaving: list[Transfer]) -> list[Transfer]:
        return [replace(one, record=replace(one.record, result=b"")) for one in leaving]

    with_transfers(engine, change)


# --- arriving -------------------------------------------------------------------------------------


def with_received(engine: Engine, change: Any) -> None:
    """Changes what arrives; ``change`` gets the transfer and what would store it."""

    def make(receive: Any) -> Any:
        def broken(transfer: Transfer, *, takes_key: bool) -> None:
            change(transfer, lambda one: receive(one, takes_key=takes_key))

        return broken

    wrap(engine._state, "receive", make)


@bug("test_p5_the_next_attempt_counts_on", found_at_random=False)
def attempts_start_over(engine: Engine) -> None:
    def change(one: Transfer, receive: Any) -> None:
        receive(replace(one, record=replace(one.record, attempt=0)))

    with_received(engine, change)


@bug("test_p1_jobs_of_every_state_arrive_as_they_were", found_at_random=False)
def failures_stay_behind(engine: Engine) -> None:
    def change(one: Transfer, receive: Any) -> None:
        receive(replace(one, record=replace(one.record, failure=None)))

    with_received(engine, change)


@bug("test_p1_jobs_of_every_state_arrive_as_they_were")
def times_start_over(engine: Engine) -> None:
    def change(one: Transfer, receive: Any) -> None:
        since = (one.record.available_at or 0) + 1
        receive(replace(one, record=replace(one.record, available_at=since)))

    with_received(engine, change)


@bug("test_p6_a_delayed_job_becomes_ready_at_its_time", found_at_random=False)
def delays_are_forgotten(engine: Engine) -> None:
    def change(one: Transfer, receive: Any) -> None:
        if one.record.state is JobState.SCHEDULED:
            one = replace(one, record=replace(one.record, state=JobState.READY))
        receive(one)

    with_received(engine, change)


@bug("test_p6_they_stand_behind_those_that_are_there", found_at_random=False)
def jobs_that_arrive_come_first(engine: Engine) -> None:
    def change(one: Transfer, receive: Any) -> None:
        receive(one)
        if one.record.state is JobState.READY:
            put_in_front(engine, one.new.id)

    with_received(engine, change)


@bug("test_p8_the_listener_hears_of_those_that_are_ready")
def nobody_is_told_of_arrivals(engine: Engine) -> None:
    def change(one: Transfer, receive: Any) -> None:
        receive(one)
        engine._state.events.ready.clear()

    with_received(engine, change)


@bug("test_depths_count_and_totals_do_not")
def an_arrival_counts_as_a_push(engine: Engine) -> None:
    def change(one: Transfer, receive: Any) -> None:
        receive(one)
        engine._state.jobs[one.new.id].tally.totals.pushed += 1

    with_received(engine, change)


@bug("test_retention_ends_when_it_would_have", found_at_random=False)
def retention_is_forgotten(engine: Engine) -> None:
    def change(one: Transfer, receive: Any) -> None:
        receive(one)
        if one.keep_until is not None:
            engine._state.retained.set(one.new.id, one.keep_until + 1)

    with_received(engine, change)


@bug("test_a_paused_queue_stays_paused", found_at_random=False)
def an_arrival_ends_a_pause(engine: Engine) -> None:
    def change(one: Transfer, receive: Any) -> None:
        receive(one)
        engine._state.queues[one.new.queue].paused = False

    with_received(engine, change)


@bug("test_p3_a_job_that_is_there_is_passed_over", found_at_random=False)
def what_was_settled_arrives_again(engine: Engine) -> None:
    def make(receive: Any) -> Any:
        def broken(batch: Any, now: Any) -> Any:
            for one in batch:
                engine._state.memory.forget_job(one.new.id)
            return receive(batch, now)

        return broken

    wrap(engine, "receive", make)


@bug("test_p3_a_key_is_held_by_its_job_in_the_new_store", found_at_random=False)
def keys_stay_behind(engine: Engine) -> None:
    def make(receive: Any) -> Any:
        return lambda transfer, *, takes_key: receive(transfer, takes_key=False)

    wrap(engine._state, "receive", make)


@bug("test_p3_a_key_stays_with_whoever_holds_it_there", found_at_random=False)
def an_arrival_takes_a_key_away(engine: Engine) -> None:
    def make(receive: Any) -> Any:
        return lambda transfer, *, takes_key: receive(transfer, takes_key=transfer.holds_key)

    wrap(engine._state, "receive", make)


# --- letting go -----------------------------------------------------------------------------------


def with_dropped(engine: Engine, change: Any) -> None:
    def make(drop: Any) -> Any:
        return lambda job: change(job, drop)

    wrap(engine._state, "drop", make)


@bug("test_the_keys_of_dropped_jobs_are_free", found_at_random=False)
def a_dropped_job_keeps_its_key(engine: Engine) -> None:
    with_dropped(engine, lambda job, drop: engine._state.remove(job))


@bug("test_dropped_jobs_are_gone_without_a_trace", found_at_random=False)
def a_dropped_job_counts_as_cancelled(engine: Engine) -> None:
    def change(job: Any, drop: Any) -> None:
        drop(job)
        job.tally.totals.cancelled += 1

    with_dropped(engine, change)


@bug("test_dropped_jobs_can_come_back", found_at_random=False)
def a_dropped_job_is_remembered(engine: Engine) -> None:
    def change(job: Any, drop: Any) -> None:
        engine._state.remove(job)
        engine._state.free_key(job)

    with_dropped(engine, change)


@bug("test_dropped_jobs_are_gone_without_a_trace", found_at_random=False)
def a_dropped_job_is_called_ended(engine: Engine) -> None:
    def change(job: Any, drop: Any) -> None:
        drop(job)
        engine._state.events.ended.append("somebody else")

    with_dropped(engine, change)


@bug("test_what_is_leased_or_elsewhere_is_not_dropped", found_at_random=False)
def a_leased_job_is_dropped(engine: Engine) -> None:
    def make(drop: Any) -> Any:
        def broken(name: str, seen: Any) -> Any:
            leased = set()
            for one in seen:
                job = engine._state.jobs.get(one.job_id)
                if job is not None and job.queue == name and job.state is JobState.LEASED:
                    engine._state.drop(job)
                    leased.add(one.job_id)
            return [job_id for job_id in drop(name, seen) if job_id not in leased]

        return broken

    wrap(engine, "drop", make)


@bug("test_what_is_leased_or_elsewhere_is_not_dropped", found_at_random=False)
def jobs_of_other_queues_are_dropped(engine: Engine) -> None:
    def make(drop: Any) -> Any:
        def broken(name: str, seen: Any) -> Any:
            stayed = [set(drop(queue, seen)) for queue in list(engine._state.queues)]
            return [one.job_id for one in seen if all(one.job_id in some for some in stayed)]

        return broken

    wrap(engine, "drop", make)


def as_it_stands(engine: Engine, one: Any) -> Any:
    job = engine._state.jobs.get(one.job_id)
    return one if job is None else replace(one, state=job.state, attempt=job.attempt)


@bug("test_p3_a_job_that_has_changed_since_it_was_seen_is_not_dropped", found_late=True)
def a_job_is_dropped_whatever_has_become_of_it(engine: Engine) -> None:
    wrap(
        engine,
        "drop",
        lambda drop: lambda name, seen: drop(name, [as_it_stands(engine, one) for one in seen]),
    )


@bug("test_p3_a_job_that_has_changed_since_it_was_seen_is_not_dropped", found_at_random=False)
def a_job_of_another_attempt_is_dropped(engine: Engine) -> None:
    def make(drop: Any) -> Any:
        def broken(name: str, seen: Any) -> Any:
            now = [as_it_stands(engine, one) for one in seen]
            return drop(
                name,
                [replace(was, attempt=one.attempt) for was, one in zip(seen, now, strict=True)],
            )

        return broken

    wrap(engine, "drop", make)


@bug("test_what_is_leased_or_elsewhere_is_not_dropped", found_at_random=False)
def what_was_dropped_is_told(engine: Engine) -> None:
    def make(drop: Any) -> Any:
        def broken(name: str, seen: Any) -> Any:
            stayed = set(drop(name, seen))
            return [one.job_id for one in seen if one.job_id not in stayed]

        return broken

    wrap(engine, "drop", make)


# --- forwarding -----------------------------------------------------------------------------------


@bug("test_p1_a_queue_forwards_only_when_it_holds_no_job_of_any_state", found_at_random=False)
def a_queue_forwards_and_leaves_its_dead_behind(engine: Engine) -> None:
    def make(forward: Any) -> Any:
        def broken(name: str) -> bool:
            queue = engine._queue(name)
            if queue.moving_to and not queue.live:
                engine._state.forward(queue)
                return True
            return bool(forward(name))

        return broken

    wrap(engine, "forward", make)


@bug("test_a_queue_that_is_not_sealed_does_not_forward", found_at_random=False)
def a_queue_at_home_forwards(engine: Engine) -> None:
    def make(forward: Any) -> Any:
        def broken(name: str) -> bool:
            queue = engine._queue(name)
            home = queue.moving_to
            queue.moving_to = home or "somewhere"
            complete = bool(forward(name))
            queue.moving_to = queue.moving_to if complete else home
            return complete

        return broken

    wrap(engine, "forward", make)


@bug("test_a_queue_that_holds_nothing_forwards", found_at_random=False)
def a_queue_that_moved_takes_jobs(engine: Engine) -> None:
    def make(forward: Any) -> Any:
        def broken(queue: Any) -> None:
            """Says so, and does not do it."""

        return broken

    wrap(engine._state, "forward", make)


@bug("test_a_queue_that_moved_can_be_at_home_again", found_at_random=False)
def a_queue_that_moved_never_comes_home(engine: Engine) -> None:
    def make(seal: Any) -> Any:
        def broken(queue: Any, to: str) -> None:
            moved = queue.moved
            seal(queue, to)
            queue.moved = moved

        return broken

    wrap(engine._state, "seal", make)


@bug("test_p9_a_batch_with_a_job_for_a_queue_that_moved_leaves_nothing", found_at_random=False)
def a_batch_for_a_queue_that_moved_is_stored_in_part(engine: Engine) -> None:
    def make(push: Any) -> Any:
        def broken(batch: Any) -> Any:
            try:
                return push(batch)
            except QueueMoved:
                moved = {queue.name for queue in engine._state.queues.values() if queue.moved}
                rest = [job for job in batch.jobs if job.queue not in moved]
                push(replace(batch, jobs=rest))
                raise

        return broken

    wrap(engine, "push", make)


# --- copies ---------------------------------------------------------------------------------------


def with_copies(engine: Engine, change: Any) -> None:
    """Changes what is told of all that is stored."""

    def make(copies: Any) -> Any:
        def broken(limit: int, cursor: str | None) -> CopyPage:
            page: CopyPage = copies(limit, cursor)
            return replace(page, copies=change(page.copies))

        return broken

    wrap(engine, "copies", make)


@bug("test_copies_tell_what_leaving_jobs_tell", found_at_random=False)
def the_dead_are_not_copied(engine: Engine) -> None:
    with_copies(
        engine,
        lambda copies: [one for one in copies if one.transfer.record.state is not JobState.DEAD],
    )


@bug("test_a_leased_job_is_copied_with_its_lease", found_at_random=False)
def leased_jobs_are_not_copied(engine: Engine) -> None:
    with_copies(
        engine,
        lambda copies: [one for one in copies if one.transfer.record.state is not JobState.LEASED],
    )


@bug("test_p6_places_are_in_the_order_of_the_line", found_at_random=False)
def copies_are_placed_by_their_push(engine: Engine) -> None:
    with_copies(
        engine,
        lambda copies: [replace(one, place=at) for at, one in enumerate(copies)],
    )


@bug("test_a_job_that_changes_meanwhile_is_copied_once", found_at_random=False)
def copies_go_by_the_line(engine: Engine) -> None:
    def make(copies: Any) -> Any:
        def broken(limit: int, cursor: str | None) -> CopyPage:
            page = sorted(copies(1_000, None).copies, key=lambda one: -one.transfer.record.state)
            first = int(cursor or 0)
            more = first + limit < len(page)
            return CopyPage(page[first : first + limit], str(first + limit) if more else None)

        return broken

    wrap(engine, "copies", make)

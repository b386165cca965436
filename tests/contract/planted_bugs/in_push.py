"""Bugs in what is stored and recognized."""

from typing import Any

from msgspec.structs import replace

from tests.contract.planted_bugs.planting import bug, wrap
from towline_broker.domain.errors import QueueFull
from towline_broker.drivers.interface import PushOutcome, PushResult
from towline_broker.drivers.memory import Engine
from towline_broker.drivers.memory.parts import PartedDict


@bug("test_p1_a_whole_batch_is_stored_in_its_order")
def the_last_job_of_a_batch_is_dropped(engine: Engine) -> None:
    def make(push: Any) -> Any:
        def broken(batch: Any) -> Any:
            short = replace(batch, jobs=batch.jobs[:-1] if len(batch.jobs) > 1 else batch.jobs)
            lost = [
                PushResult(job.id, PushOutcome.CREATED) for job in batch.jobs[len(short.jobs) :]
            ]
            return push(short) + lost

        return broken

    wrap(engine, "push", make)


@bug("test_p9_a_refused_batch_leaves_nothing")
def part_of_a_refused_batch_is_stored(engine: Engine) -> None:
    def make(push: Any) -> Any:
        def broken(batch: Any) -> Any:
            try:
                return push(batch)
            except QueueFull:
                push(replace(batch, all_or_nothing=False))
                raise

        return broken

    wrap(engine, "push", make)


@bug("test_p3_a_held_key_answers_with_its_holder")
def a_unique_key_is_lost(engine: Engine) -> None:
    engine._state.keys.take = lambda *arguments: None  # type: ignore[method-assign]


@bug("test_p3_a_key_is_held_until_the_job_has_ended", found_late=True)
def a_unique_key_is_never_freed(engine: Engine) -> None:
    engine._state.keys.job_ended = lambda *arguments: None  # type: ignore[method-assign]


@bug("test_p3_a_key_held_for_a_time_outlives_its_job")
def a_timed_unique_key_ends_with_its_job(engine: Engine) -> None:
    keys = engine._state.keys
    keys.job_ended = keys.free  # type: ignore[method-assign]


@bug("test_p3_a_key_held_for_a_time_is_free_after_it_though_its_job_waits")
def a_job_frees_a_key_that_another_holds_by_now(engine: Engine) -> None:
    keys = engine._state.keys

    def free(queue: str, key: str, job_id: str) -> None:
        keys._held.pop((queue, key), None)

    keys.free = free  # type: ignore[method-assign]


@bug("test_p4_a_push_repeated_after_the_job_was_done_stores_nothing")
def ids_of_ended_jobs_are_not_remembered(engine: Engine) -> None:
    class Forgetful(PartedDict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            """Does not."""

    engine._state.memory.jobs = Forgetful()


@bug("test_p11_scheduled_and_leased_jobs_count_and_ended_ones_do_not")
def leased_jobs_do_not_count_for_the_depth_of_a_queue(engine: Engine) -> None:
    def make(grant: Any) -> Any:
        def broken(jobs: Any, lease: Any) -> None:
            grant(jobs, lease)
            for job in jobs:
                engine._state.queues[job.queue].live -= 1

        return broken

    wrap(engine._state, "grant", make)


@bug("test_p8_the_listener_hears_how_many_jobs_became_ready")
def only_one_ready_job_of_a_batch_is_told(engine: Engine) -> None:
    def make(push: Any) -> Any:
        def broken(batch: Any) -> Any:
            results = push(batch)
            ready = engine._state.events.ready
            for queue in ready:
                ready[queue] = min(1, ready[queue])
            return results

        return broken

    wrap(engine, "push", make)

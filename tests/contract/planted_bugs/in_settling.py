"""Bugs in how leases end."""

from typing import Any

from msgspec.structs import replace

from tests.contract.planted_bugs.planting import bug, wrap
from towline_broker.domain.jobs import Settlement
from towline_broker.drivers.memory import Engine


@bug("test_p2_a_lease_is_named_by_all_of_its_reference")
def a_stale_token_is_accepted(engine: Engine) -> None:
    def held(ref: Any) -> Any:
        job = engine._state.jobs.get(ref.job_id)
        return None if job is None or job.lease is None else (job, job.lease)

    engine._held = held  # type: ignore[method-assign]


@bug("test_p4_a_result_is_readable_without_retention")
def the_result_is_lost(engine: Engine) -> None:
    wrap(engine, "_ack", lambda ack: lambda item, *rest: ack(replace(item, result=b""), *rest))


@bug("test_p3_a_repeated_ack_has_one_effect")
def a_repeated_ack_is_counted_twice(engine: Engine) -> None:
    def make(before: Any) -> Any:
        def broken(ref: Any) -> Any:
            settled = before(ref)
            if settled.before is Settlement.ACKED:
                for tally in engine._state.tallies.values():
                    tally.totals.completed += 1
            return settled

        return broken

    wrap(engine, "_settled_before", make)


@bug("test_p4_settlements_are_remembered_for_their_time_and_no_longer")
def the_settle_memory_forgets_at_once(engine: Engine) -> None:
    def make(settle: Any) -> Any:
        return lambda batch: settle(replace(batch, remember_until=0))

    wrap(engine, "ack", make)
    wrap(engine, "nack", make)


@bug("test_p4_with_retention_the_whole_job_stays_readable")
def retention_is_ignored(engine: Engine) -> None:
    def make(finish: Any) -> Any:
        def broken(job: Any, *arguments: Any, **named: Any) -> None:
            job.retention = 0
            finish(job, *arguments, **named)

        return broken

    wrap(engine._state, "finish", make)


@bug("test_p5_a_release_gives_the_attempt_back")
def a_release_keeps_the_attempt(engine: Engine) -> None:
    def make(count: Any) -> Any:
        def broken(job: Any, item: Any) -> None:
            attempt = job.attempt
            count(job, item)
            job.attempt = attempt

        return broken

    wrap(engine, "_count_nack", make)


@bug("test_p2_a_job_is_lost_only_once_its_lease_ran_out")
def a_job_is_taken_back_before_its_deadline(engine: Engine) -> None:
    def make(nack: Any) -> Any:
        def broken(item: Any, batch: Any) -> Any:
            held = engine._held(item.ref)
            if held is not None and item.settlement is Settlement.LOST:
                engine._state.set_lease(held[0], held[1]._replace(until=0))
            return nack(item, batch)

        return broken

    wrap(engine, "_nack", make)


@bug("test_a_failure_stays_until_another_is_told")
def a_silent_retry_wipes_the_failure(engine: Engine) -> None:
    def make(nack: Any) -> Any:
        def broken(item: Any, batch: Any) -> Any:
            held = engine._held(item.ref)
            if held is not None:
                held[0].failure = None
            return nack(item, batch)

        return broken

    wrap(engine, "_nack", make)

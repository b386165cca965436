"""Bugs in extending leases and in upkeep."""

from typing import Any

from tests.contract.planted_bugs.planting import bug, wrap
from towline_broker.domain.jobs import JobState, Progress, Settlement
from towline_broker.domain.time import SECOND
from towline_broker.drivers.interface import Extended
from towline_broker.drivers.memory import Engine
from towline_broker.drivers.memory.records import Lease


@bug("test_p2_an_extension_does_not_revive_a_lost_lease")
def an_extension_revives_a_lost_lease(engine: Engine) -> None:
    def make(extend: Any) -> Any:
        def broken(item: Any, now: Any) -> Any:
            extended = extend(item, now)
            job = engine._state.jobs.get(item.ref.job_id)
            if extended.before is not Settlement.LOST or job is None:
                return extended
            if job.state is not JobState.READY:
                return extended
            length = item.lease or 30 * SECOND
            lease = Lease(item.ref.grant, now, now + length, length, "", "")
            engine._state.queues[job.queue].ready.remove(job)
            engine._state.grant([job], lease)
            return Extended(lease.until)

        return broken

    wrap(engine, "_extend", make)


@bug("test_p10_leases_run_out_at_their_deadline_earliest_first")
def the_watch_over_deadlines_ignores_heartbeats(engine: Engine) -> None:
    def make(set_lease: Any) -> Any:
        return lambda job, lease: set_lease(job, lease._replace(until=job.lease.until))

    wrap(engine._state, "set_lease", make)


@bug("test_p10_an_extension_counts_from_now", found_late=True)
def an_extension_changes_the_length_that_was_granted(engine: Engine) -> None:
    def make(extend: Any) -> Any:
        def broken(item: Any, now: Any) -> Any:
            extended = extend(item, now)
            held = engine._held(item.ref)
            if held is not None:
                held[0].lease = held[1]._replace(length=held[1].until - now)
            return extended

        return broken

    wrap(engine, "_extend", make)


@bug("test_progress_is_kept_and_a_checkpoint_stays_until_the_next", found_late=True)
def a_later_progress_wipes_the_checkpoint(engine: Engine) -> None:
    def make(extend: Any) -> Any:
        def broken(item: Any, now: Any) -> Any:
            extended = extend(item, now)
            held = engine._held(item.ref)
            if held is not None and isinstance(item.progress, Progress):
                held[0].progress = item.progress
            return extended

        return broken

    wrap(engine, "_extend", make)


@bug("test_p7_a_job_that_was_started_does_not_expire")
def started_jobs_expire(engine: Engine) -> None:
    def make(enter: Any) -> Any:
        def broken(job: Any, now: Any, due_at: Any) -> None:
            enter(job, now, due_at)
            if job.expires_at is not None:
                engine._state.expiring.set(job.new.id, job.expires_at)

        return broken

    wrap(engine._state, "_enter_waiting", make)


@bug("test_p7_unstarted_jobs_expire_at_their_time_and_up_to_the_limit")
def a_scheduled_job_does_not_expire(engine: Engine) -> None:
    def make(enter: Any) -> Any:
        def broken(job: Any, now: Any, due_at: Any) -> None:
            enter(job, now, due_at)
            if job.state is JobState.SCHEDULED:
                engine._state.expiring.discard(job.new.id)

        return broken

    wrap(engine._state, "_enter_waiting", make)

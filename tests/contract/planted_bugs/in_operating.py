"""Bugs in dead letters, queues, cancelling and listing."""

from typing import Any

from msgspec.structs import replace

from tests.contract.planted_bugs.planting import bug, with_ready_line, wrap
from towline_broker.domain.jobs import JobPage, JobState
from towline_broker.drivers.interface import Handled
from towline_broker.drivers.memory import Engine
from towline_broker.drivers.memory.lines import ReadyLine


@bug("test_p7_dead_jobs_are_listed_once_in_the_order_of_their_deaths")
def a_dead_job_is_listed_twice(engine: Engine) -> None:
    def make(list_dead: Any) -> Any:
        def broken(query: Any) -> JobPage:
            page = list_dead(query)
            records = [*page.records, *page.records[:1]][: query.limit]
            return JobPage(records, page.next_cursor)

        return broken

    wrap(engine, "list_dead", make)


@bug("test_p7_a_requeued_job_starts_over")
def a_requeued_job_keeps_its_attempts(engine: Engine) -> None:
    def make(revive: Any) -> Any:
        def broken(job: Any, now: Any) -> None:
            attempt = job.attempt
            revive(job, now)
            job.attempt = attempt

        return broken

    wrap(engine._state, "revive", make)


@bug("test_p7_requeueing_keeps_to_its_limit_oldest_death_first", found_late=True)
def requeueing_ignores_its_limit(engine: Engine) -> None:
    def make(requeue: Any) -> Any:
        return lambda selection: requeue(replace(selection, limit=1_000_000))

    wrap(engine, "requeue_dead", make)


@bug("test_p7_a_filter_finds_what_matches_all_of_it")
def a_time_filter_is_off_by_one(engine: Engine) -> None:
    def make(select: Any) -> Any:
        def broken(wanted: Any, *after: Any) -> Any:
            before = wanted.dead_before
            return select(replace(wanted, dead_before=before and before + 1), *after)

        return broken

    wrap(engine._state.dead, "select", make)


@bug("test_p7_a_discarded_job_is_gone_and_its_id_remembered")
def a_discarded_job_is_requeued(engine: Engine) -> None:
    def discard(selection: Any, remember_until: Any) -> Handled:
        return engine.requeue_dead(selection)

    engine.discard_dead = discard  # type: ignore[method-assign]


@bug("test_a_purge_keeps_to_its_limit")
def a_purge_ignores_its_limit(engine: Engine) -> None:
    def make(purge: Any) -> Any:
        return lambda request: purge(replace(request, limit=1_000_000))

    wrap(engine, "purge", make)


@bug("test_p2_the_lease_of_a_cancelled_job_ends")
def cancelling_a_leased_job_is_not_counted(engine: Engine) -> None:
    def make(cancel: Any) -> Any:
        def broken(job_id: Any, request: Any) -> Any:
            job = engine._state.jobs.get(job_id)
            leased = job is not None and job.state is JobState.LEASED
            outcome = cancel(job_id, request)
            if leased and job is not None:
                job.tally.totals.cancelled -= 1
            return outcome

        return broken

    wrap(engine, "_cancel", make)


@bug("test_p3_waiting_jobs_never_start_once_cancelled")
def the_end_of_a_cancelled_job_is_not_told(engine: Engine) -> None:
    def make(cancel: Any) -> Any:
        def broken(request: Any) -> Any:
            outcomes = cancel(request)
            engine._state.events.ended.clear()
            return outcomes

        return broken

    wrap(engine, "cancel", make)


@bug("test_counts_of_pushed_jobs")
def the_count_of_scheduled_jobs_drifts(engine: Engine) -> None:
    def make(enter: Any) -> Any:
        def broken(job: Any, state: Any) -> None:
            enter(job, state)
            if state is JobState.SCHEDULED:
                job.tally.depth[JobState.SCHEDULED] += 1

        return broken

    wrap(engine._state, "_enter", make)


@bug("test_jobs_are_listed_in_push_order_page_by_page")
def a_page_of_jobs_skips_one(engine: Engine) -> None:
    def make(list_jobs: Any) -> Any:
        def broken(query: Any) -> JobPage:
            page = list_jobs(query)
            cursor = page.next_cursor
            return JobPage(page.records, cursor and str(int(cursor) + 1))

        return broken

    wrap(engine, "list_jobs", make)


@bug("test_the_longest_waiting_job_is_known_whatever_its_priority")
def only_the_highest_priority_counts_for_the_oldest_job(engine: Engine) -> None:
    def ready_since(line: ReadyLine) -> Any:
        front = line.front(1)
        return front[0].available_at if front else None

    with_ready_line(engine, ready_since=ready_since)


@bug("test_p8_a_resume_tells_the_listener_what_can_be_leased")
def a_resume_wakes_nobody(engine: Engine) -> None:
    def make(set_paused: Any) -> Any:
        def broken(name: Any, paused: Any) -> Any:
            changed = set_paused(name, paused)
            engine.take_events()
            return changed

        return broken

    wrap(engine, "set_paused", make)

"""Bugs planted in the memory engine, each a small departure from what it owes.

Every function below takes a sound engine and spoils it. The engine of the memory driver is made of
parts (its state, the lines in which jobs wait, the settle memory); a bug replaces one method of one
part, or wraps it.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from towline_broker.domain.errors import QueueFull
from towline_broker.domain.jobs import JobPage, JobState, Progress, Settlement
from towline_broker.domain.time import SECOND
from towline_broker.drivers.interface import Extended, Handled, PushOutcome, PushResult
from towline_broker.drivers.memory import Engine
from towline_broker.drivers.memory.lines import ReadyLine
from towline_broker.drivers.memory.records import Lease


@dataclass(frozen=True)
class Bug:
    #: A contract test that must fail on it.
    caught_by: str
    plant: Callable[[Engine], None]

    @property
    def name(self) -> str:
        return self.plant.__name__


BUGS: list[Bug] = []


def bug(caught_by: str) -> Callable[[Callable[[Engine], None]], Callable[[Engine], None]]:
    def add(plant: Callable[[Engine], None]) -> Callable[[Engine], None]:
        BUGS.append(Bug(caught_by, plant))
        return plant

    return add


def wrap(part: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replaces a method of one object by what ``make`` makes of it."""
    setattr(part, name, make(getattr(part, name)))


# --- push -----------------------------------------------------------------------------------------


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


@bug("test_p3_a_key_is_held_until_the_job_has_ended")
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
    engine._state.memory.remember_job = lambda *a, **k: None  # type: ignore[method-assign]


@bug("test_p11_scheduled_and_leased_jobs_count_and_ended_ones_do_not")
def leased_jobs_do_not_count_for_the_depth_of_a_queue(engine: Engine) -> None:
    def make(grant: Any) -> Any:
        def broken(job: Any, lease: Any) -> None:
            grant(job, lease)
            engine._state.queues[job.new.queue].live -= 1

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


# --- reserve --------------------------------------------------------------------------------------


@bug("test_p2_a_leased_job_is_not_leased_again")
def a_lease_is_granted_twice(engine: Engine) -> None:
    def make(reserve_from: Any) -> Any:
        def broken(queue: Any, request: Any, granted: Any) -> None:
            reserve_from(queue, request, granted)
            for job in engine._state.jobs.values():
                wanted = len(granted) < request.max_jobs and job.new.queue == queue.name
                if wanted and job.state is JobState.LEASED:
                    length = request.lease
                    lease = Lease(request.grant, request.now, request.now + length, length, "", "")
                    granted.append(job.leased(lease))

        return broken

    wrap(engine, "_reserve_from", make)


@bug("test_p5_attempts_equal_leases_less_releases")
def attempts_are_off_by_one(engine: Engine) -> None:
    def make(grant: Any) -> Any:
        def broken(job: Any, lease: Any) -> None:
            grant(job, lease)
            if job.attempt > 1:
                job.attempt += 1

        return broken

    wrap(engine._state, "grant", make)


@bug("test_p6_higher_priority_leaves_first")
def priority_is_reversed(engine: Engine) -> None:
    def first(line: ReadyLine) -> Any:
        if not line._priorities:
            return None
        return next(iter(line._by_priority[line._priorities[0]].values()))

    _with_ready_line(engine, first=first)


@bug("test_p6_push_order_holds_for_any_ids")
def jobs_leave_in_the_order_of_their_ids(engine: Engine) -> None:
    def first(line: ReadyLine) -> Any:
        if not line._priorities:
            return None
        jobs = line._by_priority[line._priorities[-1]].values()
        return min(jobs, key=lambda job: job.new.id)

    _with_ready_line(engine, first=first)


@bug("test_p6_a_delayed_job_stands_behind_those_that_are_ready")
def a_delayed_job_comes_in_front(engine: Engine) -> None:
    def make(promote: Any) -> Any:
        def broken(now: Any, limit: Any) -> Any:
            job_ids = engine._state.due.due(now, limit)
            count = promote(now, limit)
            for job_id in reversed(job_ids):
                _line_of(engine, job_id).move_to_end(job_id, last=False)
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
                _line_of(engine, job.new.id).move_to_end(job.new.id, last=False)
            return settled

        return broken

    wrap(engine, "_nack", make)


@bug("test_p6_a_delayed_job_is_not_leased_before_its_time")
def a_delayed_job_comes_too_early(engine: Engine) -> None:
    wrap(engine, "promote", lambda promote: lambda now, limit: promote(now + 1, limit))


@bug("test_at_most_max_jobs_are_leased")
def more_than_max_jobs_are_leased(engine: Engine) -> None:
    def make(reserve_from: Any) -> Any:
        def broken(queue: Any, request: Any, granted: Any) -> None:
            reserve_from(queue, replace(request, max_jobs=request.max_jobs + 1), granted)

        return broken

    wrap(engine, "_reserve_from", make)


@bug("test_p7_a_job_past_its_validity_is_not_leased_but_dead")
def an_expired_job_is_leased(engine: Engine) -> None:
    def make(reserve_from: Any) -> Any:
        def broken(queue: Any, request: Any, granted: Any) -> None:
            for job in queue.ready:
                job.expires_at = None
            reserve_from(queue, request, granted)

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


# --- settling -------------------------------------------------------------------------------------


@bug("test_p2_a_lease_is_named_by_all_of_its_reference")
def a_stale_token_is_accepted(engine: Engine) -> None:
    def held(ref: Any) -> Any:
        job = engine._state.jobs.get(ref.job_id)
        return None if job is None or job.lease is None else (job, job.lease)

    engine._held = held  # type: ignore[method-assign]


@bug("test_p4_a_result_is_readable_without_retention")
def the_result_is_lost(engine: Engine) -> None:
    wrap(engine, "_ack", lambda ack: lambda item, batch: ack(replace(item, result=b""), batch))


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
    def make(remember: Any) -> Any:
        return lambda ref, settlement, until: remember(ref, settlement, 0)

    wrap(engine._state.memory, "remember_lease", make)


@bug("test_p4_with_retention_the_whole_job_stays_readable")
def retention_is_ignored(engine: Engine) -> None:
    def make(finish: Any) -> Any:
        def broken(job: Any, *arguments: Any) -> None:
            job.new = replace(job.new, retention=0)
            finish(job, *arguments)

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
                held[0].lease = held[1]._replace(until=0)
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


# --- time -----------------------------------------------------------------------------------------


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
            engine._state.grant(job, lease)
            return Extended(lease.until)

        return broken

    wrap(engine, "_extend", make)


@bug("test_p10_leases_run_out_at_their_deadline_earliest_first")
def the_watch_over_deadlines_ignores_heartbeats(engine: Engine) -> None:
    def set_lease(job: Any, lease: Any) -> None:
        if job.lease is None:
            engine._state.deadlines.set(job.new.id, lease.until)
        job.lease = lease

    engine._state.set_lease = set_lease  # type: ignore[method-assign]


@bug("test_p10_an_extension_counts_from_now")
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


@bug("test_progress_is_kept_and_a_checkpoint_stays_until_the_next")
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


# --- dead letters, queues, listing ----------------------------------------------------------------


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


@bug("test_p7_requeueing_keeps_to_its_limit_oldest_death_first")
def requeueing_ignores_its_limit(engine: Engine) -> None:
    def make(requeue: Any) -> Any:
        return lambda selection: requeue(replace(selection, limit=1_000_000))

    wrap(engine, "requeue_dead", make)


@bug("test_p7_a_filter_finds_what_matches_all_of_it")
def a_time_filter_is_off_by_one(engine: Engine) -> None:
    def make(select: Any) -> Any:
        def broken(wanted: Any, after: int = 0) -> Any:
            before = wanted.dead_before
            return select(replace(wanted, dead_before=before and before + 1), after)

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
        job = line.first()
        return None if job is None else job.available_at

    _with_ready_line(engine, ready_since=ready_since)


@bug("test_p8_a_resume_tells_the_listener_what_can_be_leased")
def a_resume_wakes_nobody(engine: Engine) -> None:
    def make(set_paused: Any) -> Any:
        def broken(name: Any, paused: Any) -> Any:
            changed = set_paused(name, paused)
            engine.take_events()
            return changed

        return broken

    wrap(engine, "set_paused", make)


def _line_of(engine: Engine, job_id: str) -> "OrderedDict[str, Any]":
    new = engine._state.jobs[job_id].new
    return engine._state.queues[new.queue].ready._by_priority[new.priority]


def _with_ready_line(engine: Engine, **methods: Any) -> None:
    """Gives every queue that comes into being a line with other methods."""
    spoiled = type("SpoiledLine", (ReadyLine,), methods)

    def make(add: Any) -> Any:
        def broken(new: Any, now: Any) -> None:
            add(new, now)
            queue = engine._state.queues[new.queue]
            if not isinstance(queue.ready, spoiled):
                line = spoiled()
                for job in queue.ready:
                    line.add(job)
                queue.ready = line

        return broken

    wrap(engine._state, "add", make)

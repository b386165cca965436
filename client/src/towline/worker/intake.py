"""From the leases that come in to attempts in the pool, and from slot to slot.

What is not to be run here is given back at once: jobs of types that this worker does not run, those
that come while it takes none any more, and those that waited for a slot when it stopped doing so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from towline.middleware.handling import HandlerMiddleware
from towline.registry import JobDefinition, Registry
from towline.v1 import job_pb2
from towline.worker import outcome
from towline.worker.acceptance import Acceptance, NotRun, limited
from towline.worker.attempt import Attempt
from towline.worker.callbacks import Callbacks
from towline.worker.heartbeat import Heartbeater
from towline.worker.leases import HeldLease, LeaseTable, Settlement, hold
from towline.worker.options import WorkerOptions
from towline.worker.plenty import Plenty
from towline.worker.pool import Pool
from towline.worker.reserver import MAX_JOBS, Reserver
from towline.worker.settler import Settler
from towline.worker.slots import Slots


class Ask(NamedTuple):
    """number: of jobs; wait: seconds to wait for the first; ahead: these are asked for in the hope
    that there are more, so an answer without any says nothing but that there are not."""

    number: int
    wait: float
    ahead: bool


class Intake:
    """``wanted`` and ``accept`` are for one thread, all else for any.

    taken      jobs that were taken, and not given back without being run
    on_change  is called when there is a slot to be filled, or no job to fill the next one with
    """

    def __init__(
        self,
        options: WorkerOptions,
        registry: Registry,
        callbacks: Callbacks,
        middleware: HandlerMiddleware,
        table: LeaseTable,
        reserver: Reserver,
        settler: Settler,
        heartbeater: Heartbeater,
        pool: Pool,
        on_error: Callable[[BaseException], None],
        on_change: Callable[[], None],
        *,
        once: bool,
    ) -> None:
        self._options = options
        self._once = once
        self._acceptance = Acceptance(registry, options)
        self._callbacks = callbacks
        self._middleware = middleware
        self._table = table
        self._reserver = reserver
        self._settler = settler
        self._heartbeater = heartbeater
        self._pool = pool
        self._on_error = on_error
        self._on_change = on_change
        self._plenty = Plenty()
        self.slots = Slots(options.concurrency, options.prefetch)
        self._lock = threading.Lock()  # over what follows
        self.taken = 0

    @property
    def jobs_left(self) -> int | None:
        """How many more jobs are to be taken; None: no matter how many."""
        limit = 1 if self._once else self._options.max_jobs
        return None if limit is None else limit - self.taken

    def wanted(self) -> Ask | None:
        """What to ask for; None: nothing now.

        Nothing is held ahead of what is waited for: that is shared with others who wait. Where
        there was enough the last time, some more are asked for, and are not waited for: also for
        slots that are free, or a worker whose jobs are over before it has asked again would never
        hold any.
        """
        standing = self.slots.standing()
        ahead = standing.ahead if self._plenty.likely else 0
        if ahead:
            if not standing.free and standing.waiting > ahead // 2:
                return None
            number, wait = standing.free + ahead - standing.waiting, 0.0
        elif standing.free:
            number = standing.free
            wait = 0.0 if self._once or self._options.stop_when_empty else self._options.wait
        else:
            return None
        most = self._options.concurrency + standing.ahead
        number = min(number, self._table.room(most), MAX_JOBS)
        if (left := self.jobs_left) is not None:
            number = min(number, left)
        if number <= 0 or self._reserver.holds:
            return None
        return Ask(number, wait, ahead > 0)

    def accept(self, leases: Sequence[job_pb2.Lease], ask: Ask) -> None:
        """Take up what came of asking."""
        self._plenty.heard(len(leases), ask.number, ahead=ask.ahead)
        verdicts = dict(self._take(lease) for lease in leases)
        held_now = self._table.add(verdicts)
        self._heartbeater.took(held_now)
        attempts = []
        for held in held_now:
            verdict = verdicts[held]
            if isinstance(verdict, NotRun):
                self._settler.put(held, self._acceptance.give_back(held.job, held.token, verdict))
                self._on_error(verdict.error)
            else:
                attempts.append(self._attempt(held, verdict))
        with self._lock:
            self.taken += len(attempts)
        if self._reserver.holds:
            self._give_back(attempts)
            return
        self._begin(self.slots.put(attempts))
        if self._reserver.holds:  # since a moment ago
            self.give_back_waiting()

    def _take(self, lease: job_pb2.Lease) -> tuple[HeldLease, JobDefinition | NotRun]:
        verdict = self._acceptance.judge(lease.job)
        if isinstance(verdict, NotRun):
            return hold(lease, None, self._heartbeater.nudge), verdict
        tries = self._acceptance.amend(lease.job, verdict)
        held = hold(lease, verdict.timeout, self._heartbeater.nudge)
        held.tries = tries
        return held, verdict

    def _attempt(self, held: HeldLease, definition: JobDefinition) -> Attempt:
        return Attempt(held, definition, self._callbacks, self.settle, self.ended, self._middleware)

    def _begin(self, attempts: Sequence[Attempt]) -> None:
        if attempts:
            self._table.started([attempt.held for attempt in attempts])
            self._pool.submit(attempts)

    def give_back_waiting(self) -> None:
        """Let nothing wait for a slot."""
        self._give_back(self.slots.take_back())

    def give_back_overdue(self) -> None:
        """The same, if something waits that ought to have begun long ago."""
        self._give_back(self.slots.take_overdue())

    def _give_back(self, attempts: Sequence[Attempt]) -> None:
        """Release jobs that have not begun and are not to."""
        with self._lock:
            self.taken -= len(attempts)
        for attempt in attempts:
            self._settler.put(attempt.held, outcome.release(attempt.held.token))

    def settle(self, held: HeldLease, settlement: Settlement) -> bool:
        """False when it was decided before how the lease ends, or it is lost."""
        return self._settler.put(held, limited(held, settlement))

    def ended(self, attempt: Attempt) -> Attempt | None:
        """Note that an attempt is over; returns the one that has its slot now."""
        following = None
        if self._table.ended(attempt.held):  # else its slot was given to another before
            following = self.slots.end(attempt)
        if following is not None:
            self._table.started([following.held])
        if following is None or self.slots.low:
            self._on_change()
        return following

    def abandoned(self) -> None:
        """Note that a slot is free although the handler that had it goes on."""
        following = self.slots.abandoned()
        if following is not None:
            self._begin([following])
        self._on_change()

"""One run of a worker, from its first Reserve to the last outcome told.

Its threads, besides those in which handlers run:

    towline-worker     takes jobs up to the free slots and hands them to the pool; at the end it
                       waits for them, and sees to it that nothing is left behind
    towline-settle     tells the broker outcomes
    towline-heartbeat  keeps leases, carries progress, hears directives
    towline-watch      sees to limits, to handlers that do not end, to the health file
    towline-errors     calls ``on_error``, for which none of the others waits
    towline-loop       the event loop, of an async pool only
    towline-processes  looks after the children, of a process pool only
    towline-health     answers probes, if the worker has a health_port

A process keeps leases while none of them can run: see towline.worker.guardian.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from towline.channel import Connection
from towline.context import CancelReason
from towline.errors import ConfigurationError
from towline.middleware.handling import HandlerMiddleware
from towline.registry import Registry
from towline.v1.queue_service_pb2 import WorkerDirective
from towline.worker import outcome
from towline.worker.callbacks import Callbacks
from towline.worker.errors import JobTimeout, NotSettled
from towline.worker.guardian import watched_ledger
from towline.worker.health import Health, HealthReports, Vitals
from towline.worker.heartbeat import Heartbeater
from towline.worker.intake import Ask, Intake
from towline.worker.leases import HeldLease, LeaseTable
from towline.worker.link import Link
from towline.worker.options import WorkerOptions
from towline.worker.pools import make_pool
from towline.worker.processes.template import Template
from towline.worker.reserver import Reserver
from towline.worker.settler import Settler
from towline.worker.stats import Stats, WorkerStats
from towline.worker.stop_reason import StopReason
from towline.worker.telling import Teller
from towline.worker.watch import Watch

logger = logging.getLogger("towline.worker")

EMPTY_PAUSE = 0.1
"""Seconds to the next Reserve when one is answered empty at once, as by a broker that drains."""

WIND_UP = 2.0
"""Seconds that handlers have to end once they are cancelled because the worker stops."""

FLUSH = 5.0
"""Seconds, at least, for telling the last outcomes; when stopping at once, at most WIND_UP."""


STOPPING = "it is stopping"
QUIET = "the broker told it to be quiet"
BLOCKED = "the event loop is blocked"
"""Why it takes no jobs."""


class Session:
    """Started once. ``request_stop`` and ``halt`` may be called from any thread, more than once.

    ``once``: one Reserve for one job, without waiting, and no time limit on its run.
    """

    def __init__(
        self,
        options: WorkerOptions,
        registry: Registry,
        callbacks: Callbacks,
        middleware: HandlerMiddleware,
        connection: Connection,
        stats: Stats,
        template: Template | None,
        *,
        once: bool,
        on_done: Callable[[], None],
    ) -> None:
        self._options = options
        self._stats = stats
        self._once = once
        self._on_done = on_done
        self._teller = Teller(callbacks.errored)
        self._channel = connection.open()  # what may fail comes before what holds memory
        self._ledger, self._guardian = watched_ledger(connection, options)
        self._table = LeaseTable(self._ledger)
        self._link = Link(self._channel, connection, self._teller.tell)
        self._reserver = Reserver(self._link, self._ledger, options, self._drain_left)
        self._heartbeater = Heartbeater(
            self._link,
            self._table,
            self._ledger,
            stats,
            options,
            self._directed,
            self._teller.tell,
            self._crashed,
        )
        self._settler = Settler(
            self._link,
            self._table,
            stats,
            self._send_reports,
            self._teller.tell,
            self._wake_up,
            self._crashed,
        )
        self._pool = make_pool(options, template, self._crashed)
        self._intake = Intake(
            options,
            registry,
            callbacks,
            middleware,
            self._table,
            self._reserver,
            self._settler,
            self._heartbeater,
            self._pool,
            self._teller.tell,
            self._wake_up,
            once=once,
        )
        self._slots = self._intake.slots
        self._vitals = Vitals(
            options.worker_id, self._heartbeater, self._pool, self._link, self._table
        )
        self.health_reports = HealthReports(options, self._health)
        self._watch = Watch(
            options,
            self._table,
            self._pool,
            self._guardian,
            self._limit_passed,
            self._loop_blocked,
            self._intake.abandoned,
            self.health_reports.refresh,
            self._crashed,
        )
        self._lock = threading.Lock()  # over the three that follow
        self._stop = threading.Event()
        self._drain_until: float | None = None
        self.stop_reason: StopReason | None = None
        self._halt = threading.Event()
        self._wake = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="towline-worker", daemon=True)
        self.error: BaseException | None = None

    def start(self) -> None:
        """Raises ConfigurationError when its health cannot be told as it should be."""
        try:
            self.health_reports.start()
        except ConfigurationError:
            self._let_go()
            raise
        names = ", ".join(name for name, _ in self._options.queues)
        logger.info("worker %s takes jobs from %s", self._options.worker_id, names)
        if self._guardian is not None:
            self._guardian.start()
        self._teller.start()
        self._pool.start()
        self._settler.start()
        self._heartbeater.start()
        self._watch.start(None if self._once else self._options.max_time)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run; False when it has not come after ``timeout`` seconds."""
        return self._done.wait(timeout)

    @property
    def taken(self) -> int:
        """Jobs that were taken and not given back without being run."""
        return self._intake.taken

    @property
    def stats(self) -> WorkerStats:
        return self._stats.snapshot()

    def request_stop(
        self, drain_timeout: float | None = None, reason: StopReason = StopReason.TOLD
    ) -> None:
        """Take no more jobs; those that run have ``drain_timeout`` seconds (None: as configured).

        Of several calls the one that leaves the least time holds, and the reason of the first.
        """
        if drain_timeout is None:
            drain_timeout = self._options.drain_timeout
        until = time.monotonic() + drain_timeout
        with self._lock:
            self._stop.set()
            self.stop_reason = self.stop_reason or reason
            if self._drain_until is None or until < self._drain_until:
                self._drain_until = until
        self._reserver.hold(STOPPING)
        self._intake.give_back_waiting()
        self._wake_up()

    def _drain_left(self) -> float:
        """Seconds that running jobs have left, or would have."""
        until = self._drain_until
        return self._options.drain_timeout if until is None else until - time.monotonic()

    def halt(self) -> None:
        """Stop at once: cancel what runs, and release it."""
        self._halt.set()
        self.request_stop(0)

    def _run(self) -> None:
        try:
            self._take_jobs()
        except BaseException as error:  # whatever it is, whoever waits for the end must hear of it
            self._crashed(error)
        try:
            self._drain()
            self._flush()
        finally:
            self._watch.close(timeout=1.0)
            self._heartbeater.close(timeout=1.0)
            self._pool.close(timeout=WIND_UP)
            self._teller.close(timeout=WIND_UP)
            logger.info("worker %s has stopped", self._options.worker_id)
            self._let_go()

    def _let_go(self) -> None:
        self._channel.close()
        if self._guardian is not None:
            self._guardian.close()
        self._ledger.close()
        self.health_reports.close()
        self._done.set()
        self._on_done()

    # Taking jobs

    def _take_jobs(self) -> None:
        while not self._stop.is_set():
            if self._intake.jobs_left == 0 and not self._slots.waiting:
                self.stop_reason = self.stop_reason or StopReason.MAX_JOBS
                return
            if (wanted := self._intake.wanted()) is None:
                self._wake.wait(self._slots.patience())
                self._wake.clear()
                self._intake.give_back_overdue()
            else:
                self._reserve(wanted)
                if self._once:
                    self.stop_reason = self.stop_reason or StopReason.ONCE
                    return

    def _reserve(self, ask: Ask) -> None:
        asked_at = time.monotonic()
        leases = self._reserver.reserve(ask.number, ask.wait, persistent=not self._once)
        self._intake.accept(leases, ask)
        if leases or self._once:
            return
        if self._options.stop_when_empty and not self._table.live():
            self.request_stop(reason=StopReason.EMPTY)
        elif self._slots.standing().free and not ask.ahead:
            at_once = time.monotonic() - asked_at < EMPTY_PAUSE
            self._stop.wait(max(self._options.sleep, EMPTY_PAUSE if at_once else 0.0))

    # What other threads tell

    def _crashed(self, error: BaseException) -> None:
        """A thread of this session cannot go on, so neither can the session."""
        logger.error("the worker stops because of %s", type(error).__name__)
        self.error = self.error or error  # what follows from the first would hide it
        self._teller.tell(error)
        self.request_stop(reason=StopReason.ERROR)

    def _limit_passed(self, reason: StopReason) -> None:
        if not self._stop.is_set():
            # An end that was asked for is no warning.
            level = logging.INFO if reason is StopReason.MAX_TIME else logging.WARNING
            logger.log(level, "stopping when the jobs that run are done: %s", reason.value)
            self.request_stop(reason=reason)

    def _wake_up(self) -> None:
        if not self._wake.is_set():
            self._wake.set()

    def _directed(self, directive: WorkerDirective.ValueType) -> None:
        if directive == WorkerDirective.WORKER_DIRECTIVE_STOP:
            if not self._stop.is_set():
                logger.info("told by the broker to stop")
                self.request_stop(reason=StopReason.BROKER)
        elif directive in (
            WorkerDirective.WORKER_DIRECTIVE_QUIET,
            WorkerDirective.WORKER_DIRECTIVE_NONE,
        ):
            quiet = directive == WorkerDirective.WORKER_DIRECTIVE_QUIET
            if self._reserver.hold(QUIET, quiet):
                if quiet:
                    self._intake.give_back_waiting()
                self._wake_up()
                logger.info("told by the broker to %s", "take no more jobs" if quiet else "go on")

    def _loop_blocked(self, blocked: bool) -> None:
        self._reserver.hold(BLOCKED, blocked)
        self._wake_up()
        if not blocked:
            logger.info("the event loop runs again")
            return
        self._intake.give_back_waiting()
        waiting = self._table.not_begun()
        logger.warning(
            "a handler blocks the event loop: no more jobs are taken, and %d that have not begun "
            "are given back",
            len(waiting),
        )
        for held in waiting:
            held.state.cancellation.cancel(CancelReason.STOPPING)
            self._settler.put(held, outcome.release(held.token))

    def _health(self) -> Health:
        return self._vitals.health(self._reserver.holds)

    def _send_reports(self, leases: Sequence[HeldLease]) -> None:
        unsent = [held for held in leases if held.state.reports.unsent() is not None]
        if unsent:
            self._heartbeater.send(unsent)

    # The end

    def _drain(self) -> None:
        """Wait for what runs; cancel and release what does not end in time."""
        self._wait_until(self._nothing_runs, lambda: self._drain_until)
        running = self._table.running()
        if running:
            logger.info("stopping with %d jobs that still run", len(running))
            for held in running:
                held.state.cancellation.cancel(CancelReason.STOPPING)
            self._wait_until(self._nothing_runs, _in(WIND_UP))
        for held in self._table.unsettled():
            self._give_up(held)

    def _give_up(self, held: HeldLease) -> None:
        if held.context.cancel_reason is CancelReason.TIMEOUT:
            logger.warning("%s does not end: it has failed, and still runs here", held)
            failure = outcome.failure_of(JobTimeout(held.context.timeout or 0.0))
            self._intake.settle(held, outcome.retry_by_policy(held.token, failure))
        else:
            logger.warning("%s does not end: released while it still runs here", held)
            self._settler.put(held, outcome.release(held.token))

    def _flush(self) -> None:
        """Tell the last outcomes, as long as there is time."""
        self._settler.close()
        limit = max(FLUSH, self._drain_left())
        self._wait_until(lambda: self._settler.ended or self._halt.is_set(), _in(limit))
        if self._halt.is_set():
            self._wait_until(lambda: self._settler.ended, _in(WIND_UP))
        self._settler.abandon()
        for held in self._table.live():
            logger.error("the outcome of %s could not be told before stopping", held)
            self._stats.count_lost()
            self._teller.tell(
                NotSettled(held.context.id, "the broker could not be reached in time")
            )

    def _nothing_runs(self) -> bool:
        return self._slots.busy == 0

    def _wait_until(
        self, condition: Callable[[], bool], deadline: Callable[[], float | None]
    ) -> None:
        """Wait for ``condition``, until the ``deadline`` of that moment (None: for ever).

        Whatever can change one of them calls ``_wake_up``.
        """
        while not condition():
            end = deadline()
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            self._wake.wait(left)
            self._wake.clear()


def _in(seconds: float) -> Callable[[], float]:
    until = time.monotonic() + seconds
    return lambda: until

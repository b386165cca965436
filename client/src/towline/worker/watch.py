"""What no other thread of a worker would notice: limits that are passed, and handlers that hang.

A handler that was told to end (its timeout is over, its lease lost, its job cancelled) and has not
after ``ABANDON_AFTER`` seconds is abandoned: its slot goes to other jobs, while its lease is kept
until it ends. It still runs, for a thread cannot be stopped from outside. When as many handlers are
abandoned as the worker has slots, or one of them blocks the event loop, the worker stops, so that
its process can be replaced.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from towline.context import CancelReason
from towline.worker.guardian import Guardian
from towline.worker.leases import HeldLease, LeaseTable
from towline.worker.options import WorkerOptions
from towline.worker.pool import Pool
from towline.worker.processes.limits import resident_bytes
from towline.worker.stop_reason import StopReason

logger = logging.getLogger("towline.worker")

TICK = 1.0
"""Seconds between two looks."""

ABANDON_AFTER = 10.0
"""Seconds that a handler has to end once it was told to."""

BLOCKED_AFTER = 2.0
"""Seconds without a turn of the event loop after which no more jobs are taken."""

LATE = 1.0
"""Seconds after a timeout that it is told of here, should the loop that was to do so be blocked."""


class Watch:
    """Owns one thread.

    ``on_limit`` is told that the worker is to stop. ``on_blocked`` is told when the event loop
    begins to be blocked, and when that is over. ``on_abandoned`` when there is a slot more.
    """

    def __init__(
        self,
        options: WorkerOptions,
        table: LeaseTable,
        pool: Pool,
        guardian: Guardian | None,
        on_limit: Callable[[StopReason], None],
        on_blocked: Callable[[bool], None],
        on_abandoned: Callable[[], None],
        on_turn: Callable[[], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._options = options
        self._table = table
        self._pool = pool
        self._guardian = guardian
        self._on_limit = on_limit
        self._on_blocked = on_blocked
        self._on_abandoned = on_abandoned
        self._on_turn = on_turn
        self._on_crash = on_crash
        self._ends_at: float | None = None
        self._max_memory = options.max_memory
        self._told: dict[HeldLease, float] = {}
        self._blocked = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="towline-watch", daemon=True)

    @property
    def blocked(self) -> bool:
        """Whether the event loop is."""
        return self._blocked

    def start(self, max_time: float | None) -> None:
        """``max_time`` in seconds from now."""
        self._ends_at = None if max_time is None else time.monotonic() + max_time
        self._thread.start()

    def close(self, timeout: float) -> None:
        self._closing.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while not self._closing.wait(self._pause()):
                self._look(time.monotonic())
        except Exception as error:
            self._on_crash(error)

    def _pause(self) -> float:
        if self._ends_at is None:
            return TICK
        return min(TICK, max(0.0, self._ends_at - time.monotonic()))

    def _look(self, now: float) -> None:
        if self._ends_at is not None and now >= self._ends_at:
            self._ends_at = None
            self._on_limit(StopReason.MAX_TIME)
        self._look_at_memory()
        self._look_at_handlers(now)
        self._look_at_loop()
        self._look_at_guardian()
        self._on_turn()

    def _look_at_memory(self) -> None:
        limit = self._max_memory
        if limit is not None and (held := resident_bytes()) > limit:
            self._max_memory = None  # told once
            logger.warning("this process holds %d MB, more than max_memory", held // 10**6)
            self._on_limit(StopReason.MAX_MEMORY)

    def _look_at_handlers(self, now: float) -> None:
        running = self._table.running()
        told = {
            held: self._told.get(held, now)
            for held in running
            if held.begun and held.context.cancelled
        }
        for held in running:
            deadline = held.state.timeout_deadline
            if deadline is not None and now > deadline + LATE and held not in told:
                held.state.cancellation.cancel(CancelReason.TIMEOUT)
        for held, since in told.items():
            if now - since >= ABANDON_AFTER:
                self._abandon(held)
        self._told = told

    def _abandon(self, held: HeldLease) -> None:
        if not self._table.abandon(held):
            return
        logger.error(
            "%s does not end although it was told to: abandoned, %d of at most %d",
            held,
            self._table.abandoned,
            self._options.concurrency,
        )
        self._on_abandoned()

    def _look_at_loop(self) -> None:
        blocked = self._pool.blocked_for() >= BLOCKED_AFTER
        if blocked != self._blocked:
            self._blocked = blocked
            self._on_blocked(blocked)
        abandoned = self._table.abandoned
        if abandoned >= self._options.concurrency or (abandoned and blocked):
            self._on_limit(StopReason.STUCK)

    def _look_at_guardian(self) -> None:
        if self._guardian is not None and self._guardian.has_failed():
            logger.warning(
                "the guardian of this worker has ended: from now on a handler that holds the GIL "
                "can lose its lease"
            )
            self._guardian.close()
            self._guardian = None

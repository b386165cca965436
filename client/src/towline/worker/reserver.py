"""Asking the broker for jobs so that no lease is granted twice and none is left lying about.

Every Reserve carries an id of its own, and is repeated under that id until it is answered: the
leases of an answer that got lost on the way are handed out again, and no others. A Reserve that is
interrupted while it is parked is asked for once more in the same way, because its answer may have
been on the way.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta

from towline.errors import TowlineError
from towline.v1.job_pb2 import Lease
from towline.v1.queue_service_pb2 import QueueChoice, ReserveRequest
from towline.worker.ledger import Ledger
from towline.worker.link import Backoff, Interrupted, Link, PendingReserve, is_final
from towline.worker.options import WorkerOptions

logger = logging.getLogger("towline.worker")

MAX_JOBS = 1000
"""Leases that one Reserve may ask for."""

BEYOND_WAIT = 5.0
"""Seconds that an answer may take beyond the wait that was asked for."""

ONLY_TRY = 15.0
"""The same when there is no second try: enough for all repeats of the channel."""

RECOVERY_TIMEOUTS = (4.0, 10.0)
"""Seconds for asking again after an interruption, as long as running jobs have but within these
bounds. A broker that is slow has to be waited for: what it had granted would run out, and cost an
attempt."""

RECOVERY_TIMEOUT_UNHEARD = 2.0
"""The same for a broker that has not answered once, or is away: somebody waits for the stop."""


class Reserver:
    """Reserves for one thread; ``hold`` may come from any other.

    ``patience`` is for how many seconds a slow answer may hold up the end of the worker.
    """

    def __init__(
        self,
        link: Link,
        ledger: Ledger,
        options: WorkerOptions,
        patience: Callable[[], float],
    ) -> None:
        self._link = link
        self._patience = patience
        self._ledger = ledger
        self._options = options
        self._lock = threading.Lock()
        self._holds: set[str] = set()
        self._interrupted = threading.Event()
        self._pending: PendingReserve | None = None

    @property
    def holds(self) -> list[str]:
        """Why no jobs are to be taken now; none of it: they are."""
        with self._lock:
            return sorted(self._holds)

    def hold(self, why: str, on: bool = True) -> bool:
        """Take no jobs for this reason, or not for it any more; False when it was so before.

        The Reserve that is under way returns soon, and so does every later one.
        """
        with self._lock:
            if on == (why in self._holds):
                return False
            if not on:
                self._holds.remove(why)
                if not self._holds:
                    self._interrupted.clear()
                return True
            self._holds.add(why)
            self._interrupted.set()
            pending = self._pending
        if pending is not None:
            pending.cancel()
        return True

    def reserve(self, max_jobs: int, wait: float, *, persistent: bool = True) -> Sequence[Lease]:
        """Return up to ``max_jobs`` leases, none at the end of ``wait`` seconds.

        Goes on trying while the broker cannot be reached, if ``persistent``; raises what trying
        again cannot help. When it is interrupted it returns what was granted already.
        """
        request = self._request(min(max_jobs, MAX_JOBS), wait)
        self._ledger.asking(request.request_id)
        timeout = wait + (BEYOND_WAIT if persistent else ONLY_TRY)
        backoff = Backoff()
        try:
            while True:
                try:
                    return self._ask(request, timeout)
                except TowlineError as error:
                    if is_final(error) or not persistent:
                        raise
                    self._link.failed("Reserve", error, backoff)
                    if self._interrupted.wait(backoff.pause(error)):
                        raise Interrupted from None
        except Interrupted:
            return self._recover(request)

    def _request(self, max_jobs: int, wait: float) -> ReserveRequest:
        options = self._options
        request = ReserveRequest(
            queues=[QueueChoice(name=name, weight=weight or 0) for name, weight in options.queues],
            max_jobs=max_jobs,
            worker_id=options.worker_id,
            request_id=str(uuid.uuid4()),
        )
        request.wait.FromTimedelta(timedelta(seconds=wait))
        if options.lease is not None:
            request.lease.FromTimedelta(timedelta(seconds=options.lease))
        return request

    def _ask(self, request: ReserveRequest, timeout: float) -> Sequence[Lease]:
        with self._lock:
            if self._interrupted.is_set():
                raise Interrupted
            self._pending = self._link.start_reserve(request, timeout)
        try:
            return self._pending.wait().leases
        finally:
            with self._lock:
                self._pending = None

    def _recover(self, request: ReserveRequest) -> Sequence[Lease]:
        """Return the leases of an interrupted Reserve, if it was granted any."""
        request.ClearField("wait")
        request.max_jobs = 1  # should it have been granted none, and there be work by now
        answers = self._link.trouble() is None
        least, most = RECOVERY_TIMEOUTS
        timeout = max(least, min(most, self._patience())) if answers else RECOVERY_TIMEOUT_UNHEARD
        try:
            return self._link.start_reserve(request, timeout).wait().leases
        except TowlineError as error:
            if answers:
                logger.warning(
                    "the broker does not answer (%s): jobs that it had just granted, if any, come "
                    "back when their leases have run out",
                    type(error).__name__,
                )
            return ()

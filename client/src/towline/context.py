"""The job that is being run, at hand inside its handler: ``current_job()``.

A handler that runs long should look at ``current_job().cancelled`` now and then: a thread cannot be
stopped from outside, so a handler in a thread pool ends early only when it ends itself.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import math
import numbers
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from towline.errors import InvalidJob, TowlineError
from towline.options import display_name_of
from towline.serializers import read, write

__all__ = [
    "CancelReason",
    "Failure",
    "JobContext",
    "JobLogger",
    "NoCurrentJob",
    "Progress",
    "current_job",
]

MAX_RESULT = 1024 * 1024
MAX_CHECKPOINT = 64 * 1024
MAX_PROGRESS_MESSAGE = 1024
"""Bytes of each that a broker takes, unless the lease of the job says otherwise."""

DEFAULT_MAX_ATTEMPTS = 3
"""Of a job that names none, by the contract."""


class NoCurrentJob(TowlineError):
    """``current_job()`` was called outside a handler."""

    def __init__(self) -> None:
        super().__init__(
            "there is no current job here: current_job() works inside a handler and the callbacks "
            "of its job, and not in threads that the handler starts by itself"
        )


@dataclass(frozen=True)
class Failure:
    """Why an earlier attempt ended without success."""

    type: str
    message: str
    trace: str
    failed_at: datetime | None


@dataclass(frozen=True)
class Progress:
    """How far an attempt came: a fraction from 0 to 1, a message, and the handler's own notes."""

    fraction: float = 0.0
    message: str = ""
    checkpoint: bytes = b""


class CancelReason(enum.Enum):
    """Why a running handler is asked to end."""

    LEASE_LOST = "the lease was lost"
    JOB_CANCELLED = "the job was cancelled"
    TIMEOUT = "the attempt ran longer than the job's timeout"
    STOPPING = "the worker is stopping"


class Cancellation:
    """Tells one handler, once, that it is to end. Safe to use from any thread."""

    __slots__ = ("_closed", "_event", "_listener", "_lock", "_reason")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event: threading.Event | None = None  # made for the first who waits
        self._reason: CancelReason | None = None
        self._closed = False
        self._listener: Callable[[], None] | None = None

    @property
    def reason(self) -> CancelReason | None:
        return self._reason

    def cancel(self, reason: CancelReason) -> bool:
        """Ask the handler to end. False when it was asked before, or has ended."""
        with self._lock:
            if self._closed or self._reason is not None:
                return False
            self._reason = reason
            if self._event is not None:
                self._event.set()
            if self._listener is not None:
                self._listener()
        return True

    def close(self) -> CancelReason | None:
        """Note that the handler has ended; return the reason if it was asked to before."""
        with self._lock:
            self._closed = True
            return self._reason

    @contextlib.contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call ``listener`` when cancelled in here, at once if that has happened already.

        It is never called once the block is left, and must neither block nor use this object.
        """
        self.listen(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listener = None

    def listen(self, listener: Callable[[], None]) -> None:
        """``listening`` until ``close``."""
        with self._lock:
            if self._reason is not None:
                listener()
            else:
                self._listener = listener

    def wait(self, timeout: float | None) -> bool:
        with self._lock:
            if self._event is None:
                self._event = threading.Event()
                if self._reason is not None:
                    self._event.set()
            event = self._event
        return event.wait(timeout)


_NO_PROGRESS = Progress()


class ProgressReports:
    """The latest progress of one attempt and whether the broker has it. Safe from any thread."""

    __slots__ = ("_latest", "_lock", "_on_report", "_sent_version", "_version")

    def __init__(self, on_report: Callable[[], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._on_report = on_report
        self._latest = _NO_PROGRESS
        self._version = 0
        self._sent_version = 0

    def report(self, fraction: float | None, message: str | None, checkpoint: bytes | None) -> None:
        """Change what is given; None keeps what was reported before."""
        with self._lock:
            latest = self._latest
            self._latest = Progress(
                latest.fraction if fraction is None else fraction,
                latest.message if message is None else message,
                latest.checkpoint if checkpoint is None else checkpoint,
            )
            first_unsent = self._version == self._sent_version
            self._version += 1
        if first_unsent and self._on_report is not None:
            self._on_report()

    def unsent(self) -> tuple[int, Progress] | None:
        """The latest report and its version, unless the broker has it."""
        with self._lock:
            if self._version == self._sent_version:
                return None
            return self._version, self._latest

    def sent(self, version: int) -> None:
        """Note that the broker has the report of this version."""
        with self._lock:
            self._sent_version = max(self._sent_version, version)


@dataclass(slots=True)
class AttemptState:
    """What changes while a job runs. The worker writes it, the handler sees it via JobContext.

    Both deadlines are points on this process's monotonic clock, in seconds.
    """

    cancellation: Cancellation = field(default_factory=Cancellation)
    reports: ProgressReports = field(default_factory=ProgressReports)
    lease_deadline: float | None = None
    timeout_deadline: float | None = None
    max_result: int = MAX_RESULT
    max_checkpoint: int = MAX_CHECKPOINT
    max_progress_message: int = MAX_PROGRESS_MESSAGE


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs to ``towline.job``, each record with job_id, job_queue, job_type, job_attempt and
    job_display_name."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


@dataclass(frozen=True, kw_only=True, eq=False)
class JobContext:
    """The current job and what its handler may say and hear while it runs.

    ``attempt`` counts from 1. ``lease_token`` names this grant of the job: treat it as a secret.
    ``last_failure`` and ``last_progress`` are those of earlier attempts, None if there are none.
    ``enqueued_at`` is on the clock of the broker's store. ``max_attempts``: all that the job has.
    """

    id: str
    queue: str
    type: str
    attempt: int = 1
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    lease_token: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    enqueued_at: datetime | None = None
    timeout: float | None = None
    """Seconds that the attempt may run, None for no limit."""
    last_failure: Failure | None = field(default=None, repr=False)
    last_progress: Progress | None = field(default=None, repr=False)
    state: AttemptState = field(default_factory=AttemptState, repr=False)

    def __str__(self) -> str:
        """For logs: ids and the names, nothing of the content and no token."""
        name = "" if self.display_name == self.type else f' "{self.display_name}"'
        return f"job {self.id}{name} ({self.type}, attempt {self.attempt})"

    @property
    def display_name(self) -> str:
        """What the job is to be called; its type if it was given no name."""
        return display_name_of(self.type, self.headers)

    @property
    def is_last_attempt(self) -> bool:
        """Whether the job is dead if this attempt fails. A release gives the attempt back."""
        return self.attempt >= self.max_attempts

    @property
    def cancelled(self) -> bool:
        """True once the handler should end: see ``cancel_reason``.

        From then on what it returns is no longer taken for a success.
        """
        return self.state.cancellation.reason is not None

    @property
    def cancel_reason(self) -> CancelReason | None:
        return self.state.cancellation.reason

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Block until ``cancelled``, for at most ``timeout`` seconds; return whether it is.

        A sleep that ends early when the job should: of use in handlers that run in threads.
        """
        return self.state.cancellation.wait(timeout)

    @property
    def deadline(self) -> float | None:
        """When the timeout strikes, on ``time.monotonic()``. None for no limit."""
        return self.state.timeout_deadline

    @property
    def remaining(self) -> float | None:
        """Seconds until the timeout strikes, at least 0. None for no limit."""
        return _seconds_until(self.state.timeout_deadline)

    @property
    def lease_remaining(self) -> float | None:
        """Seconds of the lease that are left unless it is prolonged (it is, time and again)."""
        return _seconds_until(self.state.lease_deadline)

    @property
    def possibly_lost(self) -> bool:
        """True while the lease is past its deadline, because heartbeats cannot reach the broker.

        The outcome is still reported, and counts if the broker has not taken the job back.
        """
        return self.lease_remaining == 0

    @property
    def logger(self) -> JobLogger:
        """A logger that adds the ids of this job to each record."""
        ids = {
            "job_id": self.id,
            "job_queue": self.queue,
            "job_type": self.type,
            "job_attempt": self.attempt,
            "job_display_name": self.display_name,
        }
        return JobLogger(logging.getLogger("towline.job"), ids)

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell how far the job is: ``fraction`` from 0 to 1. Sent soon, the latest one only.

        Raises InvalidJob when the fraction is no such number, or the message no string.
        """
        text = _message(message, self.state.max_progress_message)
        self.state.reports.report(_fraction(fraction), text, None)

    def checkpoint(self, data: Any) -> None:
        """Leave notes for the next attempt, which finds them in its ``last_checkpoint``.

        ``data`` is what JSON can hold, or what a field of a job can be, or bytes, which are found
        in ``last_progress.checkpoint``; at most 64 KiB, or what the broker is set to. It reaches
        the broker soon, and at the latest just before a failure of this attempt does. Raises
        InvalidJob when there is too much of it, and InvalidPayload when it cannot be written.
        """
        notes = data if isinstance(data, bytes) else write(data, "checkpoint")
        most = self.state.max_checkpoint
        if len(notes) > most:
            raise InvalidJob(
                f"checkpoint: data has {len(notes)} bytes, at most {most} are kept: "
                "store more elsewhere and leave a reference here"
            )
        self.state.reports.report(None, None, notes)

    @property
    def last_checkpoint(self) -> Any:
        """The notes that an earlier attempt left, as JSON values; None if there are none.

        Raises InvalidPayload when they were left as bytes: see ``last_progress.checkpoint``.
        """
        notes = b"" if self.last_progress is None else self.last_progress.checkpoint
        return read(notes, "last_checkpoint") if notes else None


def _fraction(value: object) -> float:
    fraction = float(value) if isinstance(value, numbers.Real) else math.nan
    if not 0 <= fraction <= 1:  # nor is NaN
        raise InvalidJob(f"progress: fraction must be a number from 0 to 1, got {value!r}")
    return fraction


def _message(text: object, most: int) -> str:
    if not isinstance(text, str):
        raise InvalidJob(f"progress: message must be a str, got {type(text).__name__}")
    # Cut to what can be sent: a text may hold what is no UTF-8.
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


_current: ContextVar[Callable[[], JobContext]] = ContextVar("towline_current_job")


def current_job() -> JobContext:
    """Return the context of the job that is being run here.

    Raises NoCurrentJob outside a handler.
    """
    try:
        context = _current.get()
    except LookupError:
        raise NoCurrentJob from None
    return context()


def make_current(context: Callable[[], JobContext]) -> None:
    """Make a job the current one for the rest of this contextvars context. ``context`` makes what
    is known of it, for those who ask: most handlers do not."""
    _current.set(context)


@contextlib.contextmanager
def running(context: JobContext) -> Iterator[None]:
    """Make ``context`` the current job in here."""
    token = _current.set(lambda: context)
    try:
        yield
    finally:
        _current.reset(token)

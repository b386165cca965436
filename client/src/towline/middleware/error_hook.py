"""Failures, handed to a service that gathers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from towline.context import JobContext
from towline.control import Retry
from towline.errors import ConfigurationError
from towline.middleware.interface import AttemptEnd, AttemptOutcome

Report: TypeAlias = Callable[[BaseException, Any, JobContext], object]


class ErrorHook:
    """Calls ``report(error, job, context)`` for each attempt that failed.

        ErrorHook(lambda error, job, context: sentry_sdk.capture_exception(error))

    ``final_only``: only for the failure that made the job dead, not for those that are retried.
    ``job`` is None when the payload could not be decoded. A Retry that a handler raised on purpose
    is told only when it was the last attempt; releases, cancelled jobs and lost leases are no
    failures of a job. It is called where the handler ran. Raises ConfigurationError.
    """

    def __init__(self, report: Report, *, final_only: bool = False) -> None:
        if not callable(report):
            raise ConfigurationError(f"report: expected a function, got {report!r}")
        self._report = report
        self._final_only = final_only

    def ended(self, end: AttemptEnd) -> None:
        if end.error is None:
            return
        final = end.outcome is AttemptOutcome.DEAD
        retried = end.outcome is AttemptOutcome.RETRIED and not isinstance(end.error, Retry)
        if final or (retried and not self._final_only):
            self._report(end.error, end.job, end.context)

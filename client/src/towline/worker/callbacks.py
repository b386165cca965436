"""The callbacks of a worker: told what happens, unable to harm it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from towline.errors import ConfigurationError

logger = logging.getLogger("towline.worker")

JobStarted: TypeAlias = Callable[[Any], object]
JobCompleted: TypeAlias = Callable[[Any, Any], object]
JobErrored: TypeAlias = Callable[[Any, BaseException, str], object]
Errored: TypeAlias = Callable[[BaseException], object]


@dataclass(frozen=True)
class Callbacks:
    """Plain functions, called where the job runs: in its thread, or on the loop of an async pool.

    What they raise is logged by its type and handed to ``on_error``.
    """

    on_job_start: JobStarted | None = None
    on_job_complete: JobCompleted | None = None
    on_job_error: JobErrored | None = None
    on_error: Errored | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            callback = getattr(self, each.name)
            if callback is None:
                continue
            if not callable(callback):
                raise ConfigurationError(f"{each.name}: expected a function, got {callback!r}")
            if inspect.iscoroutinefunction(callback):
                raise ConfigurationError(
                    f"{each.name}: expected a plain function, got the coroutine function "
                    f"{callback!r}; it may start a task if it is called on a loop"
                )

    def job_started(self, job: object) -> None:
        if self.on_job_start is not None:
            self._call("on_job_start", self.on_job_start, job)

    def job_completed(self, job: object, result: object) -> None:
        if self.on_job_complete is not None:
            self._call("on_job_complete", self.on_job_complete, job, result)

    def job_errored(self, job: object, error: BaseException, trace: str) -> None:
        if self.on_job_error is not None:
            self._call("on_job_error", self.on_job_error, job, error, trace)

    def errored(self, error: BaseException) -> None:
        if self.on_error is None:
            return
        try:
            self.on_error(error)
        except BaseException as raised:
            logger.error("callback on_error raised %s", type(raised).__name__)

    def _call(self, name: str, callback: Callable[..., object], *args: object) -> None:
        try:
            callback(*args)
        except BaseException as error:  # also what would end a thread or a loop
            logger.error("callback %s raised %s", name, type(error).__name__)
            self.errored(error)

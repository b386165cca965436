"""The callbacks of a worker: told what happens, unable to harm it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from towline.errors import ConfigurationError

logger = logging.getLogger("towline.worker")

JobStarted: TypeAlias = Callable[[Any], object]
JobCompleted: TypeAlias = Callable[[Any, Any], object]
JobErrored: TypeAlias = Callable[[Any, BaseException, str], object]
Errored: TypeAlias = Callable[[BaseException], object]

StartedT = TypeVar("StartedT", bound=JobStarted)
CompletedT = TypeVar("CompletedT", bound=JobCompleted)
JobErroredT = TypeVar("JobErroredT", bound=JobErrored)
ErroredT = TypeVar("ErroredT", bound=Errored)


class Callbacks:
    """Plain functions, called where the job runs: in its thread, or on the loop of an async pool.

    Any number for each event, called in the order in which they were given. What one raises is
    logged by its type and handed to ``on_error``; the others are called all the same.
    """

    def __init__(
        self,
        on_job_start: JobStarted | None = None,
        on_job_complete: JobCompleted | None = None,
        on_job_error: JobErrored | None = None,
        on_error: Errored | None = None,
    ) -> None:
        self._of: dict[str, list[Callable[..., object]]] = {
            "on_job_start": [],
            "on_job_complete": [],
            "on_job_error": [],
            "on_error": [],
        }
        given = (on_job_start, on_job_complete, on_job_error, on_error)
        for event, callback in zip(self._of, given, strict=True):
            if callback is not None:
                self.add(event, callback)

    def add(self, event: str, callback: Callable[..., object]) -> None:
        """Raises ConfigurationError, naming the event, for what is no plain function."""
        if not callable(callback):
            raise ConfigurationError(f"{event}: expected a function, got {callback!r}")
        if inspect.iscoroutinefunction(callback):
            raise ConfigurationError(
                f"{event}: expected a plain function, got the coroutine function {callback!r}; "
                "what is to be awaited around a job is middleware, an async generator"
            )
        self._of[event].append(callback)

    def job_started(self, job: object) -> None:
        self._call("on_job_start", job)

    def job_completed(self, job: object, result: object) -> None:
        self._call("on_job_complete", job, result)

    def job_errored(self, job: object, error: BaseException, trace: str) -> None:
        self._call("on_job_error", job, error, trace)

    def errored(self, error: BaseException) -> None:
        for callback in self._of["on_error"]:
            try:
                callback(error)
            except BaseException as raised:
                logger.error("callback on_error raised %s", type(raised).__name__)

    def _call(self, event: str, *args: object) -> None:
        for callback in self._of[event]:
            try:
                callback(*args)
            except BaseException as error:  # also what would end a thread or a loop
                logger.error("callback %s raised %s", event, type(error).__name__)
                self.errored(error)


class CallbackDecorators:
    """Callbacks as decorators, to be used before the worker starts:

    @worker.on_job_error
    def tell(job, error, traceback): ...
    """

    _callbacks: Callbacks

    def on_job_start(self, callback: StartedT) -> StartedT:
        """Call ``callback(job)`` before each handler."""
        self._callbacks.add("on_job_start", callback)
        return callback

    def on_job_complete(self, callback: CompletedT) -> CompletedT:
        """Call ``callback(job, result)`` when a handler has returned."""
        self._callbacks.add("on_job_complete", callback)
        return callback

    def on_job_error(self, callback: JobErroredT) -> JobErroredT:
        """Call ``callback(job, error, traceback)`` when an attempt has failed.

        The traceback is text; empty if the lease was lost.
        """
        self._callbacks.add("on_job_error", callback)
        return callback

    def on_error(self, callback: ErroredT) -> ErroredT:
        """Call ``callback(error)`` for everything else that goes wrong."""
        self._callbacks.add("on_error", callback)
        return callback

"""Which types of jobs this process knows.

A payload never names what to run: it carries a type, and the type is looked up here. Definitions
put themselves here when their class is created or their function is decorated.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from towline.durations import as_timedelta
from towline.errors import InvalidJob, InvalidPayload
from towline.serialization import CONTENT_TYPE, Record, loads, record_for, write

if TYPE_CHECKING:
    from towline.jobs import Job

# A producer that names no content type is given the second of these by the contract.
_UNTOLD = ("", "application/octet-stream")


class JobDefinition:
    """One type of job: how to read its payload, run it and write its result.

    type       the name under which it travels
    job_class  the Job class; that of a function was made for it
    options    policy that the class sets, checked (see towline.options.check_options)
    is_async   whether ``run`` returns a coroutine
    timeout    seconds that an attempt may take by the policy of the class, or None
    runnable   False for a class without handle(): it can be dispatched, and run elsewhere
    """

    def __init__(
        self, job_class: type[Job], job_type: str, options: Mapping[str, Any], *, runnable: bool
    ) -> None:
        self.job_class = job_class
        self.type = job_type
        self.options = options
        self.is_async = inspect.iscoroutinefunction(job_class.handle)
        timeout: timedelta | None = options.get("timeout")
        self.timeout = None if timeout is None else timeout.total_seconds()
        self.runnable = runnable

    def __repr__(self) -> str:
        return f"<JobDefinition {self.type}: {self.job_class.__module__}.{self.name}>"

    @property
    def name(self) -> str:
        return self.job_class.__qualname__

    @cached_property
    def record(self) -> Record:
        """How the fields are written. Raises InvalidJob naming the field that cannot be."""
        try:
            return record_for(self.job_class, self.job_class.__name__)
        except NameError as error:
            raise InvalidJob(
                f"{self.name}: a field is annotated with what is not defined: {error}"
            ) from error

    def encode(self, job: Job) -> bytes:
        """Return the payload of a job. Raises InvalidPayload naming the field."""
        path = self.job_class.__name__
        try:
            data = job.to_dict()
        except RecursionError:
            raise InvalidPayload(f"{path}: nested too deeply, or contains itself") from None
        if not isinstance(data, Mapping):
            raise InvalidPayload(
                f"{path}: to_dict() returned a {type(data).__name__}, expected a dict"
            )
        return write(data, path)

    def decode(self, payload: bytes, content_type: str) -> Job:
        """Return the job that a payload describes.

        Raises InvalidPayload for a payload that is no JSON or does not fit the job, whatever
        from_dict() raised.
        """
        path = self.type
        media_type = content_type.partition(";")[0].strip().lower()
        if not (
            media_type == CONTENT_TYPE or media_type.endswith("+json") or media_type in _UNTOLD
        ):
            raise InvalidPayload(
                f"{path}: the payload is {content_type[:128]!r}, expected {CONTENT_TYPE!r}"
            )
        data = loads(payload, path)
        if not isinstance(data, Mapping):
            raise InvalidPayload(f"{path}: expected an object, got a {type(data).__name__}")
        try:
            return self.job_class.from_dict(data)
        except InvalidPayload:
            raise
        except Exception as error:
            raise InvalidPayload(f"{path}: {type(error).__name__}: {error}") from error

    def run(self, job: Job) -> Any:
        """Call the handler. Returns its result, or a coroutine when ``is_async``."""
        return job.handle()

    def encode_result(self, value: Any) -> bytes:
        """Return what a handler returned as JSON. Raises InvalidPayload."""
        return write(value, f"{self.type} result")

    def next_retry_delay(self, job: Job, attempt: int, error: BaseException) -> timedelta | None:
        """Return the delay that the job itself wants after a failure; None: by its policy."""
        delay = job.next_retry_delay(attempt, error)
        return None if delay is None else as_timedelta(delay, f"{self.name}.next_retry_delay()")

    def should_retry(self, job: Job, error: BaseException) -> bool:
        return job.should_retry(error)


class Registry:
    """Definitions by their type."""

    def __init__(self) -> None:
        self._definitions: dict[str, JobDefinition] = {}

    def register(self, definition: JobDefinition) -> None:
        """Add a definition.

        It may replace the same definition, as when a module is reloaded, and one that was made
        inside a function. Raises InvalidJob when any other definition has the type.
        """
        known = self._definitions.get(definition.type)
        if known is not None and not _may_replace(known.job_class, definition.job_class):
            raise InvalidJob(
                f"the job type {definition.type!r} is defined twice, by "
                f"{_full_name(known.job_class)} and by {_full_name(definition.job_class)}; "
                "give one of them another job_type"
            )
        self._definitions[definition.type] = definition

    def lookup(self, type: str) -> JobDefinition | None:
        return self._definitions.get(type)

    def types(self) -> list[str]:
        """The known types, sorted."""
        return sorted(self._definitions)


def _may_replace(known: type[Job], new: type[Job]) -> bool:
    return "<locals>" in known.__qualname__ or _origin(known) == _origin(new)


def _origin(job_class: type[Job]) -> tuple[str, str]:
    # A module that is run (python -m app.jobs) and imported as well exists twice: its file is one.
    module = sys.modules.get(job_class.__module__)
    return getattr(module, "__file__", None) or job_class.__module__, job_class.__qualname__


def _full_name(job_class: type[Job]) -> str:
    return f"{job_class.__module__}.{job_class.__qualname__}"


default_registry = Registry()
"""Where definitions go that name no other registry."""

"""Which jobs a middleware is for, and what it tells them apart by."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeAlias

from towline.context import JobContext
from towline.errors import ConfigurationError
from towline.jobs import Job, JobFunction

Key: TypeAlias = Callable[[Any], Hashable]
"""Makes the key of a job; None for a job that is to be left alone."""

JobType: TypeAlias = str | type[Job] | JobFunction[..., Any]


class Selection:
    """Jobs of the ``types`` (None: of all), by ``key`` or, without one, by their type.

    Raises ConfigurationError when it is neither.
    """

    def __init__(self, types: Iterable[JobType] | None, key: Key | None) -> None:
        if key is not None and not callable(key):
            raise ConfigurationError(f"key: expected a function of the job, got {key!r}")
        self._key = key
        self._types = None if types is None else _names(types)

    def key_of(self, job: object, context: JobContext) -> Hashable:
        """The key of a job, None when it is to be left alone."""
        now = _type_now(job, context)
        if self._types is not None and self._types.isdisjoint((now, context.type)):
            return None
        return now if self._key is None else self._key(job)


def _type_now(job: object, context: JobContext) -> str:
    """A job that was dispatched under an earlier name of its class counts as what it is now."""
    kind = type(job)
    if issubclass(kind, Job) and context.type in kind.job_aliases:
        return kind.job_type
    return context.type


def _names(types: object) -> frozenset[str]:
    if isinstance(types, (str, type, JobFunction)) or not isinstance(types, Iterable):
        raise ConfigurationError(f"types: expected a list of job types, got {types!r}")
    return frozenset(_name(item) for item in types)


def _name(item: object) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, JobFunction):
        return item.job_class.job_type
    if isinstance(item, type) and issubclass(item, Job):
        return item.job_type
    raise ConfigurationError(
        f"types: expected the name of a type, a Job class or a function with @job, got {item!r}"
    )

"""Finding a dispatched job by what a test says of it, and saying why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from towline.durations import as_timedelta
from towline.jobs import Job, JobFunction
from towline.options import DISPLAY_NAME_HEADER
from towline.testing.dispatched import Dispatched

_MISSING = object()


class Expectation:
    """A job as a test expects it.

    ``job`` is a Job class, a function with ``@job``, the name of a type, or a Job, which is then to
    be equal. ``expected`` are its arguments and the options of its dispatch: values to be equal to,
    or functions that are given the value and say whether it will do. Raises TypeError for a job
    that is none of these, and for names that are neither.
    """

    def __init__(
        self, job: object, data: Mapping[str, Any] | None, expected: Mapping[str, Any]
    ) -> None:
        self._exact = job if isinstance(job, Job) else None
        self._type = _type_of(job)
        self._data = dict(data or {})
        self._expected = dict(expected)
        self._check_names(_class_of(job))

    def _check_names(self, job_class: type[Job] | None) -> None:
        """A misspelled name would fit no job, so that assert_not_dispatched would always pass."""
        if job_class is None:
            return  # the name of a type, of which nothing is known here
        made: Any = job_class  # each is a dataclass, which its type does not say
        fields = {field.name for field in dataclasses.fields(made)}
        unknown = [name for name in self._data if name not in fields]
        unknown += [name for name in self._expected if name not in fields | _OPTIONS.keys()]
        if unknown:
            raise TypeError(
                f"{self._type} has no field {unknown[0]!r}; what can be expected is "
                f"{', '.join([*sorted(fields), *_OPTIONS])}"
            )

    def __str__(self) -> str:
        if self._exact is not None:
            return " with ".join([repr(self._exact), *self._list(self._expected)])
        told = ", ".join(self._list(self._data | self._expected))
        return f"{self._type}({told})" if told else self._type

    @staticmethod
    def _list(expected: Mapping[str, Any]) -> list[str]:
        return [f"{name}={_show(value)}" for name, value in expected.items()]

    def is_for(self, dispatched: Dispatched) -> bool:
        """Whether it is of the right type, at least."""
        return dispatched.type == self._type

    def mismatches(self, dispatched: Dispatched) -> list[str]:
        """What is different, in words; nothing if the job is as expected."""
        found = []
        if self._exact is not None and dispatched.job != self._exact:
            found.append(f"expected {self._exact!r}")
        wanted = [(name, value, _argument) for name, value in self._data.items()]
        wanted += [(name, value, _argument_or_option) for name, value in self._expected.items()]
        for name, value, read in wanted:
            actual = read(dispatched, name)
            if actual is _MISSING:
                found.append(f"has no {name}")
            elif not _fits(name, value, actual):
                found.append(f"{name}: expected {_show(value)}, is {_show(actual)}")
        return found


def _type_of(job: object) -> str:
    if isinstance(job, str):
        return job
    job_class = _class_of(job)
    if job_class is not None and job_class.job_type:
        return job_class.job_type
    raise TypeError(
        f"expected a Job class, a Job, a function with @job or the name of a type, got {job!r}"
    )


def _class_of(job: object) -> type[Job] | None:
    if isinstance(job, JobFunction):
        return job.job_class
    if isinstance(job, Job):
        return type(job)
    return job if isinstance(job, type) and issubclass(job, Job) else None


def _argument(dispatched: Dispatched, name: str) -> Any:
    if dispatched.job is not None:
        return getattr(dispatched.job, name, _MISSING)
    data = dispatched.data
    return data.get(name, _MISSING) if isinstance(data, Mapping) else _MISSING


_OPTIONS: Mapping[str, Callable[[Dispatched], Any]] = {
    "queue": lambda dispatched: dispatched.queue,
    "delay": lambda dispatched: dispatched.delay,
    "priority": lambda dispatched: dispatched.priority,
    "headers": lambda dispatched: dispatched.headers,
    "unique_key": lambda dispatched: dispatched.unique_key or None,
    "display_name": lambda dispatched: dispatched.headers.get(DISPLAY_NAME_HEADER),
    "id": lambda dispatched: dispatched.id,
    "max_attempts": lambda dispatched: dispatched.message.retry.max_attempts or None,
    "timeout": lambda dispatched: _duration(dispatched, "timeout"),
    "expires_in": lambda dispatched: _duration(dispatched, "expires_in"),
    "retention": lambda dispatched: _duration(dispatched, "retention"),
    "unique_for": lambda dispatched: _duration(dispatched, "unique_for"),
}
"""The names of policy cannot be those of arguments; of the others, an argument comes first."""

_POLICY_ONLY = frozenset(_OPTIONS) - {"headers", "id"}


def _argument_or_option(dispatched: Dispatched, name: str) -> Any:
    if name not in _POLICY_ONLY:
        argument = _argument(dispatched, name)
        if argument is not _MISSING or name not in _OPTIONS:
            return argument
    return _OPTIONS[name](dispatched)


def _duration(dispatched: Dispatched, name: str) -> timedelta | None:
    message: Any = dispatched.message
    return getattr(message, name).ToTimedelta() if message.HasField(name) else None


def _fits(name: str, expected: Any, actual: Any) -> bool:
    if callable(expected):
        return bool(expected(actual))
    if isinstance(actual, timedelta) and isinstance(expected, (int, float)):
        return as_timedelta(expected, name) == actual
    if name == "headers" and isinstance(actual, Mapping) and isinstance(expected, Mapping):
        return expected.items() <= actual.items()  # others come with tracing and the like
    return bool(expected == actual)


def _show(value: object) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    return getattr(value, "__qualname__", None) or repr(value) if callable(value) else repr(value)


def explain(
    expectation: Expectation, dispatched: Sequence[Dispatched], found: int, times: int | None = None
) -> str:
    """Say what was dispatched instead."""
    lines = [f"{expectation} was dispatched {_times(found)}"]
    lines[0] += "." if times is None else f", and not {_times(times)}."
    if not dispatched:
        return f"{lines[0]}\nNothing was dispatched."
    lines.append("Dispatched were:")
    for each in dispatched:
        lines.append(f"  {each}")
        if expectation.is_for(each):
            lines += [f"    {mismatch}" for mismatch in expectation.mismatches(each)]
    return "\n".join(lines)


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")

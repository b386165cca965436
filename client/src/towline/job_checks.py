"""What a Job class may not be: each check raises InvalidJob with the class and the attribute."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from towline.errors import ConfigurationError, InvalidJob
from towline.options import POLICY_NAMES, as_error_types, called_here, check_name
from towline.serializers import check_serializer

if TYPE_CHECKING:
    from towline.jobs import Job

_ATTRIBUTES = (
    *POLICY_NAMES, "job_type", "job_aliases", "retry_on", "dead_on", "serializer"
)  # fmt: skip


def check_field_names(cls: type[Job], reserved: frozenset[str]) -> None:
    """Refuse fields with a name of policy, whose annotation is never meant, or of a method."""
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # it was made one just now
        if field.name in _ATTRIBUTES:
            raise InvalidJob(
                f"{cls.__qualname__}.{field.name}: this is policy, not a field: write "
                f"`{field.name} = ...` without annotation, or give the field another name"
            )
        if field.name in reserved:
            raise InvalidJob(
                f"{cls.__qualname__}.{field.name}: a field cannot have the name of a method of Job"
            )


def check_misspelled(cls: type[Job], reserved: frozenset[str]) -> None:
    """Refuse what is nearly a name of policy, which would be passed over in silence."""
    for name, value in vars(cls).items():
        if name.startswith("_") or name in reserved or callable(value):
            continue
        meant = called_here(name) or _nearest(name)
        if meant and name not in cls.__annotations__:
            raise InvalidJob(
                f"{cls.__qualname__}.{name}: did you mean {meant}? If not, annotate it: "
                f"`{name}: ClassVar[...]`"
            )


def _nearest(name: str) -> str:
    return "".join(map(repr, difflib.get_close_matches(name, _ATTRIBUTES, n=1, cutoff=0.8)))


def check_errors(cls: type[Job]) -> None:
    dead_on, retry_on = error_types(cls)
    never = [kind for kind in retry_on if issubclass(kind, dead_on)]
    if never:
        raise InvalidJob(
            f"{cls.__qualname__}.retry_on: {never[0].__name__} is never retried, because dead_on, "
            "which comes first, has it or a base of it"
        )


def error_types(
    cls: type[Job],
) -> tuple[tuple[type[BaseException], ...], tuple[type[BaseException], ...]]:
    """Return ``dead_on`` and ``retry_on`` of a Job class. Raises InvalidJob for other things."""
    return (
        as_error_types(cls.dead_on, f"{cls.__qualname__}.dead_on"),
        as_error_types(cls.retry_on, f"{cls.__qualname__}.retry_on"),
    )


def check_own_serializer(cls: type[Job]) -> None:
    if cls.serializer is not None:
        try:
            check_serializer(cls.serializer, f"{cls.__qualname__}.serializer")
        except ConfigurationError as error:
            raise InvalidJob(str(error)) from None


def check_aliases(cls: type[Job]) -> tuple[str, ...]:
    where, aliases = f"{cls.__qualname__}.job_aliases", cls.__dict__.get("job_aliases", ())
    if isinstance(aliases, str) or not isinstance(aliases, Sequence):
        raise InvalidJob(f"{where}: expected a tuple of names, got {aliases!r}")
    names = tuple(check_name(alias, where) for alias in aliases)
    if cls.job_type in names:
        raise InvalidJob(f"{where}: {cls.job_type!r} is its job_type already")
    return names


def check_handle(cls: type[Job]) -> None:
    handle: Any = cls.handle
    where = f"{cls.__qualname__}.handle()"
    if not callable(handle):
        raise InvalidJob(f"{where}: expected a method, got {handle!r}")
    refuse_generator(handle, where)
    try:
        inspect.signature(handle).bind(None)
    except TypeError as error:
        raise InvalidJob(
            f"{where}: is called with self alone, what it works on are fields of the job: {error}"
        ) from None
    except ValueError:
        return  # compiled code may have no signature


def refuse_generator(function: Callable[..., Any], where: str) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidJob(f"{where}: is a generator, so calling it would not run it; use return")

"""Checking middleware when a client or a worker is made, so that none is wrong without a word."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from towline.errors import ConfigurationError

GENERATORS = {"push": ("jobs",), "handle": ("job", "context")}
HOOKS = {**GENERATORS, "ended": ("end",)}


@dataclass(frozen=True)
class Wrapper:
    """One generator function; ``name`` is what messages call it."""

    name: str
    function: Callable[..., Any]
    is_async: bool


def wrappers(
    given: Iterable[object], hook: Literal["push", "handle"], *, no_loop: str = ""
) -> tuple[Wrapper, ...]:
    """The generators of one hook, in their order; a function counts as that hook itself.

    ``no_loop``, if there is no event loop, says what to use instead for an async generator. Raises
    ConfigurationError, naming the middleware that is wrong and what it may be.
    """
    found = []
    for item in given:
        if _is_function(item):
            found.append(_wrapper(item, hook, _name(item), no_loop))
            continue
        for name in _hooks_of(item):
            if name in GENERATORS:
                where = f"{type(item).__name__}.{name}"
                advice = no_loop if name == hook else ""
                wrapper = _wrapper(getattr(item, name), name, where, advice)
                if name == hook:
                    found.append(wrapper)
    return tuple(found)


def listeners(given: Iterable[object]) -> tuple[Callable[..., object], ...]:
    """The ``ended`` of each middleware that has one. Raises ConfigurationError."""
    found = []
    for item in given:
        if not _is_function(item) and "ended" in _hooks_of(item):
            function = getattr(item, "ended")  # noqa: B009  # it is known to be there
            where = f"{type(item).__name__}.ended"
            if _is_generator(function) or inspect.iscoroutinefunction(function):
                raise ConfigurationError(
                    f"middleware: {where}: expected a plain function, which is told how an "
                    "attempt ended; what runs around a handler is handle()"
                )
            _check_parameters(function, "ended", where)
            found.append(function)
    return tuple(found)


def listed(given: object) -> list[object]:
    """Raises ConfigurationError when it is no list of anything."""
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        return list(given)
    raise ConfigurationError(
        f"middleware: expected a list, such as [Logging(), Tracing()], got {given!r}"
    )


def _is_function(item: object) -> bool:
    return inspect.isroutine(item) or isinstance(item, functools.partial)


def _name(function: object) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _hooks_of(item: object) -> list[str]:
    if isinstance(item, type):
        raise ConfigurationError(
            f"middleware: {item.__name__} is a class: give an instance, {item.__name__}(...)"
        )
    hooks = [name for name in HOOKS if callable(getattr(item, name, None))]
    if not hooks:
        raise ConfigurationError(
            f"middleware: {item!r} is none: expected a generator function, or an object with "
            "push(jobs), handle(job, context) or ended(end)"
        )
    return hooks


def _wrapper(function: Any, hook: str, name: str, no_loop: str) -> Wrapper:
    if not _is_generator(function):
        kind = "a coroutine function" if inspect.iscoroutinefunction(function) else "none"
        raise ConfigurationError(
            f"middleware: {name}: expected a generator function, one with a `yield` where the "
            f"call takes place, and it is {kind}"
        )
    _check_parameters(function, hook, name)
    is_async = inspect.isasyncgenfunction(function)
    if is_async and no_loop:
        raise ConfigurationError(
            f"middleware: {name}: is an async generator, and there is no event loop for it here: "
            f"make it a plain one, or use {no_loop}"
        )
    return Wrapper(name, function, is_async)


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _check_parameters(function: Callable[..., Any], hook: str, name: str) -> None:
    try:
        inspect.signature(function).bind(*HOOKS[hook])
    except TypeError as error:
        raise ConfigurationError(
            f"middleware: {name}: is called as {hook}({', '.join(HOOKS[hook])}): {error}"
        ) from None

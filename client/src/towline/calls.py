"""What came of a call: a value or an exception, as something that can be handed on."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(slots=True)
class Returned:
    value: Any

    def unwrap(self) -> Any:
        return self.value


@dataclass(slots=True)
class Raised:
    error: BaseException

    def unwrap(self) -> Any:
        raise self.error


Result: TypeAlias = Returned | Raised


def capture(function: Callable[[], Any]) -> Result:
    """Call it; what would end a thread or a loop, such as SystemExit, is a failure like others."""
    try:
        return Returned(function())
    except BaseException as error:
        return Raised(error)


async def capture_awaited(awaitable: Awaitable[Any]) -> Result:
    try:
        return Returned(await awaitable)
    except BaseException as error:
        return Raised(error)


def is_awaitable(result: Result) -> bool:
    return isinstance(result, Returned) and inspect.iscoroutine(result.value)

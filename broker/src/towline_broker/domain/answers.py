"""How large the answer of a call comes to be, told while it is made: whoever bounds answers hears
of it before it is whole."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeAlias

#: Is given bytes by which the answer grows; raises if that is too much.
Grow: TypeAlias = Callable[[int], None]

_grow: ContextVar[Grow | None] = ContextVar("towline_answer", default=None)


def hear_of_answer(grow: Grow) -> None:
    """From here on, in this task, of the call that is being answered."""
    _grow.set(grow)


def answer_grows(size: int) -> None:
    """By so many bytes. Raises Full if whoever makes the call has too much unread."""
    grow = _grow.get()
    if grow is not None:
        grow(size)

"""By turns: A B A B, so that whatever else the machine does falls on all that is compared."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


async def by_turns(
    rounds: int,
    works: Mapping[str, Callable[[], Awaitable[T]]],
    *,
    warm: bool = True,
    out: Callable[[str, Exception], None] | None = None,
) -> dict[str, list[T]]:
    """What each returned in each round. With ``warm``, one round before them does not count. One
    that raises is told to ``out``, and out of what is found: the others go on."""
    found: dict[str, list[T]] = {name: [] for name in works}
    for turn in range(-1 if warm else 0, rounds):
        for name in list(found):
            try:
                result = await works[name]()
            except Exception as error:
                if out is None:
                    raise
                out(name, error)
                del found[name]
                continue
            if turn >= 0:
                found[name].append(result)
    return found

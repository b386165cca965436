"""What stands behind each other and has something in common, to be handled as one."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K")


def alike(items: Sequence[T], kinds: Sequence[K]) -> Iterator[tuple[K, Sequence[T]]]:
    """Items behind each other that are of one kind, with it. ``kinds``: that of each item."""
    if not items:
        return
    first, begin = kinds[0], 0
    if kinds.count(first) < len(kinds):
        for index, kind in enumerate(kinds):
            if kind != first:
                yield first, items[begin:index]
                first, begin = kind, index
    yield first, items[begin:]

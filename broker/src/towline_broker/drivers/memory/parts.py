"""A mapping that grows a part at a time.

A dict that has run out of room is copied as a whole: with a million keys that stops everything for
a tenth of a second. Here the keys are spread over many small dicts, of which each grows by itself.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Of ten million keys a part has 40,000, and is copied in about 2 ms.
PARTS = 256
#: A part's own dict goes by the lower bits of the hash, in which the keys of a part must differ.
_SHIFT = 40
_MASK = PARTS - 1


class PartedDict(Generic[K, V]):
    """What a dict does, as far as it is needed here; iteration is in no order.

    For keys whose hash has high bits: strings and tuples with strings, no small numbers.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: tuple[dict[K, V], ...] = tuple({} for _ in range(PARTS))

    def __getitem__(self, key: K) -> V:
        return self._parts[hash(key) >> _SHIFT & _MASK][key]

    def __setitem__(self, key: K, value: V) -> None:
        self._parts[hash(key) >> _SHIFT & _MASK][key] = value

    def __delitem__(self, key: K) -> None:
        del self._parts[hash(key) >> _SHIFT & _MASK][key]

    def __contains__(self, key: K) -> bool:
        return key in self._parts[hash(key) >> _SHIFT & _MASK]

    def get(self, key: K) -> V | None:
        return self._parts[hash(key) >> _SHIFT & _MASK].get(key)

    def pop(self, key: K, default: None) -> V | None:
        return self._parts[hash(key) >> _SHIFT & _MASK].pop(key, default)

    def both_lack_all(self, other: "PartedDict[K, Any]", keys: Iterable[K]) -> bool:
        """Whether none of the keys is here or in the other one."""
        parts, others = self._parts, other._parts
        for key in keys:
            place = hash(key) >> _SHIFT & _MASK
            if key in parts[place] or key in others[place]:
                return False
        return True

    def get_all(self, keys: Iterable[K]) -> list[V | None]:
        parts = self._parts
        return [parts[hash(key) >> _SHIFT & _MASK].get(key) for key in keys]

    def put_all(self, keys: Iterable[K], values: Iterable[V]) -> None:
        """Of each key its value."""
        parts = self._parts
        for key, value in zip(keys, values, strict=True):
            parts[hash(key) >> _SHIFT & _MASK][key] = value

    def delete_all(self, keys: Iterable[K]) -> None:
        """All of them must be there."""
        parts = self._parts
        for key in keys:
            del parts[hash(key) >> _SHIFT & _MASK][key]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[K]:
        for part in self._parts:
            yield from part

    def values(self) -> Iterator[V]:
        for part in self._parts:
            yield from part.values()

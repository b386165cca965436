"""Which of the broker's stores a queue is at home in, by its name or by a pattern of names.

A pattern is a queue's name with one or more ``*``, each of which stands for any text, also for
none. A name that is given exactly counts before every pattern; of patterns, the one with more
before its first ``*``, and of those that are alike in this, the one with more letters altogether.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from towline_broker.domain.names import fits

#: The store of every queue that nothing else is said of.
DEFAULT_STORE = "default"


@dataclass(frozen=True, slots=True)
class Routes:
    """Raises ValueError for two patterns of which neither comes first."""

    default: str = DEFAULT_STORE
    #: Queue to store.
    exact: Mapping[str, str] = field(default_factory=dict)
    #: Pattern and store, in any order.
    patterns: Sequence[tuple[str, str]] = ()
    _ordered: Sequence[tuple[str, str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for one, other in ambiguous(pattern for pattern, _ in self.patterns):
            raise ValueError(f"a queue can fit {one!r} and {other!r}, and neither comes first")
        ordered = sorted(self.patterns, key=lambda route: precedence(route[0]), reverse=True)
        object.__setattr__(self, "_ordered", ordered)

    def store_of(self, queue: str) -> str:
        """The name of the store."""
        named = self.exact.get(queue)
        if named is not None:
            return named
        for pattern, store in self._ordered:
            if fits(pattern, queue):
                return store
        return self.default


def is_pattern(text: str) -> bool:
    return "*" in text


def precedence(pattern: str) -> tuple[int, int]:
    """Of two patterns that a name fits, the one with the greater counts."""
    return pattern.index("*"), len(pattern) - pattern.count("*")


def rank(name: str) -> tuple[bool, tuple[int, int]]:
    """Of a name or a pattern: the greatest of those that a queue's name fits counts."""
    return (False, precedence(name)) if is_pattern(name) else (True, (0, 0))


def ambiguous(patterns: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of patterns that one name can fit, and of which neither comes first."""
    return [
        (one, other)
        for one, other in combinations(patterns, 2)
        if precedence(one) == precedence(other) and overlap(one, other)
    ]


def overlap(one: str, other: str) -> bool:
    """Whether one name can fit both patterns. Between their ends there is room for the middle parts
    of both."""
    return _alike(one.partition("*")[0], other.partition("*")[0], str.startswith) and _alike(
        one.rpartition("*")[2], other.rpartition("*")[2], str.endswith
    )


def _alike(one: str, other: str, reaches: Callable[[str, str], bool]) -> bool:
    return reaches(one, other) or reaches(other, one)

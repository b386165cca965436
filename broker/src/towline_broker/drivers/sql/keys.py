"""Statements that name a list of keys of any length, by databases that want each key on its own."""

from collections.abc import Iterable, Iterator
from itertools import islice

#: Where the keys go in a statement.
KEYS = "(?*)"


def times_named(sql: str) -> int:
    """How often the statement names its keys."""
    return sql.count(KEYS)


def chunks(keys: Iterable[object], most: int) -> Iterator[list[object]]:
    """The keys in lists whose lengths are powers of two, so that few statements are prepared.
    ``most``, such a power, is the greatest.

    What is missing to such a length is made up by the last key, which changes no answer.
    """
    rest = iter(keys)
    while chunk := list(islice(rest, most)):
        length = 1 << (len(chunk) - 1).bit_length()
        yield chunk + chunk[-1:] * (length - len(chunk))

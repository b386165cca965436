"""Inserting many rows with few statements.

SQLite begins and ends each statement at a price: an INSERT of 64 rows costs a third of 64 INSERTs.
Half of what is left is binding parameters, so what is the same in all rows (the queue, the time of
the call, and so on) is bound once for all.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

#: Rows of one statement, a power of two. More gain nothing.
MOST_ROWS = 128

Rows = Sequence[tuple[object, ...]]


def statements(insert: str, rows: Rows) -> Iterator[tuple[str, Sequence[object]]]:
    """Statements with their parameters that together insert the rows, in their order.

    ``insert``: the INSERT of one row, up to and with its VALUES. There must be a row.
    """
    if len(rows) == 1:
        yield insert, rows[0]
        return
    columns = list(zip(*rows, strict=True))
    # Not the first one, which is part of the key: something has to tell the rows apart.
    same = (False, *(_is_the_same(column) for column in columns[1:]))
    shared = [column[0] for column, alike in zip(columns, same, strict=True) if alike]
    varying = [column for column, alike in zip(columns, same, strict=True) if not alike]
    values = list(chain.from_iterable(zip(*varying, strict=True)))
    width, begin = len(varying), 0
    for count in _powers_of_two(len(rows)):
        end = begin + count * width
        yield _insert_of(insert, same, count), [*shared, *values[begin:end]]
        begin = end


def _is_the_same(column: Sequence[object]) -> bool:
    # What may be long is not compared: binding it again is cheap, for nothing is copied.
    return not isinstance(column[0], bytes) and column.count(column[0]) == len(column)


def _powers_of_two(count: int) -> Iterator[int]:
    """That add up to the count, so that there are few statements to prepare."""
    while count > 0:
        part = min(MOST_ROWS, 1 << (count.bit_length() - 1))
        yield part
        count -= part


@lru_cache(maxsize=512)
def _insert_of(insert: str, same: tuple[bool, ...], rows: int) -> str:
    """The statement for so many rows; first come the parameters that they share."""
    into, _, values = insert.partition(" VALUES ")
    chosen: list[str] = []
    parameters, varying = iter(same), 0
    for value in values.strip("()").split(", "):
        if value != "?" or next(parameters):
            chosen.append(value)
        else:
            varying += 1
            chosen.append(f"column{varying}")
    row = f"({', '.join('?' * varying)})"
    table = ", ".join([row] * rows)
    return f"{into} SELECT {', '.join(chosen)} FROM (VALUES {table})"  # noqa: S608 - constants

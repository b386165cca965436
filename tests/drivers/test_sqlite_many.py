"""Rows that go in together stand as if each had gone in alone."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline_broker.drivers.sql.sqlite.many import MOST_ROWS, statements

_TABLE = "CREATE TABLE t (k INTEGER PRIMARY KEY, a TEXT, b BIGINT, c BLOB, d REAL, e INT)"
_INSERT = "INSERT INTO t (k, a, b, c, e, d) VALUES (?, ?, ?, ?, 7, ?)"

_values = st.tuples(
    st.sampled_from(["", "7", "one", None]),
    st.sampled_from([0, 1, None, 1 << 60]),
    st.sampled_from([b"", b"x" * 300, None]),
    st.sampled_from([0.5, 1.0, None]),
)


def _stored(rows: list[tuple[object, ...]], *, together: bool) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(":memory:")
    connection.execute(_TABLE)
    if together:
        for statement, parameters in statements(_INSERT, rows):
            connection.execute(statement, parameters)
    else:
        connection.executemany(_INSERT, rows)
    found = connection.execute(
        "SELECT k, a, typeof(a), b, typeof(b), c, typeof(c), d, typeof(d), e FROM t ORDER BY k"
    ).fetchall()
    connection.close()
    return found


@given(st.lists(_values, min_size=1, max_size=20))
def test_rows_of_all_kinds_stand_as_if_each_had_gone_in_alone(
    values: list[tuple[object, ...]],
) -> None:
    rows: list[tuple[object, ...]] = [(number, *value) for number, value in enumerate(values)]
    assert _stored(rows, together=True) == _stored(rows, together=False)


@pytest.mark.parametrize("count", [1, 2, 3, 100, MOST_ROWS, MOST_ROWS + 1, 1_000])
def test_any_number_of_rows_goes_in_with_few_statements(count: int) -> None:
    rows: list[tuple[object, ...]] = [
        (number, "same", number % 2, b"%d" % number, None) for number in range(count)
    ]
    assert _stored(rows, together=True) == _stored(rows, together=False)
    assert len(list(statements(_INSERT, rows))) <= 8 + count // MOST_ROWS

"""Statements in the words of PostgreSQL: made once of each text."""

# ruff: noqa: S608 - statements are composed of constants and names of types

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql import ClauseElement, Executable

_PARAMETER = re.compile(r"IN \(\?\*\)|\?")
_KEYS = "IN (?*)"
_VALUES = re.compile(r" VALUES \((?P<values>.*)\)(?P<rest>( ON CONFLICT .*)?)$")
_DIALECT = PGDialect_asyncpg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # theirs


@cache
def numbered(sql: str) -> str:
    """``?`` as ``$1``, ``$2``, ...; a list of keys as one array."""
    pieces: list[str] = []
    end = 0
    # Keys come last, and are one parameter wherever they stand.
    keys = sql.replace(_KEYS, "").count("?") + 1
    for number, match in enumerate(_PARAMETER.finditer(sql), start=1):
        mark = f"${number}" if match.group() == "?" else f"= ANY(${keys})"
        pieces += [sql[end : match.start()], mark]
        end = match.end()
    return "".join([*pieces, sql[end:]])


@cache
def for_many(sql: str, types: tuple[str, ...]) -> str:
    """One statement for all rows of parameters, which come as an array for each column.

    (For a hundred rows that takes about seven tenths of the time of a statement for each. The
    planner is told in ``database.py`` to join by going through the rows.)
    """
    arrays = ", ".join(f"${number}::{type_}[]" for number, type_ in enumerate(types, start=1))
    columns = ", ".join(f"p{number}" for number in range(1, len(types) + 1))
    source = f"unnest({arrays}) AS v({columns})"
    named = numbered(sql).replace("$", "v.p")
    verb = sql.split(" ", 1)[0]
    if verb == "INSERT":
        return _VALUES.sub(rf" SELECT \g<values> FROM {source}\g<rest>", named)
    if verb == "UPDATE":
        return named.replace(" WHERE ", f" FROM {source} WHERE ", 1)
    return named.replace(" WHERE ", f" USING {source} WHERE ", 1)


@cache
def put(table: sa.Table) -> str:
    """Inserts a whole row, in place of the one with the same primary key."""
    names = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key]
    others = ", ".join(f"{name} = EXCLUDED.{name}" for name in names if name not in key)
    values = ", ".join("?" * len(names))
    into = f"{table.name} ({', '.join(names)})"
    return (
        f"INSERT INTO {into} VALUES ({values})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {others}"
    )


def compiled(statement: Executable) -> tuple[str, Sequence[Any]]:
    """A statement composed by SQLAlchemy: its text and parameters."""
    compile_ = cast("ClauseElement", statement).compile
    done: Any = compile_(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(done), [done.params[name] for name in done.positiontup]

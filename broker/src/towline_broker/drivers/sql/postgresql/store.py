"""The server and the tables: what it promises, and whether they are ours."""

# ruff: noqa: S608 - statements are composed of constants

from dataclasses import dataclass
from typing import Any

import asyncpg
import sqlalchemy as sa
from asyncpg import Connection

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.interface import Durability
from towline_broker.drivers.sql import schema, versions

#: Whoever makes the tables holds this advisory lock: "Twln", and 1 for this use.
_LOCK = 0x54776C6E_0001
_OLDEST = 130_000
_SETTINGS = ("synchronous_commit", "fsync", "full_page_writes")


@dataclass(frozen=True, slots=True)
class Promise:
    durability: Durability = Durability.NONE
    note: str = "not opened yet"


async def prepare(connection: "Connection[Any]", shown: str, *, upgrade: bool) -> Promise:
    """Checks the server, makes the tables if there are none, and brings older ones up to date if
    told to. Several brokers may do so at the same time.

    Raises StoreRefused having changed nothing.
    """
    await _check_server(connection, shown)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await _prepare_tables(connection, shown, upgrade)
    except asyncpg.InsufficientPrivilegeError as error:
        raise StoreRefused(
            f"{shown}: {error}; grant the user CREATE on the schema, or the rights to the tables"
        ) from error
    return await _promise(connection)


async def _prepare_tables(connection: "Connection[Any]", shown: str, upgrade: bool) -> None:
    if await connection.fetchval("SELECT to_regclass('towline_meta') IS NULL"):
        for statement in creation():
            await connection.execute(statement)
        return
    version = await _version(connection, shown)
    if upgrade and version < versions.CURRENT:
        # Alembic takes a while to load, and is seldom needed.
        from towline_broker.drivers.sql import migrations

        await connection.execute(migrations.script("postgresql", version))
    else:
        versions.check(shown, version)


async def _check_server(connection: "Connection[Any]", shown: str) -> None:
    version = int(await connection.fetchval("SHOW server_version_num"))
    if version < _OLDEST:
        raise StoreRefused(f"{shown} is PostgreSQL {version // 10_000}; Towline needs 13 or newer")
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise StoreRefused(
            f"{shown} keeps its texts in {encoding}; create a database with ENCODING 'UTF8' "
            "TEMPLATE template0"
        )
    if await connection.fetchval("SELECT pg_is_in_recovery()"):
        raise StoreRefused(
            f"{shown} is a standby, which takes no changes; name the primary, or all hosts with "
            "target_session_attrs=read-write"
        )
    if await connection.fetchval("SELECT current_schema() IS NULL"):
        raise StoreRefused(
            f"{shown}: the search_path names no schema that exists; create it, or name another"
        )


def creation() -> list[str]:
    """The statements that make the tables."""
    made: list[str] = []

    def note(statement: Any, *_: object) -> None:
        made.append(str(statement.compile(dialect=engine.dialect)))

    engine = sa.create_mock_engine("postgresql+asyncpg://", note)
    schema.metadata.create_all(engine, checkfirst=False)
    versions.revisions.create(engine, checkfirst=False)
    revision = versions.revision_of(versions.CURRENT)
    return [
        *made,
        f"INSERT INTO {versions.revisions.name} (version_num) VALUES ('{revision}')",
        "INSERT INTO towline_meta (application, schema_version, clock, sequence)"
        f" VALUES ('towline', {versions.CURRENT}, 0, 0)",
    ]


async def _version(connection: "Connection[Any]", shown: str) -> int:
    columns = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'towline_meta'::regclass"
    )
    found: list[Any] = []
    if {"application", "schema_version"} <= {row[0] for row in columns}:
        found = await connection.fetch("SELECT application, schema_version FROM towline_meta")
    if len(found) != 1 or found[0][0] != "towline":
        raise StoreRefused(
            f"{shown} has a table towline_meta that is not of a store of ours; name another "
            "database, or another schema by search_path"
        )
    return int(found[0][1])


async def _promise(connection: "Connection[Any]") -> Promise:
    values = {name: await connection.fetchval(f"SHOW {name}") for name in _SETTINGS}
    if values["fsync"] == "off":
        return Promise(Durability.NONE, "fsync is off: a crash of the server's machine loses jobs")
    if values["full_page_writes"] == "off":
        return Promise(
            Durability.NONE,
            "full_page_writes is off: a crash of the server's machine can damage the database, "
            "unless its file system writes whole pages",
        )
    commit = values["synchronous_commit"]
    if commit == "off":
        return Promise(
            Durability.WINDOW,
            "synchronous_commit is off: a crash loses the last commits, up to about half a second",
        )
    return Promise(
        Durability.DURABLE,
        f"each commit is synced to the server's log (synchronous_commit={commit}, fsync=on)",
    )

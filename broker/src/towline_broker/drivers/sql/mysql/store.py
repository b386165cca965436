"""The server and the tables: what it promises, and whether they are ours."""

# ruff: noqa: S608 - statements are composed of constants

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy
from sqlalchemy.schema import CreateIndex, CreateTable

from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.drivers.interface import Durability
from towline_broker.drivers.sql import versions
from towline_broker.drivers.sql.mysql import tables
from towline_broker.drivers.sql.mysql.session import MySQLSession

#: The first with SKIP LOCKED, with collations that tell trailing blanks, and (MariaDB) with
#: numbers that are not given twice after a restart.
_OLDEST = {"MariaDB": (10, 6), "MySQL": (8, 0, 17)}
#: The largest message to the server that a broker cannot do without, in bytes: a job of 1 MiB, and
#: what a call of many small ones comes to.
LEAST_PACKET = 4 << 20
#: What a message has beside the envelope that it carries.
_BESIDE = 64 << 10
#: Seconds to wait for another broker that is making or upgrading the tables.
_PATIENCE = 60

# Names of locks are the server's, not the database's.
_LOCK = "CONCAT('towline.schema.', MD5(DATABASE()))"
_TAKE_LOCK = f"SELECT GET_LOCK({_LOCK}, {_PATIENCE})"
_FREE_LOCK = f"SELECT RELEASE_LOCK({_LOCK})"
_TABLES = (
    "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'towline\\_%'"
)
_VARIABLES = (
    "SHOW VARIABLES WHERE Variable_name IN ('version', 'max_allowed_packet',"
    " 'innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog', 'read_only')"
)


@dataclass(frozen=True, slots=True)
class Promise:
    durability: Durability = Durability.NONE
    note: str = "not opened yet"
    #: Bytes of the largest envelope.
    max_envelope: int | None = None


async def prepare(session: MySQLSession, shown: str, *, upgrade: bool) -> Promise:
    """Checks the server, makes the tables if there are none, and brings older ones up to date if
    told to. Several brokers may do so at the same time.

    Raises StoreRefused having changed nothing, and StoreUnavailable.
    """
    promise = await _promise(session, shown)
    if await version(session, shown) != versions.CURRENT:
        if (await session.rows(_TAKE_LOCK))[0][0] != 1:
            raise StoreUnavailable(f"another broker has been making the tables of {shown}")
        try:
            await _prepare_tables(session, shown, upgrade)
        finally:
            await session.rows(_FREE_LOCK)
    for name, engine in await session.rows(_TABLES):
        if engine != "InnoDB":
            raise StoreRefused(
                f"{shown}: table {name} is kept by the engine {engine}, which has no "
                f"transactions; ALTER TABLE {name} ENGINE=InnoDB"
            )
    return promise


async def version(session: MySQLSession, shown: str) -> int | None:
    """Of the tables; None if they are not there, or not yet complete: here each is made by itself,
    and the row that is asked for comes last."""
    there = {name for name, _ in await session.rows(_TABLES)}
    if "towline_meta" in there:
        found = await session.rows("SELECT application, schema_version FROM towline_meta")
        if found and found[0][0] == "towline":
            return int(found[0][1])
        if found:
            raise StoreRefused(f"{shown} has tables called towline_… that are not of a store")
    if "towline_jobs" in there and await session.rows("SELECT 1 FROM towline_jobs LIMIT 1"):
        raise StoreRefused(
            f"{shown} has jobs, but not the row of towline_meta that says of which version its "
            "tables are: bring it back from a backup"
        )
    return None


async def _prepare_tables(session: MySQLSession, shown: str, upgrade: bool) -> None:
    found = await version(session, shown)
    mariadb = session.mariadb
    if found is None:
        statements = [
            *(f"DROP TABLE {name}" for name, _ in await session.rows(_TABLES)),
            *creation(mariadb=mariadb),
        ]
    elif upgrade and found < versions.CURRENT:
        # Alembic takes a while to load, and is seldom needed.
        from towline_broker.drivers.sql import migrations

        statements = migrations.statements("mysql", found, options=dialect_options(mariadb))
    else:
        versions.check(shown, found)
        return
    for statement in statements:
        await session.run(statement)


def dialect_options(mariadb: bool) -> dict[str, Any]:
    return {"is_mariadb": mariadb}


def creation(*, mariadb: bool) -> list[str]:
    """The statements that make the tables. What says that all is there comes last."""
    dialect = MySQLDialect_asyncmy(is_mariadb=mariadb)
    metadata = tables.metadata_of(mariadb=mariadb)
    made: list[sa.schema.ExecutableDDLElement] = []
    for table in metadata.sorted_tables:
        made.append(CreateTable(table))
        made += [CreateIndex(index) for index in table.indexes]
    revision = versions.revision_of(versions.CURRENT)
    return [
        # Primary keys have no names here.
        f"CREATE TABLE {versions.revisions.name} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        *(str(statement.compile(dialect=dialect)) for statement in made),
        f"INSERT INTO {versions.revisions.name} (version_num) VALUES ('{revision}')",
        "INSERT INTO towline_meta (application, schema_version, clock, sequence)"
        f" VALUES ('towline', {versions.CURRENT}, 0, 0)",
    ]


async def _promise(session: MySQLSession, shown: str) -> Promise:
    values = {str(name): str(value) for name, value in await session.rows(_VARIABLES)}
    _check_version(values["version"], session.mariadb, shown)
    if values["read_only"] not in ("OFF", "0"):
        raise StoreRefused(f"{shown} is read-only; name the server that takes changes")
    packet = int(values["max_allowed_packet"])
    if packet < LEAST_PACKET:
        raise StoreRefused(
            f"{shown} takes no message larger than {packet} bytes (max_allowed_packet), and "
            f"Towline needs {LEAST_PACKET}; raise it on the server"
        )
    durability, note = _durability(values)
    return Promise(durability, note, packet - _BESIDE)


def _check_version(version: str, mariadb: bool, shown: str) -> None:
    kind = "MariaDB" if mariadb else "MySQL"
    numbers = version.partition("-")[0].split(".")
    if tuple(int(number) for number in numbers if number.isdecimal()) < _OLDEST[kind]:
        needed = ".".join(map(str, _OLDEST[kind]))
        raise StoreRefused(f"{shown} is {kind} {version}; Towline needs {needed} or newer")


def _durability(values: dict[str, str]) -> tuple[Durability, str]:
    flush = values["innodb_flush_log_at_trx_commit"]
    if flush != "1":
        return (
            Durability.WINDOW,
            f"innodb_flush_log_at_trx_commit is {flush}: a crash of the server's machine loses the "
            "commits of about the last second; set it to 1",
        )
    if values["log_bin"] in ("ON", "1") and values["sync_binlog"] != "1":
        return (
            Durability.WINDOW,
            f"sync_binlog is {values['sync_binlog']}: after a crash of the server's machine the "
            "binary log, and so its replicas, may lack the last commits; set it to 1",
        )
    return (
        Durability.DURABLE,
        "each commit is synced to the server's log (innodb_flush_log_at_trx_commit=1)",
    )

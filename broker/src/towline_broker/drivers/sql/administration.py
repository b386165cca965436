"""The tables of a store, for an administrator: their version, and bringing them up to date."""

import asyncio
import sqlite3
from dataclasses import replace
from functools import partial
from typing import Protocol

from towline_broker.domain.errors import StoreRefused, TowlineError
from towline_broker.drivers.findings import Report
from towline_broker.drivers.registry import check_kind, packages_for
from towline_broker.drivers.sql import checking, migrations
from towline_broker.drivers.sql.sqlite import checking as sqlite_checking
from towline_broker.drivers.sql.sqlite import file, offline
from towline_broker.drivers.sql.sqlite.url import parse as parse_sqlite

#: A look at all rows takes as long as it takes, ...
_CHECK_SECONDS = 3600.0
#: ... and is planned otherwise than what a broker asks.
_PATIENT = {
    "statement_timeout": "0",
    **dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_sort"), "on"),
}


class Tables(Protocol):
    """Any method may raise StoreRefused and StoreUnavailable."""

    async def version(self) -> int | None:
        """None: there are none. Changes nothing; brokers may be at work."""

    async def upgrade(self) -> None:
        """Makes them, or brings them up to date."""

    async def script(self) -> str:
        """The SQL that :meth:`upgrade` would run."""

    async def check(self) -> Report:
        """Whether their rows agree with each other. Changes nothing; brokers may be at work."""


def tables_of(url: str) -> Tables | None:
    """None if a store of this kind has no tables.

    Raises StoreRefused for a wrong url, and for a package that is not installed.
    """
    scheme = check_kind(url)
    with packages_for(scheme):
        match scheme:
            case "sqlite":
                return _SqliteTables(url)
            case "postgresql" | "postgres":
                return _PostgresTables(url)
            case "mysql" | "mariadb":
                return _MySQLTables(url)
            case _:
                return None


class _SqliteTables:
    def __init__(self, url: str) -> None:
        self._path = parse_sqlite(url).path

    async def version(self) -> int | None:
        return await asyncio.to_thread(offline.version_of, self._path)

    async def upgrade(self) -> None:
        await asyncio.to_thread(offline.prepare, self._path)

    async def script(self) -> str:
        version = await self.version() or 0
        # The first release did not know Alembic.
        script = migrations.script("sqlite", version, stamped=version > 1)
        return script if version else f"{file.MARK};\n\n{script}"

    async def check(self) -> Report:
        try:
            return await asyncio.to_thread(sqlite_checking.check, self._path.resolve())
        except (sqlite3.Error, OSError) as error:
            raise StoreRefused(f"{self._path} cannot be read: {error}") from error


# The clients of servers are loaded when they are needed: not everybody has them.


class _PostgresTables:
    def __init__(self, url: str) -> None:
        from towline_broker.drivers.sql.postgresql.driver import PostgresRoom
        from towline_broker.drivers.sql.postgresql.url import parse

        self._room = PostgresRoom(replace(parse(url), upgrade=True))

    async def version(self) -> int | None:
        database = self._room.database
        connection = await database.connection({})
        try:
            if await connection.fetchval("SELECT to_regclass('towline_meta') IS NULL"):
                return None
            return int(await connection.fetchval("SELECT schema_version FROM towline_meta"))
        except Exception as error:
            raise database.translated(error) from error
        finally:
            connection.terminate()

    async def upgrade(self) -> None:
        await self._room.prepare()

    async def script(self) -> str:
        return migrations.script("postgresql", await self.version() or 0)

    async def check(self) -> Report:
        database = self._room.database
        connection = await database.connection(_PATIENT)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await checking.look(partial(connection.fetch, timeout=_CHECK_SECONDS))
        except Exception as error:
            raise database.translated(error) from error
        finally:
            connection.terminate()


class _MySQLTables:
    def __init__(self, url: str) -> None:
        from towline_broker.drivers.sql.mysql.driver import MySQLRoom
        from towline_broker.drivers.sql.mysql.url import parse

        self._room = MySQLRoom(replace(parse(url), upgrade=True))
        self._mariadb = False

    async def version(self) -> int | None:
        from towline_broker.drivers.sql.mysql import store

        database = self._room.database
        session = await database.session(changes=False)
        try:
            self._mariadb = session.mariadb
            return await store.version(session, database.shown)
        except TowlineError:
            raise
        except Exception as error:
            raise database.translated(error) from error
        finally:
            await session.close()

    async def upgrade(self) -> None:
        await self._room.prepare()

    async def script(self) -> str:
        version = await self.version() or 0
        return migrations.script("mysql", version, options={"is_mariadb": self._mariadb})

    async def check(self) -> Report:
        from towline_broker.drivers.sql.mysql.session import MySQLSession

        database = self._room.database
        connection = await database.connection(changes=False, limited=False)
        session = MySQLSession(connection, _CHECK_SECONDS)
        try:
            await session.begin_snapshot()
            return await checking.look(session.rows)
        except TowlineError:
            raise
        except Exception as error:
            raise database.translated(error) from error
        finally:
            await session.close()

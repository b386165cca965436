"""The tables of a store, for an administrator: their version, and bringing them up to date."""

import asyncio
from dataclasses import replace
from typing import Protocol

from towline_broker.domain.errors import TowlineError
from towline_broker.drivers.registry import check_kind, packages_for
from towline_broker.drivers.sql import migrations
from towline_broker.drivers.sql.sqlite import file, offline
from towline_broker.drivers.sql.sqlite.url import parse as parse_sqlite


class Tables(Protocol):
    """Any method may raise StoreRefused and StoreUnavailable."""

    async def version(self) -> int | None:
        """None: there are none. Changes nothing; brokers may be at work."""

    async def upgrade(self) -> None:
        """Makes them, or brings them up to date."""

    async def script(self) -> str:
        """The SQL that :meth:`upgrade` would run."""


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

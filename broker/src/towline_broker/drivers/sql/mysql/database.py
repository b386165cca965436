"""Connecting to MySQL or MariaDB, and what their errors mean."""

import asyncio
import ssl
from typing import Any

from asyncmy import connect, errors
from asyncmy.connection import Connection
from asyncmy.constants import CLIENT

from towline_broker.domain.errors import (
    StoreFailed,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    TowlineError,
)
from towline_broker.drivers.sql.mysql import writers
from towline_broker.drivers.sql.mysql.session import MySQLSession, is_mariadb
from towline_broker.drivers.sql.mysql.tables import collation
from towline_broker.drivers.sql.mysql.url import MySQLUrl
from towline_broker.drivers.sql.shared.session import Trouble

#: Deadlock, lock wait timeout, duplicate key, NOWAIT, and (MariaDB) a row that has changed since.
_RACES = frozenset({1213, 1205, 1062, 3572, 1020})
#: Lost with its connection: the server or an administrator ends it, or no longer takes changes
#: there (after a failover).
_LOST = frozenset(
    {
        *(1040, 1042, 1043, 1047, 1053, 1077, 1078, 1079, 1152, 1158, 1159, 1160, 1161, 1184),
        *(1203, 1290, 1317, 1792, 1836, 1927, 2002, 2003, 2006, 2013, 2055, 4031),
    }
)
#: No space left on the disk, table full.
_FULL = frozenset({3, 1021, 1026, 1114})
#: The server says that what it has is damaged.
_DAMAGED = frozenset({126, 127, 134, 141, 144, 145, 1034, 1035, 1194, 1195, 1712, 1877})
#: A statement took too long: of MariaDB and of MySQL.
_TOO_SLOW = frozenset({1969, 3024})
#: The user lacks a right.
_FORBIDDEN = frozenset({1142, 1143, 1227, 1370})
#: Reported when connecting: waiting does not help.
_REFUSALS = {
    1044: "grant the user all rights to the database",
    1045: "check the user and the password in the url",
    1049: "create the database, or name another in the url",
    1698: "check how the user has to log in",
    1251: "the client does not know how the user has to log in",
    2059: "the client does not know how the user has to log in",
}
_SETTINGS = (
    "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00',"
    # The client would log warnings, with what jobs hold in them.
    " max_error_count = 0"
)


class MySQLDatabase:
    """See :class:`towline_broker.drivers.sql.shared.session.Database`."""

    def __init__(self, url: MySQLUrl) -> None:
        self._url = url

    @property
    def shown(self) -> str:
        """The url, fit to be shown."""
        return self._url.shown

    async def connect(self, *, changes: bool) -> MySQLSession:
        session = await self.session(changes=changes)
        if not changes:
            return session
        try:
            session.writer = await writers.claim(session)
        except writers.NoWriter:
            await session.close()
            raise StoreRefused(
                f"{self.shown} is open over {writers.MOST} connections already, which is the "
                "limit; run fewer brokers, or give them fewer lanes"
            ) from None
        except Exception as error:
            await session.close()
            if self.trouble(error) is not None:
                raise StoreUnavailable(f"{self.shown} broke the connection") from error
            raise self.translated(error) from error
        return session

    async def session(self, *, changes: bool) -> MySQLSession:
        """One without a writer: nothing is counted over it. Raises StoreUnavailable and
        StoreRefused."""
        return MySQLSession(
            # The server gives up first, and says so.
            await self.connection(changes=changes),
            self._url.timeout + 1.0,
        )

    async def connection(self, *, changes: bool, limited: bool = True) -> Connection:
        """A bare connection. ``limited``: no statement takes longer than the url says.

        Raises StoreUnavailable and StoreRefused.
        """
        try:
            async with asyncio.timeout(self._url.timeout):
                return await self._connect(changes, self._url.timeout if limited else 0)
        except Exception as error:
            raise self._why_not_connected(error) from error

    async def _connect(self, changes: bool, seconds: int) -> Connection:
        url = self._url
        connection = await connect(
            host=url.host,
            port=url.port,
            unix_socket=url.unix_socket,
            user=url.user,
            password=url.password,
            database=url.database,
            charset="utf8mb4",
            connect_timeout=url.timeout,
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
            ssl=_tls(url),
            # Every statement stays prepared: there are not many.
            stmt_cache_size=500,
            binary_prefix=True,
        )
        try:
            cursor = connection.cursor()
            mariadb = is_mariadb(connection)
            limit = (
                f"max_statement_time = {seconds}, in_predicate_conversion_threshold = 0"
                if mariadb
                else f"max_execution_time = {seconds * 1000}"
            )
            await cursor.execute(f"SET NAMES utf8mb4 COLLATE {collation(mariadb=mariadb)}")
            # All statements of a look see one state; those of a change each see the latest.
            level = "READ-COMMITTED" if changes else "REPEATABLE-READ"
            isolation = "transaction_isolation" if not mariadb else "tx_isolation"
            await cursor.execute(
                f"SET {_SETTINGS}, {isolation} = '{level}',"
                f" innodb_lock_wait_timeout = {url.timeout}, {limit}"
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def trouble(self, error: Exception) -> Trouble | None:
        if isinstance(error, errors.InterfaceError | OSError | EOFError):
            return Trouble.LOST
        code = _code(error)
        if code in _RACES:
            return Trouble.RACE
        if code in _LOST:
            return Trouble.LOST
        # What the client says about packets in a wrong order.
        return Trouble.LOST if code == 0 or isinstance(error, errors.InternalError) else None

    def translated(self, error: Exception) -> Exception:
        if self.trouble(error) is not None:
            return StoreUnavailable("the connection to the store broke")
        code = _code(error)
        if code is None:
            return error
        text = str(error.args[1]) if len(error.args) > 1 else ""
        if code in _FULL:
            return StoreFull("disk", "the disk of the store's database is full")
        if code in _TOO_SLOW:
            return StoreUnavailable(
                f"the store's database took longer than {self._url.timeout} s (timeout) for a "
                "statement: nothing was changed"
            )
        if code in _DAMAGED:
            return StoreFailed(f"the store's database is damaged: error {code}: {text}")
        if code in _FORBIDDEN:
            return StoreRefused(
                f"{self.shown}: {text}; grant the user all rights to the database, or have one who "
                "has them run what `towline-broker schema sql` prints"
            )
        return StoreUnavailable(f"the store's database refuses: error {code}: {text}")

    def _why_not_connected(self, error: Exception) -> TowlineError:
        shown = self.shown
        code = _code(error)
        if code in _REFUSALS:
            return StoreRefused(f"{shown} refuses us: error {code}; {_REFUSALS[code]}")
        if isinstance(error, ssl.SSLError | FileNotFoundError) or "SSL" in str(error):
            return StoreRefused(f"{shown} offers no TLS that we accept: {error}; see sslmode")
        if isinstance(error, TimeoutError):
            return StoreUnavailable(f"{shown} did not answer within {self._url.timeout} s")
        if isinstance(error, errors.Error | OSError):
            return StoreUnavailable(f"{shown} cannot be reached for now: {_reason(error)}")
        return StoreRefused(f"{shown} cannot be used: {error}")


def _code(error: Exception) -> int | None:
    """None: not an error of the database's."""
    if not isinstance(error, errors.Error):
        return None
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _reason(error: Exception) -> str:
    return str(error.args[-1]) if error.args else type(error).__name__


def _tls(url: MySQLUrl) -> Any:
    if url.sslmode == "disable":
        return None
    context = ssl.create_default_context(cafile=url.sslrootcert)
    context.check_hostname = url.sslmode == "verify-full"
    if url.sslmode == "require":
        context.verify_mode = ssl.CERT_NONE
    if url.sslcert is not None:
        context.load_cert_chain(url.sslcert, url.sslkey)
    return context

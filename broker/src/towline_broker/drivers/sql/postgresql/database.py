"""Connecting to PostgreSQL, and what its errors mean."""

import ssl
from typing import Any

import asyncpg
from asyncpg import Connection

from towline_broker.domain.errors import (
    StoreFailed,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    TowlineError,
)
from towline_broker.drivers.sql.postgresql import counters
from towline_broker.drivers.sql.postgresql.session import TIMELINE, PostgresSession
from towline_broker.drivers.sql.postgresql.url import PostgresUrl
from towline_broker.drivers.sql.shared.session import Trouble
from towline_broker.drivers.urls import shown_url

#: Every statement has one good plan, by an index that was made for it. Left alone, the planner
#: changes to another when its statistics mislead it: a table that is empty when they are taken and
#: a queue a minute later.
_PLANS = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}
_SETTINGS = {
    **_PLANS,
    "application_name": "towline",
    "default_transaction_isolation": "read committed",
    "timezone": "UTC",
    # Of a broker whose machine is gone: the server need not believe in it for hours.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

#: Lost with its connection: the server ends the session, or no longer takes changes there (after a
#: failover), or something did so in between.
_LOST = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "25006"})
#: serialization_failure, deadlock_detected, unique_violation, lock_not_available.
_RACES = frozenset({"40001", "40P01", "23505", "55P03"})
#: Reported when connecting: waiting does not help.
_REFUSALS = {
    "28000": "check the user in the url and the server's pg_hba.conf",
    "28P01": "check the password in the url",
    "3D000": "create the database, or name another in the url",
    "42501": "grant the user CONNECT on the database",
    "22023": "take the setting out of the url",
    "42704": "take the setting out of the url",
}


class PostgresDatabase:
    """See :class:`towline_broker.drivers.sql.shared.session.Database`."""

    def __init__(self, url: PostgresUrl) -> None:
        self._url = url

    @property
    def shown(self) -> str:
        """The url, fit to be shown."""
        return shown_url(self._url.dsn)

    async def connect(self, *, changes: bool) -> PostgresSession:
        connection = await self.connection(
            {} if changes else {"default_transaction_read_only": "on"}
        )
        try:
            if await connection.fetchval("SELECT pg_is_in_recovery()"):
                raise StoreUnavailable(f"{self.shown} is a standby, which takes no changes")
            timeline = await connection.fetchval(TIMELINE)
            claimed = await counters.claim(connection) if changes else None
        except counters.NoSlot:
            connection.terminate()
            raise StoreRefused(
                f"{self.shown} is open over {counters.SLOTS} connections already, which is the "
                "limit; run fewer brokers, or give them fewer lanes"
            ) from None
        except Exception as error:
            connection.terminate()
            if self.trouble(error) is not None:
                raise StoreUnavailable(f"{self.shown} broke the connection: {error}") from error
            raise self.translated(error) from error
        return PostgresSession(connection, timeline, claimed)

    async def connection(self, settings: dict[str, str]) -> "Connection[Any]":
        """A bare connection. Raises StoreUnavailable and StoreRefused."""
        milliseconds = str(self._url.timeout * 1000)
        try:
            return await asyncpg.connect(
                self._url.dsn,
                timeout=self._url.timeout,
                # The server gives up first, and says so.
                command_timeout=self._url.timeout + 1,
                # Every statement stays prepared: there are not many.
                statement_cache_size=500,
                max_cached_statement_lifetime=0,
                server_settings={
                    **_SETTINGS,
                    "statement_timeout": milliseconds,
                    "lock_timeout": milliseconds,
                    # Of a broker that stands still: its locks go.
                    "idle_in_transaction_session_timeout": str(2 * self._url.timeout * 1000),
                    **settings,
                },
            )
        except Exception as error:
            raise self._why_not_connected(error) from error

    def trouble(self, error: Exception) -> Trouble | None:
        if isinstance(error, asyncpg.PostgresError):
            state = error.sqlstate or ""
            if state in _RACES:
                return Trouble.RACE
            return Trouble.LOST if state in _LOST or state.startswith("08") else None
        if isinstance(error, asyncpg.InternalClientError | OSError):
            return Trouble.LOST
        # The connection was closed before the call.
        return Trouble.LOST if type(error) is asyncpg.InterfaceError else None

    def translated(self, error: Exception) -> Exception:
        if self.trouble(error) is not None:
            return StoreUnavailable("the connection to the store broke")
        if not isinstance(error, asyncpg.PostgresError):
            return error
        state, text = error.sqlstate or "", str(error)
        if state == "53100":
            return StoreFull("disk", "the disk of the store's database is full")
        if state == "57014":
            return StoreUnavailable(
                f"the store's database took longer than {self._url.timeout} s (timeout) for a "
                "statement: nothing was changed"
            )
        if state.startswith("XX") and state != "XX000":
            return StoreFailed(f"the store's database is damaged: {text}")
        if state[:2] in ("53", "57", "58", "42", "XX"):
            return StoreUnavailable(f"the store's database refuses: {text}")
        return error

    def _why_not_connected(self, error: Exception) -> TowlineError:
        shown = self.shown
        if isinstance(error, asyncpg.PostgresError):
            way_out = _REFUSALS.get(error.sqlstate or "")
            if way_out is not None:
                return StoreRefused(f"{shown} refuses us: {error}; {way_out}")
            return StoreUnavailable(f"{shown} refuses us for now: {error}")
        if isinstance(error, ssl.SSLError) or "SSL" in str(error):
            return StoreRefused(f"{shown} offers no TLS that we accept: {error}; see sslmode")
        if isinstance(error, TimeoutError):
            return StoreUnavailable(f"{shown} did not answer within {self._url.timeout} s")
        if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
            return StoreUnavailable(f"none of the hosts of {shown} takes changes")
        if isinstance(error, OSError):
            return StoreUnavailable(f"{shown} cannot be reached: {error.strerror or error}")
        if isinstance(error, ValueError):
            # What the client says of a password with such characters is that its port is wrong.
            return StoreRefused(
                f"{shown} has no good host and port; write postgresql://user:password@host:5432/"
                "database, and special characters in user and password as %40 for '@', %2F for "
                "'/', %3A for ':', %23 for '#', %3F for '?'"
            )
        return StoreRefused(f"{shown} is no url that can be used: {error}")

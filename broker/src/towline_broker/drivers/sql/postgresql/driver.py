"""The driver for ``postgresql:`` urls."""

from collections.abc import Awaitable, Callable

from towline_broker.domain.errors import TowlineError
from towline_broker.drivers.interface import Capabilities, Listener
from towline_broker.drivers.sql.postgresql import store
from towline_broker.drivers.sql.postgresql.database import PostgresDatabase
from towline_broker.drivers.sql.postgresql.notifications import Notifications
from towline_broker.drivers.sql.postgresql.url import PostgresUrl, parse
from towline_broker.drivers.sql.shared.driver import SharedSqlDriver


def open_postgresql(url: str) -> SharedSqlDriver:
    """The driver for a ``postgresql:`` url; raises StoreRefused if the url is not of that form."""
    return SharedSqlDriver(PostgresRoom(parse(url)))


class PostgresRoom:
    """See :class:`towline_broker.drivers.sql.shared.room.Room`."""

    clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

    def __init__(self, url: PostgresUrl) -> None:
        self.database = PostgresDatabase(url)
        self.lanes = url.lanes
        self.readers = url.readers
        self.patience = float(url.timeout)
        self._upgrade = url.upgrade
        self._promise = store.Promise()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="postgresql",
            durability=self._promise.durability,
            durability_note=self._promise.note,
            shared=True,
        )

    async def prepare(self) -> None:
        connection = await self.database.connection({})
        try:
            self._promise = await store.prepare(
                connection, self.database.shown, upgrade=self._upgrade
            )
        except TowlineError:
            raise
        except Exception as error:
            raise self.database.translated(error) from error
        finally:
            connection.terminate()

    def peers(self, listener: Listener, tell_all: Callable[[], Awaitable[None]]) -> Notifications:
        return Notifications(self.database, listener, tell_all)

"""The driver for ``mysql:`` urls."""

from collections.abc import Awaitable, Callable

from towline_broker.domain.errors import TowlineError
from towline_broker.drivers.interface import Capabilities, Listener
from towline_broker.drivers.sql.mysql import store
from towline_broker.drivers.sql.mysql.database import MySQLDatabase
from towline_broker.drivers.sql.mysql.news import News
from towline_broker.drivers.sql.mysql.session import MySQLSession
from towline_broker.drivers.sql.mysql.url import MySQLUrl, parse
from towline_broker.drivers.sql.mysql.writers import NOW
from towline_broker.drivers.sql.shared.driver import SharedSqlDriver

#: Seconds that one statement may take while tables are made or brought up to date.
MAKING_TABLES = 3600.0


def open_mysql(url: str) -> SharedSqlDriver:
    """The driver for a ``mysql:`` url; raises StoreRefused if the url is not of that form."""
    return SharedSqlDriver(MySQLRoom(parse(url)))


class MySQLRoom:
    """See :class:`towline_broker.drivers.sql.shared.room.Room`."""

    clock = f"SELECT {NOW}"

    def __init__(self, url: MySQLUrl) -> None:
        self.database = MySQLDatabase(url)
        self.lanes = url.lanes
        self.readers = url.readers
        self.patience = float(url.timeout)
        self._upgrade = url.upgrade
        self._promise = store.Promise()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="mysql",
            durability=self._promise.durability,
            durability_note=self._promise.note,
            shared=True,
            max_envelope=self._promise.max_envelope,
        )

    async def prepare(self) -> None:
        session = MySQLSession(
            await self.database.connection(changes=True, limited=False), MAKING_TABLES
        )
        try:
            self._promise = await store.prepare(session, self.database.shown, upgrade=self._upgrade)
        except TowlineError:
            raise
        except Exception as error:
            raise self.database.translated(error) from error
        finally:
            await session.close()

    def peers(self, listener: Listener, tell_all: Callable[[], Awaitable[None]]) -> News:
        return News(self.database, listener, tell_all)

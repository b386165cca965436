"""Jobs in a SQL database."""

from towline_broker.drivers.sql.sqlite.driver import open_sqlite

__all__ = ["open_sqlite"]

"""PostgreSQL, 13 or newer, over asyncpg.

``url.py``            what the url of a store says
``statements.py``     statements in the words of PostgreSQL
``session.py``        a connection: fills the seam of ``sql/shared/session.py``
``hot.py``            the calls that there are most of, in few statements
``counters.py``       a connection's own row of counters for each kind
``database.py``       connecting, and what errors mean
``store.py``          what the server promises; the tables
``notifications.py``  brokers hear of each other's changes by LISTEN and NOTIFY
``driver.py``         all of it together
"""

from towline_broker.drivers.sql.postgresql.driver import open_postgresql

__all__ = ["open_postgresql"]

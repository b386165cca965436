"""Jobs in a MySQL or MariaDB server: what ``../shared/`` needs of it.

``url.py``         the url, taken apart
``tables.py``      the tables as these servers have them
``statements.py``  statements in their words
``session.py``     a connection
``writers.py``     what a connection that changes has to itself
``database.py``    connecting, and what errors mean
``store.py``       what the server promises, and making the tables
``news.py``        how brokers hear of each other's changes
``driver.py``      all of this together
"""

from towline_broker.drivers.sql.mysql.driver import open_mysql

__all__ = ["open_mysql"]

"""Jobs in a SQL database.

``schema.py`` has the tables. What is done with them, one concept a module (``pushes.py``,
``claims.py``, ``settles.py``, ...), is written once for all databases, over the seam in
``transaction.py``. The room of a database (``sqlite/``) plays it: it owns connections, threads,
locks and the meaning of errors, and nothing of what a job is.
"""

from towline_broker.drivers.sql.sqlite.driver import open_sqlite

__all__ = ["open_sqlite"]

"""The tables of ``schema.py`` as MySQL and MariaDB have them, and those that only they need.

* Indexes cannot be partial. In their place stand columns that are NULL but for the jobs that an
  index is for: it changes only when such a job comes or goes, and whoever walks along it meets no
  others. (Stored, not virtual: indexes of virtual columns have a history of their own.)
* The usual types for bytes and text end at 64 KiB, and floating-point numbers have single
  precision.
* Names are compared byte by byte.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from towline_broker.drivers.sql import schema

_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}

metadata = sa.MetaData()


def _adapted() -> None:
    for table in schema.metadata.sorted_tables:
        copy = table.to_metadata(metadata)
        copy.dialect_kwargs.update(_OPTIONS)
        for column in copy.columns:
            column.type = _type(column.type)
        for index in list(copy.indexes):
            if index.dialect_options["sqlite"]["where"] is not None:
                copy.indexes.remove(index)


def _type(usual: "sa.types.TypeEngine[Any]") -> "sa.types.TypeEngine[Any]":
    if isinstance(usual, sa.LargeBinary):
        return mysql.LONGBLOB()
    if isinstance(usual, sa.Text):
        return mysql.LONGTEXT()
    if isinstance(usual, sa.Float):
        return mysql.DOUBLE()
    return usual


_adapted()
jobs = metadata.tables[schema.jobs.name]
for _name, _value in {
    "due_at": "CASE WHEN state = 1 THEN available_at END",
    "expiring_at": "CASE WHEN state <= 2 AND attempt = 0 THEN expires_at END",
    "died_at": "CASE WHEN state = 5 THEN finished_at END",
}.items():
    jobs.append_column(sa.Column(_name, sa.BigInteger, sa.Computed(_value, persisted=True)))

_job = jobs.c
sa.Index("towline_jobs_ready", _job.state, _job.queue, _job.priority.desc(), _job.position)
sa.Index("towline_jobs_due", _job.due_at, _job.position)
sa.Index("towline_jobs_deadline", _job.lease_until)
sa.Index("towline_jobs_request", _job.request_id)
sa.Index("towline_jobs_expiry", _job.expiring_at)
sa.Index("towline_jobs_dead", _job.died_at, _job.position, _job.kind, _job.dead_reason)
sa.Index("towline_jobs_kept", _job.keep_until)
sa.Index("towline_unique_keys_until", metadata.tables[schema.unique_keys.name].c.held_until)

#: A row is put in to take numbers, and out again: only its number matters.
ticks = sa.Table(
    "towline_ticks", metadata, sa.Column("id", sa.BigInteger, primary_key=True), **_OPTIONS
)

#: A connection that writes has one of these to itself: it says what became of a transaction whose
#: COMMIT was not answered.
writers = sa.Table(
    "towline_writers",
    metadata,
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    # A name that the connection has given itself.
    sa.Column("owner", sa.String(64), nullable=False),
    # Of its last transaction.
    sa.Column("serial", sa.BigInteger, nullable=False),
    # When it was, by the server's clock in microseconds since the Unix epoch.
    sa.Column("taken_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)

#: Brokers that run, and how much news each has had.
peers = sa.Table(
    "towline_peers",
    metadata,
    sa.Column("broker", sa.String(64), primary_key=True),
    sa.Column("serial", sa.BigInteger, nullable=False),
    # By the server's clock in microseconds since the Unix epoch.
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)

#: What came of the changes of a broker, for the others.
news = sa.Table(
    "towline_news",
    metadata,
    sa.Column("broker", sa.String(64), primary_key=True),
    sa.Column("serial", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", mysql.LONGBLOB(), nullable=False),
    **_OPTIONS,
)

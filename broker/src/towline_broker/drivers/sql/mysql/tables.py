"""The tables of ``schema.py`` as MySQL and MariaDB have them, and those that only they need.

* Indexes cannot be partial. In their place stand columns that are NULL but for the jobs that an
  index is for: it changes only when such a job comes or goes, and whoever walks along it meets no
  others. (Stored, not virtual: indexes of virtual columns have a history of their own.)
* The usual types for bytes and text end at 64 KiB, and floating-point numbers have single
  precision.
* Names are compared byte by byte, trailing blanks included: the two servers have their own names
  for that.
"""

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from towline_broker.drivers.sql import schema

#: By the expression that says for which jobs it is not NULL.
GENERATED = {
    "due_at": "CASE WHEN state = 1 THEN available_at END",
    "expiring_at": "CASE WHEN state <= 2 AND attempt = 0 THEN expires_at END",
    "died_at": "CASE WHEN state = 5 THEN finished_at END",
}


def collation(*, mariadb: bool) -> str:
    return "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"


@cache
def metadata_of(*, mariadb: bool) -> sa.MetaData:
    metadata = sa.MetaData()
    for table in schema.metadata.sorted_tables:
        _adapt(table.to_metadata(metadata))
    _add_indexes(metadata)
    _add_own(metadata)
    options = {
        "mysql_engine": "InnoDB",
        "mysql_charset": "utf8mb4",
        "mysql_collate": collation(mariadb=mariadb),
    }
    for table in metadata.tables.values():
        table.dialect_kwargs.update(options)
    return metadata


def _adapt(table: sa.Table) -> None:
    for column in table.columns:
        column.type = _type(column.type)
    for index in list(table.indexes):
        if index.dialect_options["sqlite"]["where"] is not None:
            table.indexes.remove(index)


def _type(usual: "sa.types.TypeEngine[Any]") -> "sa.types.TypeEngine[Any]":
    if isinstance(usual, sa.LargeBinary):
        return mysql.LONGBLOB()
    if isinstance(usual, sa.Text):
        return mysql.LONGTEXT()
    if isinstance(usual, sa.Float):
        return mysql.DOUBLE()
    return usual


def _add_indexes(metadata: sa.MetaData) -> None:
    jobs = metadata.tables[schema.jobs.name]
    for name, value in GENERATED.items():
        jobs.append_column(sa.Column(name, sa.BigInteger, sa.Computed(value, persisted=True)))
    job = jobs.c
    sa.Index("towline_jobs_ready", job.state, job.queue, job.priority.desc(), job.position)
    sa.Index("towline_jobs_due", job.due_at, job.position)
    sa.Index("towline_jobs_deadline", job.lease_until)
    sa.Index("towline_jobs_request", job.request_id)
    sa.Index("towline_jobs_expiry", job.expiring_at)
    sa.Index("towline_jobs_dead", job.died_at, job.position, job.kind, job.dead_reason)
    sa.Index("towline_jobs_kept", job.keep_until)
    held_until = metadata.tables[schema.unique_keys.name].c.held_until
    sa.Index("towline_unique_keys_until", held_until)


def _add_own(metadata: sa.MetaData) -> None:
    # A row is put in to take numbers, and out again: only its number matters.
    sa.Table("towline_ticks", metadata, sa.Column("id", sa.BigInteger, primary_key=True))
    # A connection that changes has one of these to itself: the number of its counters, and what
    # became of a transaction whose COMMIT was not answered.
    sa.Table(
        "towline_writers",
        metadata,
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        # A name that the connection has given itself.
        sa.Column("owner", sa.String(64), nullable=False),
        # Of its last transaction.
        sa.Column("serial", sa.BigInteger, nullable=False),
        # When it came, by the server's clock, in microseconds since the Unix epoch.
        sa.Column("taken_at", sa.BigInteger, nullable=False),
    )
    # The brokers that run.
    sa.Table(
        "towline_peers",
        metadata,
        sa.Column("broker", sa.String(64), primary_key=True),
        # By the server's clock, in microseconds since the Unix epoch.
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    # What came of the changes of a broker, for the others.
    sa.Table(
        "towline_news",
        metadata,
        sa.Column("broker", sa.String(64), primary_key=True),
        sa.Column("serial", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", mysql.LONGBLOB(), nullable=False),
    )

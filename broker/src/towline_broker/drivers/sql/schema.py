"""The tables of a SQL store.

A job is one narrow row of ``towline_jobs``; what it only carries lies in ``towline_envelopes``, so
that granting, extending and ending a lease never rewrites a payload. Each state is indexed apart,
by a partial index of its own, so that a claim meets READY jobs only, however many are scheduled or
dead.

Numbers of states and reasons are those of the domain's enums. In the statements they are literals
and never parameters: a planner uses a partial index only if it can see that the condition implies
the index's own.
"""

from typing import Any

import sqlalchemy as sa

from towline_broker.drivers.sql.tally import COUNTERS

#: Grows with every change of the tables. A store of a newer version is refused.
SCHEMA_VERSION = 2

metadata = sa.MetaData()


def _text(length: int) -> "sa.types.TypeEngine[str]":
    """Compared byte by byte. (By the rules of a language, PostgreSQL would compare more slowly, and
    have its indexes out of order after an update of its system.)"""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


#: Places in lines, on PostgreSQL. Each call takes as many consecutive numbers as a change can need,
#: so that no two brokers wait for each other.
sequence = sa.Sequence(
    "towline_sequence", start=1, increment=1 << 17, data_type=sa.BigInteger, metadata=metadata
)

#: PostgreSQL: tables whose rows come and go all the time are vacuumed soon, and without pauses.
_BUSY: dict[str, Any] = {
    "postgresql_with": {
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_vacuum_insert_scale_factor": "0.1",
        "autovacuum_analyze_scale_factor": "0.1",
        "autovacuum_vacuum_cost_delay": "0",
    }
}
#: Rows that are updated in place find room on their page.
_UPDATED: dict[str, Any] = {
    "postgresql_with": {
        "fillfactor": "25",
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_cost_delay": "0",
    }
}

#: A primary key that SQLite has for its row numbers.
_Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")

#: One row: what this store is, and what has to outlive a broker.
meta = sa.Table(
    "towline_meta",
    metadata,
    sa.Column("application", _text(16), primary_key=True),
    sa.Column("schema_version", sa.Integer, nullable=False),
    # The latest time that the store has seen, in microseconds since the Unix epoch.
    sa.Column("clock", sa.BigInteger, nullable=False),
    # The last number given to a place in a line.
    sa.Column("sequence", sa.BigInteger, nullable=False),
)

queues = sa.Table(
    "towline_queues",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", _text(128), nullable=False, unique=True),
    sa.Column("paused", sa.SmallInteger, nullable=False, default=0),
    # The store that the queue is on its way to, or in; empty: this one.
    sa.Column("moving_to", _text(128), nullable=False, server_default=sa.text("''")),
    # 1: it has arrived there.
    sa.Column("moved", sa.SmallInteger, nullable=False, server_default="0"),
)

#: A type of job in a queue: what is counted, and what a job refers to instead of two names.
kinds = sa.Table(
    "towline_kinds",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("queue", sa.Integer, nullable=False),
    sa.Column("type", _text(128), nullable=False),
    sa.UniqueConstraint("queue", "type"),
)

#: The priorities that jobs of a queue have had, as far as they are few.
lines = sa.Table(
    "towline_lines",
    metadata,
    sa.Column("queue", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("priority", sa.Integer, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

#: What brokers that share the store put up for each other to read.
notices = sa.Table(
    "towline_notices",
    metadata,
    sa.Column("broker", _text(128), primary_key=True),
    sa.Column("notice", sa.LargeBinary, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
)

#: Whoever writes has a shard of its own, whose rows nobody else writes to; readers sum over shards.
counters = sa.Table(
    "towline_counters",
    metadata,
    sa.Column("kind", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    *(
        sa.Column(name, sa.BigInteger, nullable=False, default=0, server_default="0")
        for name in COUNTERS
    ),
    sqlite_with_rowid=False,
    **_UPDATED,
)

jobs = sa.Table(
    "towline_jobs",
    metadata,
    # The order of the pushes, from the same sequence as ``position``.
    sa.Column("seq", _Number, primary_key=True, autoincrement=False),
    sa.Column("id", _text(36), nullable=False),
    sa.Column("queue", sa.Integer, nullable=False),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    # SCHEDULED and READY: the place in the line. DEAD: the order of the deaths.
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("releases", sa.Integer, nullable=False),
    sa.Column("enqueued_at", sa.BigInteger, nullable=False),
    # SCHEDULED: when it is due. READY and LEASED: when it became READY.
    sa.Column("available_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("retention", sa.BigInteger, nullable=False),
    sa.Column("unique_key", _text(256)),
    sa.Column("retry", sa.Text),
    # 1: there is a row in ``towline_notes``.
    sa.Column("noted", sa.SmallInteger, nullable=False),
    # Of the latest lease.
    sa.Column("started_at", sa.BigInteger),
    # Of the live lease.
    sa.Column("lease_grant", _text(64)),
    sa.Column("lease_until", sa.BigInteger),
    sa.Column("lease_length", sa.BigInteger),
    sa.Column("worker_id", _text(256)),
    # The worker's id and its own name for the call.
    sa.Column("request_id", _text(260)),
    # Of the end.
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("dead_reason", sa.SmallInteger),
    sa.Column("keep_until", sa.BigInteger),
    sa.Column("result", sa.LargeBinary),
    **_BUSY,
)


def _partial(name: str, *columns: "sa.ColumnElement[int] | sa.Column[str]", where: str) -> sa.Index:
    condition = sa.text(where)
    return sa.Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


_job = jobs.c
sa.Index("towline_jobs_id", _job.id, unique=True)
_partial("towline_jobs_ready", _job.queue, _job.priority.desc(), _job.position, where="state = 2")
_partial("towline_jobs_due", _job.available_at, _job.position, where="state = 1")
# For purging a queue.
_partial("towline_jobs_scheduled", _job.queue, where="state = 1")
_partial("towline_jobs_deadline", _job.lease_until, where="state = 3")
_partial("towline_jobs_request", _job.request_id, where="request_id IS NOT NULL")
_partial(
    "towline_jobs_expiry",
    _job.expires_at,
    where="expires_at IS NOT NULL AND attempt = 0 AND state <= 2",
)
# Kind and reason are in the index so that a filter can pass over a dead job without reading it.
_partial(
    "towline_jobs_dead",
    *(_job.finished_at, _job.position, _job.kind, _job.dead_reason),
    where="state = 5",
)
_partial("towline_jobs_kept", _job.keep_until, where="keep_until IS NOT NULL")

#: What a job only carries.
envelopes = sa.Table(
    "towline_envelopes",
    metadata,
    sa.Column("seq", _Number, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    **_BUSY,
)

#: What became of earlier attempts: the last failure and the last progress.
notes = sa.Table(
    "towline_notes",
    metadata,
    sa.Column("seq", _Number, primary_key=True, autoincrement=False),
    sa.Column("failure_type", sa.Text),
    sa.Column("failure_message", sa.Text),
    sa.Column("failure_trace", sa.Text),
    sa.Column("failure_at", sa.BigInteger),
    sa.Column("fraction", sa.Float),
    sa.Column("message", sa.Text),
    sa.Column("checkpoint", sa.LargeBinary),
    **_BUSY,
)

#: The settle memory: leases that ended, and jobs that are gone (those have a state; a job that went
#: without a lease has the empty grant).
settled = sa.Table(
    "towline_settled",
    metadata,
    sa.Column("job_id", _text(36), primary_key=True),
    sa.Column("lease_grant", _text(64), primary_key=True),
    sa.Column("settlement", sa.SmallInteger),
    sa.Column("state", sa.SmallInteger),
    sa.Column("queue", sa.Integer, nullable=False),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("remember_until", sa.BigInteger, nullable=False),
    sa.Column("result", sa.LargeBinary),
    sqlite_with_rowid=False,
    **_BUSY,
)
sa.Index("towline_settled_until", settled.c.remember_until)

#: Unique keys that are held. The key comes first, so that a batch of keys is one look-up.
unique_keys = sa.Table(
    "towline_unique_keys",
    metadata,
    sa.Column("unique_key", _text(256), primary_key=True),
    sa.Column("queue", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("job_id", _text(36), nullable=False),
    # NULL: until the job has ended.
    sa.Column("held_until", sa.BigInteger),
    sqlite_with_rowid=False,
    **_BUSY,
)
_partial("towline_unique_keys_until", unique_keys.c.held_until, where="held_until IS NOT NULL")

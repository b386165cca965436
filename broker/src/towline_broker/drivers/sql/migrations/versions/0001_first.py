"""The tables of the first release, which knew SQLite only.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable

revision = "0001"
down_revision = None

_COUNTERS = (
    *("scheduled", "ready", "leased", "dead"),
    *("pushed", "started", "completed", "failed", "retried"),
    *("released", "dead_lettered", "lease_expired", "cancelled", "requeued"),
)
#: Of MySQL's own types the usual ones are too narrow.
_Bytes = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
_Text = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
_Float = sa.Float().with_variant(mysql.DOUBLE(), "mysql")
#: PostgreSQL: of rows that come and go all the time, and of rows that are updated in place.
_VACUUMED = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_threshold": "5000",
    "autovacuum_vacuum_insert_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.1",
    "autovacuum_vacuum_cost_delay": "0",
}
_UPDATED = {
    "fillfactor": "25",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
}
_Seq = sa.BigInteger().with_variant(sa.Integer, "sqlite")

metadata = sa.MetaData()


def _text(length: int) -> "sa.types.TypeEngine[str]":
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _table(
    name: str,
    *columns: sa.schema.SchemaItem,
    with_rowid: bool = True,
    storage: dict[str, str] | None = None,
) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        *columns,
        sqlite_with_rowid=with_rowid,
        postgresql_with=storage or {},
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
    )


meta = _table(
    "towline_meta",
    sa.Column("application", _text(16), primary_key=True),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("clock", sa.BigInteger, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
)
_table(
    "towline_queues",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", _text(128), nullable=False, unique=True),
    sa.Column("paused", sa.SmallInteger, nullable=False),
)
_table(
    "towline_kinds",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("queue", sa.Integer, nullable=False),
    sa.Column("type", _text(128), nullable=False),
    sa.UniqueConstraint("queue", "type"),
)
_table(
    "towline_counters",
    sa.Column("kind", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in _COUNTERS),
    with_rowid=False,
    storage=_UPDATED,
)
jobs = _table(
    "towline_jobs",
    sa.Column("seq", _Seq, primary_key=True, autoincrement=False),
    sa.Column("id", _text(36), nullable=False),
    sa.Column("queue", sa.Integer, nullable=False),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("releases", sa.Integer, nullable=False),
    sa.Column("enqueued_at", sa.BigInteger, nullable=False),
    sa.Column("available_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("retention", sa.BigInteger, nullable=False),
    sa.Column("unique_key", _text(256)),
    sa.Column("retry", _Text),
    sa.Column("noted", sa.SmallInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("lease_grant", _text(64)),
    sa.Column("lease_until", sa.BigInteger),
    sa.Column("lease_length", sa.BigInteger),
    sa.Column("worker_id", _text(256)),
    sa.Column("request_id", _text(260)),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("dead_reason", sa.SmallInteger),
    sa.Column("keep_until", sa.BigInteger),
    sa.Column("result", _Bytes),
    storage=_VACUUMED,
)
_table(
    "towline_envelopes",
    sa.Column("seq", _Seq, primary_key=True, autoincrement=False),
    sa.Column("body", _Bytes, nullable=False),
    storage=_VACUUMED,
)
_table(
    "towline_notes",
    sa.Column("seq", _Seq, primary_key=True, autoincrement=False),
    sa.Column("failure_type", _Text),
    sa.Column("failure_message", _Text),
    sa.Column("failure_trace", _Text),
    sa.Column("failure_at", sa.BigInteger),
    sa.Column("fraction", _Float),
    sa.Column("message", _Text),
    sa.Column("checkpoint", _Bytes),
    storage=_VACUUMED,
)
settled = _table(
    "towline_settled",
    sa.Column("job_id", _text(36), primary_key=True),
    sa.Column("lease_grant", _text(64), primary_key=True),
    sa.Column("settlement", sa.SmallInteger),
    sa.Column("state", sa.SmallInteger),
    sa.Column("queue", sa.Integer, nullable=False),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("remember_until", sa.BigInteger, nullable=False),
    sa.Column("result", _Bytes),
    with_rowid=False,
    storage=_VACUUMED,
)
unique_keys = _table(
    "towline_unique_keys",
    sa.Column("unique_key", _text(256), primary_key=True),
    sa.Column("queue", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("job_id", _text(36), nullable=False),
    sa.Column("held_until", sa.BigInteger),
    with_rowid=False,
    storage=_VACUUMED,
)

_job = jobs.c
sa.Index("towline_jobs_id", _job.id, unique=True)
sa.Index("towline_settled_until", settled.c.remember_until)


def _partial(name: str, *columns: "sa.ColumnElement[int] | sa.Column[str]", where: str) -> sa.Index:
    condition = sa.text(where)
    return sa.Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


#: MySQL has no partial indexes; revision 0002 makes others for it.
_PARTIAL = (
    _partial(
        "towline_jobs_ready", _job.queue, _job.priority.desc(), _job.position, where="state = 2"
    ),
    _partial("towline_jobs_due", _job.available_at, _job.position, where="state = 1"),
    _partial("towline_jobs_scheduled", _job.queue, where="state = 1"),
    _partial("towline_jobs_deadline", _job.lease_until, where="state = 3"),
    _partial("towline_jobs_request", _job.request_id, where="request_id IS NOT NULL"),
    _partial(
        "towline_jobs_expiry",
        _job.expires_at,
        where="expires_at IS NOT NULL AND attempt = 0 AND state <= 2",
    ),
    _partial(
        "towline_jobs_dead",
        *(_job.finished_at, _job.position, _job.kind, _job.dead_reason),
        where="state = 5",
    ),
    _partial("towline_jobs_kept", _job.keep_until, where="keep_until IS NOT NULL"),
    _partial("towline_unique_keys_until", unique_keys.c.held_until, where="held_until IS NOT NULL"),
)


def upgrade() -> None:
    dialect = op.get_context().dialect
    leave_out = _PARTIAL if dialect.name == "mysql" else ()
    # Byte by byte, trailing blanks included.
    mariadb = getattr(dialect, "is_mariadb", False)
    collation = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
    for table in metadata.sorted_tables:
        table.dialect_kwargs["mysql_collate"] = collation
        op.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index not in leave_out:
                op.execute(CreateIndex(index))
    first = {"application": "towline", "schema_version": 1, "clock": 0, "sequence": 0}
    op.execute(meta.insert().values(first))

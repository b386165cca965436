"""What stores need that brokers share, and queues that move to another store.

Revision ID: 0002
Revises: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

_Bytes = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
#: Who has more priorities in a queue uses them as something else: they are not told apart.
_MOST_LINES = 32


def _text(length: int) -> "sa.types.TypeEngine[str]":
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


#: The lines of the jobs that are there, unless they are too many; one more tells that.
_LINES = f"""
INSERT INTO towline_lines (queue, priority)
SELECT queue, priority FROM (
    SELECT queue, priority, ROW_NUMBER() OVER (PARTITION BY queue ORDER BY priority) AS place
    FROM (SELECT DISTINCT queue, priority FROM towline_jobs) AS pairs
) AS numbered
WHERE place <= {_MOST_LINES + 1}
"""  # noqa: S608 - a constant

#: MySQL has no partial indexes. These columns are NULL but for the jobs that an index is for, so
#: that an index by one of them meets no others, and changes only when a job comes or goes.
_GENERATED = {
    "due_at": "CASE WHEN state = 1 THEN available_at END",
    "expiring_at": "CASE WHEN state <= 2 AND attempt = 0 THEN expires_at END",
    "died_at": "CASE WHEN state = 5 THEN finished_at END",
}


def _options() -> dict[str, Any]:
    mariadb = getattr(op.get_context().dialect, "is_mariadb", False)
    return {
        "mysql_engine": "InnoDB",
        "mysql_charset": "utf8mb4",
        "mysql_collate": "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin",
    }


def upgrade() -> None:
    op.add_column(
        "towline_queues",
        sa.Column("moving_to", _text(128), nullable=False, server_default=sa.text("''")),
    )
    op.add_column(
        "towline_queues",
        sa.Column("moved", sa.SmallInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "towline_lines",
        sa.Column("queue", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("priority", sa.Integer, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
        **_options(),
    )
    op.execute(_LINES)
    op.create_table(
        "towline_notices",
        sa.Column("broker", _text(128), primary_key=True),
        sa.Column("notice", _Bytes, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        **_options(),
    )
    dialect = op.get_context().dialect.name
    if dialect == "mysql":
        _upgrade_mysql()
    elif dialect == "postgresql":
        op.execute("CREATE SEQUENCE towline_sequence AS BIGINT INCREMENT BY 131072 START WITH 1")


def _upgrade_mysql() -> None:
    for name, value in _GENERATED.items():
        op.add_column(
            "towline_jobs", sa.Column(name, sa.BigInteger, sa.Computed(value, persisted=True))
        )
    line = ("state", "queue", sa.text("priority DESC"), "position")
    op.create_index("towline_jobs_ready", "towline_jobs", line)
    op.create_index("towline_jobs_due", "towline_jobs", ["due_at", "position"])
    op.create_index("towline_jobs_deadline", "towline_jobs", ["lease_until"])
    op.create_index("towline_jobs_request", "towline_jobs", ["request_id"])
    op.create_index("towline_jobs_expiry", "towline_jobs", ["expiring_at"])
    dead = ["died_at", "position", "kind", "dead_reason"]
    op.create_index("towline_jobs_dead", "towline_jobs", dead)
    op.create_index("towline_jobs_kept", "towline_jobs", ["keep_until"])
    op.create_index("towline_unique_keys_until", "towline_unique_keys", ["held_until"])
    # A row is put in to take numbers, and out again: only its number matters.
    op.create_table("towline_ticks", sa.Column("id", sa.BigInteger, primary_key=True), **_options())
    # A connection that writes has one of these to itself.
    op.create_table(
        "towline_writers",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("serial", sa.BigInteger, nullable=False),
        sa.Column("taken_at", sa.BigInteger, nullable=False),
        **_options(),
    )
    # What brokers have to tell each other.
    op.create_table(
        "towline_peers",
        sa.Column("broker", sa.String(64), primary_key=True),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        **_options(),
    )
    op.create_table(
        "towline_news",
        sa.Column("broker", sa.String(64), primary_key=True),
        sa.Column("serial", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", mysql.LONGBLOB(), nullable=False),
        **_options(),
    )

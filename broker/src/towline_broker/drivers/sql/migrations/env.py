"""What Alembic runs for every command: see ``__init__.py`` for who calls it and with what."""

from typing import Any

import sqlalchemy as sa
from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

from towline_broker.drivers.sql.migrations import VERSION_TABLE


def mark(ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: dict[str, Any]) -> None:
    """Brokers go by what the store says of itself, not by Alembic's table."""
    if step.is_stamp or step.up_revision_id is None:
        return
    version = int(step.up_revision_id)
    meta = sa.table("towline_meta", sa.column("schema_version", sa.Integer))
    ctx.execute(meta.update().values(schema_version=sa.literal_column(str(version))))
    if ctx.dialect.name == "sqlite":
        # Stands in the file's header, where brokers of every release look first.
        ctx.execute(f"PRAGMA user_version = {version}")


def run() -> None:
    options: dict[str, Any] = {"version_table": VERSION_TABLE, "on_version_apply": mark}
    connection = context.config.attributes.get("connection")
    if connection is not None:
        context.configure(connection=connection, **options)
    else:
        dialect = context.config.attributes["dialect"]
        made_with = context.config.attributes["options"]
        context.configure(
            dialect_name=dialect, dialect_opts=made_with, literal_binds=True, **options
        )
    with context.begin_transaction():
        context.run_migrations()


run()

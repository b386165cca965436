"""The version of a store's tables, and what a broker does about it.

A store that is new gets its tables at once. An older one is brought up to date by ``towline-broker
schema upgrade``, or when it is opened if its url says so (``?upgrade=true``): it is the operator
who knows whether brokers of the earlier release are still at work on it. A newer one is left alone.
"""

from collections.abc import Mapping

import sqlalchemy as sa

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.sql import schema

CURRENT = schema.SCHEMA_VERSION
UPGRADE_COMMAND = "towline-broker schema upgrade --store URL"
#: The option of a store's url that has it upgraded when it is opened.
UPGRADE_OPTION = "upgrade"

#: Alembic's own record of the version, kept up so that its tools find it. Not by its usual name,
#: which the tables of an application may have taken.
revisions = sa.Table(
    "towline_alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="towline_alembic_version_pkc"),
)


def wants_upgrade(shown: str, options: Mapping[str, str]) -> bool:
    """What the options of a store's url say; ``shown`` is how errors name it. Raises StoreRefused
    if that is no yes or no."""
    value = options.get(UPGRADE_OPTION, "false")
    if value not in ("true", "false"):
        raise StoreRefused(f"{shown}: {UPGRADE_OPTION} is {value!r}, not true or false")
    return value == "true"


def revision_of(version: int) -> str:
    return f"{version:04d}"


def version_of(connection: sa.Connection, place: str) -> int | None:
    """The version of the tables; None if they are not there. Raises StoreRefused if there is
    something else."""
    if not sa.inspect(connection).has_table(schema.meta.name):
        return None
    meta = schema.meta.c
    row = connection.execute(sa.select(meta.application, meta.schema_version)).one_or_none()
    if row is None or row[0] != "towline":
        raise StoreRefused(f"{place} is marked as a store of Towline but does not hold one")
    return int(row[1])


def check(place: str, version: int) -> None:
    """Raises StoreRefused unless tables of this version can be used as they are."""
    if version == CURRENT:
        return
    if version > CURRENT:
        raise StoreRefused(
            f"{place} has the newer schema version {version}, and this broker knows {CURRENT}; "
            "use the release of Towline that wrote it, or a later one"
        )
    raise StoreRefused(
        f"{place} has schema version {version}, and this broker needs {CURRENT}: stop the brokers "
        f"that use it, then run `{UPGRADE_COMMAND}`, or add ?{UPGRADE_OPTION}=true to its url"
    )


def prepare(connection: sa.Connection, place: str, *, upgrade: bool) -> None:
    """Makes the tables if there are none, and brings older ones up to date if told to, in a
    transaction. Nobody else may use the store meanwhile.

    ``place`` is what it is called in messages. Raises StoreRefused.
    """
    with connection.begin():
        version = version_of(connection, place)
        if version is None:
            create(connection)
        elif version < CURRENT and upgrade:
            # Alembic takes a while to load, and is seldom needed.
            from towline_broker.drivers.sql import migrations

            migrations.upgrade(connection, version)
        else:
            check(place, version)


def create(connection: sa.Connection) -> None:
    """Makes the tables, within the connection's transaction."""
    schema.metadata.create_all(connection)
    revisions.create(connection)
    connection.execute(revisions.insert().values(version_num=revision_of(CURRENT)))
    connection.execute(
        schema.meta.insert().values(
            application="towline", schema_version=CURRENT, clock=0, sequence=0
        )
    )

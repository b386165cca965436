"""Playing all revisions leads to the tables that a new store gets, on every database."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.pool import NullPool

from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from towline_broker.drivers.registry import create_driver
from towline_broker.drivers.sql import migrations, schema, versions
from towline_broker.drivers.sql.mysql import tables
from towline_broker.testing.factories import START
from towline_broker.testing.heard import Heard

Make = Callable[[], sa.Engine]

#: What PostgreSQL says of our tables: columns, indexes with their conditions, settings.
_POSTGRES = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname,
  pg_get_expr(d.adbin, d.adrelid)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE starts_with(c.relname, 'towline') AND c.relkind IN ('r', 'S');
SELECT relname, reloptions::text FROM pg_class WHERE starts_with(relname, 'towline');
SELECT indexdef FROM pg_indexes WHERE starts_with(tablename, 'towline');
SELECT seqincrement, seqstart, seqmax FROM pg_sequence
WHERE seqrelid = 'towline_sequence'::regclass
"""


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes an empty database of one kind."""
    if request.param == "sqlite":
        numbers = count()
        return lambda: engine_of(f"sqlite:///{tmp_path}/{next(numbers)}.db")
    server: PostgresServer | MariaDBServer = request.getfixturevalue(f"{request.param}_server")
    dialects = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}

    def database() -> sa.Engine:
        scheme, _, rest = server.create_database().partition(":")
        return engine_of(f"{dialects[scheme]}:{rest}")

    return database


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=NullPool)


def fresh(engine: sa.Engine) -> None:
    """As a broker does it."""

    async def open_and_close() -> None:
        url = engine.url.set(drivername=engine.dialect.name)
        driver = create_driver(url.render_as_string(hide_password=False))
        await driver.open(START, Heard())
        await driver.close()

    asyncio.run(open_and_close())


def metadata_of(engine: sa.Engine) -> sa.MetaData:
    if engine.dialect.name == "mysql":
        return tables.metadata_of(mariadb=True)
    return schema.metadata


def step_by_step(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for version in range(migrations.newest()):
            migrations.upgrade(connection, version, to=version + 1)


def offline(engine: sa.Engine) -> None:
    """As a database's administrator does it."""
    options = {"is_mariadb": True} if engine.dialect.name == "mysql" else {}
    with engine.begin() as connection:
        for statement in migrations.statements(engine.dialect.name, 0, options=options):
            connection.exec_driver_sql(statement)


def described(engine: sa.Engine) -> list[str]:
    """The tables in the database's own words, columns in no order."""
    describe = {"postgresql": _in_postgres, "mysql": _in_mariadb, "sqlite": _in_sqlite}
    with engine.connect() as connection:
        return sorted(describe[engine.dialect.name](connection))


def _in_postgres(connection: sa.Connection) -> Iterator[str]:
    for statement in _POSTGRES.split(";"):
        yield from (str(row) for row in connection.exec_driver_sql(statement))


def _in_mariadb(connection: sa.Connection) -> Iterator[str]:
    for table in sa.inspect(connection).get_table_names():
        ((_, text),) = connection.exec_driver_sql(f"SHOW CREATE TABLE {table}")
        if table != versions.revisions.name:
            yield from (line.strip(" ,") for line in str(text).splitlines())


def _in_sqlite(connection: sa.Connection) -> Iterator[str]:
    query = (
        "SELECT type, name, sql FROM sqlite_master"
        f" WHERE tbl_name <> '{versions.revisions.name}' AND sql IS NOT NULL"
    )
    for kind, name, text in connection.exec_driver_sql(query).fetchall():
        yield text if kind == "index" else f"{name} without rowid: {'WITHOUT ROWID' in text}"
        for column in connection.exec_driver_sql(f"PRAGMA table_xinfo({name})"):
            yield f"{kind} {name} {column[1:]}" if kind == "table" else f"{name} {column}"


@pytest.mark.parametrize("way", [fresh, step_by_step, offline])
def test_a_store_has_the_tables_that_the_code_knows(
    make: Make, way: Callable[[sa.Engine], None]
) -> None:
    engine = make()
    way(engine)
    with engine.connect() as connection:
        assert versions.version_of(connection, "the store") == versions.CURRENT
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": versions.revisions.name,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert context.get_current_revision() == versions.revision_of(versions.CURRENT)
        assert not compare_metadata(context, metadata_of(engine))


@pytest.mark.parametrize("way", [step_by_step, offline])
def test_an_upgraded_store_is_like_a_new_one(make: Make, way: Callable[[sa.Engine], None]) -> None:
    one, other = make(), make()
    fresh(one)
    way(other)
    assert described(other) == described(one)


def test_the_newest_revision_makes_the_version_that_the_code_knows() -> None:
    assert migrations.newest() == versions.CURRENT


def test_a_store_of_the_first_release_is_what_its_revision_makes(tmp_path: Path) -> None:
    """The tables of that release, from a store that it wrote."""
    with sqlite3.connect(tmp_path / "old.db") as old:
        old.executescript((Path(__file__).parent / "store_of_version_1.sql").read_text())
    old.close()
    engine = engine_of(f"sqlite:///{tmp_path}/new.db")
    with engine.begin() as connection:
        migrations.upgrade(connection, 0, to=1)
    assert described(engine) == described(engine_of(f"sqlite:///{tmp_path}/old.db"))

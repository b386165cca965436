"""``towline-broker schema``: what it says, what it changes, and how it ends."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.servers.fixtures import mariadb_server, postgres_server
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from towline_broker.cli import app
from towline_broker.drivers.registry import create_driver
from towline_broker.drivers.sql import administration
from towline_broker.drivers.sql.schema import SCHEMA_VERSION
from towline_broker.testing.factories import START
from towline_broker.testing.heard import Heard

__all__ = ["mariadb_server", "postgres_server"]

OLD_STORE = Path(__file__).parents[1] / "drivers" / "store_of_version_1.sql"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(OLD_STORE.read_text())
    connection.close()
    return path


def schema(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["schema", *arguments])


def open_once(url: str) -> None:
    async def open_and_close() -> None:
        driver = create_driver(url)
        await driver.open(START, Heard())
        await driver.close()

    asyncio.run(open_and_close())


def test_an_older_store_is_named_upgraded_and_then_up_to_date(old: Path) -> None:
    url = f"sqlite:///{old}"
    found = schema("current", "--store", url)
    assert (found.exit_code, found.stdout) == (
        0,
        f"{url} has schema version 1, and this broker needs {SCHEMA_VERSION}: upgrade it\n",
    )
    done = schema("upgrade", "--store", url)
    assert (done.exit_code, done.stdout) == (
        0,
        f"{url} upgraded from schema version 1 to {SCHEMA_VERSION}\n",
    )
    again = schema("upgrade", "--store", url)
    assert again.stdout == f"{url} has schema version {SCHEMA_VERSION} already\n"
    open_once(url)


def test_the_sql_that_is_printed_does_what_upgrade_does(old: Path) -> None:
    url = f"sqlite:///{old}"
    printed = schema("sql", "--store", url)
    assert printed.exit_code == 0
    with sqlite3.connect(old) as connection:
        connection.executescript(printed.stdout)
    connection.close()
    open_once(url)
    assert "there is nothing to run" in schema("sql", "--store", url).stdout


def test_the_sql_that_is_printed_makes_a_new_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    printed = schema("sql", "--store", url)
    with sqlite3.connect(tmp_path / "new.db") as connection:
        connection.executescript(printed.stdout)
    connection.close()
    assert f"has schema version {SCHEMA_VERSION}," in schema("current", "--store", url).stdout
    open_once(url)


def test_without_a_store_those_of_the_settings_are_meant(tmp_path: Path) -> None:
    settings = tmp_path / "broker.toml"
    settings.write_text(f'store = "sqlite:///{tmp_path}/a.db"\nstores = {{ quick = "memory:" }}\n')
    found = schema("current", "--config", str(settings))
    assert found.stdout == (
        f"sqlite:///{tmp_path}/a.db has no tables yet\nmemory: is no SQL store: it has no tables\n"
    )
    done = schema("upgrade", "--config", str(settings))
    assert f"a.db made, with schema version {SCHEMA_VERSION}\n" in done.stdout
    open_once(f"sqlite:///{tmp_path}/a.db")


def test_a_store_in_use_is_not_upgraded_but_told_of(old: Path) -> None:
    url = f"sqlite:///{old}"
    schema("upgrade", "--store", url)

    async def while_open() -> tuple[Result, Result]:
        driver = create_driver(url)
        await driver.open(START, Heard())
        try:
            return (
                await asyncio.to_thread(schema, "current", "--store", url),
                await asyncio.to_thread(schema, "sql", "--store", url),
            )
        finally:
            await driver.close()

    current, sql = asyncio.run(while_open())
    assert current.exit_code == sql.exit_code == 0
    assert f"has schema version {SCHEMA_VERSION}" in current.stdout


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "diary.txt"
    path.write_text("Dear diary\n" * 20)
    refused = schema("upgrade", "--store", f"sqlite:///{path}")
    assert refused.exit_code == 66
    assert "is not a SQLite database" in refused.stderr
    misspelt = schema("upgrade", "--store", "postgrse://nobody:secret@127.0.0.1/jobs")
    assert misspelt.exit_code == 66
    assert "no driver for 'postgrse:' is installed; known are file:" in misspelt.stderr
    assert "secret" not in misspelt.stderr
    assert schema("current", "--store", "mysql://nobody@127.0.0.1:1/jobs").exit_code == 69
    assert schema("current", "--config", str(tmp_path / "none.toml")).exit_code == 78


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_: str) -> None:
        raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")

    monkeypatch.setattr(administration, "_PostgresTables", lacking)
    refused = schema("current", "--store", "postgresql://127.0.0.1/jobs")
    assert refused.exit_code == 66
    assert "pip install 'towline-broker[postgresql]'" in refused.stderr


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_a_store_on_a_server_is_made_and_told_without_its_password(
    kind: str, request: pytest.FixtureRequest
) -> None:
    server: PostgresServer | MariaDBServer = request.getfixturevalue(f"{kind}_server")
    url = server.create_database()
    assert "has no tables yet" in schema("current", "--store", url).stdout
    assert "CREATE TABLE towline_jobs" in schema("sql", "--store", url).stdout
    done = schema("upgrade", "--store", url)
    assert done.exit_code == 0
    assert f"made, with schema version {SCHEMA_VERSION}" in done.stdout
    assert "mariadb-of-the-tests" not in done.output
    open_once(url)
    assert f"has schema version {SCHEMA_VERSION}," in schema("current", "--store", url).stdout

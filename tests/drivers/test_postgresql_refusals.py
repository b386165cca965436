"""PostgreSQL: servers and databases that cannot be used are refused, with the way out."""

from collections.abc import Iterator

import pytest

from tests.support.databases import opened
from tests.support.servers.ports import free_port
from tests.support.servers.postgres import PostgresServer
from tests.support.stores import push, with_options
from towline_broker.domain.errors import StoreError, StoreRefused, StoreUnavailable
from towline_broker.drivers.interface import Durability
from towline_broker.drivers.registry import create_driver
from towline_broker.drivers.sql import schema
from towline_broker.drivers.sql.postgresql.url import parse
from towline_broker.testing.factories import START, new_job
from towline_broker.testing.heard import Heard


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.create_database()


@pytest.fixture(scope="module")
def durable_server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=True) as server:
        yield server


async def refusal(url: str, kind: type[StoreError] = StoreRefused) -> str:
    driver = create_driver(url)
    with pytest.raises(kind) as refused:
        await driver.open(START, Heard())
    assert type(refused.value) is kind
    await driver.close()
    return str(refused.value)


# --- the url ---


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql:jobs", "write postgresql://"),
        ("postgresql://host/db?lane=3", "'lane' is no option"),
        ("postgresql://host/db?lanes=0", "'lanes' is '0'; it needs a number from 1 to 64"),
        ("postgresql://host/db?timeout=soon", "'timeout' is 'soon'"),
        ("postgresql://host/db?lanes", "?name=value"),
        ("postgresql://host/db?upgrade=perhaps", "upgrade is 'perhaps'"),
    ],
)
def test_a_url_that_is_wrong_is_refused_with_what_is_right(url: str, said: str) -> None:
    with pytest.raises(StoreRefused) as refused:
        create_driver(url)
    assert said in str(refused.value)


def test_options_of_ours_are_taken_and_those_of_the_client_passed_on() -> None:
    url = parse("postgresql://me:pw@a:1,b:2/jobs?lanes=7&timeout=9&sslmode=require&upgrade=true")
    assert (url.lanes, url.readers, url.timeout, url.upgrade) == (7, 2, 9, True)
    # Of several hosts the one that takes changes is meant.
    assert url.dsn == (
        "postgresql://me:pw@a:1,b:2/jobs?sslmode=require&target_session_attrs=read-write"
    )
    assert parse("POSTGRES://h/d").dsn == "postgres://h/d"


# --- the server ---


@pytest.mark.parametrize("password", ["pass/word", "pass#word"])
async def test_a_password_that_needs_quoting_is_told_how_and_not_what(password: str) -> None:
    said = await refusal(f"postgresql://me:{password}@127.0.0.1:1/jobs")
    assert "%2F for '/'" in said
    assert password not in said


async def test_a_server_that_is_not_there_may_come() -> None:
    said = await refusal(f"postgresql://u:secret@127.0.0.1:{free_port()}/db", StoreUnavailable)
    assert "cannot be reached" in said
    assert "secret" not in said


async def test_a_database_that_does_not_exist_is_named(url: str) -> None:
    said = await refusal(url + "_not_there")
    assert "does not exist" in said
    assert "create the database" in said


async def test_a_server_without_tls_is_refused_if_the_url_asks_for_it(url: str) -> None:
    assert "sslmode" in await refusal(with_options(url, "sslmode=require"))


async def test_a_user_without_rights_is_told_which(
    postgres_server: PostgresServer, url: str
) -> None:
    user = "plain_" + url.rpartition("_")[2]
    postgres_server.execute(f"CREATE ROLE {user} LOGIN")
    said = await refusal(url.replace("towline@", f"{user}@"))
    assert "permission denied" in said
    assert "grant" in said


async def test_a_wrong_password_is_refused(postgres_server: PostgresServer, url: str) -> None:
    # The server trusts everybody; what it would say to a wrong password, it says of a role without
    # the right to log in.
    user = "nologin_" + url.rpartition("_")[2]
    postgres_server.execute(f"CREATE ROLE {user}")
    said = await refusal(url.replace("towline@", f"{user}:secret@"))
    assert "check the user" in said
    assert "secret" not in said


async def test_another_encoding_is_refused(postgres_server: PostgresServer, url: str) -> None:
    other = url + "_latin"
    name = other.rpartition("/")[2]
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1'")
    assert "ENCODING 'UTF8'" in await refusal(other)


async def test_a_schema_that_does_not_exist_is_refused(url: str) -> None:
    assert "search_path" in await refusal(with_options(url, "search_path=nowhere"))


# --- the tables ---


async def test_tables_of_another_program_are_left_alone(
    postgres_server: PostgresServer, url: str
) -> None:
    postgres_server.execute("CREATE TABLE towline_meta (boats int)", url)
    assert "not of a store of ours" in await refusal(url)
    tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'towline%'"
    assert postgres_server.execute(tables, url) == "1"


@pytest.mark.parametrize(("change", "said"), [(1, "newer schema version"), (-1, "schema upgrade")])
async def test_tables_of_another_version_are_refused(
    postgres_server: PostgresServer, url: str, change: int, said: str
) -> None:
    async with opened(url) as driver:
        await push(driver, new_job())
    version = schema.SCHEMA_VERSION + change
    postgres_server.execute(f"UPDATE towline_meta SET schema_version = {version}", url)
    assert said in await refusal(url)


# --- what it promises ---


@pytest.mark.parametrize(
    ("setting", "durability", "said"),
    [
        ("synchronous_commit=on", Durability.DURABLE, "each commit is synced"),
        ("synchronous_commit=off", Durability.WINDOW, "half a second"),
    ],
)
async def test_p1_the_durability_is_what_the_server_does(
    durable_server: PostgresServer, setting: str, durability: Durability, said: str
) -> None:
    url = durable_server.create_database()
    name = url.rpartition("/")[2]
    durable_server.execute(f"ALTER DATABASE {name} SET {setting}")
    async with opened(url) as driver:
        assert driver.capabilities.durability is durability
        assert said in driver.capabilities.durability_note
        assert driver.capabilities.shared


async def test_p1_a_server_that_does_not_sync_promises_nothing(url: str) -> None:
    async with opened(url) as driver:
        assert driver.capabilities.durability is Durability.NONE
        assert "fsync is off" in driver.capabilities.durability_note

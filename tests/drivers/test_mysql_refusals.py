"""MariaDB: what cannot be used is refused with the way out, and what is promised is what the server
does. No password is told."""

import pytest

from tests.support.databases import opened
from tests.support.servers.mariadb import MariaDBServer
from tests.support.stores import push, reserve
from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.drivers.interface import Capabilities, Durability
from towline_broker.drivers.sql.mysql import open_mysql
from towline_broker.drivers.sql.schema import SCHEMA_VERSION
from towline_broker.testing.factories import START, new_job
from towline_broker.testing.heard import Heard


@pytest.fixture
def url(mariadb_server: MariaDBServer) -> str:
    return mariadb_server.create_database()


async def refusal(url: str) -> str:
    with pytest.raises(StoreRefused) as refused:
        await open_mysql(url).open(START, Heard())
    assert "mariadb-of-the-tests" not in str(refused.value)
    return str(refused.value)


async def promised(url: str) -> Capabilities:
    async with opened(url) as driver:
        return driver.capabilities


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql:jobs", "names no database; write mysql://user:password@host:3306/database"),
        ("mysql://user:secret@host", r"'mysql://user:\*\*\*@host' names no database"),
        ("mysql://user:secret@host/a/b", "names no database"),
        ("mysql://host/jobs", "names no user"),
        ("mysql://user@host:port/jobs", "has no good host and port"),
        ("mysql://user:secret@host/jobs?lane=1", "'lane' is no option .* known are lanes, readers"),
        ("mysql://user@host/jobs?lanes=0", "'lanes' is '0'; it needs a number from 1 to 64"),
        ("mysql://user@host/jobs?timeout=x", "'timeout' is 'x'; it needs a number from 1 to 60"),
        ("mysql://user@host/jobs?upgrade=yes", "upgrade is 'yes', not true or false"),
        ("mysql://user@host/jobs?sslmode=on", "'sslmode' is 'on'; it is one of disable, require"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, why: str) -> None:
    with pytest.raises(StoreRefused, match=why) as refused:
        open_mysql(url)
    assert "secret" not in str(refused.value)


async def test_what_waiting_does_not_help_is_refused(url: str) -> None:
    assert "create the database" in await refusal(url + "_none")
    assert "check the user and the password" in await refusal(url.replace("tests@", "others@"))
    assert "offers no TLS that we accept" in await refusal(f"{url}?sslmode=require")


async def test_a_server_that_cannot_be_reached_is_waited_for() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached") as unavailable:
        await open_mysql("mysql://user:secret@127.0.0.1:1/jobs").open(START, Heard())
    assert "secret" not in str(unavailable.value)


async def test_what_the_server_promises_is_reported(
    mariadb_server: MariaDBServer, url: str
) -> None:
    found = await promised(url)
    assert found.durability is Durability.DURABLE
    assert found.shared
    mariadb_server.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    try:
        found = await promised(url)
    finally:
        mariadb_server.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    assert found.durability is Durability.WINDOW
    assert "innodb_flush_log_at_trx_commit is 2" in found.durability_note


async def test_a_binary_log_that_is_not_synced_is_reported() -> None:
    with MariaDBServer("log-bin=log", "sync_binlog=0") as server:
        found = await promised(server.create_database())
        assert found.durability is Durability.WINDOW
        assert "sync_binlog is 0" in found.durability_note
        server.execute("SET GLOBAL sync_binlog = 1")
        assert (await promised(server.create_database())).durability is Durability.DURABLE


async def test_a_server_that_takes_no_large_message_is_refused(
    mariadb_server: MariaDBServer, url: str
) -> None:
    mariadb_server.execute("SET GLOBAL max_allowed_packet = 1048576")
    try:
        assert "raise it on the server" in await refusal(url)
        mariadb_server.execute(f"SET GLOBAL max_allowed_packet = {4 << 20}")
        async with opened(url) as driver:
            largest = driver.capabilities.max_envelope
            assert largest is not None
            # As large as it says, and two of them in one call.
            envelope = bytes(range(256)) * (largest // 256)
            await push(driver, *(new_job(envelope=envelope) for _ in range(2)))
            assert [one.envelope for one in await reserve(driver, 2)] == [envelope] * 2
    finally:
        mariadb_server.execute(f"SET GLOBAL max_allowed_packet = {16 << 20}")


async def test_tables_without_transactions_are_refused(
    mariadb_server: MariaDBServer, url: str
) -> None:
    await promised(url)
    mariadb_server.execute("ALTER TABLE towline_notes ENGINE=MyISAM", url)
    assert "ALTER TABLE towline_notes ENGINE=InnoDB" in await refusal(url)


async def test_another_version_and_other_tables_are_refused(
    mariadb_server: MariaDBServer, url: str
) -> None:
    await promised(url)
    mariadb_server.execute("UPDATE towline_meta SET schema_version = 99", url)
    assert "the newer schema version 99" in await refusal(f"{url}?upgrade=true")
    mariadb_server.execute("UPDATE towline_meta SET schema_version = 1", url)
    assert f"this broker needs {SCHEMA_VERSION}" in await refusal(url)
    mariadb_server.execute("UPDATE towline_meta SET application = 'other'", url)
    assert "not of a store" in await refusal(url)


async def test_tables_that_were_half_made_are_made_again(
    mariadb_server: MariaDBServer, url: str
) -> None:
    await promised(url)
    mariadb_server.execute("DELETE FROM towline_meta; DROP TABLE towline_kinds", url)
    async with opened(url) as driver:
        await push(driver, new_job())
    mariadb_server.execute("DELETE FROM towline_meta", url)
    assert "has jobs, but not the row of towline_meta" in await refusal(url)


async def test_a_user_without_rights_is_told_which(mariadb_server: MariaDBServer, url: str) -> None:
    database = url.rpartition("/")[2]
    mariadb_server.execute(
        f"CREATE USER 'poor'@'%' IDENTIFIED BY 'mariadb-of-the-tests';"
        f"GRANT SELECT ON {database}.* TO 'poor'@'%'"
    )
    try:
        found = await refusal(url.replace("towline:", "poor:"))
        assert "CREATE command denied" in found
        assert "grant the user all rights to the database" in found
        # Once the tables are there, these are enough.
        await promised(url)
        mariadb_server.execute(f"GRANT INSERT, UPDATE, DELETE ON {database}.* TO 'poor'@'%'")
        async with opened(url.replace("towline:", "poor:")) as driver:
            await push(driver, new_job())
            assert len(await reserve(driver, 1)) == 1
    finally:
        mariadb_server.execute("DROP USER 'poor'@'%'")


async def test_texts_are_told_apart_byte_by_byte(url: str) -> None:
    async with opened(url) as driver:
        keys = ["k", "K", "k ", "k\u0301", "\u1e31", "é", "e\u0301", "😀", "\0", "'\\%s%"]
        results = await push(driver, *(new_job(unique_key=key, type=f"T{key}") for key in keys))
        assert len({result.job_id for result in results}) == len(keys)
        types = {counts.type for counts in await driver.counts()}
        assert types == {f"T{key}" for key in keys}

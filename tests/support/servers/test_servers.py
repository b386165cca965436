"""The servers that tests run on start, keep what they were given, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.servers import binaries
from tests.support.servers.balancers import Balancer, Behind, HAProxy, Nginx, NginxForCalls
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.process import gone, wait_until
from tests.support.servers.redis import Kind, RedisServer
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.servers.redis_sentinels import Sentinels


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_redis_keeps_synced_writes_over_a_crash(kind: Kind) -> None:
    with RedisServer(kind, "appendonly yes", "appendfsync always") as server:
        server.execute("SET", "key", "value")
        url = server.url
        server.kill()
        assert not server.running
        server.start()
        assert server.url == url
        assert server.execute("GET", "key") == "value"


def test_redis_takes_settings_in_place_of_the_usual_ones() -> None:
    with RedisServer("redis", "maxmemory-policy allkeys-lru") as server:
        assert server.execute("CONFIG", "GET", "maxmemory-policy") == {
            "maxmemory-policy": "allkeys-lru"
        }


def test_postgres_gives_each_store_a_database_of_its_own_that_outlives_a_crash() -> None:
    with PostgresServer() as server:
        first, second = server.create_database(), server.create_database()
        server.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)", first)
        assert server.execute("SELECT to_regclass('kept') IS NULL", second) == "t"
        server.kill()
        server.start()
        assert server.execute("SELECT n FROM kept", first) == "1"
        server.stop()
        server.start()
        server.drop_database(first)
        with pytest.raises(AssertionError, match="does not exist"):
            server.execute("SELECT 1", first)


def test_mariadb_gives_each_store_a_database_of_its_own_that_outlives_a_crash() -> None:
    with MariaDBServer("max_allowed_packet=2M") as server:
        first, second = server.create_database(), server.create_database()
        server.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)", first)
        assert server.execute("SHOW TABLES", second) == ""
        assert server.execute("SELECT @@max_allowed_packet") == str(2 << 20)
        server.kill()
        server.start()
        assert server.execute("SELECT n FROM kept", first) == "1"
        server.drop_database(first)
        with pytest.raises(AssertionError, match="Unknown database"):
            server.execute("SELECT 1", first)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_cluster_serves_every_slot_and_gives_a_dead_masters_to_its_replica(kind: Kind) -> None:
    with RedisCluster(kind) as cluster:
        assert len(cluster.nodes) == 6
        assert cluster.masters() == cluster.nodes[:3]
        owner = cluster.master_of("key")
        owner.execute("SET", "key", "value")
        assert int(owner.execute("WAIT", 1, 5000)) == 1
        owner.kill()
        cluster.wait_ok()
        heir = cluster.master_of("key")
        assert heir in cluster.nodes[3:]
        assert heir.execute("GET", "key") == "value"
        owner.start()
        cluster.wait_ok()
        cluster.wait_replicas()
        assert owner.info("replication")["role"] == "slave"
        cluster.flush()
        assert [node.execute("DBSIZE") for node in cluster.masters()] == [0, 0, 0]


def test_sentinels_make_the_replica_the_master_when_that_dies() -> None:
    with Sentinels("redis") as sentinels:
        first, second = sentinels.nodes
        assert sentinels.master() is first
        first.execute("SET", "key", "value")
        assert int(first.execute("WAIT", 1, 5000)) == 1
        first.kill()
        sentinels.wait_ok()
        assert sentinels.master() is second
        assert second.execute("GET", "key") == "value"


@pytest.mark.parametrize("kind", [HAProxy, Nginx, NginxForCalls])
def test_a_balancer_leaves_no_process_behind(kind: type[Balancer]) -> None:
    with kind([Behind(1, 2), Behind(3, 4)]) as server:
        started = psutil.Process(server.pid)
        processes = [started, *started.children(recursive=True)]
    _, left = psutil.wait_procs(processes, timeout=5)
    assert not left


def test_a_port_taken_by_another_is_given_up_for_a_free_one() -> None:
    with RedisServer("redis") as first:
        second = RedisServer("redis")
        second.port = first.port
        with second:
            assert second.port != first.port
            assert second.execute("PING")
            assert first.execute("PING")


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(AssertionError, match="Bad directive"),
        RedisServer("redis", "no-such-setting 1"),
    ):
        pass


def test_nothing_runs_or_stays_when_the_tests_process_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tests.support.servers.postgres import PostgresServer\n"
        "from tests.support.servers.redis import RedisServer\n"
        "servers = [RedisServer('redis').start(), PostgresServer().start()]\n"
        "print(*[f'{s.pid}:{s.folder}' for s in servers], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        servers = [word.partition(":") for word in tests.stdout.readline().split()]
        assert len(servers) == 2
        tests.send_signal(signal.SIGKILL)
    for pid, _, _ in servers:
        wait_until(partial(gone, int(pid)), "the server ends")
    wait_until(lambda: not [at for _, _, at in servers if Path(at).exists()], "the folders go")


def test_a_missing_server_is_a_skip_on_a_laptop_and_a_failure_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find_nothing(kind: str) -> None:
        return None

    monkeypatch.setattr(binaries, "_find", find_nothing)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no redis server"):
        binaries.require_server("redis")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="make install"):
        binaries.require_server("redis")
    with pytest.raises(pytest.skip.Exception, match="mariadb-server"):
        binaries.require_server("mariadb")

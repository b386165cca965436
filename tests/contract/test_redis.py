"""The Redis driver keeps the contract: on Redis and Valkey, behind Sentinel, and on a Cluster."""

import asyncio
import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.archive.load import Load
from tests.archive.support import (
    export_of_everything,
    goes_in_and_comes_out,
    is_found_by_check,
    jobs_in,
    run,
)
from tests.support.broker_process import BrokerProcess
from tests.support.calls import calls_to
from tests.support.servers.redis import RedisServer
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.servers.redis_sentinels import Sentinels
from towline_broker.drivers.interface import Driver, PushOutcome, PushResult
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import (
    BoundedDriverContract,
    Harness,
    NewHarness,
    SharedDriverContract,
    Store,
    check_at_random,
    new_job,
    new_jobs,
)

KEPT = "appendonly yes"
#: Bytes: room for some jobs of 10,000 bytes, and fewer than 1,000, beside what clients take.
ROOM = 1 << 20

_RUN = secrets.token_hex(4)
_stores = itertools.count(1)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer("redis", KEPT) as server:
        yield server


@pytest.fixture(scope="module")
def valkey_server() -> Iterator[RedisServer]:
    with RedisServer("valkey", KEPT) as server:
        yield server


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[RedisCluster]:
    with RedisCluster("redis", KEPT, replicas=0) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def redis_sentinels() -> Iterator[Sentinels]:
    with Sentinels("redis", KEPT) as sentinels:
        yield sentinels


@pytest.fixture(scope="module")
def full_redis() -> Iterator[RedisServer]:
    with RedisServer("redis") as server:
        yield server


@pytest.fixture(scope="module")
def full_valkey() -> Iterator[RedisServer]:
    with RedisServer("valkey") as server:
        yield server


class RedisHarness(Harness):
    """A store of its own on a server that tests share: under a prefix that none had before."""

    persists = True

    def __init__(self, url: str, **options: object) -> None:
        given = {"prefix": f"test-{_RUN}-{next(_stores)}", **options}
        self._url = url + "?" + "&".join(f"{name}={value}" for name, value in given.items())

    def driver(self) -> Driver:
        return create_driver(self._url)


class TestRedis(SharedDriverContract):
    @pytest.fixture
    def new_harness(self, redis_server: RedisServer) -> NewHarness:
        return lambda: RedisHarness(redis_server.url)


class TestValkey(SharedDriverContract):
    @pytest.fixture
    def new_harness(self, valkey_server: RedisServer) -> NewHarness:
        return lambda: RedisHarness(valkey_server.url)


class TestRedisBehindSentinel(SharedDriverContract):
    @pytest.fixture
    def new_harness(self, redis_sentinels: Sentinels) -> NewHarness:
        return lambda: RedisHarness(redis_sentinels.url)


class TestCluster(SharedDriverContract):
    @pytest.fixture
    def new_harness(self, redis_cluster: RedisCluster) -> NewHarness:
        return lambda: RedisHarness(redis_cluster.url, partitions=32)

    async def test_p3_a_repeated_push_stores_nothing(self, store: Store) -> None:
        """An id is looked for where its queue is kept: what is repeated is the same push. The same
        id in another queue may be another job."""
        job = new_job(envelope=b"first")
        await store.create(job)
        store.heard.take()
        (again,) = await store.push(replace(job, type="U", envelope=b"second"))
        assert again == PushResult(job.id, PushOutcome.EXISTING)
        assert (await store.get(job.id)).envelope == b"first"
        assert (await store.counts()).totals.pushed == 1
        assert store.heard.take() == ({}, [])

    async def test_p8_ready_jobs_are_told_of_at_opening(self, store: Store) -> None:
        """News travels from node to node: what became ready just before may be told once more."""
        await store.create(*new_jobs(2, "a"), new_job("b"), new_job("c", due_at=store.now + 1))
        await store.reopen()
        told, ended = store.heard.take()
        assert told["a"] >= 2
        assert told["b"] >= 1
        assert "c" not in told
        assert ended == []


class FullHarness(RedisHarness):
    """The server is its own, and soon full."""

    def __init__(self, server: RedisServer) -> None:
        server.execute("CONFIG", "SET", "maxmemory", 0)
        server.flush()
        used = server.info("memory")["used_memory"]
        server.execute("CONFIG", "SET", "maxmemory", used + ROOM)
        super().__init__(server.url)


class TestFullRedis(BoundedDriverContract):
    @pytest.fixture
    def new_harness(self, full_redis: RedisServer) -> NewHarness:
        return lambda: FullHarness(full_redis)


class TestFullValkey(BoundedDriverContract):
    @pytest.fixture
    def new_harness(self, full_valkey: RedisServer) -> NewHarness:
        return lambda: FullHarness(full_valkey)


@pytest.mark.timeout(600)
def test_random_operations_on_redis_are_answered_as_the_model_does(
    redis_server: RedisServer,
) -> None:
    check_at_random(lambda: RedisHarness(redis_server.url), examples=25)


@pytest.mark.timeout(600)
def test_random_operations_on_valkey_are_answered_as_the_model_does(
    valkey_server: RedisServer,
) -> None:
    check_at_random(lambda: RedisHarness(valkey_server.url), examples=25)


@pytest.mark.timeout(600)
def test_random_operations_behind_sentinel_are_answered_as_the_model_does(
    redis_sentinels: Sentinels,
) -> None:
    check_at_random(lambda: RedisHarness(redis_sentinels.url), examples=10)


@pytest.mark.timeout(600)
def test_random_operations_on_a_cluster_are_answered_as_the_model_does(
    redis_cluster: RedisCluster,
) -> None:
    """With one partition: the model's ids are those of all queues."""
    check_at_random(lambda: RedisHarness(redis_cluster.url, partitions=1), examples=10)


@pytest.mark.parametrize("kind", ["redis_server", "redis_cluster"])
def test_p6_everything_goes_in_and_out_of_archives_and_a_check_sees_what_is_wrong(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    exported = export_of_everything(f"sqlite:///{tmp_path}/jobs.db", tmp_path)
    server = request.getfixturevalue(kind)
    prefix = f"archive-{_RUN}"
    url = f"{server.url}?prefix={prefix}"
    goes_in_and_comes_out(exported, url)
    if kind == "redis_server":
        ready = {job["id"] for job in jobs_in(exported) if job["state"] == "READY"}
        server.execute("DEL", f"{prefix}:{{0}}:l:other:2")
        server.execute("HINCRBY", f"{prefix}:{{0}}:d", "q|T|dead", 1)
        is_found_by_check(
            url,
            *("queue other, ready: 6 by the counts, and 3 by the lists", "is ready and in no line"),
            "queue and type q|T, dead:",
        )
        assert any(job_id in run("check", "--store", url, code=1).stdout for job_id in ready)


async def test_an_export_under_load_holds_every_job_that_stayed_once(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    url, file = f"{redis_server.url}?prefix=busy-{_RUN}", tmp_path / "jobs.jsonl"
    with BrokerProcess(url, folder=tmp_path) as broker:
        async with calls_to(broker.address) as calls, Load(calls).running() as load:
            await load.more()
            before = set(load.pushed)
            await asyncio.to_thread(run, "export", "--store", url, str(file))
            settled, begun = set(load.settled), set(load.begun)
            assert "is sound" in (await asyncio.to_thread(run, "check", "--store", url)).stderr
    ids = [job["id"] for job in jobs_in(file)]
    assert len(ids) == len(set(ids))
    assert before - settled <= set(ids) <= begun
    assert before - settled, "the load leaves jobs behind"

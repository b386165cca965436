"""What is promised is what the server is set to keep, and no more."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from tests.drivers.redis_link_support import linked, own_keys
from tests.support.servers.process import HOST
from tests.support.servers.redis import Kind, RedisServer
from tests.support.waiting import until
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.drivers.interface import Durability


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as running:
        yield running


@pytest.mark.parametrize(
    ("settings", "promised", "note"),
    [
        ({"appendonly": "yes", "appendfsync": "always"}, Durability.DURABLE, "each change"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, Durability.WINDOW, "about a second"),
        ({"appendonly": "yes", "appendfsync": "no"}, Durability.WINDOW, "30 seconds"),
        (
            {
                "appendonly": "yes",
                "appendfsync": "always",
                "no-appendfsync-on-rewrite": "yes",
            },
            Durability.WINDOW,
            "is rewritten",
        ),
        ({"appendonly": "no", "save": "900 1"}, Durability.WINDOW, "snapshots only (save 900 1)"),
        ({"appendonly": "no", "save": ""}, Durability.NONE, "server's memory"),
    ],
)
async def test_the_promise_follows_the_configuration(
    server: RedisServer, settings: dict[str, str], promised: Durability, note: str
) -> None:
    for name, value in {"no-appendfsync-on-rewrite": "no", "save": "", **settings}.items():
        server.execute("CONFIG", "SET", name, value)
    async with linked(own_keys(server.url)) as here:
        assert here.link.facts.durability is promised
        assert note in here.link.facts.note
        assert here.link.facts.product.lower() == server.kind
        assert here.link.facts.version >= (6, 2, 0)


async def test_a_server_that_comes_back_with_less_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RedisServer("redis", "appendonly yes", "appendfsync always") as server:
        async with linked(own_keys(server.url)) as here:
            server.execute("CONFIG", "SET", "appendfsync", "everysec")
            with caplog.at_level(logging.WARNING):
                server.execute("CLIENT", "KILL", "TYPE", "pubsub")
                await until(lambda: _says(caplog, "is less durable now"), "a warning")
            assert here.link.facts.durability is Durability.WINDOW


async def test_a_server_that_comes_back_empty_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RedisServer("valkey") as server:
        async with linked(own_keys(server.url)) as here:
            await here.count()
            server.kill()
            with caplog.at_level(logging.ERROR):
                await asyncio.to_thread(server.start)
                await until(lambda: _says(caplog, "all jobs are lost"), "an error")
            assert await here.count() == 1


async def _says(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_a_change_is_answered_when_replicas_have_it(kind: Kind) -> None:
    with (
        RedisServer(kind, "repl-diskless-sync-delay 0") as server,
        RedisServer(kind, f"replicaof {HOST} {server.port}") as replica,
    ):

        async def follows() -> bool:
            return bool(replica.info("replication")["master_link_status"] == "up")

        await until(follows, "the replica follows")
        async with linked(own_keys(server.url, wait_replicas=1, timeout=1)) as here:
            name = here.link.channel.partition(b":")[0].decode() + ":{0}:ran"
            counts = await asyncio.gather(*(here.count() for _ in range(100)))
            assert counts == list(range(1, 101))
            assert replica.execute("GET", name) == "100"
            replica.pause()
            try:
                with pytest.raises(StoreUnavailable, match=r"0 have it.*not known"):
                    await here.count()
                # Reading waits for nobody.
                assert await here.ran() == 101
            finally:
                replica.resume()
            assert await here.count() == 102

"""Servers that jobs cannot be kept in are refused at the start, with the way out."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.drivers.redis_link_support import linked, make_link, own_keys
from tests.support.servers.redis import RedisServer
from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.drivers.interface import Durability

PASSWORD = "pa55word"


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as running:
        yield running


async def refusal(url: str) -> str:
    with pytest.raises(StoreRefused) as refused:
        await make_link(url).open(print, print)
    assert PASSWORD not in str(refused.value)
    return str(refused.value)


def with_user(server: RedisServer, *rules: str) -> str:
    """The url for a user of these rights."""
    server.execute("ACL", "SETUSER", "tow", "reset", "resetchannels", "on", f">{PASSWORD}", *rules)
    return f"redis://tow:{PASSWORD}@{server.address}/0"


async def test_a_server_that_throws_jobs_away(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxmemory", "100mb")
    server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        said = await refusal(own_keys(server.url))
        assert "allkeys-lru" in said
        assert "CONFIG SET maxmemory-policy noeviction" in said
        server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
        async with linked(own_keys(server.url)) as here:
            assert await here.count() == 1
    finally:
        server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.execute("CONFIG", "SET", "maxmemory", 0)


async def test_a_wrong_password(server: RedisServer) -> None:
    url = with_user(server, "+@all", "~*", "&*").replace(PASSWORD, PASSWORD + "x")
    said = await refusal(url)
    assert "the server refuses the password: check user and password in the url" in said
    assert "invalid username-password" in said


async def test_a_missing_password() -> None:
    with RedisServer("redis") as server:
        server.execute("CONFIG", "SET", "requirepass", PASSWORD)
        said = await refusal(server.url.replace("redis://", "redis://:wrong@"))
        assert "invalid username-password" in said
        said = await refusal(server.url)
        assert "the server wants a password: write user:password@ before the host" in said
        assert "Authentication required" in said


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (["+@all", "-evalsha", "~*", "&*"], "evalsha"),
        (["+@all", "-publish", "~*", "&*"], "can't run this command|publish"),
        (["+@all", "-subscribe", "~*", "&*"], "SUBSCRIBE"),
        (["+@all", "-zadd", "~*", "&*"], "can't run this command|zadd"),
        (["+@all", "~other:*", "&*"], "key"),
        (["+@all", "~*", "&other:*"], "channel"),
    ],
)
async def test_a_user_without_the_rights(server: RedisServer, rules: list[str], says: str) -> None:
    url = own_keys(with_user(server, *rules))
    with pytest.raises(StoreRefused, match=says):
        await make_link(url).open(print, print)


async def test_a_user_with_just_the_rights_that_the_documentation_names(
    server: RedisServer,
) -> None:
    rights = "~test* &test* +@read +@write +@connection +@scripting +@pubsub +time"
    async with linked(own_keys(with_user(server, *rights.split()))) as here:
        assert await here.count() == 1
        await here.shout("allowed")
        await here.wait_message("allowed")
        # It may not ask how the server is configured.
        assert here.link.facts.durability is Durability.NONE
        assert "does not tell" in here.link.facts.note


async def test_a_replica(server: RedisServer) -> None:
    with RedisServer("redis", f"replicaof 127.0.0.1 {server.port}") as replica:
        link = make_link(own_keys(replica.url, timeout=0.5))
        with pytest.raises(StoreUnavailable, match="is a replica, not a master"):
            await link.open(print, print)


async def test_a_cluster_by_the_url_of_a_server_and_the_other_way_round(
    server: RedisServer,
) -> None:
    cluster_url = server.url.replace("redis://", "redis+cluster://")
    assert "redis://" in await refusal(own_keys(cluster_url))
    with RedisServer("valkey", "cluster-enabled yes") as node:
        assert "redis+cluster://" in await refusal(own_keys(node.url))
        alone = await refusal(own_keys(f"redis+cluster://{node.address}"))
        assert "assigned to no node" in alone


async def test_keys_of_somebody_else(server: RedisServer) -> None:
    url = own_keys(server.url, prefix="theirs")
    server.execute("SET", "theirs:{0}:meta", "hello")
    assert "another ?prefix=" in await refusal(url)
    assert server.execute("GET", "theirs:{0}:meta") == "hello"


async def test_a_store_of_another_version_of_towline(server: RedisServer) -> None:
    url = own_keys(server.url)
    async with linked(url) as here:
        name = here.link.channel.partition(b":")[0].decode() + ":{0}:meta"
    for schema, age in ((0, "an earlier version"), (2, "a later version")):
        server.execute("SET", name, f'{{"schema": {schema}, "partitions": 1}}')
        assert age in await refusal(url)


async def test_two_brokers_that_come_to_a_new_store_at_once_agree(server: RedisServer) -> None:
    url = own_keys(server.url)
    links = [make_link(url) for _ in range(8)]
    await asyncio.gather(*(link.open(print, print) for link in links))
    assert {link.partitions for link in links} == {1}
    for link in links:
        await link.close()


async def test_nobody_there_is_unavailable_and_not_refused() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        await make_link("redis://127.0.0.1:1").open(print, print)

"""What scripts publish is heard, and an interruption is told of."""

from collections.abc import Iterator

import pytest

from tests.drivers.redis_link_support import Proxy, linked, own_keys
from tests.support.servers.redis import RedisServer
from tests.support.waiting import until


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer("redis") as running:
        yield running


async def test_messages_reach_all_who_use_the_store_and_nobody_else(server: RedisServer) -> None:
    url = own_keys(server.url)
    other_database = url.replace("/0?", "/1?")
    async with linked(url) as here, linked(url) as there, linked(other_database) as elsewhere:
        await here.shout("new work")
        await here.wait_message("new work")
        await there.wait_message("new work")
        await elsewhere.shout("mine")
        await elsewhere.wait_message("mine")
    assert (here.messages, there.messages) == ([b"new work"], [b"new work"])
    assert elsewhere.messages == [b"mine"]
    assert (here.gaps, there.gaps) == (0, 0)


async def test_a_lost_subscription_is_made_again_and_told_of(server: RedisServer) -> None:
    async with linked(own_keys(server.url)) as here:
        for round_ in range(3):
            before = here.gaps
            server.execute("CLIENT", "KILL", "TYPE", "pubsub")
            await here.wait_gap(before)
            await here.shout(f"round {round_}")
            await here.wait_message(f"round {round_}")


async def test_a_silent_server_is_noticed_by_the_subscription(server: RedisServer) -> None:
    async with linked(own_keys(server.url, timeout=0.3)) as here:
        server.pause()
        try:

            async def noticed() -> bool:
                return not here.link._subscription._connection.is_connected  # type: ignore[union-attr]

            await until(noticed, "the connection is given up")
        finally:
            server.resume()
        await here.wait_gap()
        await here.shout("back")
        await here.wait_message("back")


async def test_a_quiet_subscription_stays(server: RedisServer) -> None:
    async with Proxy(server.port) as proxy, linked(own_keys(proxy.url, timeout=0.2)) as here:
        answered = 0

        async def pinged_often() -> bool:
            return proxy.answers - answered > 10

        answered = proxy.answers
        await until(pinged_often, "several health checks")
        assert here.gaps == 0
        await here.shout("still here")
        await here.wait_message("still here")


async def test_a_listener_that_fails_hears_the_next_message(server: RedisServer) -> None:
    async with linked(own_keys(server.url)) as here:
        append = here.messages.append

        def picky(payload: bytes) -> None:
            if payload == b"bad":
                raise ValueError("not understood")
            append(payload)

        here.hear = picky
        await here.shout("bad")
        await here.shout("good")
        await here.wait_message("good")

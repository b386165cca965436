"""A master behind Sentinel that is replaced, in good order and by its death."""

import asyncio
from collections.abc import Iterator

import pytest
from redis.exceptions import ResponseError

from tests.drivers.redis_link_support import COUNT_REPEATABLE, Linked, linked, make_link, own_keys
from tests.support.servers.process import HOST
from tests.support.servers.redis_sentinels import Sentinels
from tests.support.waiting import until
from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.drivers.interface import Durability


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with Sentinels("valkey", "appendonly yes", "appendfsync always") as running:
        yield running


@pytest.fixture(autouse=True)
def whole(sentinels: Sentinels) -> Iterator[None]:
    yield
    for node in sentinels.nodes:
        if not node.running:
            node.start()
    sentinels.wait_ok()


async def test_the_master_that_the_sentinels_name_is_used(sentinels: Sentinels) -> None:
    async with linked(own_keys(sentinels.url)) as here:
        assert await here.count() == 1
        assert here.link.facts.topology == "sentinel"
        # Synced on its disk, but a failover may still lose it.
        assert here.link.facts.durability is Durability.WINDOW
        assert "failover" in here.link.facts.note


async def test_a_failover_in_good_order_fails_no_call(sentinels: Sentinels) -> None:
    former = sentinels.master()
    async with linked(own_keys(sentinels.url, timeout=20)) as here:
        counted = 0

        async def begun() -> bool:
            """On a busy machine the sentinels may have lost sight of the replica for a while."""
            try:
                await asyncio.to_thread(
                    sentinels.sentinels[0].execute, "SENTINEL", "FAILOVER", "towline"
                )
            except ResponseError as error:
                if "NOGOODSLAVE" not in str(error):
                    raise
                return False
            return True

        await until(begun, "the sentinels have a replica to take", seconds=40)

        async def used() -> bool:
            nonlocal counted
            counted = await here.count(COUNT_REPEATABLE)
            return sentinels.master() is not former

        await until(used, "the sentinels name another master", seconds=40)
        await here.wait_gap()
        # The former master still takes changes, for some seconds: they would be lost.
        assert former.info("replication")["role"] == "master"
        await here.count(COUNT_REPEATABLE)
        now = int(sentinels.master().execute("GET", _counter(here)))
        assert await here.count(COUNT_REPEATABLE) == now + 1
        await _hears(here)
    # As the sentinels would do it some seconds later.
    former.execute("REPLICAOF", HOST, sentinels.master().port)


async def test_a_killed_master_is_waited_for(sentinels: Sentinels) -> None:
    async with linked(own_keys(sentinels.url, timeout=20)) as here:
        assert await here.count(COUNT_REPEATABLE) == 1
        sentinels.master().kill()
        # The replica may not have had the last one.
        assert await here.count(COUNT_REPEATABLE) in (1, 2)
        await _hears(here)
        assert here.gaps


def _counter(here: Linked) -> str:
    return here.link.channel.partition(b":")[0].decode() + ":{0}:ran"


async def _hears(here: Linked) -> None:
    """Messages arrive, once there is a subscription again."""

    async def heard() -> bool:
        await here.shout("still here")
        return b"still here" in here.messages

    await until(heard, "messages arrive again")


async def test_a_sentinel_that_is_down_is_not_missed(sentinels: Sentinels) -> None:
    silent = sentinels.sentinels[0]
    silent.pause()
    try:
        async with linked(own_keys(sentinels.url)) as here:
            assert await here.count() == 1
    finally:
        silent.resume()
    here_too = f"redis+sentinel://127.0.0.1:1,{sentinels.addresses[1]}/towline"
    async with linked(own_keys(here_too)) as here:
        assert await here.count() == 1


@pytest.mark.parametrize(
    ("place", "says"),
    [("/nobody", "No such master"), ("/towline/99", r"out of range|invalid DB")],
)
async def test_what_is_not_there_is_refused(sentinels: Sentinels, place: str, says: str) -> None:
    url = f"redis+sentinel://{','.join(sentinels.addresses)}{place}"
    with pytest.raises(StoreRefused, match=says):
        await make_link(url).open(print, print)


async def test_servers_that_are_no_sentinels_are_refused(sentinels: Sentinels) -> None:
    url = f"redis+sentinel://{sentinels.master().address}/towline"
    with pytest.raises(StoreRefused, match="SENTINEL"):
        await make_link(url).open(print, print)


async def test_sentinels_that_cannot_be_reached_are_unavailable() -> None:
    link = make_link("redis+sentinel://127.0.0.1:1,127.0.0.1:2/towline")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
        await link.open(print, print)

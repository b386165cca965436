"""A Cluster that changes under the calls: slots move, masters change and die."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.drivers.redis_link_support import COUNT_REPEATABLE, Linked, linked, own_keys
from tests.support.servers.process import HOST
from tests.support.servers.redis import RedisServer
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.waiting import until
from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.drivers.interface import Durability


@pytest.fixture(scope="module")
def oldest() -> Iterator[RedisCluster]:
    with RedisCluster("redis") as running:
        yield running


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisCluster]:
    with RedisCluster("valkey") as running:
        yield running


@pytest.fixture
def cluster(oldest: RedisCluster) -> Iterator[RedisCluster]:
    """Six nodes of the oldest version that agree, and are left so."""
    yield oldest
    _make_whole(oldest)


@pytest.fixture(params=["oldest", "valkey"])
def any_cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """Of either kind, in turn."""
    found: RedisCluster = request.getfixturevalue(request.param)
    yield found
    _make_whole(found)


def _make_whole(cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        if not node.running:
            node.start()
    cluster.wait_replicas()
    cluster.wait_ok()


async def test_partitions_are_spread_over_the_masters(any_cluster: RedisCluster) -> None:
    cluster = any_cluster
    async with linked(own_keys(cluster.url)) as here:
        link = here.link
        assert link.partitions == 32
        assert (link.facts.topology, link.facts.durability) == ("cluster", Durability.NONE)
        counts = await asyncio.gather(*(here.count(partition=n) for n in range(32)))
        assert counts == [1] * 32
        prefix = link.channel.partition(b":")[0].decode()
    keepers = {cluster.master_of(f"{prefix}:{{{n}}}:").port for n in range(32)}
    assert len(keepers) == 3


async def test_one_address_is_enough_to_find_the_others(cluster: RedisCluster) -> None:
    for node in (cluster.nodes[0], cluster.nodes[-1]):
        async with linked(own_keys(f"redis+cluster://{node.address}")) as here:
            await asyncio.gather(*(here.count(partition=n) for n in range(32)))


async def test_what_is_published_at_one_node_is_heard_everywhere(cluster: RedisCluster) -> None:
    url = own_keys(cluster.url)
    async with linked(url) as here, linked(url) as there:
        for partition in range(8):
            await here.shout(f"job {partition}", partition)
            for listener in (here, there):
                await listener.wait_message(f"job {partition}")


async def test_a_partition_that_moves_is_never_seen_in_part(any_cluster: RedisCluster) -> None:
    cluster = any_cluster
    url = own_keys(cluster.url, timeout=0.5)
    async with linked(url) as here:
        # More than one key, so that some have moved and some have not.
        move = _Move(cluster, here, partition=3)
        assert await here.count(partition=3) == 1
        move.begin()
        for _ in range(2):
            # On its way, nothing reaches it: neither while all of it is here, nor when it is there.
            with pytest.raises(StoreUnavailable, match=r"TRYAGAIN|ASK"):
                await here.count(partition=3)
            assert await here.count(partition=4) >= 1
            move.keys()
        move.end()
        assert await here.count(partition=3) == 2
        assert cluster.master_of(move.key).port == move.target.port


async def test_a_call_waits_while_its_partition_moves(cluster: RedisCluster) -> None:
    async with linked(own_keys(cluster.url)) as here:
        move = _Move(cluster, here, partition=5)
        assert await here.count(partition=5) == 1
        await asyncio.to_thread(move.begin)
        counting = asyncio.create_task(here.count(partition=5))
        await asyncio.to_thread(move.keys)
        assert not counting.done()
        await asyncio.to_thread(move.end)
        assert await counting == 2


class _Move:
    """The slot of a partition goes from its master to another one, step by step, as redis-cli
    does it."""

    def __init__(self, cluster: RedisCluster, linked: Linked, partition: int) -> None:
        prefix = linked.link.channel.partition(b":")[0].decode()
        self.key = f"{prefix}:{{{partition}}}:"
        self.source = cluster.master_of(self.key)
        self.target = next(node for node in cluster.masters() if node is not self.source)
        self._others = [
            node for node in cluster.masters() if node not in (self.source, self.target)
        ]
        self._slot = int(self.source.execute("CLUSTER", "KEYSLOT", self.key))

    def begin(self) -> None:
        self._set_slot(self.target, "IMPORTING", self.source)
        self._set_slot(self.source, "MIGRATING", self.target)

    def keys(self) -> None:
        found: Any = self.source.raw("CLUSTER", "GETKEYSINSLOT", self._slot, 1000)
        if found:
            self.source.execute("MIGRATE", HOST, self.target.port, "", 0, 5000, "KEYS", *found)

    def end(self) -> None:
        for node in (self.target, self.source, *self._others):
            self._set_slot(node, "NODE", self.target)

    def _set_slot(self, at: RedisServer, state: str, other: RedisServer) -> None:
        at.execute("CLUSTER", "SETSLOT", self._slot, state, other.execute("CLUSTER", "MYID"))


async def test_a_failover_by_hand_passes_unnoticed(any_cluster: RedisCluster) -> None:
    cluster = any_cluster
    async with linked(own_keys(cluster.url)) as here:
        key = f"{here.link.channel.partition(b':')[0].decode()}:{{0}}:"
        former = cluster.master_of(key)
        counted = 0
        replica = await asyncio.to_thread(_replica_of, cluster, former)
        await asyncio.to_thread(replica.execute, "CLUSTER", "FAILOVER")

        async def failed_over() -> bool:
            nonlocal counted
            # Not one of them fails, and none is counted twice.
            counted += 1
            assert await here.count() == counted
            if counted % 600 == 0:
                # A replica gives up after five seconds, as when another failover has just ended.
                await asyncio.to_thread(replica.execute, "CLUSTER", "FAILOVER")
            return bool(former.info("replication")["role"] == "slave")

        await until(failed_over, "the replica is master")
        assert await here.count() == counted + 1
        await here.wait_gap()


async def test_a_killed_master_is_waited_for(cluster: RedisCluster) -> None:
    async with linked(own_keys(cluster.url, timeout=20)) as here:
        assert await here.count(COUNT_REPEATABLE) == 1
        key = f"{here.link.channel.partition(b':')[0].decode()}:{{0}}:"
        await asyncio.to_thread(cluster.wait_replicas)
        cluster.master_of(key).kill()
        # The replica may not have had the last one.
        assert await here.count(COUNT_REPEATABLE) in (1, 2)
        await here.wait_gap()


def _replica_of(cluster: RedisCluster, master: RedisServer) -> RedisServer:
    return next(
        node
        for node in cluster.nodes
        if node.running and node.info("replication").get("master_port") == master.port
    )


async def test_a_hung_master_is_replaced_and_its_calls_fail_in_time(cluster: RedisCluster) -> None:
    async with linked(own_keys(cluster.url, timeout=1)) as here:
        await asyncio.gather(*(here.count(partition=n) for n in range(32)))
        key = f"{here.link.channel.partition(b':')[0].decode()}:{{1}}:"
        hung = cluster.master_of(key)
        hung.pause()
        try:
            with pytest.raises(StoreUnavailable, match="not known"):
                await here.count(partition=1)

            async def replaced() -> bool:
                calls = [here.count(partition=1) for _ in range(5)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
                failed = [answer for answer in answers if not isinstance(answer, int)]
                assert all(isinstance(error, StoreUnavailable) for error in failed), failed
                return not failed

            await until(replaced, "the replica is master")
        finally:
            hung.resume()


async def test_the_subscription_moves_when_its_node_dies(cluster: RedisCluster) -> None:
    nodes = {node.port: node for node in cluster.nodes}
    async with linked(own_keys(cluster.url, timeout=20)) as here:
        channel = here.link.channel.decode()
        heard_at = next(
            node for node in nodes.values() if channel in str(node.raw("PUBSUB", "CHANNELS"))
        )
        heard_at.kill()
        await here.wait_gap()

        async def heard() -> bool:
            await here.shout("again")
            return b"again" in here.messages

        await until(heard, "messages arrive again")


async def test_a_number_of_partitions_is_final(cluster: RedisCluster) -> None:
    url = own_keys(cluster.url)
    async with linked(url + "&partitions=4") as here:
        assert here.link.partitions == 4
    async with linked(url) as here:
        assert here.link.partitions == 4
    with pytest.raises(StoreRefused, match="has 4 partitions"):
        async with linked(url + "&partitions=8"):
            pass

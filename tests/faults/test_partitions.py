"""P1 to P9, Stats: networks that are parted between machines, both ways or one way.

Brokers run on machines of their own (network namespaces), with one cable to the machine of the
store and one to that of the clients, which both are ours. `make faults` parts them more
often, with the figures on the screen.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

import grpc
import pytest

from tests.faults.harness.assumptions import STRICT, Assumptions
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.habits import MIXED
from tests.faults.harness.link import Link
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess
from tests.support.namespaces import Cable, Machine, Traffic, parted
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.process import wait_until
from tests.support.servers.redis import RedisServer
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.stores import with_options
from towline.v1 import queue_service_pb2 as pb
from towline.v1.admin_service_pb2 import StatsRequest
from towline_broker.server.exits import ExitCode

#: How often each cable is parted in each way; 0: some of them, once.
PARTITIONS = size("PARTITIONS", 0)
SOME = 2
#: How often a broker is started until its store has answered in time.
STARTS = 5
#: All seconds. A driver waits for an answer of its store for so long.
STORE_TIMEOUT = 1
#: Some are shorter than that, some longer.
PARTED = (0.5, 4.0)
#: Everybody works again so soon after the network does.
BACK_SECONDS = 15.0
DRAIN_SECONDS = 60.0
HABITS = replace(MIXED, call_timeout=2.0, pause=0.05)
#: A plain test run leaves out what differs little from these.
LONG = PARTITIONS > 0


class Reachable(NamedTuple):
    """A store from another machine."""

    #: By the address at which that machine finds ours.
    url_at: Callable[[str], str]
    assumptions: Assumptions
    #: How many there can be of such machines.
    brokers: int = 2


@contextmanager
def postgresql() -> Iterator[Reachable]:
    server = PostgresServer("listen_addresses=*")
    with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all samenet trust\n")
    with server:
        yield Reachable(partial(_at, server.create_database()), Assumptions(order_slack=None))


@contextmanager
def mariadb() -> Iterator[Reachable]:
    with MariaDBServer("bind-address=0.0.0.0") as server:
        yield Reachable(partial(_at, server.create_database()), Assumptions(order_slack=None))


@contextmanager
def redis() -> Iterator[Reachable]:
    with RedisServer("redis", "bind 0.0.0.0", "protected-mode no") as server:
        yield Reachable(partial(_at, server.url), Assumptions(order_slack=10.0))


@contextmanager
def redis_cluster() -> Iterator[Reachable]:
    """Its nodes tell one address of themselves."""
    with RedisCluster("redis", "bind 0.0.0.0", "protected-mode no", replicas=0) as cluster:

        def url_at(address: str) -> str:
            for node in cluster.nodes:
                node.execute("CONFIG", "SET", "cluster-announce-ip", address)
            for node in cluster.nodes:
                wait_until(partial(_tells_of, node, address), "nodes are known by that address")
            nodes = ",".join(f"{address}:{node.port}" for node in cluster.nodes)
            return with_options(f"redis+cluster://{nodes}", f"timeout={STORE_TIMEOUT}")

        yield Reachable(url_at, STRICT, brokers=1)


def _tells_of(node: RedisServer, address: str) -> bool:
    slots = node.raw("CLUSTER", "SLOTS")
    assert isinstance(slots, list)
    return {master[0] for _, _, master, *_ in slots} == {address}


def _at(url: str, address: str) -> str:
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    url = parts._replace(netloc=f"{user}{at}{address}:{parts.port}").geturl()
    return with_options(url, f"timeout={STORE_TIMEOUT}")


STORES: dict[str, Callable[[], AbstractContextManager[Reachable]]] = {
    "postgresql": postgresql,
    "redis": redis,
}
if LONG:
    STORES |= {"mariadb": mariadb, "redis_cluster": redis_cluster}


class Remote(NamedTuple):
    """A broker on a machine of its own."""

    broker: BrokerProcess
    machine: Machine
    to_store: Cable
    to_clients: Cable


@contextmanager
def remote(store: Reachable, folder: Path) -> Iterator[Remote]:
    folder.mkdir()
    with Machine() as machine:
        to_store, to_clients = machine.cable(), machine.cable()
        broker = BrokerProcess(
            store.url_at(to_store.here),
            "--insecure",
            folder=folder,
            address=f"{to_clients.there}:0",
            run_by=machine.run_by,
        )
        try:
            started(broker)
            yield Remote(broker, machine, to_store, to_clients)
        finally:
            broker.__exit__()


def started(broker: BrokerProcess) -> None:
    """As a supervisor does it: again, if the store took longer to answer than it may."""
    for left in reversed(range(STARTS)):
        try:
            broker.start()
        except AssertionError:
            if not left or broker.returncode != ExitCode.UNAVAILABLE:
                raise
        else:
            return


def seconds_until_well(broker: BrokerProcess) -> float:
    """Until the broker reads and changes its store for somebody who asks it now."""
    began = time.monotonic()
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name="empty")])
    with Link([broker.address]) as link:
        while True:
            try:
                link.admin.Stats(StatsRequest(), timeout=BACK_SECONDS)
                link.queue.Reserve(request, timeout=BACK_SECONDS)
            except grpc.RpcError:
                if time.monotonic() > began + BACK_SECONDS:
                    raise
                link.pause()
            else:
                return time.monotonic() - began


def _nothing_under_way(machine: Machine) -> bool:
    return not machine.under_way()


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(120 + DRAIN_SECONDS + max(PARTITIONS, 1) * 16 * (PARTED[1] + BACK_SECONDS))
def test_every_promise_is_kept_by_brokers_on_parted_networks(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    chance = Random(seed())
    with ExitStack() as running:
        store = running.enter_context(STORES[kind]())
        remotes = [
            running.enter_context(remote(store, tmp_path / name)) for name in "ab"[: store.brokers]
        ]
        addresses = [each.broker.address for each in remotes]
        load = running.enter_context(Load(addresses, tmp_path, seed=seed(), habits=HABITS))
        bad_times = [
            (each, cable, way)
            for each in remotes
            for cable in (each.to_store, each.to_clients)
            for way in (*Traffic, None)
        ]
        count = len(bad_times) * PARTITIONS or SOME
        bad_times = chance.sample(bad_times * max(PARTITIONS, 1), count)
        slowest = 0.0
        for each, cable, way in bad_times:
            parted(cable, chance.uniform(*PARTED), way)
            slowest = max(slowest, seconds_until_well(each.broker))
            load.wait_for_acknowledged(1, BACK_SECONDS)
        load.stop_producing()
        # A push whose outcome nobody knows may come now, and is to be worked off like the others.
        for each in remotes:
            wait_until(partial(_nothing_under_way, each.machine), "what was lost is sent again")
        verdict = load.finish(DRAIN_SECONDS, store.assumptions)
    figures.prove(
        f"parted networks, {kind}",
        verdict,
        partitions=len(bad_times),
        slowest_return_seconds=round(slowest, 1),
    )

"""P1 to P7, Stats: a Redis or Valkey that crashes, cuts connections, forgets scripts, is busy, is
full or refuses changes under two brokers at work; and one whose master is replaced.

`make faults` does each of it many times, a plain test run a few of them once and over one of
the two.
"""

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.faults.durable_stores import SYNCED, Store, busiest_master
from tests.faults.harness.figures import LOST_BY_A_FAILOVER, Figures, seed, size
from tests.faults.stressed import Fault, stressed
from tests.support.redis_faults import FAULTY, RedisFaults
from tests.support.servers.process import wait_until
from tests.support.servers.redis import Kind, RedisServer
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.servers.redis_sentinels import Sentinels
from tests.support.stores import with_options

#: How often each thing happens; 0: a few of them, once.
ROUNDS = size("STORE_FAULTS", 0)
#: How often the master of each is killed. (With a driver alone, and in a Cluster with brokers, that
#: is in every test run: tests/drivers/test_redis_failover.py and test_shared_stores.py.)
FAILOVERS = size("FAILOVERS", 0)
CLUSTER_MASTERS = 3
KINDS: list[Kind] = ["redis", "valkey"] if ROUNDS else ["valkey"]
#: Seconds that a call waits for the server.
PATIENCE = 2


def faults_of(store: RedisFaults) -> Mapping[str, Fault]:
    return {
        "kill -9": store.crash,
        "restart": store.restart,
        "all connections cut": store.cut_connections,
        "scripts forgotten": store.forget_scripts,
        "BUSY for a while": partial(store.run_long_script, PATIENCE / 2),
        "BUSY for longer than calls wait": partial(store.run_long_script, PATIENCE + 1.0),
        "memory full": partial(store.be_full, 0.5),
        "changes refused (NOREPLICAS)": partial(store.miss_replicas, 0.5),
        "changes refused (MISCONF)": partial(store.fail_to_save, 0.5),
        "standing still": partial(store.stand_still, PATIENCE + 1.0),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(180 + 60 * ROUNDS)
def test_every_promise_is_kept_whatever_happens_to_the_server(
    kind: Kind, tmp_path: Path, figures: Figures
) -> None:
    with RedisServer(kind, *SYNCED, *FAULTY) as server:
        store = RedisFaults(server, random.Random(seed()))
        with stressed(with_options(server.url, f"timeout={PATIENCE}"), tmp_path) as stress:
            stress.suffer(faults_of(store), ROUNDS)
            verdict = stress.load.finish(assumptions=Store(server.url).shared)
    figures.prove(f"faults of {kind}", verdict, faults=dict(stress.made), connections_cut=store.cut)


class Failover:
    """A master with replicas, behind Sentinel or in a Cluster."""

    def __init__(self, servers: Sentinels | RedisCluster) -> None:
        self._servers = servers

    def __call__(self) -> None:
        """The master is killed, a replica takes its place, and it comes back as a replica."""
        servers = self._servers
        before = self._master()
        before.kill()
        wait_until(lambda: self._replaced(before), "a replica becomes the master", 60)
        before.start()
        servers.wait_ok(60)
        if isinstance(servers, RedisCluster):
            servers.wait_replicas(60)

    def _master(self) -> RedisServer:
        if isinstance(self._servers, Sentinels):
            return self._servers.master()
        return busiest_master(self._servers)

    def _replaced(self, before: RedisServer) -> bool:
        if isinstance(self._servers, Sentinels):
            return self._servers.master() is not before
        masters = self._servers.masters()
        return len(masters) == CLUSTER_MASTERS and before not in masters


@pytest.mark.skipif(not FAILOVERS, reason="takes long: `make faults` does it")
@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
@pytest.mark.timeout(180 + 60 * FAILOVERS)
def test_a_failover_loses_nothing_with_wait_replicas_and_else_what_redis_loses(
    topology: str, waiting: bool, tmp_path: Path, figures: Figures
) -> None:
    servers: Sentinels | RedisCluster = (
        Sentinels("redis", "appendonly yes")
        if topology == "sentinel"
        else RedisCluster("redis", "appendonly yes", masters=CLUSTER_MASTERS)
    )
    with servers:
        url = with_options(servers.url, *(["wait_replicas=1"] if waiting else []))
        with stressed(url, tmp_path) as stress:
            stress.suffer({"failover": Failover(servers)}, FAILOVERS)
            verdict = stress.load.finish(assumptions=Store(url).shared)
    what = f"failover, {topology}, {'wait_replicas=1' if waiting else 'asynchronous'}"
    if waiting:
        figures.prove(what, verdict, failovers=FAILOVERS)
        return
    # What the master had answered and not yet sent to its replica is gone: pushes, leases, acks.
    figures.bear(what, verdict, LOST_BY_A_FAILOVER * FAILOVERS, failovers=FAILOVERS)

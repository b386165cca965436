"""A cluster of Redis or Valkey servers."""

from contextlib import ExitStack
from typing import Any, Self

from tests.support.servers.process import HOST, wait_until
from tests.support.servers.redis import Kind, RedisServer

SLOTS = 16384
#: How long a node may be silent until the others think it failed, in milliseconds: short, but not
#: so short that a busy machine makes masters out of replicas.
NODE_TIMEOUT = 2000


class RedisCluster:
    """``masters`` share the slots, and each has so many ``replicas``. ``options`` are lines of the
    configuration of every node.

    ``nodes`` has the first masters, then their replicas; after a failover others are masters:
    see :meth:`masters`.
    """

    def __init__(
        self, kind: Kind = "redis", *options: str, masters: int = 3, replicas: int = 1
    ) -> None:
        self._masters = masters
        self._replicas = replicas
        self._options = (
            "cluster-enabled yes",
            f"cluster-node-timeout {NODE_TIMEOUT}",
            "cluster-replica-validity-factor 0",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            # Valkey shows a replica to clients only when it has been sent something.
            "repl-ping-replica-period 1",
            *options,
        )
        self._kind: Kind = kind
        self.nodes: list[RedisServer] = []
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as running:
            for _ in range(self._masters * (1 + self._replicas)):
                node = RedisServer(self._kind, *self._options)
                running.callback(node.__exit__)
                node.launch()
                self.nodes.append(node)
            for node in self.nodes:
                node.wait_ready()
            self._join()
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(self.addresses)}"

    def masters(self) -> list[RedisServer]:
        """The nodes that run and are masters now, with slots."""
        return [node for node in self.nodes if node.running and self._is_master(node)]

    def master_of(self, key: str) -> RedisServer:
        """The master that holds a key, as a node that runs sees it."""
        witness = next(node for node in self.nodes if node.running)
        slot = int(witness.execute("CLUSTER", "KEYSLOT", key))
        for first, last, master, *_ in _slots(witness):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == int(master[1]))
        raise AssertionError(f"no master holds slot {slot}")

    def wait_ok(self, seconds: float = 30.0) -> None:
        """Until all nodes that run agree who serves the slots, which run too."""
        wait_until(self._is_ok, "cluster_state:ok", seconds)

    def wait_replicas(self, seconds: float = 30.0) -> None:
        """Until every replica that runs follows its master and has all that it had."""
        wait_until(self._replicas_follow, "the replicas follow their masters", seconds)

    def flush(self) -> None:
        """Removes every key."""
        for node in self.masters():
            node.execute("FLUSHALL")

    # --- making it one ---

    def _join(self) -> None:
        masters = self.nodes[: self._masters]
        for number, node in enumerate(masters):
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first, end = (SLOTS * at // len(masters) for at in (number, number + 1))
            node.execute("CLUSTER", "ADDSLOTS", *range(first, end))
        for node in self.nodes[1:]:
            self.nodes[0].execute("CLUSTER", "MEET", HOST, node.port)
        wait_until(self._all_know_all, "every node knows every other")
        for number, replica in enumerate(self.nodes[self._masters :]):
            master = masters[number % len(masters)]
            replica.execute("CLUSTER", "REPLICATE", master.execute("CLUSTER", "MYID"))
        self.wait_replicas()
        wait_until(self._all_know_the_replicas, "every node knows the replicas")
        self.wait_ok()

    def _all_know_all(self) -> bool:
        return all(
            _cluster_info(node)["cluster_known_nodes"] == str(len(self.nodes))
            and "handshake" not in str(node.execute("CLUSTER", "NODES"))
            for node in self.nodes
        )

    def _all_know_the_replicas(self) -> bool:
        """They are in what clients ask for to find their way."""
        return all(
            len(servers) == self._replicas
            for node in self.nodes
            for _, _, _, *servers in _slots(node)
        )

    def _replicas_follow(self) -> bool:
        for node in self.nodes:
            if not node.running:
                continue
            replication = node.info("replication")
            up = replication.get("master_link_status") == "up"
            if replication["role"] == "slave" and not up:
                return False
            if replication["role"] == "master" and not self._is_master(node):
                return False
        return True

    def _is_master(self, node: RedisServer) -> bool:
        return any(int(master[1]) == node.port for _, _, master, *_ in _slots(node))

    def _is_ok(self) -> bool:
        running = [node for node in self.nodes if node.running]
        for node in running:
            info = _cluster_info(node)
            if info["cluster_state"] != "ok" or info["cluster_slots_ok"] != str(SLOTS):
                return False
        # One that comes back believes for a moment that it is still what it was.
        views = {
            tuple(sorted((first, last, int(master[1])) for first, last, master, *_ in _slots(node)))
            for node in running
        }
        ports = {node.port for node in running}
        return len(views) == 1 and all(port in ports for _, _, port in views.pop())


def _slots(node: RedisServer) -> list[Any]:
    """Ranges of slots: first, last, its master, its replicas (each an address, port, id ...)."""
    raw = node.raw("CLUSTER", "SLOTS")
    assert isinstance(raw, list)
    return raw


def _cluster_info(node: RedisServer) -> dict[str, str]:
    raw = node.raw("CLUSTER", "INFO")
    lines = str(raw).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)

"""A master with a replica, watched by three sentinels."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

import redis

from tests.support.servers.process import HOST, wait_until
from tests.support.servers.redis import Kind, RedisServer

#: How long the master may be silent until a sentinel thinks it is down, in milliseconds.
DOWN_AFTER = 1000
#: In milliseconds: a failover that did not succeed is tried again after twice this.
FAILOVER_TIMEOUT = 3000


class _Sentinel(RedisServer):
    def __init__(self, kind: Kind, service: str, master: RedisServer, quorum: int) -> None:
        super().__init__(kind)
        self._lines = [
            f"sentinel monitor {service} {HOST} {master.port} {quorum}",
            f"sentinel down-after-milliseconds {service} {DOWN_AFTER}",
            f"sentinel failover-timeout {service} {FAILOVER_TIMEOUT}",
            f"sentinel parallel-syncs {service} 1",
        ]

    def _command(self) -> list[str]:
        return [*super()._command(), "--sentinel"]

    def _configuration(self) -> Path:
        """It rewrites the file with what it has learnt, which counts when it starts again."""
        path = self.folder / "server.conf"
        if not self._started_before:
            lines = [f"bind {HOST}", f"port {self.port}", f"dir {self.folder}", *self._lines]
            path.write_text("\n".join(lines) + "\n")
        return path


class Sentinels:
    """``options`` are lines of the configuration of master and replica.

    ``nodes`` are the first master and the first replica: see :meth:`master` for who it is now.
    """

    service = "towline"

    def __init__(self, kind: Kind = "redis", *options: str) -> None:
        self._kind: Kind = kind
        self._options = ("repl-diskless-sync yes", "repl-diskless-sync-delay 0", *options)
        self.nodes: list[RedisServer] = []
        self.sentinels: list[RedisServer] = []
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as running:
            master = running.enter_context(RedisServer(self._kind, *self._options))
            follow = f"replicaof {HOST} {master.port}"
            replica = running.enter_context(RedisServer(self._kind, *self._options, follow))
            self.nodes = [master, replica]
            for _ in range(3):
                sentinel = _Sentinel(self._kind, self.service, master, quorum=2)
                self.sentinels.append(running.enter_context(sentinel))
            self._running = running
            self.wait_ok()
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def addresses(self) -> list[str]:
        return [sentinel.address for sentinel in self.sentinels]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(self.addresses)}/{self.service}"

    def master(self) -> RedisServer:
        """Whom the sentinels name now."""
        witness = next(sentinel for sentinel in self.sentinels if sentinel.running)
        port = self._named_by(witness)
        return next(node for node in self.nodes if node.port == port)

    def wait_ok(self, seconds: float = 30.0) -> None:
        """Until the sentinels know of each other and agree on a master that runs and says it is
        one; and, if the other one runs, it follows."""
        wait_until(self._is_ok, "the sentinels agree on a master", seconds)

    def flush(self) -> None:
        """Removes every key."""
        self.master().execute("FLUSHALL")

    def _named_by(self, sentinel: RedisServer) -> int:
        found = sentinel.raw("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        assert isinstance(found, list)
        return int(found[1])

    def _is_ok(self) -> bool:
        sentinels = [sentinel for sentinel in self.sentinels if sentinel.running]
        named = {self._named_by(sentinel) for sentinel in sentinels}
        master = next((node for node in self.nodes if named == {node.port}), None)
        if master is None or not master.running:
            return False
        try:
            if master.info("replication")["role"] != "master":
                return False
            others = [node for node in self.nodes if node is not master and node.running]
            if any(node.info("replication").get("master_link_status") != "up" for node in others):
                return False
        except redis.RedisError:
            return False
        return all(self._knows_all(sentinel, len(others)) for sentinel in sentinels)

    def _knows_all(self, sentinel: RedisServer, replicas: int) -> bool:
        flat = sentinel.raw("SENTINEL", "MASTER", self.service)
        assert isinstance(flat, list)
        known = dict(zip(flat[::2], flat[1::2], strict=True))
        return int(known["num-other-sentinels"]) == 2 and int(known["num-slaves"]) >= replicas

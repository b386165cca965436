"""One Redis or Valkey server."""

from pathlib import Path
from typing import Any, Literal, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.servers.binaries import require_server
from tests.support.servers.process import HOST, ServerProcess

Kind: TypeAlias = Literal["redis", "valkey"]


class RedisServer(ServerProcess):
    """``options`` are lines of its configuration, as in ``"appendonly yes"``; the last line of a
    name counts. Unless told otherwise it keeps nothing on the disk and refuses when full."""

    def __init__(self, kind: Kind = "redis", *options: str) -> None:
        self.kind: Kind = kind
        self.name = kind
        self._program = require_server(kind)
        super().__init__()
        self._options = options

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def execute(self, *command: str | int) -> Any:
        """The answer to one command as the client shapes it; text is decoded."""
        with self._client() as client:
            return client.execute_command(*command)

    def raw(self, *command: str | int) -> Any:
        """The answer as it came by protocol 2, but for text, which is decoded."""
        with self._client(protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def flush(self) -> None:
        """Removes every key."""
        self.execute("FLUSHALL")

    def info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self.execute("INFO", section)
        return found

    def _client(self, protocol: int | None = None) -> redis.Redis:
        return redis.Redis(
            host=HOST,
            port=self.port,
            socket_timeout=5.0,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            protocol=protocol,
        )

    def _command(self) -> list[str]:
        return [str(self._program), str(self._configuration())]

    def _configuration(self) -> Path:
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f"dir {self.folder}",
            "daemonize no",
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
            *self._options,
        ]
        path = self.folder / "server.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _answers(self) -> bool:
        try:
            # Another server may have been faster in taking the port.
            return bool(self.info("server")["process_id"] == self.pid)
        except redis.RedisError:
            return False

"""NATS with JetStream, from a wheel in the virtual environment of the peers."""

import socket
from pathlib import Path

from bench.servers.debian import Missing
from tests.support.servers.process import ServerProcess

PROGRAM = Path(".venv-peers") / "bin" / "nats-server"


class NatsServer(ServerProcess):
    name = "nats"

    def __init__(self, sync: str) -> None:
        """``sync``: ``always``, or how often, such as ``2m``. Raises Missing."""
        if not PROGRAM.exists():
            raise Missing(f"no {PROGRAM}: `make bench-peers` brings it")
        self._sync = sync
        super().__init__()

    def _command(self) -> list[str]:
        settings = self.folder / "nats.conf"
        settings.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.folder}/store", sync_interval: {self._sync} }}\n'
        )
        return [str(PROGRAM.absolute()), "-c", str(settings)]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

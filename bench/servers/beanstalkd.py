"""beanstalkd with its journal: ``-f0`` syncs each write, ``-f50`` every 50 ms."""

import socket

from bench.servers.debian import unpacked
from tests.support.servers.process import ServerProcess


class BeanstalkdServer(ServerProcess):
    name = "beanstalkd"

    def __init__(self, sync: str) -> None:
        """Raises Missing."""
        self._program = unpacked("beanstalkd") / "usr" / "bin" / "beanstalkd"
        self._sync = sync
        super().__init__()

    def _command(self) -> list[str]:
        journal = self.folder / "journal"
        journal.mkdir(exist_ok=True)
        address = ["-l", "127.0.0.1", "-p", str(self.port)]
        return [str(self._program), *address, "-b", str(journal), self._sync]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

"""beanstalkd: in memory, as it comes, or with a journal."""

import socket

from bench.servers.debian import unpacked
from tests.support.servers.process import ServerProcess


class BeanstalkdServer(ServerProcess):
    name = "beanstalkd"

    def __init__(self, sync: str | None) -> None:
        """``sync``: of its journal, ``-f0`` for each write, ``-f50`` for every 50 ms, which is what
        a journal does unless told otherwise; None: it has no journal. Raises Missing."""
        self._program = unpacked("beanstalkd") / "usr" / "bin" / "beanstalkd"
        self._sync = sync
        super().__init__()

    def _command(self) -> list[str]:
        command = [str(self._program), "-l", "127.0.0.1", "-p", str(self.port)]
        if self._sync is None:
            return command
        journal = self.folder / "journal"
        journal.mkdir(exist_ok=True)
        return [*command, "-b", str(journal), self._sync]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

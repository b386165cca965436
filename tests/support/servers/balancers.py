"""Load balancers before brokers, set up as the documentation shows it."""

import re
import socket
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.pages import blocks
from tests.support.servers.binaries import require_server
from tests.support.servers.process import HOST, ServerProcess


class Behind(NamedTuple):
    """A broker: the ports of its gRPC and its HTTP."""

    port: int
    http_port: int


class Balancer(ServerProcess):
    """``brokers``: two, in the places of the two that the example has."""

    def __init__(self, brokers: Sequence[Behind]) -> None:
        self._program = require_server(self.name)
        super().__init__()
        self._brokers = brokers

    @abstractmethod
    def _example(self) -> str:
        """As the documentation has it."""

    def _configuration(self) -> Path:
        text = self._example()
        for number, broker in enumerate(self._brokers, 1):
            text = text.replace(f"10.0.0.1{number}:7480", f"{HOST}:{broker.port}")
            text = text.replace(f"10.0.0.1{number} port 7481", f"{HOST} port {broker.http_port}")
        text, listens = re.subn(r"(listen|bind) \S*?7480\b", rf"\1 {self.address}", text)
        assert listens == 1
        assert "10.0.0." not in text
        path = self.folder / "server.conf"
        path.write_text(text)
        return path

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


class HAProxy(Balancer):
    """Passes on connections, and asks brokers whether they take work."""

    name = "haproxy"

    def _command(self) -> list[str]:
        return [str(self._program), "-db", "-f", str(self._configuration())]

    def _example(self) -> str:
        return example("haproxy")


class Nginx(Balancer):
    """Passes on connections."""

    name = "nginx"

    def _command(self) -> list[str]:
        # Those of a wheel come without that bit.
        self._program.chmod(0o755)
        configuration = str(self._configuration())
        return [str(self._program), "-p", str(self.folder), "-e", "stderr", "-c", configuration]

    def _configuration(self) -> Path:
        path = super()._configuration()
        # One process: the worker of a master that is killed goes on.
        head = "daemon off; master_process off; pid nginx.pid; error_log stderr;\n"
        path.write_text(head + path.read_text())
        return path

    def _example(self) -> str:
        return example("nginx")


class NginxForCalls(Nginx):
    """Passes on calls, each to any broker."""

    def _configuration(self) -> Path:
        path = super()._configuration()
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
            (self.folder / kind).mkdir(exist_ok=True)
        temporary = " ".join(
            f"{kind}_temp_path {kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = path.read_text().replace("http {", f"http {{ access_log off; {temporary}", 1)
        path.write_text(text)
        return path

    def _example(self) -> str:
        return example("nginx", 1)


def example(language: str, number: int = 0) -> str:
    """A block of the documentation."""
    return blocks("docs/operations.md", language)[number]

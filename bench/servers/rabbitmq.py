"""RabbitMQ on Erlang, both from where Debian's packages were unpacked."""

import os
import shutil
import subprocess
from pathlib import Path

from bench.servers.debian import unpacked
from tests.support.servers.ports import free_port
from tests.support.servers.process import ServerProcess

#: Debian's script says where Erlang is installed; ours, where it is.
_ERL = """#!/bin/sh
ROOTDIR={root} BINDIR={bin} EMU=beam PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec {bin}/erlexec "$@"
"""


class RabbitServer(ServerProcess):
    name = "rabbitmq"

    def __init__(self) -> None:
        """Raises Missing."""
        system = unpacked("rabbitmq")
        self._erlang = system / "usr" / "lib" / "erlang"
        (self._erts,) = self._erlang.glob("erts-*/bin")
        (self._rabbit,) = (system / "usr" / "lib" / "rabbitmq" / "lib").glob("rabbitmq_server-*")
        self._names: subprocess.Popen[bytes] | None = None
        super().__init__()

    def launch(self) -> None:
        """With the service by which processes of Erlang find each other, which would otherwise stay
        behind as a daemon."""
        erl = self.folder / "erl"
        erl.write_text(_ERL.format(root=self._erlang, bin=self._erts))
        erl.chmod(0o755)
        names, distribution = free_port(), free_port()
        self._end_names()
        self._names = subprocess.Popen(
            [self._erts / "epmd", "-port", str(names)],
            env={**os.environ, "ERL_EPMD_ADDRESS": "127.0.0.1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        settings = self.folder / "rabbitmq.conf"
        settings.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        self.environment = {
            "PATH": f"{self.folder}:{self._erts}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_CONFIG_FILE": str(settings),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
        }
        super().launch()

    def __exit__(self, *reason: object) -> None:
        if self.running:
            self.stop()
        self._end_names()
        super().__exit__(*reason)

    def _command(self) -> list[str]:
        shell = shutil.which("sh") or "/bin/sh"
        return [shell, str(Path(self._rabbit) / "sbin" / "rabbitmq-server")]

    def _answers(self) -> bool:
        return "Server startup complete" in self.log

    def _end_names(self) -> None:
        if self._names is not None:
            self._names.terminate()
            self._names.wait()
            self._names = None

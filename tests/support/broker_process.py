"""A real broker in a process of its own, over a store that outlives it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]

COMMAND = (sys.executable, "-c", "from towline_broker.cli import main; main()")
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class BrokerProcess:
    """``towline-broker serve`` over a store, on a free port of loopback unless told otherwise.

    As a context manager it is started, and killed at the end if it still runs. After :meth:`stop`
    or :meth:`kill`, :meth:`start` runs it again on the same store and the same port.

    ``folder`` is where it works and where its output goes; unless given, one is made and removed at
    the end of the context. ``run_by``: a command that runs another one in its own place, as
    ``ip netns exec`` does. ``command``: the broker's command, if it is not that of this checkout.
    """

    def __init__(
        self,
        store: str,
        *options: str,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        address: str = "127.0.0.1:0",
        run_by: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.store = store
        self.folder = folder or Path(tempfile.mkdtemp(prefix="towline-broker-"))
        self.address = address
        self._options = options
        self._environment = environment or {}
        self._command = (*run_by, *command)
        self._own_folder = folder is None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        if self._own_folder:
            shutil.rmtree(self.folder)

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def members(self) -> set[int]:
        """The ids of the broker processes that it has started, if it was told to have several."""
        return {child.pid for child in psutil.Process(self.pid).children()}

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._started.poll()

    @property
    def output(self) -> str:
        """All that it has said on standard output."""
        return (self.folder / "broker.out").read_text()

    @property
    def log(self) -> str:
        """All that it has said on standard error."""
        return (self.folder / "broker.err").read_text()

    def start(self) -> Self:
        """Returns once it serves."""
        ready = self.folder / "broker.address"
        ready.unlink(missing_ok=True)
        where = ["--store", self.store, "--listen", self.address, "--ready-file", str(ready)]
        arguments = [*where, *self._options]
        self._process = start_command(arguments, self.folder, self._environment, self._command)
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            assert self._process.poll() is None, f"the broker ended:\n{self.log}"
            assert time.monotonic() < deadline, f"the broker does not serve:\n{self.log}"
            time.sleep(0.01)
        self.address = ready.read_text().strip()
        return self

    def send_signal(self, number: int) -> None:
        self._started.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code, once it has ended; of a process that a signal killed, minus its number."""
        return self._started.wait(seconds)

    def stop(self) -> int:
        """Asks it to drain and to end; returns the exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """As a crash does it."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    @property
    def _started(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "the broker was not started"
        return self._process


def failed_start(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """The exit code of a broker that should not start, and what it said."""
    process = start_command(arguments, folder, environment)
    try:
        code = process.wait(START_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert (folder / "broker.out").read_text() == ""
    return code, (folder / "broker.err").read_text()


def start_command(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
) -> "subprocess.Popen[bytes]":
    """``towline-broker serve`` with these arguments; its words go to broker.out and broker.err in
    ``folder``, after those that are there. Of our environment it sees no variable of Towline's.

    It serves no HTTP unless told to: its default address is for one broker of a machine."""
    inherited = {name: value for name, value in os.environ.items() if name[:8] != "TOWLINE_"}
    inherited["TOWLINE_HTTP__LISTEN"] = "off"
    with (folder / "broker.out").open("ab") as out, (folder / "broker.err").open("ab") as err:
        return subprocess.Popen(
            [*command, "serve", *arguments],
            cwd=folder,
            env=inherited | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )

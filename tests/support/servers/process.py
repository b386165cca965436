"""A server in a process of its own, in a temporary folder and on a free port of loopback."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]

from tests.support.servers.ports import free_port

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
#: How often a server is started on yet another port because its own was taken meanwhile.
_PORTS_TRIED = 5

#: Ends the server and removes its folder if the process of the tests ends without doing so: that
#: closes the pipe which this reads from.
_GUARD = """read -r _; kill -"$1" "$2" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$2" 2>/dev/null || break; sleep 0.2; done
kill -KILL "$2" 2>/dev/null; rm -rf -- "$3" """


#: Gives up all rights but those of an account, and becomes another program.
_BECOME = """import os, sys
user, group, *command = sys.argv[1:]
os.setgroups([]); os.setgid(int(group)); os.setuid(int(user)); os.execv(command[0], command)"""


def as_account(command: Sequence[str], user: int | None, group: int | None) -> list[str]:
    """The command that runs another one under an account; None: under ours.

    (Told to do so itself, `subprocess` makes the new process by fork() rather than vfork(), and
    handlers of gRPC, which that calls, crash it now and then if channels are in use here.)
    """
    if user is None:
        return list(command)
    return [sys.executable, "-IS", "-c", _BECOME, str(user), str(group), *command]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Returns once the condition holds; fails, naming ``what``, after so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def text_of(path: Path) -> str:
    """What a server has written there; nothing if the file is not there, or no longer: a server
    that starts takes away what one that was killed has left."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def gone(pid: int) -> bool:
    """No such process runs any more (its parent may not have asked for its end yet)."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def suspend(pids: Iterable[int]) -> None:
    """Returns once they stand still, with all threads; those that are gone are passed over."""
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.suspend()
            wait_until(lambda: stands_still(pid), f"process {pid} stands still")  # noqa: B023 -- at once


def stands_still(pid: int) -> bool:
    try:
        threads = Path(f"/proc/{pid}/task").glob("*/stat")
        states = [stat.read_text().rpartition(")")[2].split()[0] for stat in threads]
    except OSError:  # one of them has just ended
        return False
    return all(state in "TZ" for state in states)


class ServerProcess(ABC):
    """A server that runs while the context lasts; its folder and data go at the end.

    After :meth:`stop` or :meth:`kill`, :meth:`start` runs it again on the same data and port.
    """

    #: What it is called in messages.
    name: str
    #: Ends it in good order, as fast as that goes.
    stop_signal = signal.SIGTERM
    #: The account it runs under: of whoever runs the tests, unless told otherwise.
    user: int | None = None
    group: int | None = None
    #: Variables that it gets besides ours, from its next start on.
    environment: Mapping[str, str] = {}

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"towline-{self.name}-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._started_before = False

    # --- what a kind of server adds ---

    @abstractmethod
    def _command(self) -> list[str]:
        """The command line that runs it in the foreground, on ``port``; called at each start."""

    @abstractmethod
    def _answers(self) -> bool:
        """It takes calls."""

    # ---

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.kill()
        self._forget()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All that it has said."""
        return text_of(self.folder / "server.log")

    def start(self) -> Self:
        """Returns once it takes calls."""
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        """Starts it without waiting for it: several may start at the same time."""
        assert not self.running, f"{self.name} runs already"
        self._forget()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                as_account(self._command(), self.user, self.group),
                cwd=self.folder,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests, which then stop their servers.
                start_new_session=True,
            )
        self._guard = self._watch(self._process.pid)

    def wait_ready(self) -> None:
        """Of one that was launched: until it takes calls."""
        deadline = time.monotonic() + START_SECONDS
        ports = 1
        while not self._answers():
            assert time.monotonic() < deadline, f"{self.name} does not answer:\n{self.log}"
            if not self.running:
                assert self._port_was_taken(ports), self._end_told()
                ports += 1
                self.port = free_port()
                (self.folder / "server.log").unlink()
                self.launch()
            time.sleep(0.01)
        self._started_before = True

    def stop(self) -> None:
        """In good order."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """As a crash does it."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It stands still, as a host does that hangs: connections stay, nothing is answered."""
        assert self._process is not None
        suspend([self._process.pid])

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _port_was_taken(self, tried: int) -> bool:
        """By somebody else, before it was started for the first time."""
        if self._started_before or tried == _PORTS_TRIED:
            return False
        return "address already in use" in self.log.lower()

    def _end_told(self) -> str:
        assert self._process is not None
        return f"{self.name} ended, exit code {self._process.returncode}:\n{self.log}"

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} was not started"
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._forget()

    def _forget(self) -> None:
        """The process is gone: its number may soon be another's."""
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.communicate()

    def _watch(self, pid: int) -> "subprocess.Popen[bytes]":
        arguments = [str(int(self.stop_signal)), str(pid), str(self.folder)]
        return subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

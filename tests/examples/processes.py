"""The programs of an example, as its readers start them, each in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 30.0
"""Seconds for whatever is waited for."""


def copy_of(example: str, folder: Path) -> Path:
    """Copies an example away from here, where it has to work by itself; returns the folder that
    is to be worked in: for a package the one that it lies in."""
    target = folder / example
    shutil.copytree(EXAMPLES / example, target, ignore=shutil.ignore_patterns("__pycache__"))
    return folder if (target / "__init__.py").exists() else target


def environment(**variables: str) -> dict[str, str]:
    """Ours without any setting of Towline's, and with these."""
    inherited = {name: value for name, value in os.environ.items() if name[:8] != "TOWLINE_"}
    return {**inherited, "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1", **variables}


def run(*arguments: str, folder: Path, **variables: str) -> str:
    """Runs ``python -m ...`` (or ``python file.py ...``) to its end; returns what it printed."""
    done = subprocess.run(
        _python(arguments),
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_its_tests(folder: Path) -> None:
    """The tests that come with an example, in a run of pytest that knows nothing of ours."""
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:asyncio")
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    assert " passed" in run("pytest", *options, ".", folder=folder)


class Program:
    """A process whose output goes to a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def kill(self) -> None:
        """As a crash does it."""
        self._process.kill()
        self._process.wait()

    def wait_until_it_is_killed(self) -> None:
        assert self._process.wait(PATIENCE) == -signal.SIGKILL, self.output

    def stop(self) -> None:
        """By SIGTERM, after which it has to end well."""
        self._process.terminate()
        code = self._process.wait(PATIENCE)
        assert code in (0, -signal.SIGTERM), f"exit code {code}\n{self.output}"
        assert "Traceback" not in self.output, self.output

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Returns once ``condition`` answers something true; fails when the process has ended."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self._process.poll() is None, f"it has ended, not: {what}\n{self.output}"
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.output}"
            time.sleep(0.02)


@contextmanager
def program(*arguments: str, folder: Path, log: Path, **variables: str) -> Iterator[Program]:
    """Starts ``python -m ...`` (or ``python file.py ...``). It has to end by SIGTERM, unless the
    test has killed it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            _python(arguments),
            cwd=folder,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    started = Program(process, log)
    try:
        yield started
        if process.poll() is None:
            started.stop()
    finally:
        started.kill()


def _python(arguments: tuple[str, ...]) -> list[str]:
    is_file = arguments[0].endswith(".py")
    return [sys.executable, *arguments] if is_file else [sys.executable, "-m", *arguments]


def answers(url: str) -> bool:
    """Whether a web server is there, whatever it says."""
    try:
        httpx.get(url, timeout=PATIENCE)
    except httpx.TransportError:
        return False
    return True

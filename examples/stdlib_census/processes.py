"""The processes of the demo: a broker, and workers as anyone would start them."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
COMMANDS = Path(sys.executable).parent
START_TIMEOUT = 30.0


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """Run a broker on a new SQLite store in the folder; yields its address."""
    log, ready = folder / "broker.log", folder / "broker.address"
    store = f"sqlite:///{folder / 'census.db'}"
    options = ["--store", store, "--listen", "127.0.0.1:0", "--ready-file", str(ready)]
    with running([str(COMMANDS / "towline-broker"), "serve", *options], log) as process:
        deadline = time.monotonic() + START_TIMEOUT
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield ready.read_text().strip()


def worker(address: str) -> list[str]:
    """Return the command that runs the jobs of census.py.

    The lease is short so that the jobs of a killed worker come back quickly.
    """
    command = str(COMMANDS / "towline")
    return [command, "worker", "census", "--url", address, "--concurrency", "2", "--lease", "2s"]


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command with its output in a file; stop it in the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=HERE, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

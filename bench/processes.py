"""Server processes for measuring: on a free port, known to be ready, stopped by their id."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def broker(store: str) -> Iterator[str]:
    """A broker process of its own; yields its address."""
    with broker_process(store) as (address, _):
        yield address


@contextmanager
def broker_process(store: str) -> Iterator[tuple[str, int]]:
    """Yields its address and the process's id."""
    serve = "from towline_broker.cli import main; main()"
    command = [
        *(sys.executable, "-c", serve, "serve"),
        *("--store", store, "--listen", "127.0.0.1:0", "--log-level", "error"),
    ]
    with server_process(command) as found:
        yield found


@contextmanager
def echo(batch: int, payload: int) -> Iterator[str]:
    """A process that answers the same calls with ready-made answers; yields its address."""
    with echo_process(batch, payload) as (address, _):
        yield address


@contextmanager
def echo_process(batch: int, payload: int) -> Iterator[tuple[str, int]]:
    """Yields its address and the process's id."""
    with server_process([sys.executable, "-m", "bench.echo", str(batch), str(payload)]) as found:
        yield found


@contextmanager
def fresh_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as folder:
        yield Path(folder)


@contextmanager
def server_process(command: list[str]) -> Iterator[tuple[str, int]]:
    """Of what writes its address to a ``--ready-file``; yields the address and the process's id."""
    with fresh_folder() as folder:
        ready = folder / "ready"
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready)],
            stdout=subprocess.DEVNULL,
        )
        try:
            yield _address(ready, process), process.pid
        finally:
            process.terminate()
            process.wait(timeout=60)


def _address(ready: Path, process: "subprocess.Popen[bytes]") -> str:
    while not (ready.exists() and (text := ready.read_text().strip())):
        try:
            code = process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"the server ended with exit code {code} before it was ready")
    return text

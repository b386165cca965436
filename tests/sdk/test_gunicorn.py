"""A client works on in the workers of gunicorn, also when the application was loaded before the
fork and has dispatched by then."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sdk.scripted_broker import ScriptedBroker

WORKERS = 3
PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def gunicorn(broker: ScriptedBroker, folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Yields the url and the process id of the master; it must end by SIGTERM in time."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "tests.sdk.gunicorn_app:application"),
        *("--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS), "--timeout", "20"),
        *("--worker-tmp-dir", str(folder), "--no-control-socket", *options),
    ]
    environment = {**os.environ, "TOWLINE_URL": broker.address}
    log = folder / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + PATIENCE
            while log.read_text().count("Booting worker") < WORKERS:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}/", process.pid
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, log.read_text()
            assert "Traceback" not in log.read_text()
            assert "SIGKILL" not in log.read_text(), "a worker hung and had to be killed"
        finally:
            process.kill()
            process.wait()


def ask(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        pid, job_id = response.read().decode().split()
    return int(pid), job_id


@pytest.mark.parametrize("options", [["--preload"], ["--preload", "--threads", "4"], []])
def test_every_worker_dispatches(
    options: list[str], broker: ScriptedBroker, tmp_path: Path
) -> None:
    with gunicorn(broker, tmp_path, *options) as (url, master):
        answers: list[tuple[int, str]] = []
        deadline = time.monotonic() + PATIENCE
        with ThreadPoolExecutor(12) as threads:
            while len({pid for pid, _ in answers}) < WORKERS:
                assert time.monotonic() < deadline, "no worker may be left out"
                answers += threads.map(ask, [url] * 24)
    assert {job_id for _, job_id in answers} <= set(broker.jobs)
    where = {info.job.id: json.loads(info.job.payload)["pid"] for info in broker.jobs.values()}
    assert all(where[job_id] == pid for pid, job_id in answers)
    loaded = [where[job] for job, info in broker.jobs.items() if info.job.type == "loaded"]
    if "--preload" in options:
        assert loaded == [master], "it had a channel when the workers were forked off"
    else:
        assert set(loaded) == {pid for pid, _ in answers}

"""Where processes cannot be forked, as on Windows, all works but what is made of forks."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import grpc.aio, logging, multiprocessing, os, signal
del os.fork, os.register_at_fork, signal.SIGCHLD, signal.pthread_sigmask

from towline import AsyncClient, Client, ConfigurationError, Worker, clients, testing

AsyncClient("127.0.0.1:1")
Client("127.0.0.1:1").close()
clients.default.close()
Worker("127.0.0.1:1")
try:
    Worker("127.0.0.1:1", pool="process").prepare()
except ConfigurationError as error:
    print(error)
"""


def test_clients_and_workers_need_no_fork(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "TOWLINE_URL": "127.0.0.1:1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'pool: "process": processes cannot be forked' in done.stdout

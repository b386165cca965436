"""A raw client as a process, as seen by who measures."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PEERS = Path(".venv-peers") / "bin" / "python"
#: Seconds for one answer: what is asked for takes a few.
PATIENCE = 120


class RawClient:
    def __init__(self, process: "subprocess.Popen[str]", kind: str) -> None:
        self._process = process
        self._kind = kind

    def ask(self, **request: Any) -> dict[str, Any]:
        """See ``client.py``. Raises RuntimeError if the process has ended, or does not answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answered, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not answered:
            self._process.kill()  # what it might say later would be taken for another answer
            asked = " ".join(f"{name}={value}" for name, value in request.items())
            raise RuntimeError(f"the client of {self._kind} is stuck: {asked}")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the client of {self._kind} has ended: what it said is above")
        told: dict[str, Any] = json.loads(answer)
        return told


@contextmanager
def raw_client(kind: str, address: str, setting: str) -> Iterator[RawClient]:
    """``kind``: the module ``on_KIND``. Ours runs in this Python, others in that of the peers."""
    python = sys.executable if kind in ("towline", "sdk") else str(PEERS)
    path = os.environ.get("PYTHONPATH")
    process = subprocess.Popen(
        [python, "-m", "bench.raw.client", kind, address, setting],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (".", path)))},
    )
    try:
        yield RawClient(process, kind)
    finally:
        process.kill()
        process.communicate()

"""Whether a worker is alive, and whether it takes jobs: for whoever looks after its process.

live   its threads run, heartbeats are being sent, the event loop comes round. A process that is
       not live does not recover by itself and should be replaced
ready  live, the broker answers, and neither stopping nor told to be quiet. An outage of the
       broker ends by itself: a process that is only not ready should be left alone
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from towline.errors import ConfigurationError
from towline.worker.heartbeat import Heartbeater
from towline.worker.leases import LeaseTable
from towline.worker.link import Link
from towline.worker.options import WorkerOptions
from towline.worker.pool import Pool

if TYPE_CHECKING:
    from towline.worker.health_server import HealthServer

logger = logging.getLogger("towline.worker")

SILENT_AFTER = 30.0
"""Seconds without a turn of the thread for heartbeats, or of the event loop, that are too long."""

FILE_INTERVAL = 5.0
"""Seconds between two writings of the file, unless there is news."""


@dataclass(frozen=True)
class Health:
    """``problems`` are words for people: why it is not live or not ready."""

    live: bool
    ready: bool
    problems: tuple[str, ...]
    worker_id: str
    running: int
    abandoned: int

    def to_json(self) -> bytes:
        fields = {
            "live": self.live,
            "ready": self.ready,
            "problems": list(self.problems),
            "worker_id": self.worker_id,
            "pid": os.getpid(),
            "running": self.running,
            "abandoned": self.abandoned,
        }
        return json.dumps(fields).encode() + b"\n"


@dataclass(frozen=True)
class Vitals:
    """What is looked at."""

    worker_id: str
    heartbeater: Heartbeater
    pool: Pool
    link: Link
    table: LeaseTable

    def health(self, waiting: Sequence[str]) -> Health:
        """``waiting``: why it takes no jobs, as far as its session knows."""
        silent, blocked = self.heartbeater.silent_for(), self.pool.blocked_for()
        dead = []
        if silent > SILENT_AFTER:
            dead.append(f"no heartbeat was sent for {silent:.0f} s")
        if blocked > SILENT_AFTER:
            dead.append(f"the event loop has been blocked for {blocked:.0f} s")
        trouble = self.link.trouble()
        problems = (*dead, *waiting, *([] if trouble is None else [trouble]))
        return Health(
            live=not dead,
            ready=not problems,
            problems=problems,
            worker_id=self.worker_id,
            running=len(self.table.running()),
            abandoned=self.table.abandoned,
        )


class HealthReports:
    """The file and the port, as far as they are wanted."""

    def __init__(self, options: WorkerOptions, ask: Callable[[], Health]) -> None:
        self._options = options
        self._ask = ask
        file = options.health_file
        self._file = None if file is None else HealthFile(Path(file), ask)
        self._server: HealthServer | None = None

    def start(self) -> None:
        """Raises ConfigurationError when the file cannot be written, or the port is taken."""
        if self._file is not None:
            self._file.start()
        if self._options.health_port is not None:
            from towline.worker.health_server import HealthServer  # http.server is large

            host, port = self._options.health_host, self._options.health_port
            self._server = HealthServer(host, port, self._ask)
            logger.info("health at http://%s:%d/livez and /readyz", host, self._server.port)

    @property
    def port(self) -> int | None:
        return None if self._server is None else self._server.port

    def refresh(self) -> None:
        if self._file is not None:
            self._file.refresh()

    def close(self) -> None:
        if self._file is not None:
            self._file.remove()
        if self._server is not None:
            self._server.close()


class HealthFile:
    """A file that is there and young as long as the worker is live; it says whether it is ready."""

    def __init__(self, path: Path, ask: Callable[[], Health]) -> None:
        self._path = path
        self._ask = ask
        self._written_at = -FILE_INTERVAL
        self._ready = False
        self._failed = False

    def start(self) -> None:
        """Raises ConfigurationError when it cannot be written."""
        try:
            self._write(self._ask())
        except OSError as error:
            raise ConfigurationError(
                f"health_file: {str(self._path)!r} cannot be written: {error.strerror}"
            ) from None

    def refresh(self) -> None:
        """Called every second or so."""
        health = self._ask()
        young = time.monotonic() - self._written_at < FILE_INTERVAL
        if young and health.live and health.ready == self._ready:
            return
        try:
            if health.live:
                self._write(health)
            else:
                self._path.unlink(missing_ok=True)
            self._failed = False
        except OSError as error:
            if not self._failed:  # told once
                logger.error("health_file cannot be written: %s", error.strerror)
            self._failed = True

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self, health: Health) -> None:
        """At once for whoever reads it: never half of it, and no moment without it."""
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        new.write_bytes(health.to_json())
        new.replace(self._path)
        self._ready = health.ready
        self._written_at = time.monotonic()

"""What a worker has done so far, counted as the broker records it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from towline.v1.queue_service_pb2 import Ack, Nack
from towline.worker import outcome


@dataclass(frozen=True)
class WorkerStats:
    """Leases of this worker by how they ended.

    processed  with success
    failed     to be retried, or dead
    released   given back, their attempt not counted
    lost       taken back, cancelled, or never told: their outcome was not recorded
    """

    processed: int = 0
    failed: int = 0
    released: int = 0
    lost: int = 0


class Stats:
    """The running counts. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processed = 0
        self._failed = 0
        self._released = 0
        self._lost = 0

    def recorded(self, settlements: Iterable[Ack | Nack]) -> None:
        with self._lock:
            for settlement in settlements:
                if isinstance(settlement, Ack):
                    self._processed += 1
                elif outcome.is_release(settlement):
                    self._released += 1
                else:
                    self._failed += 1

    def count_lost(self) -> None:
        with self._lock:
            self._lost += 1

    def add(self, others: WorkerStats) -> None:
        """Count what another process of this worker has done."""
        with self._lock:
            self._processed += others.processed
            self._failed += others.failed
            self._released += others.released
            self._lost += others.lost

    def snapshot(self) -> WorkerStats:
        with self._lock:
            return WorkerStats(self._processed, self._failed, self._released, self._lost)

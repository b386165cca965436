"""Workers that work for a fake broker, for the length of a `with` block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.sdk.fake_broker import PATIENCE, FakeBroker
from towline.registry import Registry
from towline.worker import Worker

POOLS = ["thread", "async"]
both_pools = pytest.mark.parametrize("pool", POOLS)


@dataclass
class Heard:
    """What the callbacks of a worker were told."""

    started: list[Any] = field(default_factory=list)
    completed: list[tuple[Any, Any]] = field(default_factory=list)
    job_errors: list[tuple[Any, BaseException, str]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_job_start": lambda job: self._hear(self.started, job),
            "on_job_complete": lambda job, result: self._hear(self.completed, (job, result)),
            "on_job_error": lambda *told: self._hear(self.job_errors, told),
            "on_error": lambda error: self._hear(self.errors, error),
        }

    def _hear(self, heard: list[Any], what: Any) -> None:
        with self.changed:
            heard.append(what)
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE), "it was not told in time"


@contextmanager
def fake_broker() -> Iterator[FakeBroker]:
    broker = FakeBroker()
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@contextmanager
def working(
    broker: FakeBroker, registry: Registry, heard: Heard | None = None, **options: Any
) -> Iterator[Worker]:
    """A worker in the background; whatever still runs at the end of the block is given up."""
    # A process for each of hundreds of workers would be felt, and no handler here holds the GIL.
    options = {"guardian": False, **options}
    if heard is not None:
        options = {**heard.callbacks(), **options}
    worker = Worker(broker.address, registry=registry, **options)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(0)


def happens(event: threading.Event) -> None:
    assert event.wait(PATIENCE), "it did not happen in time"

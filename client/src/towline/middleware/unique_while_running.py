"""One job of a kind at a time."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from towline.context import JobContext
from towline.control import Release
from towline.durations import Seconds, as_timedelta
from towline.errors import ConfigurationError, InvalidJob
from towline.middleware.selection import JobType, Key, Selection


class UniqueWhileRunning:
    """While a job runs, another one with the same key does not.

        UniqueWhileRunning(key=lambda job: job.account, types=[Import, Export])

    The other one is released, its attempt not counted, and comes back after ``retry_after``
    (seconds or a timedelta). ``key`` makes the key, None for a job that is to be left alone;
    without it each type runs one job at a time. ``types`` are the types that share these keys; by
    default all.

    It knows the jobs of this process only: neither other workers nor, in a process pool, other
    children. For one job at a time in a whole system see docs/middleware.md. Raises
    ConfigurationError.
    """

    def __init__(
        self,
        key: Key | None = None,
        *,
        retry_after: Seconds = 5,
        types: Iterable[JobType] | None = None,
    ) -> None:
        try:
            self._retry_after = as_timedelta(retry_after, "retry_after")
        except InvalidJob as error:
            raise ConfigurationError(str(error)) from None
        self._selection = Selection(types, key)
        self._lock = threading.Lock()
        self._running: set[Hashable] = set()

    def handle(self, job: Any, context: JobContext) -> Iterator[None]:
        key = self._selection.key_of(job, context)
        if key is None:
            yield
            return
        with self._lock:
            if key in self._running:
                raise Release(after=self._retry_after, reason="a job with the same key is running")
            self._running.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(key)

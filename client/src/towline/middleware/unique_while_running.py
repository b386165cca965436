"""One job of a kind at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from towline.context import JobContext
from towline.control import Release
from towline.durations import Seconds, as_timedelta
from towline.errors import ConfigurationError, InvalidJob
from towline.middleware.key_locks import KeyLocks
from towline.middleware.selection import JobType, Key, Selection


class UniqueWhileRunning:
    """While a job runs, another one with the same key does not.

        UniqueWhileRunning(key=lambda job: job.account, types=[Import, Export])

    The other one is released, its attempt not counted, and comes back after ``retry_after``
    (seconds or a timedelta). ``key`` makes the key, None for a job that is to be left alone;
    without it each type runs one job at a time. ``types`` are the types that share these keys; by
    default all.

    It knows the jobs of one worker, with all its children and processes, and not those of another
    one. For one job at a time in a whole system see docs/middleware.md. Raises ConfigurationError.
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
        self._locks = KeyLocks()

    def handle(self, job: Any, context: JobContext) -> Iterator[None]:
        key = self._selection.key_of(job, context)
        if key is None:
            yield
            return
        if not self._locks.take(key):
            raise Release(after=self._retry_after, reason="a job with the same key is running")
        try:
            yield
        finally:
            self._locks.give_back(key)

"""What a handler raises to say what becomes of its job. None of it is an error of Towline's."""

from __future__ import annotations

from typing import Any

from towline.durations import Seconds, as_timedelta
from towline.errors import as_it_is


class JobControl(Exception):
    """Root of what a handler raises to say what becomes of its job."""

    def __reduce__(self) -> tuple[Any, ...]:
        return as_it_is(self)


class Retry(JobControl):
    """Run the job again, as another attempt; it is dead when it has none left.

    ``after``: seconds or a timedelta, instead of the delay that the job's policy gives (None).
    """

    def __init__(self, after: Seconds | None = None, reason: str = "") -> None:
        super().__init__(reason or "the handler asked for a retry")
        self.after = None if after is None else as_timedelta(after, "Retry.after").total_seconds()


class Reject(JobControl):
    """To the dead-letter queue at once: no further attempt could succeed."""

    def __init__(self, reason: str = "the handler rejected the job") -> None:
        super().__init__(reason)


class Release(JobControl):
    """Give the job back as if it had not been leased: the attempt is not counted.

    ``after``: seconds or a timedelta for which it is not leased again (None: not at all).
    """

    def __init__(self, after: Seconds | None = None, reason: str = "") -> None:
        super().__init__(reason or "the handler released the job")
        self.after = None if after is None else as_timedelta(after, "Release.after").total_seconds()

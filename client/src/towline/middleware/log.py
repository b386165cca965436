"""One line for each dispatch and for each attempt, for programs to read."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from towline.middleware.interface import AttemptEnd, AttemptOutcome

if TYPE_CHECKING:
    from towline.middleware.outgoing import OutgoingJob
    from towline.requests import Pushed

_GOOD = (AttemptOutcome.SUCCEEDED, AttemptOutcome.RELEASED)


class Logging:
    """Logs to ``towline.jobs``, or another logger, as ``key=value`` and as fields of the record.

        pushed job_id=0199... type=SendEmail queue=emails outcome=created seconds=0.002
        handled job_id=0199... type=SendEmail queue=emails attempt=1 outcome=succeeded seconds=0.131

    A job with a display name has it as ``name``. A dispatch_batch is one line with ``jobs``, their
    number. What went wrong has ``error``, the name of the exception's class, and the level WARNING;
    all else has ``level``. No line holds a payload, a header, a result or the text of an exception.
    """

    def __init__(self, logger: logging.Logger | None = None, *, level: int = logging.INFO) -> None:
        self._logger = logging.getLogger("towline.jobs") if logger is None else logger
        self._level = level

    def push(self, jobs: Sequence[OutgoingJob]) -> Generator[None, list[Pushed], None]:
        began = time.monotonic()
        told = _about(jobs)
        try:
            pushed = yield
        except BaseException as error:
            told["error"] = type(error).__name__
            self._write(logging.WARNING, "pushed", told, time.monotonic() - began)
            raise
        if len(jobs) == 1:
            told["job_id"] = pushed[0].job_id
            told["outcome"] = "created" if pushed[0].created else "existing"
        self._write(self._level, "pushed", told, time.monotonic() - began)

    def ended(self, end: AttemptEnd) -> None:
        context = end.context
        told: dict[str, Any] = {
            "job_id": context.id,
            "job_type": context.type,
            "job_queue": context.queue,
            "job_attempt": context.attempt,
        }
        if context.display_name != context.type:
            told["job_display_name"] = context.display_name
        told["outcome"] = str(end.outcome)
        if end.error is not None:
            told["error"] = type(end.error).__name__
        level = self._level if end.outcome in _GOOD else logging.WARNING
        self._write(level, "handled", told, end.seconds)

    def _write(self, level: int, what: str, told: dict[str, Any], seconds: float) -> None:
        if not self._logger.isEnabledFor(level):
            return
        told["seconds"] = round(seconds, 6)
        fields = " ".join(f"{_SHORT.get(key, key)}={_text(value)}" for key, value in told.items())
        self._logger.log(level, "%s %s", what, fields, extra=told)


# As fields of a record they have the names that current_job().logger uses.
_SHORT = {
    "job_type": "type",
    "job_queue": "queue",
    "job_attempt": "attempt",
    "job_display_name": "name",
}


def _text(value: object) -> str:
    """A value that whoever splits the line at spaces gets back whole."""
    text = f"{value:.6f}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[\s\"=]", text) else text


def _about(jobs: Sequence[OutgoingJob]) -> dict[str, Any]:
    if len(jobs) == 1:
        return {"job_id": jobs[0].id, "job_type": jobs[0].type, "job_queue": jobs[0].queue}
    types = ",".join(sorted({job.type for job in jobs}))
    queues = ",".join(sorted({job.queue for job in jobs}))
    return {"jobs": len(jobs), "job_type": types, "job_queue": queues}

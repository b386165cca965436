"""A job on its way to the broker, as push() of a middleware sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from towline.options import check_options

if TYPE_CHECKING:
    from towline.v1 import job_pb2


class OutgoingJob:
    """What is about to be pushed. Its ``headers`` may be changed, all else is to be read."""

    def __init__(self, message: job_pb2.Job) -> None:
        self._message = message
        self.headers: dict[str, str] = dict(message.headers)

    def __repr__(self) -> str:
        return f"<OutgoingJob {self.id}: {self.type} to {self.queue}>"

    @property
    def id(self) -> str:
        return self._message.id

    @property
    def queue(self) -> str:
        return self._message.queue

    @property
    def type(self) -> str:
        return self._message.type

    @property
    def priority(self) -> int:
        return self._message.priority

    @property
    def delay(self) -> float | None:
        """Seconds for which it is not started, None if none were asked for."""
        message = self._message
        if message.HasField("delay"):
            return message.delay.ToTimedelta().total_seconds()
        return None

    @property
    def at(self) -> datetime | None:
        """The time before which it is not started, None if none was asked for."""
        message = self._message
        return message.run_at.ToDatetime(tzinfo=UTC) if message.HasField("run_at") else None

    @property
    def unique_key(self) -> str | None:
        return self._message.unique_key or None

    @property
    def content_type(self) -> str:
        return self._message.content_type

    @property
    def payload(self) -> bytes:
        return self._message.payload

    def write_headers(self) -> None:
        """Put the headers into the message. Raises InvalidJob for what cannot be sent."""
        headers = check_options({"headers": self.headers}, self.type)["headers"]
        if headers != self._message.headers:
            self._message.headers.clear()
            self._message.headers.update(headers)

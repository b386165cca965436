"""What was dispatched, as a test looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from towline.errors import InvalidPayload
from towline.registry import Registry
from towline.serializers import read, standard
from towline.status import read_time
from towline.v1 import job_pb2


@dataclass(frozen=True)
class Dispatched:
    """One job that the broker has stored.

    job    the typed job; None if no class or function of its type is imported here
    data   its arguments as JSON values; None if the payload is neither JSON nor MessagePack
    delay  how long after its dispatch it may start, also if that was given as a time (``at``)
    """

    id: str
    type: str
    queue: str
    job: Any
    data: Any
    delay: timedelta
    priority: int
    headers: Mapping[str, str]
    unique_key: str
    message: job_pb2.Job = field(repr=False)
    """The job of the contract, with its whole policy."""

    def __str__(self) -> str:
        what = repr(self.job) if self.job is not None else f"{self.type} {self.data!r}"
        where = f"in queue {self.queue!r}"
        if self.delay:
            where += f", delay {self.delay}"
        if self.priority:
            where += f", priority {self.priority}"
        return f"{what}  {where}"


def read_dispatched(encoded: bytes, pushed_at: datetime, registry: Registry) -> Dispatched:
    """Return what a test sees of a serialized Job."""
    message = job_pb2.Job.FromString(encoded)
    return Dispatched(
        id=message.id,
        type=message.type,
        queue=message.queue,
        job=_typed(message, registry),
        data=_values(message),
        delay=_delay(message, pushed_at),
        priority=message.priority,
        headers=dict(message.headers),
        unique_key=message.unique_key,
        message=message,
    )


def _typed(message: job_pb2.Job, registry: Registry) -> Any:
    definition = registry.lookup(message.type)
    if definition is None:
        return None
    try:
        return definition.decode(message.payload, message.content_type)
    except InvalidPayload:
        return None


def _values(message: job_pb2.Job) -> Any:
    serializer = standard().find(message.content_type)
    try:
        return None if serializer is None else read(message.payload, message.type, serializer)
    except InvalidPayload:
        return None


def _delay(message: job_pb2.Job, pushed_at: datetime) -> timedelta:
    if message.WhichOneof("start") == "run_at":
        return max(timedelta(0), read_time(message.run_at) - pushed_at)
    return message.delay.ToTimedelta()

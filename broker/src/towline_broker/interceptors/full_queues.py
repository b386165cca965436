"""Queues that were full a moment ago: further jobs for them are refused unread (P11)."""

import time
from collections import OrderedDict
from typing import NamedTuple

from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest
from towline_broker.domain.errors import QueueFull
from towline_broker.interceptors.parts import fields_of

#: Seconds for which a queue is taken to be full; then the next Push finds out.
MEMORY = 0.1
#: Queues that are kept in mind; beyond it those that were found full longest ago are not.
MOST = 1_000


class _Full(NamedTuple):
    #: Then the next Push finds out.
    until: float
    #: Bytes of the smallest Push that found no room: smaller ones may find some.
    size: int
    error: QueueFull


class FullQueues:
    """``default``: the queue of a job that names none."""

    def __init__(self, default: str) -> None:
        self._default = default
        self._full: OrderedDict[str, _Full] = OrderedDict()

    def found(self, raw: bytes, error: QueueFull) -> None:
        known = self._full.get(error.queue)
        size = len(raw) if known is None else min(known.size, len(raw))
        self._full[error.queue] = _Full(time.monotonic() + MEMORY, size, error)
        self._full.move_to_end(error.queue)
        if len(self._full) > MOST:
            self._full.popitem(last=False)

    def check(self, raw: bytes) -> bool:
        """``raw``: of a Push. Raises QueueFull if one that was no larger has found the queue of its
        first job full. True: that was a while ago, and this Push is to find out whether it still
        is."""
        if not self._full:
            return False
        queue = first_queue(raw) or self._default
        known = self._full.get(queue)
        if known is None or len(raw) < known.size:
            return False
        if time.monotonic() < known.until:
            raise QueueFull(queue, known.error.limit)
        # Others do not while this one does.
        self._full[queue] = known._replace(until=time.monotonic() + MEMORY)
        return True

    def accepted(self, raw: bytes) -> None:
        """There was room for this Push, and so for any that is no larger."""
        if self._full:
            queue = first_queue(raw) or self._default
            known = self._full.get(queue)
            if known is not None and len(raw) >= known.size:
                del self._full[queue]


_PUSH = PushRequest.DESCRIPTOR
_JOB = Job.DESCRIPTOR


def first_queue(raw: bytes) -> str:
    """The queue of the first job, empty if it names none."""
    try:
        for field, start, end in fields_of(raw, 0, len(raw), _PUSH):
            if field is not None and field.name == "jobs":
                return _queue_of(raw, start, end)
    except (IndexError, UnicodeDecodeError):  # no request at all, as will be found out
        pass
    return ""


def _queue_of(raw: bytes, start: int, end: int) -> str:
    for field, its_start, its_end in fields_of(raw, start, end, _JOB):
        if field is not None and field.name == "queue":
            return raw[its_start:its_end].decode()
        if field is not None and field.name not in ("id", "queue"):
            break  # fields come in the order of their numbers
    return ""

"""Queues that were full a moment ago: further jobs for them are refused unread (P11)."""

import time
from collections import OrderedDict

from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest
from towline_broker.domain.errors import QueueFull
from towline_broker.interceptors.parts import fields_of

#: Seconds for which a queue is taken to be full; then the next Push finds out.
MEMORY = 0.1
#: Queues that are kept in mind; beyond it those that were found full longest ago are not.
MOST = 1_000


class FullQueues:
    """``default``: the queue of a job that names none."""

    def __init__(self, default: str) -> None:
        self._default = default
        self._full: OrderedDict[str, tuple[float, QueueFull]] = OrderedDict()

    def found(self, error: QueueFull) -> None:
        self._full[error.queue] = time.monotonic() + MEMORY, error
        self._full.move_to_end(error.queue)
        if len(self._full) > MOST:
            self._full.popitem(last=False)

    def check(self, raw: bytes) -> bool:
        """``raw``: of a Push. Raises QueueFull if the queue of its first job was found full. True:
        it was, a while ago, and this Push is to find out whether it still is."""
        if not self._full:
            return False
        queue = first_queue(raw) or self._default
        until, error = self._full.get(queue, (0.0, None))
        if error is None:
            return False
        if time.monotonic() < until:
            raise QueueFull(error.queue, error.limit)
        # Others do not while this one does.
        self._full[queue] = time.monotonic() + MEMORY, error
        return True

    def accepted(self, raw: bytes) -> None:
        """A Push was accepted: there is room in its queue."""
        if self._full:
            self._full.pop(first_queue(raw) or self._default, None)


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

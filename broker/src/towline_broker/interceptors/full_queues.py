"""Queues that were full a moment ago: further jobs for them are refused unread (P11)."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest
from towline_broker.domain.errors import QueueFull
from towline_broker.interceptors.parts import fields_of

#: Seconds for which a queue that was found full is taken to be so; then the next Push finds out.
FIRST_PAUSE = 0.02
#: The pause grows each time it is found full still, and shrinks each time there was room: of the
#: Pushes that are read while producers bring too much, most are stored.
LONGER, SHORTER = 2.0, 0.9
MOST_PAUSE = 0.2
#: With so short a pause the queue counts as full no more.
LEAST_PAUSE = 0.005
#: Queues that are kept in mind; beyond it those that were found full longest ago are not.
MOST = 1_000


class _Full(NamedTuple):
    #: Then the next Push finds out.
    until: float
    pause: float
    #: Bytes of the smallest Push that found no room: smaller ones may find some.
    size: int
    #: Of jobs in the queue.
    limit: int


class FullQueues:
    """``default``: the queue of a job that names none. ``timer`` gives seconds."""

    def __init__(self, default: str, timer: Callable[[], float] = time.monotonic) -> None:
        self._default = default
        self._timer = timer
        self._full: OrderedDict[str, _Full] = OrderedDict()

    def found(self, raw: bytes, error: QueueFull, *, again: bool) -> None:
        """``again``: by a Push that was to find out."""
        known = self._full.get(error.queue)
        size, pause = len(raw), FIRST_PAUSE
        if known is not None:
            size = min(known.size, size)
            pause = min(known.pause * LONGER, MOST_PAUSE) if again else known.pause
        self._full[error.queue] = _Full(self._timer() + pause, pause, size, error.limit)
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
        if self._timer() < known.until:
            raise QueueFull(queue, known.limit)
        # Others do not while this one does.
        self._full[queue] = known._replace(until=self._timer() + known.pause)
        return True

    def accepted(self, raw: bytes) -> None:
        """There was room for this Push, and so for any that is no larger."""
        if self._full:
            queue = first_queue(raw) or self._default
            known = self._full.get(queue)
            if known is not None and len(raw) >= known.size:
                self._found_room(queue, known)

    def _found_room(self, queue: str, known: _Full) -> None:
        pause = known.pause * SHORTER
        if pause < LEAST_PAUSE:
            del self._full[queue]
        else:
            until = min(known.until, self._timer() + pause)
            self._full[queue] = known._replace(until=until, pause=pause)


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

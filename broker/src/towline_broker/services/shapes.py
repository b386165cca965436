"""What pushed jobs have in common, read and checked once.

Jobs come by the thousand that differ in nothing but their ids, payloads and headers. So all the
rest of a job, its shape, is looked up by its bytes: it was read and checked when the first job of
this shape came. A job of a shape that is not known is read as a whole; so is every job of which
something is wrong.

The bytes of a job of a known shape, in the order in which protobuf writes the fields::

    0a 24 id            36 characters
    12 .. queue         }
    1a .. type          }  its head
    22 .. payload       if it has any
    2a .. content type  }  its rest, but for
    32 .. headers       }  the headers
    3a .. and so on     }
"""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from towline.v1.job_pb2 import Job
from towline_broker.core.calls import JobRequest, ToStore
from towline_broker.domain import names
from towline_broker.domain.jobs import NewJob
from towline_broker.services.limits import Limits
from towline_broker.services.wire.fields import size_at, tag, varint
from towline_broker.services.wire.headers import cut_out

#: So many shapes are kept in mind, of at most so many bytes each.
MOST = 1_000
MOST_BYTES = 512

_ID, _QUEUE, _TYPE, _PAYLOAD = (
    tag(Job.DESCRIPTOR, name) for name in ("id", "queue", "type", "payload")
)
_ID_SIZE = 36
_BEFORE_ID = _ID + varint(_ID_SIZE)
_ID_START = len(_BEFORE_ID)
_ID_END = _ID_START + _ID_SIZE


class Shape(Struct, frozen=True, gc=False):
    #: Makes a job from its id, queue, type, envelope and the rest of its fields.
    make: Any
    queue: str
    type: str
    others: tuple[Any, ...]


class Shapes:
    """A job that is beyond the limits is not taken for known."""

    def __init__(self, limits: Limits) -> None:
        self._most_payload = limits.payload_bytes
        self._of_headers = limits.header_key_bytes, limits.headers_bytes
        #: By their heads, then by their rests.
        self._known: dict[bytes, dict[bytes, Shape]] = {}
        self._count = 0

    def read(self, envelopes: Sequence[bytes]) -> list[ToStore | None]:
        """The jobs whose shapes are known; None stands for each other one."""
        jobs = self._alike(envelopes) or list(map(self._read, envelopes))
        # Of all ids in one go, which is most of what it costs to look at each. What is not known
        # may be shorter, and would shift those behind it.
        known: Iterable[bytes] = envelopes
        if not all(jobs):
            known = [each for each, job in zip(envelopes, jobs, strict=True) if job is not None]
        if not _all_uuids(b"".join([each[_ID_START:_ID_END] for each in known])):
            return [job if job is not None and names.is_uuid(job.id) else None for job in jobs]
        return jobs

    def _alike(self, envelopes: Sequence[bytes]) -> list[ToStore | None] | None:
        """All of them, if they differ in no more than their ids and the bytes of their payloads;
        None: they are to be read one by one."""
        if len(envelopes) < 2:
            return None
        first = envelopes[0]
        found = self._find(first)
        if found is None:
            return None
        shape, payload, rest = found
        size, head, tail = len(first), first[_ID_END:payload], first[rest:]
        for each in envelopes:
            if len(each) != size or not (
                each.startswith(head, _ID_END)
                and each.endswith(tail)
                and each.startswith(_BEFORE_ID)
            ):
                return None
        make, queue, type_, others = shape.make, shape.queue, shape.type, shape.others
        return [
            make(each[_ID_START:_ID_END].decode("latin-1"), queue, type_, each, *others)
            for each in envelopes
        ]

    def read_one(self, envelope: bytes) -> ToStore | None:
        """The same for one job."""
        job = self._read(envelope)
        return job if job is not None and names.is_uuid(job.id) else None

    def _read(self, envelope: bytes) -> ToStore | None:
        """Its id is any text of the right length."""
        found = self._find(envelope)
        if found is None or envelope[:_ID_START] != _BEFORE_ID:
            return None
        shape = found[0]
        job_id = envelope[_ID_START:_ID_END].decode("latin-1")
        job: ToStore = shape.make(job_id, shape.queue, shape.type, envelope, *shape.others)
        return job

    def _find(self, envelope: bytes) -> tuple[Shape, int, int] | None:
        """Its shape, where its payload begins, and where its rest does; what stands where the id
        should was not looked at."""
        try:
            end = _ID_END + 4 + envelope[_ID_END + 1]
            end += envelope[end - 1]
            rests = self._known[envelope[_ID_END:end]]
            payload = end
            if envelope[end : end + 1] == _PAYLOAD:
                size = envelope[end + 1]
                end += 2
                if size > 0x7F:
                    size, end = size_at(envelope, end - 1)
                payload = end
                end += size
                if not 0 < size <= self._most_payload or end > len(envelope):
                    return None
            rest = envelope[end:]
            shape = rests.get(rest)
            if shape is None:
                shape = rests[cut_out(rest, *self._of_headers)[0]]
        except (KeyError, IndexError, ValueError):
            return None
        return shape, payload, end

    def learn(self, envelope: bytes, job: Job, request: JobRequest) -> None:
        """``job``: what is in the envelope; ``request``: what it was read as. Nothing was wrong
        with it, and nothing was set in it by the broker that a later one might lack."""
        found = _head_and_rest(envelope, job, request)
        if found is None:
            return
        head, rest = found
        try:
            rest, headers = cut_out(rest, *self._of_headers)
        except (IndexError, ValueError):
            return
        if headers != len(job.headers) or len(head) + len(rest) > MOST_BYTES:
            return
        if self._count >= MOST:
            self.forget()
        rests = self._known.setdefault(head, {})
        if rest not in rests:
            rests[rest] = _shape(request)
            self._count += 1

    def forget(self) -> None:
        """Something has changed on which it depends how a job is read."""
        self._known.clear()
        self._count = 0


def _shape(request: JobRequest) -> Shape:
    """Times count from the moment of each Push, so a job that has any is only asked for yet."""
    if request.delay is None and request.expires_in is None:
        ready = (request.priority, None, None, request.retention, None, None, request.retry)
        return Shape(NewJob, request.queue, request.type, ready)
    times = (request.delay, None, request.expires_in)
    others = (request.priority, *times, request.retention, None, None, request.retry)
    return Shape(JobRequest, request.queue, request.type, others)


def _head_and_rest(envelope: bytes, job: Job, request: JobRequest) -> tuple[bytes, bytes] | None:
    """None of a job that has what no other one has, or that is written in another way than protobuf
    would write it: with fields twice, or in another order, or longer than they need be."""
    if request.run_at is not None or request.unique_key is not None:
        return None
    if len(request.envelope) != len(envelope):
        return None
    head = _field(_QUEUE, request.queue.encode()) + _field(_TYPE, request.type.encode())
    start = _field(_ID, request.id.encode()) + head
    if job.payload:
        start += _field(_PAYLOAD, job.payload)
    return (head, envelope[len(start) :]) if envelope.startswith(start) else None


def _field(its_tag: bytes, value: bytes) -> bytes:
    return its_tag + varint(len(value)) + value


def _all_uuids(ids: bytes) -> bool:
    """Of ids in a row: hyphens stand where they do in a UUID, and all else is hexadecimal."""
    many, left = divmod(len(ids), _ID_SIZE)
    return (
        not left
        and all(ids[place::_ID_SIZE] == b"-" * many for place in (8, 13, 18, 23))
        and ids.translate(None, b"0123456789abcdef") == b"-" * 4 * many
    )

"""Leases as bytes: their jobs are handed on as they were stored.

The fields of a lease, in the order in which protobuf writes them: its token, the job, and what the
leases of a reply mostly have in common.
"""

from collections.abc import Callable, Iterable, Sequence

from towline.v1.job_pb2 import AttemptLimits, Lease
from towline.v1.queue_service_pb2 import ReserveResponse
from towline_broker.core import tokens
from towline_broker.domain.jobs import Leased
from towline_broker.domain.time import Micros
from towline_broker.services.times import to_duration, to_timestamp
from towline_broker.services.views import to_failure, to_progress
from towline_broker.services.wire.fields import tag, varint

_LEASE = tag(ReserveResponse.DESCRIPTOR, "leases")
_TOKEN = tag(Lease.DESCRIPTOR, "lease_token")
_JOB = tag(Lease.DESCRIPTOR, "job")


class LeaseWriter:
    """``limits``: told with each lease; None: they are those that the contract states."""

    def __init__(self, limits: AttemptLimits | None) -> None:
        self._limits = Lease(limits=limits).SerializeToString()

    def entries(self, leases: Iterable[Leased], now_of: Callable[[str], Micros]) -> list[bytes]:
        """Each as an entry of a reply, ``repeated Lease leases = 1``. ``now_of`` a queue: by the
        clock of its store."""
        written: list[bytes] = []
        nows: dict[str, Micros] = {}
        # Leases behind each other mostly have all in common but their jobs, and those their sizes.
        last: object = None
        before = between = end = b""
        for leased in leases:
            (queue, job_id, grant), job = leased.ref, leased.envelope
            told = leased.failure is not None or leased.progress is not None
            common = (
                *(grant, queue, leased.attempt, leased.lease_until, leased.enqueued_at),
                *(len(job), len(job_id), told),
            )
            if told or common != last:
                last = common
                now = nows.get(queue)
                if now is None:
                    now = nows[queue] = now_of(queue)
                remaining = max(0, leased.lease_until - now)
                end = _end(leased.attempt, remaining, leased.enqueued_at)
                if told:
                    end += _told(leased)
                end += self._limits
                before, between = _around_id(queue, grant, len(job_id), len(job), len(end))
            written.append(b"".join((before, job_id.encode("ascii"), between, job, end)))
        return written


def _around_id(queue: str, grant: str, job_id: int, job: int, end: int) -> tuple[bytes, bytes]:
    """What stands before the job's id in the token, and between that and the job; the numbers are
    sizes."""
    begin, rest = tokens.around_id(queue, grant)
    token = len(begin) + job_id + len(rest)
    before_token, before_job = _TOKEN + varint(token), _JOB + varint(job)
    size = len(before_token) + token + len(before_job) + job + end
    return (
        _LEASE + varint(size) + before_token + begin.encode("ascii"),
        rest.encode("ascii") + before_job,
    )


def _end(attempt: int, remaining: Micros, enqueued_at: Micros) -> bytes:
    return Lease(
        attempt=attempt,
        lease_remaining=to_duration(remaining),
        enqueued_at=to_timestamp(enqueued_at),
    ).SerializeToString()


def _told(leased: Leased) -> bytes:
    """By the workers of earlier attempts."""
    lease = Lease()
    if leased.failure is not None:
        lease.last_failure.CopyFrom(to_failure(leased.failure))
    if leased.progress is not None:
        lease.last_progress.CopyFrom(to_progress(leased.progress))
    return lease.SerializeToString()


def fitting(entries: Sequence[bytes], most_bytes: int) -> int:
    """How many of the entries, from the first on, make a message of at most so many bytes: at least
    one, if there are any."""
    if sum(map(len, entries)) <= most_bytes:
        return len(entries)
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry)
        if size > most_bytes:
            return max(1, count)
    return len(entries)

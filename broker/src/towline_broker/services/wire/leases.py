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
        # Most leases of a reply have the same ends, and the same sizes.
        ends: dict[tuple[int, Micros, Micros], bytes] = {}
        sizes: dict[tuple[int, int, int], tuple[bytes, bytes]] = {}
        for leased in leases:
            queue, job = leased.ref.queue, leased.envelope
            now = nows.get(queue)
            if now is None:
                now = nows[queue] = now_of(queue)
            remaining = max(0, leased.lease_until - now)
            key = (leased.attempt, remaining, leased.enqueued_at)
            end = ends.get(key)
            if end is None:
                end = ends[key] = _end(*key)
            if leased.failure is not None or leased.progress is not None:
                end += _told(leased)
            end += self._limits
            token = tokens.encode(leased.ref).encode("ascii")
            parts = (len(token), len(job), len(end))
            before = sizes.get(parts)
            if before is None:
                before = sizes[parts] = _before(*parts)
            before_token, before_job = before
            written.append(b"".join((before_token, token, before_job, job, end)))
        return written


def _before(token: int, job: int, end: int) -> tuple[bytes, bytes]:
    """What stands before the token and before the job, of so many bytes each."""
    before_token, before_job = _TOKEN + varint(token), _JOB + varint(job)
    size = len(before_token) + token + len(before_job) + job + end
    return _LEASE + varint(size) + before_token, before_job


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

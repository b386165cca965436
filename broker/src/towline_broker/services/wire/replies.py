"""Replies as bytes.

What many items have in common is written by protobuf, once. What is an item's own is put in front
of it, for the fields of a message come in the order of their numbers.
"""

from collections.abc import Sequence

from towline.v1.queue_service_pb2 import (
    AckResponse,
    LeaseOutcome,
    PushOutcome,
    PushResponse,
    PushResult,
    SettleResult,
)
from towline_broker.services.wire.fields import tag, varint

_ID_SIZE = 36


def _around_id() -> tuple[str, str]:
    """What stands in front of the id of a job that was stored, and behind it: all of it ASCII."""
    before = tag(PushResult.DESCRIPTOR, "job_id") + varint(_ID_SIZE)
    after = PushResult(outcome=PushOutcome.PUSH_OUTCOME_CREATED).SerializeToString()
    size = len(before) + _ID_SIZE + len(after)
    entry = tag(PushResponse.DESCRIPTOR, "results") + varint(size) + before
    return entry.decode("ascii"), after.decode("ascii")


_BEFORE_ID, _AFTER_ID = _around_id()
_BETWEEN_IDS = _AFTER_ID + _BEFORE_ID


def created(job_ids: Sequence[str]) -> bytes:
    """To a Push that has stored these, and nothing else came of it. There must be one at least."""
    return (_BEFORE_ID + _BETWEEN_IDS.join(job_ids) + _AFTER_ID).encode("ascii")


_OK = LeaseOutcome.LEASE_OUTCOME_OK
_SETTLED: dict[int, bytes] = {
    outcome: AckResponse(results=[SettleResult(outcome=outcome)]).SerializeToString()
    for outcome in LeaseOutcome.values()
}


def settled(outcomes: Sequence[int]) -> bytes:
    """To an Ack or a Nack of which no item is refused. The numbers are those of LeaseOutcome."""
    if outcomes.count(_OK) == len(outcomes):
        return _SETTLED[_OK] * len(outcomes)
    return b"".join([_SETTLED[outcome] for outcome in outcomes])

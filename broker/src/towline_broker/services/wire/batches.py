"""Batches as they come in, their items left as bytes."""

from collections.abc import Sequence
from typing import NamedTuple

from towline.v1.queue_service_pb2 import AckRequest, PushRequest
from towline_broker.partial import partial_class

_Push = partial_class(PushRequest.DESCRIPTOR, {"jobs": {}, "allow_partial": {}})
_Ack = partial_class(AckRequest.DESCRIPTOR, {"acks": {}})


class PushBatch(NamedTuple):
    jobs: Sequence[bytes]
    allow_partial: bool


def push_batch(raw: bytes) -> PushBatch:
    """Raises DecodeError for what is no request. Whether the jobs are any is found out later."""
    batch = _Push.FromString(raw)
    return PushBatch(list(batch.jobs), batch.allow_partial)


def acks(raw: bytes) -> Sequence[bytes]:
    """Raises DecodeError for what is no request. Whether they are any is found out later."""
    return list(_Ack.FromString(raw).acks)

"""Answers of streams as parts of a response: what most of them have in common is written once.

The rest is put together by protobuf. The tests hold the two against each other.
"""

from google.protobuf.message import Message

from towline.v1.queue_service_pb2 import (
    LeaseOutcome,
    PushOutcome,
    PushResponse,
    PushResult,
    PushStreamResponse,
    SettleResult,
    StreamedPushResult,
    WorkResponse,
    WorkResult,
)
from towline_broker.services.wire.fields import tag, varint
from towline_broker.status import WireError

_ID_BYTES = 36


def _varint_tag(kind: type[Message], field: str) -> bytes:
    """What stands before a number."""
    return bytes((kind.DESCRIPTOR.fields_by_name[field].number << 3,))


_RESULT = tag(PushStreamResponse.DESCRIPTOR, "results")
_SEQUENCE = _varint_tag(StreamedPushResult, "sequence")
_RESPONSE = tag(StreamedPushResult.DESCRIPTOR, "response")


def _answer_around_id() -> tuple[bytes, bytes]:
    """What stands in front of the id of a job that was stored, and behind it, in the answer to a
    push of that job alone."""
    empty = "0" * _ID_BYTES
    result = PushResult(job_id=empty, outcome=PushOutcome.PUSH_OUTCOME_CREATED)
    whole = StreamedPushResult(response=PushResponse(results=[result])).SerializeToString()
    before, _, after = whole.partition(empty.encode())
    return before, after


_BEFORE_ID, _AFTER_ID = _answer_around_id()
_CREATED_BYTES = len(_BEFORE_ID) + _ID_BYTES + len(_AFTER_ID)


def created(sequence: int, job_id: str) -> bytes:
    """One job was pushed, and is stored."""
    number = _SEQUENCE + varint(sequence) if sequence else b""
    size = varint(len(number) + _CREATED_BYTES)
    return b"%b%b%b%b%b%b" % (_RESULT, size, number, _BEFORE_ID, job_id.encode(), _AFTER_ID)


def pushed(sequence: int, response: bytes) -> bytes:
    """``response``: the bytes of a PushResponse."""
    number = _SEQUENCE + varint(sequence) if sequence else b""
    answer = b"%b%b%b%b" % (number, _RESPONSE, varint(len(response)), response)
    return _RESULT + varint(len(answer)) + answer


def push_failed(sequence: int, error: WireError) -> bytes:
    answer = StreamedPushResult(sequence=sequence, error=error.status())
    return PushStreamResponse(results=[answer]).SerializeToString()


PUSH_CLOSING = PushStreamResponse(closing=True).SerializeToString()

_WORK_RESULT = tag(WorkResponse.DESCRIPTOR, "results")
_WORK_SEQUENCE = _varint_tag(WorkResult, "sequence")
_ACKED = WorkResult(acks=[SettleResult(outcome=LeaseOutcome.LEASE_OUTCOME_OK)]).SerializeToString()


def acked(sequence: int, count: int) -> bytes:
    """So many leases were acked, and nothing else was asked for."""
    if not sequence:
        return b""
    result = _WORK_SEQUENCE + varint(sequence) + _ACKED * count
    return _WORK_RESULT + varint(len(result)) + result


def worked(result: WorkResult) -> bytes:
    return WorkResponse(results=[result]).SerializeToString() if result.sequence else b""


def work_failed(sequence: int, error: WireError) -> bytes:
    return worked(WorkResult(sequence=sequence, error=error.status()))


WORK_CLOSING = WorkResponse(closing=True).SerializeToString()

"""Batches as they come in, their items left as bytes.

On the wire ``repeated Job jobs`` and ``repeated bytes jobs`` are the same, so protobuf itself takes
a batch apart.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from towline.v1.queue_service_pb2 import AckRequest, PushRequest

_PACKAGE = "towline.broker.wire"


def _with_items_as_bytes(kind: Any, items: str, *flags: str) -> Any:
    """A class of messages that reads of ``kind`` its items as bytes, and these flags."""
    file = FileDescriptorProto(name=f"{_PACKAGE}.{kind.DESCRIPTOR.name}", package=_PACKAGE)
    file.syntax = "proto3"
    message = file.message_type.add(name=kind.DESCRIPTOR.name)
    numbers = {name: field.number for name, field in kind.DESCRIPTOR.fields_by_name.items()}
    message.field.add(
        name=items,
        number=numbers[items],
        label=FieldDescriptorProto.LABEL_REPEATED,
        type=FieldDescriptorProto.TYPE_BYTES,
    )
    for flag in flags:
        message.field.add(
            name=flag,
            number=numbers[flag],
            label=FieldDescriptorProto.LABEL_OPTIONAL,
            type=FieldDescriptorProto.TYPE_BOOL,
        )
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}"))


_Push = _with_items_as_bytes(PushRequest, "jobs", "allow_partial")
_Ack = _with_items_as_bytes(AckRequest, "acks")


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

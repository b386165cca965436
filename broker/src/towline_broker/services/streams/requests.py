"""Requests of PushStream as they come in, each push left as the bytes of a PushRequest.

On the wire a field that is a message and one that is bytes are the same, so protobuf itself takes
the pushes apart.
"""

from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from towline.v1.queue_service_pb2 import PushStreamRequest, StreamedPush

_PACKAGE = "towline.broker.streams"


def _number(kind: Any, field: str) -> int:
    number: int = kind.DESCRIPTOR.fields_by_name[field].number
    return number


def _alias() -> Any:
    file = FileDescriptorProto(name=_PACKAGE, package=_PACKAGE, syntax="proto3")
    push = file.message_type.add(name="Push")
    one, many = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    push.field.add(
        name="sequence",
        number=_number(StreamedPush, "sequence"),
        label=one,
        type=FieldDescriptorProto.TYPE_UINT64,
    )
    push.field.add(
        name="request",
        number=_number(StreamedPush, "request"),
        label=one,
        type=FieldDescriptorProto.TYPE_BYTES,
    )
    request = file.message_type.add(name="Request")
    request.field.add(
        name="pushes",
        number=_number(PushStreamRequest, "pushes"),
        label=many,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.Push",
    )
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Request"))


_Request = _alias()


def pushes_of(raw: bytes) -> Sequence[Any]:
    """Each with ``sequence`` and ``request``. Raises DecodeError for what is no message of the
    stream. Whether a request is any is found out later."""
    pushes: Sequence[Any] = _Request.FromString(raw).pushes
    return pushes

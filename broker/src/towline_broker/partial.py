"""Messages of which a part is read, and what is in that part left as bytes.

On the wire a field that is a message and one that is bytes are the same, so protobuf itself takes a
message apart as far as is wanted. The other fields it keeps as unknown ones.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "towline.broker.partial"

#: The fields that are read, by their names; of one that is a message those that are read of it, or
#: none: then it is bytes.
Wanted: TypeAlias = Mapping[str, "Wanted"]


def partial_class(kind: Descriptor, wanted: Wanted) -> Any:
    """A class of messages that reads these fields of the messages of ``kind``."""
    file = FileDescriptorProto(name=f"{_PACKAGE}.{kind.name}", package=_PACKAGE, syntax="proto3")
    file.message_type.append(_part(kind, wanted))
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{kind.name}"))


def _part(kind: Descriptor, wanted: Wanted) -> DescriptorProto:
    part = DescriptorProto(name=kind.name)
    for name, inner in wanted.items():
        whole: Any = kind.fields_by_name[name]
        field = part.field.add(name=name, number=whole.number, type=whole.type)
        field.label = field.LABEL_REPEATED if whole.is_repeated else field.LABEL_OPTIONAL
        if inner:
            part.nested_type.append(_part(whole.message_type, inner))
            field.type_name = whole.message_type.name
        elif whole.message_type is not None:
            field.type = FieldDescriptorProto.TYPE_BYTES
    return part

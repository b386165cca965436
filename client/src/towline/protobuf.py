"""Protobuf messages as arguments and results of jobs.

Nothing here loads protobuf: a class can only be a message, or a value an instance of one, once the
program has loaded it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from towline.codecs import Codec, Json, expected
from towline.errors import InvalidPayload

if TYPE_CHECKING:
    from google.protobuf.message import Message

CONTENT_TYPE = "application/x-protobuf"
"""Under which messages travel. ``application/protobuf`` is read as well."""

CONTENT_TYPES = frozenset({CONTENT_TYPE, "application/protobuf"})


def _message_class() -> type | None:
    module = sys.modules.get("google.protobuf.message")
    return None if module is None else module.Message


def is_message(value: object) -> TypeGuard[Message]:
    base = _message_class()
    return base is not None and isinstance(value, base)


def is_message_type(hint: object) -> TypeGuard[type[Message]]:
    base = _message_class()
    return base is not None and isinstance(hint, type) and issubclass(hint, base)


def write(message: Message, path: str) -> bytes:
    """Return a message as bytes. Raises InvalidPayload when a required field is not set."""
    from google.protobuf.message import EncodeError

    try:
        return message.SerializeToString()
    except EncodeError as error:
        raise InvalidPayload(f"{path}: {error}") from None


def read(kind: type[Message], data: bytes, path: str) -> Message:
    """Return the message of bytes. Raises InvalidPayload when they are no message of this kind."""
    from google.protobuf.message import DecodeError

    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise InvalidPayload(f"{path}: is no {kind.DESCRIPTOR.full_name} message") from None
    return message


def to_json(message: Message, path: str) -> Json:
    """Return a message in protobuf's own JSON form, under the names of the .proto file."""
    from google.protobuf import json_format

    try:
        return json_format.MessageToDict(message, preserving_proto_field_name=True)
    except (json_format.Error, ValueError, TypeError):
        raise InvalidPayload(
            f"{path}: the {message.DESCRIPTOR.full_name} cannot be written as JSON"
        ) from None


def codec(kind: type[Message]) -> Codec:
    """How a message is written among other fields: as JSON."""
    name = kind.DESCRIPTOR.full_name

    def encode(value: Any, path: str) -> Json:
        if not isinstance(value, kind):
            raise expected(name, value, path)
        return to_json(value, path)

    def decode(data: Json, path: str) -> Any:
        from google.protobuf import json_format

        if isinstance(data, kind):  # the whole payload was this message
            return data
        if not isinstance(data, dict):
            raise expected(f"{name} as an object", data, path)
        try:
            return json_format.ParseDict(data, kind(), ignore_unknown_fields=True)
        except (json_format.Error, ValueError, TypeError):
            # What it says may quote the data.
            raise InvalidPayload(f"{path}: does not fit {name}") from None

    return Codec(name, encode, decode)

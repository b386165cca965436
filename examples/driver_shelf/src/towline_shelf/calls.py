"""The calls of a store as JSON, and back: the parameter objects of the driver interface are all
msgspec structs, so one rule does for all of them."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from msgspec import Struct

from towline_broker.domain import jobs, retry
from towline_broker.domain.time import Micros
from towline_broker.drivers import interface

#: Written before the name of a class. No queue, which is the other thing that names a field, can be
#: called like that.
CLASS = "@"

_CLASSES: dict[str, Any] = {
    name: found
    for module in (jobs, retry, interface)
    for name, found in vars(module).items()
    if isinstance(found, type) and found.__module__.startswith(module.__name__)
}


def to_text(now: Micros, method: str, arguments: Sequence[Any]) -> str:
    return json.dumps([now, method, _plain(arguments)], separators=(",", ":"))


def from_text(text: str) -> tuple[Micros, str, Sequence[Any]]:
    """Only classes of the interface are made: the file names no code to be run."""
    now, method, arguments = json.loads(text)
    return now, method, _restored(arguments)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {CLASS: "bytes", "value": b64encode(value).decode()}
    if isinstance(value, Enum):
        return {CLASS: type(value).__name__, "value": value.value}
    if isinstance(value, jobs.LeaseRef):
        return {CLASS: "LeaseRef", **value._asdict()}
    if isinstance(value, Struct):
        named = {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        return {CLASS: type(value).__name__, **named}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    return [_plain(each) for each in value]


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_restored(each) for each in value)
    if not isinstance(value, dict):
        return value
    kind = value.pop(CLASS, None)
    if kind is None:
        return {key: _restored(each) for key, each in value.items()}
    if kind == "bytes":
        return b64decode(value["value"])
    named = {key: _restored(each) for key, each in value.items()}
    return _CLASSES[kind](**named)

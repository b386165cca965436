"""Values to JSON and back, by their declared types.

Each type that a field may have is turned once, when the job is defined, into a codec: a pair of
functions from value to JSON and from JSON to value. Both are strict and say where they failed:
``SendEmail.to: expected str, got 5``.

    declared                                     in JSON
    str, int, float, bool, None, Any             themselves (Any: whatever can be told by its value)
    list, tuple, set, frozenset, Sequence        array
    dict, Mapping                                object; keys: str, int, or what is a string in JSON
    X | Y, Optional                              as the first alternative that fits, as written
    Literal, Enum                                the literal; the value of the member
    a dataclass                                  object; unknown keys are passed over
    datetime, date, time                         ISO 8601 string
    timedelta                                    seconds
    UUID, Decimal                                string
    bytes                                        base64 string
"""

import collections.abc
import dataclasses
import enum
import json
import types
import typing
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from towline.codecs import (
    SCALARS,
    Codec,
    Json,
    array,
    enumeration,
    expected,
    finite,
    fixed_tuple,
    literal,
    mapping,
    read_int_key,
    show,
    unchanged,
    union,
)
from towline.errors import InvalidJob, InvalidPayload

CONTENT_TYPE = "application/json"

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_PLAIN_ALREADY = frozenset({str, int, bool, type(None)})


def write(value: Any, path: str) -> bytes:
    """Return the JSON text of a value of no declared type.

    Raises InvalidPayload, naming the place by ``path``, for what JSON cannot hold.
    """
    try:
        data = plain(value, path)
        return _ENCODER.encode(data).encode()
    except RecursionError:
        raise InvalidPayload(f"{path}: nested too deeply, or contains itself") from None
    except ValueError as error:
        raise InvalidPayload(f"{path}: cannot be written as JSON: {error}") from None


def loads(text: bytes, path: str) -> Json:
    """Return what JSON text says. Raises InvalidPayload, naming ``path``, when it is malformed."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidPayload(f"{path}: the JSON is nested too deeply") from None
    except ValueError as error:
        raise InvalidPayload(f"{path}: is no valid JSON: {error}") from None


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON number")


def plain(value: Any, path: str) -> Json:
    """Return the JSON of a value of no declared type, by what it is at run time."""
    if type(value) in _PLAIN_ALREADY:
        return value
    match value:
        case enum.Enum():
            return plain(value.value, path)
        case str() | int():
            return value
        case float():
            return finite(value, path)
        case Mapping():
            return {
                _plain_key(key, path): plain(item, f"{path}.{key}") for key, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name), f"{path}.{field.name}")
            for field in dataclasses.fields(value)
        }
    for kind, codec in SCALARS.items():
        if isinstance(value, kind):
            return codec.encode(value, path)
    raise InvalidPayload(f"{path}: a {type(value).__name__} cannot be written as JSON")


def _plain_key(key: Any, path: str) -> str:
    if type(key) is str:
        return key
    written = plain(key, path)
    if isinstance(written, bool) or not isinstance(written, (str, int)):
        raise InvalidPayload(f"{path}: a key must be a string or a whole number, not {show(key)}")
    return str(written)


_ARRAYS: Mapping[Any, type] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.Set: frozenset,
}
_MAPPINGS = (dict, collections.abc.Mapping)
_MISSING: Any = dataclasses.MISSING


class _Builder:
    """Makes codecs. A dataclass that it meets again while at work is a recursive one."""

    def __init__(self) -> None:
        self._dataclasses: dict[type, Record] = {}

    def build(self, hint: Any, path: str) -> Codec:
        if hint is None:
            hint = type(None)
        if hint is Any or hint is object:
            return Codec("any value", plain, unchanged)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            return self.build(arguments[0], path)
        if isinstance(hint, typing.NewType):
            return self.build(hint.__supertype__, path)
        if origin in (typing.Union, types.UnionType):
            return union([self.build(argument, path) for argument in arguments])
        if origin is typing.Literal:
            return literal(arguments, path)
        kind = origin or hint
        if kind in _ARRAYS:
            item = self.build(arguments[0] if arguments else Any, path)
            return array(_ARRAYS[kind], item)
        if kind is tuple:
            return self._tuple(arguments, path)
        if kind in _MAPPINGS:
            key, value = arguments or (Any, Any)
            return mapping(_key(key, self.build(key, path), path), self.build(value, path))
        return self._named(hint, path)

    def _tuple(self, arguments: tuple[Any, ...], path: str) -> Codec:
        if not arguments:
            return array(tuple, self.build(Any, path))
        if arguments[-1] is Ellipsis:
            return array(tuple, self.build(arguments[0], path))
        return fixed_tuple([self.build(argument, path) for argument in arguments])

    def _named(self, hint: Any, path: str) -> Codec:
        if hint in SCALARS:
            return SCALARS[hint]
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return enumeration(hint, path)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self._dataclass(hint, path)
        raise InvalidJob(
            f"{path}: values of type {_type_name(hint)} cannot be carried; use one of the types "
            "that towline.serialization lists, or override to_dict() and from_dict()"
        )

    def _dataclass(self, kind: type, path: str) -> Codec:
        record = self._dataclasses.get(kind)
        if record is None:
            record = self._dataclasses[kind] = Record(kind)
            record.fill(self, path)
        return Codec(kind.__name__, record.encode, record.decode)


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


class Record:
    """A dataclass as an object of its fields."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._fields: list[tuple[dataclasses.Field[Any], Codec]] = []

    def fill(self, builder: _Builder, path: str) -> None:
        # A dataclass written in a function can name itself or nothing; get_type_hints sees globals.
        hints = typing.get_type_hints(
            self._kind, localns={self._kind.__name__: self._kind}, include_extras=True
        )
        self._fields = [
            (field, builder.build(hints[field.name], f"{path}.{field.name}"))
            for field in dataclasses.fields(self._kind)
            if field.init
        ]

    def encode(self, value: Any, path: str) -> Json:
        if not isinstance(value, self._kind):
            raise expected(self._kind.__name__, value, path)
        return self.encode_fields(value, path)

    def encode_fields(self, value: Any, path: str) -> dict[str, Json]:
        return {
            field.name: codec.encode(getattr(value, field.name), f"{path}.{field.name}")
            for field, codec in self._fields
        }

    def decode(self, data: Json, path: str) -> Any:
        arguments = self.decode_fields(data, path)
        try:
            return self._kind(**arguments)
        except Exception as error:
            # Its own checks, in __post_init__.
            raise InvalidPayload(f"{path}: {type(error).__name__}: {error}") from error

    def decode_fields(self, data: Json, path: str) -> dict[str, Any]:
        """The arguments of the dataclass; a missing one that has a default is left to it."""
        if not isinstance(data, Mapping):
            raise expected("an object", data, path)
        arguments = {}
        for field, codec in self._fields:
            if field.name in data:
                arguments[field.name] = codec.decode(data[field.name], f"{path}.{field.name}")
            elif field.default is _MISSING and field.default_factory is _MISSING:
                raise InvalidPayload(f"{path}.{field.name}: is missing and has no default")
        return arguments


def record_for(kind: type, path: str) -> Record:
    """Return what converts the fields of a dataclass to JSON and back.

    Raises InvalidJob, naming the field by ``path``, for a type that cannot be carried, and
    NameError when a field is annotated with what is not defined yet.
    """
    record = Record(kind)
    record.fill(_Builder(), path)
    return record


def _key(hint: Any, codec: Codec, path: str) -> Codec:
    """The codec of a key, which JSON has as a string only."""
    if hint is Any:
        return Codec("key", _plain_key, unchanged)
    if hint is int:
        return Codec("int", lambda key, path: str(codec.encode(key, path)), read_int_key)
    textual = (str, datetime, date, time, UUID, Decimal, bytes)
    if hint in textual or _is_text_enum(hint) or _is_text_literal(hint):
        return codec
    if isinstance(hint, typing.NewType):
        return _key(hint.__supertype__, codec, path)
    raise InvalidJob(f"{path}: keys of type {_type_name(hint)} cannot be carried")


def _is_text_enum(hint: Any) -> bool:
    return (
        isinstance(hint, type)
        and issubclass(hint, enum.Enum)
        and all(isinstance(member.value, str) for member in hint)
    )


def _is_text_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Literal and all(
        isinstance(literal, str) for literal in typing.get_args(hint)
    )

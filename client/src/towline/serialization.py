"""Values to JSON values and back, by their declared types.

Each type that a field may have is turned once, when the job is defined, into a codec: a pair of
functions from value to JSON and from JSON to value. Both are strict and say where they failed:
``SendEmail.to: expected str, got 5``. How JSON values become bytes: towline.serializers.

    declared                                     in JSON
    str, int, float, bool, None, Any             themselves (Any: whatever can be told by its value)
    list, tuple, set, frozenset, Sequence, ...   array
    dict, Mapping                                object; keys: str, int, or what is a string in JSON
    X | Y, Optional                              as the first alternative that fits, as written; of
                                                 several dataclasses the one with these fields
    Literal                                      the literal
    Enum                                         the value; the name, if not every value is a scalar
    a dataclass, also a generic one              object; unknown keys are passed over
    TypedDict                                    object; unknown keys are passed over
    NamedTuple                                   array
    datetime, date, time                         ISO 8601 string
    timedelta                                    seconds
    UUID, Decimal, Path                          string
    bytes                                        base64 string
    a pydantic model                             as it says
    a class with to_dict() and from_dict()       as they say
    a protobuf message                           object, in protobuf's own JSON form
"""

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from towline import foreign, protobuf
from towline.codecs import (
    SCALARS,
    Codec,
    Json,
    array,
    enum_value,
    enumeration,
    finite,
    fixed_tuple,
    literal,
    mapping,
    named_tuple,
    read_int_key,
    show,
    typed_dict,
    unchanged,
    union,
)
from towline.errors import InvalidJob, InvalidPayload
from towline.records import Record

CONTENT_TYPE = "application/json"

_PLAIN_ALREADY = frozenset({str, int, bool, type(None)})


def plain(value: Any, path: str) -> Json:
    """Return the JSON of a value of no declared type, by what it is at run time.

    Raises InvalidPayload, naming the place by ``path``, for what JSON cannot hold.
    """
    if type(value) in _PLAIN_ALREADY:
        return value
    match value:
        case enum.Enum():
            return enum_value(value)
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
    return _plain_object(value, path)


def _plain_object(value: Any, path: str) -> Json:
    for kind, codec in SCALARS.items():
        if isinstance(value, kind):
            return codec.encode(value, path)
    kind = type(value)
    if foreign.is_model(kind):
        return foreign.model_to_json(value, path)
    if foreign.has_own_json(kind):
        return plain(value.to_dict(), path)
    if protobuf.is_message(value):
        return protobuf.to_json(value, path)
    if dataclasses.is_dataclass(kind):
        return {
            field.name: plain(getattr(value, field.name), f"{path}.{field.name}")
            for field in dataclasses.fields(kind)
        }
    raise InvalidPayload(f"{path}: values of type {kind.__name__} cannot be written as JSON")


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
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class _Builder:
    """Makes codecs. A class that it meets again while at work on it contains itself."""

    def __init__(self) -> None:
        self._known: dict[Any, Codec] = {}

    def build(self, hint: Any, path: str) -> Codec:
        if hint is None:
            hint = type(None)
        if hint is Any or hint is object:
            return Codec("any value", plain, unchanged)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in _TRANSPARENT:
            return self.build(arguments[0], path)
        if isinstance(hint, typing.NewType):
            return self.build(hint.__supertype__, path)
        if type(hint).__name__ == "TypeAliasType":  # Python 3.12: type UserId = int
            return self.build(hint.__value__, path)
        if isinstance(hint, typing.TypeVar):
            return self.build(hint.__bound__ or Any, path)
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
        return self._class(hint, kind, path)

    def _tuple(self, arguments: tuple[Any, ...], path: str) -> Codec:
        if not arguments:
            return array(tuple, self.build(Any, path))
        if arguments[-1] is Ellipsis:
            return array(tuple, self.build(arguments[0], path))
        return fixed_tuple([self.build(argument, path) for argument in arguments])

    def _class(self, hint: Any, kind: Any, path: str) -> Codec:
        if kind in SCALARS:
            return SCALARS[kind]
        if typing.is_typeddict(kind):
            return self._once(kind, kind, self._typed_dict, path)
        if isinstance(kind, type):
            if issubclass(kind, enum.Enum):
                return enumeration(kind)
            if issubclass(kind, tuple) and hasattr(kind, "_fields"):
                return self._once(kind, kind, self._named_tuple, path)
            if protobuf.is_message_type(kind):
                return protobuf.codec(kind)
            if foreign.is_model(kind):
                return foreign.model_codec(kind)
            if foreign.has_own_json(kind):
                return foreign.own_codec(kind, plain)
            if dataclasses.is_dataclass(kind):
                return self._once(hint, kind, self._dataclass, path)
        raise InvalidJob(
            f"{path}: values of type {_type_name(hint)} cannot be carried; use one of the types "
            "that towline.serialization lists, give it to_dict() and from_dict(), or override "
            "those of the job"
        )

    def _once(self, hint: Any, kind: Any, make: Callable[[Any, str], Codec], path: str) -> Codec:
        if hint not in self._known:
            made: list[Codec] = []
            self._known[hint] = Codec(
                kind.__name__,
                lambda value, path: made[0].encode(value, path),
                lambda data, path: made[0].decode(data, path),
                kind,
                _keys(kind),
            )
            made.append(make(hint, path))
            self._known[hint] = dataclasses.replace(made[0], kind=kind, keys=_keys(kind))
        return self._known[hint]

    def _dataclass(self, hint: Any, path: str) -> Codec:
        record = Record(hint)
        record.fill(self.build, path)
        return record.codec

    def _named_tuple(self, kind: Any, path: str) -> Codec:
        hints = typing.get_type_hints(kind, include_extras=True)
        items = [
            (name, self.build(hints.get(name, Any), f"{path}.{name}")) for name in kind._fields
        ]
        return named_tuple(kind, items, len(kind._field_defaults))

    def _typed_dict(self, kind: Any, path: str) -> Codec:
        hints = typing.get_type_hints(kind, include_extras=True)
        items = {name: self.build(hint, f"{path}.{name}") for name, hint in hints.items()}
        return typed_dict(kind, items, kind.__required_keys__)


_TRANSPARENT = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final)


def _keys(kind: Any) -> frozenset[str] | None:
    if typing.is_typeddict(kind):
        return frozenset(kind.__required_keys__ | kind.__optional_keys__)
    if dataclasses.is_dataclass(kind):
        return frozenset(field.name for field in dataclasses.fields(kind) if field.init)
    return None


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def record_for(kind: type, path: str) -> Record:
    """Return what converts the fields of a dataclass to JSON and back.

    Raises InvalidJob, naming the field by ``path``, for a type that cannot be carried, and
    NameError when a field is annotated with what is not defined yet.
    """
    record = Record(kind)
    record.fill(_Builder().build, path)
    return record


def codec_for(hint: Any, path: str) -> Codec:
    """Return how values of a type are written and read. Raises as ``record_for``."""
    return _Builder().build(hint, path)


def _key(hint: Any, codec: Codec, path: str) -> Codec:
    """The codec of a key, which JSON has as a string only."""
    if hint is Any:
        return Codec("key", _plain_key, unchanged)
    if hint is int:
        return Codec("int", lambda key, path: str(codec.encode(key, path)), read_int_key)
    if hint in _TEXTUAL or _is_text_enum(hint) or _is_text_literal(hint):
        return codec
    if isinstance(hint, typing.NewType):
        return _key(hint.__supertype__, codec, path)
    raise InvalidJob(f"{path}: keys of type {_type_name(hint)} cannot be carried")


# Written as a string when they are values, too.
_TEXTUAL = frozenset(SCALARS) - {bool, int, float, type(None), timedelta}


def _is_text_enum(hint: Any) -> bool:
    return (
        isinstance(hint, type)
        and issubclass(hint, enum.Enum)
        and not issubclass(hint, enum.Flag)
        and all(isinstance(enum_value(member), str) for member in hint)
    )


def _is_text_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Literal and all(
        isinstance(literal, str) for literal in typing.get_args(hint)
    )

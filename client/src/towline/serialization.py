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

import base64
import binascii
import collections.abc
import dataclasses
import enum
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias
from uuid import UUID

from towline.errors import InvalidJob, InvalidPayload

CONTENT_TYPE = "application/json"

Json: TypeAlias = Any
"""What json.loads returns."""

Convert: TypeAlias = Callable[[Any, str], Any]
"""From a value and its path to the converted value. Raises InvalidPayload."""


@dataclasses.dataclass(frozen=True)
class Codec:
    """Both ways of one declared type; ``name`` is the type as error messages call it."""

    name: str
    encode: Convert
    decode: Convert


def write(value: Any, path: str) -> bytes:
    """Return the JSON text of a value of no declared type.

    Raises InvalidPayload, naming the place by ``path``, for what JSON cannot hold.
    """
    try:
        data = plain(value, path)
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
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


def codec_for(hint: Any, path: str) -> Codec:
    """Return the codec of a declared type.

    Raises InvalidJob, naming ``path``, for a type that cannot be carried, and NameError for a
    forward reference to something that is not defined yet.
    """
    return _Builder().build(hint, path)


def plain(value: Any, path: str) -> Json:
    """Return the JSON of a value of no declared type, by what it is at run time."""
    match value:
        case enum.Enum():
            return plain(value.value, path)
        case None | bool() | str() | int():
            return value
        case float():
            return _finite(value, path)
        case Mapping():
            return {
                _plain_key(key, path): plain(item, f"{path}.{key}") for key, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return codec_for(type(value), path).encode(value, path)
    for kind, codec in _SCALARS.items():
        if isinstance(value, kind):
            return codec.encode(value, path)
    raise InvalidPayload(f"{path}: a {type(value).__name__} cannot be written as JSON")


def _plain_key(key: Any, path: str) -> str:
    written = plain(key, path)
    if isinstance(written, bool) or not isinstance(written, (str, int)):
        raise InvalidPayload(f"{path}: a key must be a string or a whole number, not {_show(key)}")
    return str(written)


def _show(value: object) -> str:
    """A value for an error message. Messages end in logs, so text and bytes stay out of them."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)[:40]
    return f"a value of type {type(value).__name__}"


def _expected(name: str, value: object, path: str) -> InvalidPayload:
    return InvalidPayload(f"{path}: expected {name}, got {_show(value)}")


def _finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise _expected("a finite number", value, path)
    return value


def _float(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _expected("float", value, path)
    try:
        return _finite(float(value), path)
    except OverflowError:
        raise _expected("float", value, path) from None


def _instance(kind: type, *not_of: type) -> Convert:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, kind) or isinstance(value, not_of):
            raise _expected(kind.__name__, value, path)
        return value

    return check


def _unchanged(value: Any, path: str) -> Any:
    return value


def _none(value: Any, path: str) -> None:
    if value is not None:
        raise _expected("None", value, path)


def _same(kind: type, *not_of: type) -> Codec:
    check = _instance(kind, *not_of)
    return Codec(kind.__name__, check, check)


def _text(
    kind: type,
    write: Callable[[Any], str],
    read: Callable[[str], Any],
    *not_of: type,
    expects: str = "",
) -> Codec:
    """A type written as a string."""
    check = _instance(kind, *not_of)
    name = expects or kind.__name__

    def encode(value: Any, path: str) -> str:
        return write(check(value, path))

    def decode(data: Json, path: str) -> Any:
        if not isinstance(data, str):
            raise _expected(f"{name} as a string", data, path)
        try:
            return read(data)
        except (ValueError, InvalidOperation):
            raise _expected(name, data, path) from None

    return Codec(kind.__name__, encode, decode)


def _read_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _encode_timedelta(value: Any, path: str) -> float:
    if not isinstance(value, timedelta):
        raise _expected("timedelta", value, path)
    return value.total_seconds()


def _decode_timedelta(data: Json, path: str) -> timedelta:
    try:
        return timedelta(seconds=_float(data, path))
    except OverflowError:
        raise _expected("timedelta in seconds", data, path) from None


_SCALARS: Mapping[Any, Codec] = {
    str: _same(str),
    bool: _same(bool),
    int: _same(int, bool),
    float: Codec("float", _float, _float),
    type(None): Codec("None", _none, _none),
    datetime: _text(datetime, datetime.isoformat, datetime.fromisoformat, expects="ISO date-time"),
    date: _text(date, date.isoformat, date.fromisoformat, datetime, expects="ISO date"),
    time: _text(time, time.isoformat, time.fromisoformat, expects="ISO time"),
    timedelta: Codec("timedelta", _encode_timedelta, _decode_timedelta),
    UUID: _text(UUID, str, UUID),
    Decimal: _text(Decimal, str, Decimal),
    bytes: _text(bytes, lambda value: base64.b64encode(value).decode(), _read_base64,
                 expects="base64"),
}  # fmt: skip

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
            return Codec("any value", plain, _unchanged)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            return self.build(arguments[0], path)
        if isinstance(hint, typing.NewType):
            return self.build(hint.__supertype__, path)
        if origin in (typing.Union, types.UnionType):
            return _union([self.build(argument, path) for argument in arguments])
        if origin is typing.Literal:
            return _literal(arguments, path)
        kind = origin or hint
        if kind in _ARRAYS:
            item = self.build(arguments[0] if arguments else Any, path)
            return _array(_ARRAYS[kind], item)
        if kind is tuple:
            return self._tuple(arguments, path)
        if kind in _MAPPINGS:
            key, value = arguments or (Any, Any)
            return _mapping(_key(key, self.build(key, path), path), self.build(value, path))
        return self._named(hint, path)

    def _tuple(self, arguments: tuple[Any, ...], path: str) -> Codec:
        if not arguments:
            return _array(tuple, self.build(Any, path))
        if arguments[-1] is Ellipsis:
            return _array(tuple, self.build(arguments[0], path))
        return _fixed_tuple([self.build(argument, path) for argument in arguments])

    def _named(self, hint: Any, path: str) -> Codec:
        if hint in _SCALARS:
            return _SCALARS[hint]
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return _enum(hint, path)
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
            raise _expected(self._kind.__name__, value, path)
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
            raise _expected("an object", data, path)
        arguments = {}
        for field, codec in self._fields:
            if field.name in data:
                arguments[field.name] = codec.decode(data[field.name], f"{path}.{field.name}")
            elif field.default is _MISSING and field.default_factory is _MISSING:
                raise InvalidPayload(f"{path}.{field.name}: is missing and has no default")
        return arguments


def record_for(kind: type, path: str) -> Record:
    """Return what converts the fields of a dataclass. Raises as codec_for does."""
    record = Record(kind)
    record.fill(_Builder(), path)
    return record


def _union(codecs: list[Codec]) -> Codec:
    name = " or ".join(codec.name for codec in codecs)

    def first_that_fits(convert: Callable[[Codec], Convert]) -> Convert:
        def attempt(value: Any, path: str) -> Any:
            failures = []
            for codec in codecs:
                try:
                    return convert(codec)(value, path)
                except InvalidPayload as failure:
                    failures.append(failure)
            # What is wrong deep inside one alternative says more than that none fits.
            deep = [failure for failure in failures if not str(failure).startswith(f"{path}: ")]
            raise deep[0] if len(deep) == 1 else _expected(name, value, path)

        return attempt

    return Codec(
        name,
        first_that_fits(lambda codec: codec.encode),
        first_that_fits(lambda codec: codec.decode),
    )


def _literal(literals: tuple[Any, ...], path: str) -> Codec:
    for literal in literals:
        if not isinstance(literal, (str, int, type(None))) or isinstance(literal, enum.Enum):
            raise InvalidJob(
                f"{path}: a Literal can hold strings, whole numbers, booleans and None"
            )
    name = f"one of {', '.join(map(repr, literals))}"

    def check(value: Any, path: str) -> Any:
        # 1 == True, but they are not the same literal.
        if any(type(value) is type(literal) and value == literal for literal in literals):
            return value
        raise _expected(name, value, path)

    return Codec(name, check, check)


def _enum(kind: type[enum.Enum], path: str) -> Codec:
    members = list(kind)
    if any(not isinstance(member.value, (str, int, float)) for member in members):
        raise InvalidJob(f"{path}: the values of {kind.__name__} must be strings or numbers")
    name = f"one of {', '.join(repr(member.value) for member in members)}"

    def decode(data: Json, path: str) -> enum.Enum:
        for member in members:
            if type(data) is type(member.value) and data == member.value:
                return member
        raise _expected(name, data, path)

    check = _instance(kind)
    return Codec(kind.__name__, lambda value, path: check(value, path).value, decode)


def _array(kind: type, item: Codec) -> Codec:
    # A list serves where a tuple is declared and the other way round: JSON knows no difference.
    accepted = (list, tuple) if kind in (list, tuple) else (set, frozenset)

    def encode(value: Any, path: str) -> list[Json]:
        if not isinstance(value, accepted):
            raise _expected(kind.__name__, value, path)
        return [item.encode(each, f"{path}[{index}]") for index, each in enumerate(value)]

    def decode(data: Json, path: str) -> Any:
        if not isinstance(data, list):
            raise _expected("an array", data, path)
        return kind(item.decode(each, f"{path}[{index}]") for index, each in enumerate(data))

    return Codec(kind.__name__, encode, decode)


def _fixed_tuple(items: list[Codec]) -> Codec:
    name = f"{len(items)} items"

    def convert(value: Any, path: str, converts: list[Convert]) -> list[Any]:
        if not isinstance(value, (list, tuple)) or len(value) != len(items):
            raise _expected(name, value, path)
        pairs = zip(converts, value, strict=True)
        return [each(item, f"{path}[{index}]") for index, (each, item) in enumerate(pairs)]

    encoders = [item.encode for item in items]
    decoders = [item.decode for item in items]
    return Codec(
        "tuple",
        lambda value, path: convert(value, path, encoders),
        lambda data, path: tuple(convert(data, path, decoders)),
    )


def _key(hint: Any, codec: Codec, path: str) -> Codec:
    """The codec of a key, which JSON has as a string only."""
    if hint is Any:
        return Codec("key", _plain_key, _unchanged)
    if hint is int:
        return Codec("int", lambda key, path: str(codec.encode(key, path)), _read_int_key)
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


def _read_int_key(key: Json, path: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise _expected("a whole number as key", key, path) from None


def _mapping(key: Codec, value: Codec) -> Codec:
    def encode(data: Any, path: str) -> dict[str, Json]:
        if not isinstance(data, Mapping):
            raise _expected("dict", data, path)
        return {
            key.encode(name, path): value.encode(item, f"{path}.{name}")
            for name, item in data.items()
        }

    def decode(data: Json, path: str) -> dict[Any, Any]:
        if not isinstance(data, Mapping):
            raise _expected("an object", data, path)
        return {
            key.decode(name, path): value.decode(item, f"{path}.{name}")
            for name, item in data.items()
        }

    return Codec("dict", encode, decode)

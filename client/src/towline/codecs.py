"""Pairs of functions from values to JSON and back, and ways to build larger ones from smaller.

Every one is strict, and raises InvalidPayload naming the path of what does not fit.
"""

import base64
import binascii
import dataclasses
import enum
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeAlias, cast
from uuid import UUID

from towline.errors import InvalidJob, InvalidPayload

Json: TypeAlias = Any
"""What json.loads returns."""

Convert: TypeAlias = Callable[[Any, str], Any]
"""From a value and its path to the converted value. Raises InvalidPayload."""


@dataclasses.dataclass(frozen=True)
class Codec:
    """Both ways of one declared type; ``name`` is the type as error messages call it.

    Of an object with fields, ``kind`` is its class and ``keys`` are the names of its fields.
    """

    name: str
    encode: Convert
    decode: Convert
    kind: type | None = None
    keys: frozenset[str] | None = None


def show(value: object) -> str:
    """A value for an error message. Messages end in logs, so text and bytes stay out of them."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)[:40]
    return f"a value of type {type(value).__name__}"


def expected(name: str, value: object, path: str) -> InvalidPayload:
    return InvalidPayload(f"{path}: expected {name}, got {show(value)}")


def finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise expected("a finite number", value, path)
    return value


def _float(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise expected("float", value, path)
    try:
        return finite(float(value), path)
    except OverflowError:
        raise expected("float", value, path) from None


def _instance(kind: type, *not_of: type) -> Convert:
    def check(value: Any, path: str) -> Any:
        if not isinstance(value, kind) or isinstance(value, not_of):
            raise expected(kind.__name__, value, path)
        return value

    return check


def unchanged(value: Any, path: str) -> Any:
    return value


def _none(value: Any, path: str) -> None:
    if value is not None:
        raise expected("None", value, path)


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
            raise expected(f"{name} as a string", data, path)
        try:
            return read(data)
        except (ValueError, InvalidOperation):
            raise expected(name, data, path) from None

    return Codec(kind.__name__, encode, decode)


def _read_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError from error


_BASE64 = _text(
    bytes, lambda value: base64.b64encode(value).decode(), _read_base64, expects="base64"
)


def _decode_bytes(data: Any, path: str) -> bytes:
    # MessagePack that another program wrote may carry bytes as they are.
    return data if isinstance(data, bytes) else _BASE64.decode(data, path)


_ISO_DATETIME = _text(datetime, datetime.isoformat, datetime.fromisoformat, expects="ISO date-time")


def _decode_datetime(data: Any, path: str) -> datetime:
    # As bytes: MessagePack has timestamps.
    return data if isinstance(data, datetime) else _ISO_DATETIME.decode(data, path)


def _encode_timedelta(value: Any, path: str) -> float:
    if not isinstance(value, timedelta):
        raise expected("timedelta", value, path)
    return value.total_seconds()


def _decode_timedelta(data: Json, path: str) -> timedelta:
    try:
        return timedelta(seconds=_float(data, path))
    except OverflowError:
        raise expected("timedelta in seconds", data, path) from None


SCALARS: Mapping[Any, Codec] = {
    str: _same(str),
    bool: _same(bool),
    int: _same(int, bool),
    float: Codec("float", _float, _float),
    type(None): Codec("None", _none, _none),
    datetime: Codec("datetime", _ISO_DATETIME.encode, _decode_datetime),
    date: _text(date, date.isoformat, date.fromisoformat, datetime, expects="ISO date"),
    time: _text(time, time.isoformat, time.fromisoformat, expects="ISO time"),
    timedelta: Codec("timedelta", _encode_timedelta, _decode_timedelta),
    UUID: _text(UUID, str, UUID),
    Decimal: _text(Decimal, str, Decimal),
    Path: _text(Path, str, Path),
    PurePath: _text(PurePath, str, PurePath),
    PurePosixPath: _text(PurePosixPath, str, PurePosixPath),
    bytes: Codec("bytes", _BASE64.encode, _decode_bytes),
}


def union(codecs: list[Codec]) -> Codec:
    """The first alternative that fits, as written; of several objects with fields the one whose
    class the value has, and whose fields are best those of what is read."""
    name = " or ".join(codec.name for codec in codecs)
    one_object = sum(codec.keys is not None for codec in codecs) < 2

    def by_class(value: Any) -> list[Codec]:
        return sorted(codecs, key=lambda codec: codec.kind is not type(value))

    def by_keys(data: Json) -> list[Codec]:
        keys = data.keys() if isinstance(data, Mapping) else frozenset()

        def strangeness(codec: Codec) -> int:
            if codec.keys is None or codec.keys == keys:
                return 0
            return 1 if keys <= codec.keys else 2

        return sorted(codecs, key=strangeness)

    def first_that_fits(order: Callable[[Any], list[Codec]], *, encoding: bool) -> Convert:
        def attempt(value: Any, path: str) -> Any:
            failures = []
            for codec in codecs if one_object else order(value):
                try:
                    return (codec.encode if encoding else codec.decode)(value, path)
                except InvalidPayload as failure:
                    failures.append(failure)
            # What is wrong deep inside one alternative says more than that none fits.
            deep = [failure for failure in failures if not str(failure).startswith(f"{path}: ")]
            raise deep[0] if len(deep) == 1 else expected(name, value, path)

        return attempt

    return Codec(
        name,
        first_that_fits(by_class, encoding=True),
        first_that_fits(by_keys, encoding=False),
    )


def literal(literals: tuple[Any, ...], path: str) -> Codec:
    for allowed in literals:
        if not isinstance(allowed, (str, int, type(None))) or isinstance(allowed, enum.Enum):
            raise InvalidJob(
                f"{path}: a Literal can hold strings, whole numbers, booleans and None"
            )
    name = f"one of {', '.join(map(repr, literals))}"

    def check(value: Any, path: str) -> Any:
        # 1 == True, but they are not the same literal.
        if any(type(value) is type(allowed) and value == allowed for allowed in literals):
            return value
        raise expected(name, value, path)

    return Codec(name, check, check)


def enum_value(member: enum.Enum) -> Json:
    """A member as JSON: its value, or its name where not every value of the enum is a scalar."""
    return member.value if _has_scalars(type(member)) else member.name


def _has_scalars(kind: type[enum.Enum]) -> bool:
    return all(isinstance(member.value, (str, int, float)) for member in kind)


def enumeration(kind: type[enum.Enum]) -> Codec:
    if issubclass(kind, enum.Flag):
        return _flags(kind)
    written = [(member, enum_value(member)) for member in kind]
    name = f"one of {', '.join(repr(value) for _, value in written)}"

    def decode(data: Json, path: str) -> enum.Enum:
        for member, value in written:
            if type(data) is type(value) and data == value:
                return member
        raise expected(name, data, path)

    check = _instance(kind)
    return Codec(kind.__name__, lambda value, path: enum_value(check(value, path)), decode)


def _flags(kind: type[enum.Flag]) -> Codec:
    """Flags can be combined, so that a value need not be that of one member."""
    whole, check = _instance(int, bool), _instance(kind)

    def decode(data: Json, path: str) -> enum.Flag:
        try:
            return kind(whole(data, path))
        except ValueError:
            raise expected(f"flags of {kind.__name__}", data, path) from None

    return Codec(kind.__name__, lambda value, path: check(value, path).value, decode)


def array(kind: type, item: Codec) -> Codec:
    # A list serves where a tuple is declared and the other way round: JSON knows no difference.
    accepted = (list, tuple) if kind in (list, tuple) else (set, frozenset)

    def encode(value: Any, path: str) -> list[Json]:
        if not isinstance(value, accepted):
            raise expected(kind.__name__, value, path)
        return [item.encode(each, f"{path}[{index}]") for index, each in enumerate(value)]

    def decode(data: Json, path: str) -> Any:
        if not isinstance(data, list):
            raise expected("an array", data, path)
        return kind(item.decode(each, f"{path}[{index}]") for index, each in enumerate(data))

    return Codec(kind.__name__, encode, decode)


def fixed_tuple(items: list[Codec]) -> Codec:
    name = f"{len(items)} items"

    def convert(value: Any, path: str, converts: list[Convert]) -> list[Any]:
        if not isinstance(value, (list, tuple)) or len(value) != len(items):
            raise expected(name, value, path)
        pairs = zip(converts, value, strict=True)
        return [each(item, f"{path}[{index}]") for index, (each, item) in enumerate(pairs)]

    encoders = [item.encode for item in items]
    decoders = [item.decode for item in items]
    return Codec(
        "tuple",
        lambda value, path: convert(value, path, encoders),
        lambda data, path: tuple(convert(data, path, decoders)),
    )


def named_tuple(kind: type, items: Sequence[tuple[str, Codec]], defaults: int) -> Codec:
    """A NamedTuple as an array, whose last ``defaults`` items may be missing when it is read."""

    def encode(value: Any, path: str) -> list[Json]:
        if not isinstance(value, kind):
            raise expected(kind.__name__, value, path)
        pairs = zip(items, cast(tuple[Any, ...], value), strict=True)
        return [codec.encode(item, f"{path}.{name}") for (name, codec), item in pairs]

    def decode(data: Json, path: str) -> Any:
        if not isinstance(data, list) or not len(items) - defaults <= len(data) <= len(items):
            raise expected(f"an array of {len(items)} items", data, path)
        pairs = zip(items, data, strict=False)
        return kind(*(codec.decode(item, f"{path}.{name}") for (name, codec), item in pairs))

    return Codec(kind.__name__, encode, decode)


def typed_dict(kind: type, items: Mapping[str, Codec], required: frozenset[str]) -> Codec:
    """A TypedDict as an object; keys that it does not declare are passed over when it is read."""

    def convert(data: Any, path: str, converts: Mapping[str, Convert]) -> dict[str, Any]:
        missing = sorted(required - data.keys())
        if missing:
            raise InvalidPayload(f"{path}.{missing[0]}: is missing")
        return {
            name: each(data[name], f"{path}.{name}")
            for name, each in converts.items()
            if name in data
        }

    def encode(value: Any, path: str) -> dict[str, Json]:
        if not isinstance(value, Mapping):
            raise expected(f"{kind.__name__}, a dict", value, path)
        unknown = value.keys() - items.keys()
        if unknown:
            raise InvalidPayload(f"{path}: {kind.__name__} has no key {min(map(repr, unknown))}")
        return convert(value, path, encoders)

    def decode(data: Json, path: str) -> dict[str, Any]:
        if not isinstance(data, Mapping):
            raise expected("an object", data, path)
        return convert(data, path, decoders)

    encoders = {name: item.encode for name, item in items.items()}
    decoders = {name: item.decode for name, item in items.items()}
    return Codec(kind.__name__, encode, decode)


def read_int_key(key: Json, path: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise expected("a whole number as key", key, path) from None


def mapping(key: Codec, value: Codec) -> Codec:
    def encode(data: Any, path: str) -> dict[str, Json]:
        if not isinstance(data, Mapping):
            raise expected("dict", data, path)
        return {
            key.encode(name, path): value.encode(item, f"{path}.{name}")
            for name, item in data.items()
        }

    def decode(data: Json, path: str) -> dict[Any, Any]:
        if not isinstance(data, Mapping):
            raise expected("an object", data, path)
        return {
            key.decode(name, path): value.decode(item, f"{path}.{name}")
            for name, item in data.items()
        }

    return Codec("dict", encode, decode)

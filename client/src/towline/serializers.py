"""How the values of a job become bytes and back: JSON by default, MessagePack, or your own way.

A serializer writes JSON values (None, bool, int, float, str, lists, and dicts with strings as keys)
and reads them again; towline.serialization turns the fields of a job into such values. Which
serializer wrote a payload stands in its content type, and a reader takes the one of its own that
has this content type: no other is tried, and nothing is imported because a payload says so.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from towline.errors import ConfigurationError, InvalidPayload
from towline.serialization import CONTENT_TYPE, plain

__all__ = ["JsonSerializer", "MsgpackSerializer", "Serializer", "Serializers"]


@runtime_checkable
class Serializer(Protocol):
    """Turns JSON values into bytes and back. What it raises makes a job invalid."""

    @property
    def content_type(self) -> str:
        """The media type that it writes, such as ``application/cbor``; no parameters."""

    def dumps(self, value: Any, /) -> bytes: ...

    def loads(self, data: bytes, /) -> Any: ...


class JsonSerializer:
    """JSON in UTF-8, without NaN and infinity."""

    content_type = CONTENT_TYPE

    def dumps(self, value: Any, /) -> bytes:
        return b"null" if value is None else _ENCODER.encode(value).encode()

    def loads(self, data: bytes, /) -> Any:
        # An object is told from one in UTF-16 or UTF-32 by its second byte, and needs no search for
        # how it is written, nor a decoder of its own.
        if data[:1] == b"{" and data[1:2] != b"\0":
            return _DECODER.decode(data.decode("utf-8", "surrogatepass"))
        return json.loads(data, parse_constant=_refuse_constant)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


class MsgpackSerializer:
    """MessagePack, which is smaller and read faster: the extra ``towline[msgpack]``.

    It writes the values that JSON has; whole numbers have at most 64 bits. What else others write,
    bytes and timestamps, is read where a field is declared so; extensions are refused. Raises
    ConfigurationError when the extra is not installed.
    """

    content_type = "application/msgpack"

    def __init__(self) -> None:
        try:
            import msgpack  # type: ignore[import-untyped]
        except ImportError:
            raise ConfigurationError(
                "MsgpackSerializer: needs the package msgpack: pip install 'towline[msgpack]'"
            ) from None
        self._dumps = msgpack.packb
        self._loads = msgpack.unpackb

    def dumps(self, value: Any, /) -> bytes:
        packed: bytes = self._dumps(value)
        return packed

    def loads(self, data: bytes, /) -> Any:
        return self._loads(data, timestamp=_AS_DATETIME, ext_hook=_refuse_extension)


_AS_DATETIME = 3


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension {code}")


JSON = JsonSerializer()

# A producer that names no content type is given the second of these by the contract.
_UNTOLD = frozenset({"", "application/octet-stream"})
# Other names in use.
_SAME = {
    "text/json": CONTENT_TYPE,
    "application/vnd.msgpack": MsgpackSerializer.content_type,
    "application/x-msgpack": MsgpackSerializer.content_type,
}


class Serializers:
    """What a client or a worker reads: its own serializers, JSON, and MessagePack if installed.

    Of two with the same content type the one that is given first is used. Raises
    ConfigurationError, naming ``setting``, for what is no serializer.
    """

    def __init__(self, own: Iterable[Serializer] = (), *, setting: str = "serializers") -> None:
        self._readers: dict[str, Serializer] = {}
        for serializer in (*_listed(own, setting), *_standard()):
            check_serializer(serializer, setting)
            self._readers.setdefault(serializer.content_type, serializer)

    def find(self, content_type: str) -> Serializer | None:
        """Return the serializer of a content type; JSON for one that tells nothing."""
        if content_type == JSON.content_type:
            return self._readers[content_type]
        kind = media_type(content_type)
        if not tells_anything(kind):
            return self._readers[JSON.content_type]
        found = self._readers.get(_SAME.get(kind, kind))
        if found is None and kind.endswith("+json"):
            return self._readers[JSON.content_type]
        return found

    def refusal(self, content_type: str) -> str:
        """Say, of a content type that is not found, what is read here and what would help."""
        kind = media_type(content_type)
        missing = "MsgpackSerializer needs the extra: pip install 'towline[msgpack]'"
        if _SAME.get(kind, kind) != MsgpackSerializer.content_type:
            missing = "another one needs a serializer: Worker(serializers=[...])"
        return f"{content_type[:128]!r}, expected one of {', '.join(self._readers)}; {missing}"


def _listed(own: object, setting: str) -> Iterable[Any]:
    if isinstance(own, Iterable) and not isinstance(own, (str, bytes)):
        return own
    raise ConfigurationError(f"{setting}: expected a list of serializers, got {own!r}")


@functools.cache
def _standard() -> tuple[Serializer, ...]:
    # Found out once, before anything is read.
    if importlib.util.find_spec("msgpack") is None:
        return (JSON,)
    return JSON, MsgpackSerializer()


@functools.cache
def standard() -> Serializers:
    return Serializers()


def check_serializer(value: object, setting: str) -> Serializer:
    """Return a serializer. Raises ConfigurationError, naming ``setting``, for anything else."""
    if isinstance(value, type):
        raise ConfigurationError(
            f"{setting}: expected a serializer, got a class: {value.__name__}()"
        )
    if not isinstance(value, Serializer) or not isinstance(value.content_type, str):
        raise ConfigurationError(
            f"{setting}: expected a serializer, with content_type, dumps() and loads(), "
            f"got {value!r}"
        )
    if value.content_type != media_type(value.content_type) or "/" not in value.content_type:
        raise ConfigurationError(
            f"{setting}: the content_type must be a media type in small letters without "
            f"parameters, such as 'application/cbor', not {value.content_type!r}"
        )
    return value


def tells_anything(content_type: str) -> bool:
    """Whether a content type says how something is written."""
    return media_type(content_type) not in _UNTOLD


@functools.lru_cache(maxsize=256)  # asked for each payload; what is asked comes from outside
def media_type(content_type: str) -> str:
    """Return a content type without its parameters, in small letters."""
    return content_type.partition(";")[0].strip().lower()


def write(value: Any, path: str, serializer: Serializer = JSON) -> bytes:
    """Return a value of no declared type as bytes.

    Raises InvalidPayload, naming the place by ``path``, for what cannot be written.
    """
    try:
        data = serializer.dumps(value if _is_plain(value) else plain(value, path))
    except InvalidPayload:
        raise
    except RecursionError:
        raise InvalidPayload(f"{path}: nested too deeply, or contains itself") from None
    except Exception as error:
        raise InvalidPayload(
            f"{path}: cannot be written as {_name(serializer)}: {_reason(serializer, error)}"
        ) from None
    if not isinstance(data, bytes):
        raise InvalidPayload(
            f"{path}: dumps() of the serializer of {serializer.content_type} returned a "
            f"{type(data).__name__}, expected bytes"
        )
    return data


_PLAIN = frozenset({str, int, bool, type(None)})


def _is_plain(value: Any) -> bool:
    """Whether it is JSON as it is: what most arguments and results are."""
    if type(value) is dict:
        return _ONLY_STRINGS.issuperset(map(type, value)) and _PLAIN.issuperset(
            map(type, value.values())
        )
    return type(value) in _PLAIN


_ONLY_STRINGS = frozenset({str})


def read(data: bytes, path: str, serializer: Serializer = JSON) -> Any:
    """Return the value that bytes say. Raises InvalidPayload, naming ``path``, if malformed."""
    try:
        return serializer.loads(data)
    except RecursionError:
        raise InvalidPayload(f"{path}: is nested too deeply") from None
    except Exception as error:
        raise InvalidPayload(
            f"{path}: is no valid {_name(serializer)}: {_reason(serializer, error)}"
        ) from None


def _name(serializer: Serializer) -> str:
    return "JSON" if serializer.content_type == JSON.content_type else serializer.content_type


def _reason(serializer: Serializer, error: Exception) -> str:
    # Of another's messages it is not known whether they quote the data.
    return str(error) if isinstance(serializer, JsonSerializer) else type(error).__name__

"""Lengths of time and counts of bytes as people write them in a configuration."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import ByteSize, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic import ValidationError as Unreadable
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from towline_broker.domain.time import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Micros

_UNITS: dict[str, Micros] = {
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "min": MINUTE,
    "h": HOUR,
    "d": DAY,
}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*")

_SIZES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
_BYTES = TypeAdapter(ByteSize)


@dataclass(frozen=True)
class Duration:
    """Of a number of microseconds, in an annotation: it is set as a length of time.

    ``Annotated[Micros, Duration(0, 1 * HOUR)]``
    """

    least: Micros
    most: Micros

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        # Written as text with a unit, which is read again; the bare number would be seconds.
        return core_schema.no_info_before_validator_function(
            self.parse,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                self.written, when_used="json"
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        number = {"type": "number", "minimum": self.least / SECOND, "maximum": self.most / SECOND}
        pattern = r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?\s*(ms|s|min|m|h|d)\s*)+)\s*$"
        return {
            "anyOf": [{"type": "string", "pattern": pattern}, number],
            "examples": ["500ms", "30s", "1h30m"],
        }

    def parse(self, value: object) -> Micros:
        """Raises ValueError."""
        return span(self.least, self.most)(value)

    def written(self, micros: Micros) -> str:
        """As it would stand in a file."""
        return in_units(micros)

    @property
    def bounds(self) -> str:
        return f"{in_units(self.least)} to {in_units(self.most)}"


@dataclass(frozen=True)
class Bytes:
    """Of a :class:`pydantic.ByteSize`, in an annotation: its bounds, in bytes."""

    least: int
    most: int

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                in_bytes, when_used="json"
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        number = {"type": "integer", "minimum": self.least, "maximum": self.most}
        pattern = r"^\s*\d+(\.\d+)?\s*([KMGTkmgt]?[iI]?[bB]?)\s*$"
        return {
            "anyOf": [{"type": "string", "pattern": pattern}, number],
            "examples": [65536, "64KiB", "16MiB"],
        }

    @property
    def bounds(self) -> str:
        least, most = (
            size if isinstance(size, str) else f"{size}B"
            for size in map(in_bytes, (self.least, self.most))
        )
        return f"{least} to {most}"

    def _parse(self, value: object) -> ByteSize:
        size = parse_size(value)
        if not self.least <= size <= self.most:
            raise ValueError(f"{value!r}: expected {self.bounds}")
        return size


def parse_duration(value: object) -> Micros:
    """A number of seconds, or text such as ``90``, ``10m``, ``1h30m`` or ``500ms``.

    Raises ValueError, saying what was expected.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _parse_text(str(value))
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return round(value * SECOND)
    raise _no_duration(value)


def span(least: Micros, most: Micros) -> Callable[[object], Micros]:
    """A parser of durations within these bounds."""

    def parse(value: object) -> Micros:
        micros = parse_duration(value)
        if not least <= micros <= most:
            raise ValueError(f"{value!r}: expected {in_units(least)} to {in_units(most)}")
        return micros

    return parse


def parse_size(value: object) -> ByteSize:
    """A number of bytes, or text such as ``512``, ``64KiB`` or ``1.5 GB``.

    Raises ValueError, saying what was expected.
    """
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return _BYTES.validate_python(value)
        except Unreadable:
            pass
    raise ValueError(f"{value!r} is no size: write bytes, or text such as '64KiB', '16MiB'")


def in_units(micros: Micros) -> str:
    """The inverse of :func:`parse_duration`, in the largest unit that gives a whole number."""
    for name in ("d", "h", "m", "s"):
        if micros and micros % _UNITS[name] == 0:
            return f"{micros // _UNITS[name]}{name}"
    return f"{Decimal(micros) / MILLISECOND:f}ms" if micros else "0s"


def in_bytes(size: int) -> int | str:
    """The inverse of :func:`parse_size`, in the largest unit that gives a whole number."""
    for name, unit in _SIZES.items():
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return int(size)


def _parse_text(text: str) -> Micros:
    total, end = 0.0, 0
    while part := _PART.match(text, end):
        total += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    if end == 0 or end != len(text):
        raise _no_duration(text)
    return round(total)


def _no_duration(value: Any) -> ValueError:
    return ValueError(
        f"{value!r} is no length of time: write seconds, or text such as '10m', '1h30m', '500ms'"
    )

"""Checking the values of a request one by one, and gathering all that is wrong with it."""

import math
import re
from collections.abc import Sequence, Sized

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from towline_broker.domain import names
from towline_broker.domain.errors import InvalidField
from towline_broker.domain.time import Micros
from towline_broker.services.times import from_duration, from_timestamp, in_words
from towline_broker.status import MAX_VIOLATIONS, InvalidRequest

_VISIBLE = re.compile(r"[!-~]*", re.ASCII)
_PRINTABLE = re.compile(r"[ -~]*", re.ASCII)

is_name = names.is_name
is_uuid = names.is_uuid

NAME_FORM = names.NAME_FORM


class Checks:
    """What is wrong with one request, by the paths of its fields."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[InvalidField] = []

    def wrong(self, path: str, description: str) -> None:
        self.found.append(InvalidField(path, description))

    @property
    def enough(self) -> bool:
        """More could not be told."""
        return len(self.found) >= MAX_VIOLATIONS

    def finish(self) -> None:
        """Raises InvalidRequest if anything was found."""
        if self.found:
            raise InvalidRequest(self.found)

    def name(self, value: str, path: str) -> None:
        if not is_name(value):
            if not value:
                self.wrong(path, f"is required: {NAME_FORM}")
            else:
                self.wrong(path, f"is {quoted(value)}; expected {NAME_FORM}")

    def uuid(self, value: str, path: str) -> None:
        if not is_uuid(value):
            form = "a UUID of 36 lower-case characters"
            if not value:
                self.wrong(path, f"is required: {form}")
            else:
                self.wrong(path, f"is {quoted(value)}; expected {form}")

    def ids(self, values: Sequence[str], path: str, most: int) -> None:
        self.count(values, path, most)
        for index, value in enumerate(values[:most]):
            if not is_uuid(value) and not self.enough:
                self.uuid(value, f"{path}[{index}]")

    def caller_id(self, value: str, path: str, most: int, *, spaces: bool = False) -> None:
        form = _PRINTABLE if spaces else _VISIBLE
        if len(value) > most or not form.fullmatch(value):
            kind = "printable ASCII" if spaces else "printable ASCII without spaces"
            self.wrong(path, f"is {quoted(value)}; expected at most {most} bytes of {kind}")

    def size(self, size: int, path: str, most: int) -> None:
        if size > most:
            self.wrong(path, f"has {size} bytes; at most {most} are allowed")

    def count(self, items: Sized, path: str, most: int, least: int = 1) -> None:
        if not least <= len(items) <= most:
            self.wrong(path, f"has {len(items)} entries; expected {least} to {most}")

    def whole(self, value: int, path: str, most: int, least: int = 1) -> None:
        if not least <= value <= most:
            self.wrong(path, f"is {value}; expected {least} to {most}")

    def real(self, value: float, path: str, least: float, most: float) -> None:
        if math.isnan(value) or not least <= value <= most:
            self.wrong(path, f"is {value:g}; expected {least:g} to {most:g}")

    def duration(
        self, value: Duration, path: str, most: Micros, least: Micros = 0, *, zero: bool = True
    ) -> Micros:
        """``zero`` False: the duration must be longer than nothing."""
        try:
            micros = from_duration(value)
        except ValueError as error:
            self.wrong(path, str(error))
            return least
        if not least <= micros <= most or not (zero or micros):
            low = in_words(least) if zero else "more than 0 s"
            self.wrong(path, f"is {in_words(micros)}; expected {low} to {in_words(most)}")
        return micros

    def moment(self, value: Timestamp, path: str) -> Micros:
        try:
            return from_timestamp(value)
        except ValueError as error:
            self.wrong(path, str(error))
            return 0


def quoted(value: str) -> str:
    """A value from the caller as it may stand in a message: short, and without line breaks."""
    return ascii(value) if len(value) <= 64 else f"{value[:64]!a}... ({len(value)} characters)"

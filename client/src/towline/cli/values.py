"""What people type for durations, times, JSON and weighted queues. Errors name the option."""

import json
import re
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

from towline.cli.exits import UsageError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def seconds(text: str, option: str) -> float:
    """Return the seconds that "30s", "5m", "1h30m", "250ms", "2d" or a bare number says."""
    text = text.strip().lower()
    if _NUMBER.fullmatch(text):
        value = float(text)
    elif _DURATION.fullmatch(text):
        value = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        raise UsageError(
            f"{option}: {text!r} is no duration: write it like 30s, 5m, 1h30m or 2d, or as seconds"
        )
    try:
        timedelta(seconds=value)
    except OverflowError:
        raise UsageError(f"{option}: {text!r} is longer than can be counted") from None
    return value


def optional_seconds(text: str | None, option: str) -> float | None:
    return None if text is None else seconds(text, option)


def moment(text: str, option: str, now: datetime) -> datetime:
    """Return the time that a duration ("1h": an hour before ``now``) or an ISO 8601 time says.

    A time without an offset is local time.
    """
    try:
        return now - timedelta(seconds=seconds(text, option))
    except UsageError:
        pass
    except OverflowError:
        raise UsageError(f"{option}: {text!r} ago is before the first day that counts") from None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option}: {text!r} is no time: write how long ago, like 30m or 2d, "
            "or a time like 2026-03-01T08:00"
        ) from None


def json_argument(argument: str) -> bytes:
    """Return the JSON in the argument, in ``@file`` or on standard input (``-``), as it is."""
    where, data = "JSON", argument.encode(errors="surrogateescape")
    if argument == "-":
        where, data = "standard input", sys.stdin.buffer.read()
    elif argument.startswith("@"):
        where = argument[1:]
        try:
            data = Path(where).read_bytes()
        except OSError as error:
            raise UsageError(f"JSON: cannot read {where!r}: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig").strip()
        json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: {_position(error)}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: byte {error.start + 1} is not UTF-8") from None
    except RecursionError:
        raise UsageError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    return text.encode()


def _position(error: json.JSONDecodeError) -> str:
    if not error.doc.strip():
        return "is empty; JSON is expected, such as '{}'"
    around = error.doc[max(0, error.pos - 15) : error.pos + 15].replace("\n", " ")
    return (
        f"not valid JSON at line {error.lineno}, column {error.colno}, near {around!r}: "
        f"{error.msg[0].lower()}{error.msg[1:]}"
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def weighted_queues(texts: list[str]) -> list[str] | dict[str, int]:
    """Return the queues of ``Q`` (strict order) or of ``Q=WEIGHT`` (each with its weight)."""
    weights: dict[str, int] = {}
    for text in texts:
        name, equals, weight = text.partition("=")
        if name in weights:
            raise UsageError(f"--queue: {name!r} is named twice")
        if equals and not (weight.isascii() and weight.isdigit() and int(weight)):
            raise UsageError(f"--queue: the weight in {text!r} must be a number of at least 1")
        weights[name] = int(weight) if equals else 0
    if all(weights.values()):
        return weights
    if any(weights.values()):
        bare = next(name for name, weight in weights.items() if not weight)
        raise UsageError(f"--queue: give every queue a weight or none; {bare!r} has none")
    return list(weights)


def ids_argument(ids: list[str]) -> list[str]:
    """Return the ids; a single ``-`` stands for those on standard input."""
    if ids == ["-"]:
        ids = sys.stdin.read().split()
        if not ids:
            raise UsageError("IDS: standard input holds none")
    return list(dict.fromkeys(ids))

"""What can be said about a job besides its arguments, and the checks of it.

The same options are policy when a Job class or ``@job`` sets them, and say otherwise for one
dispatch when they are given there.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypedDict
from uuid import UUID

from towline.durations import Seconds, as_timedelta
from towline.errors import InvalidJob
from towline.serializers import Serializer


@dataclass(frozen=True)
class Exponential:
    """A delay that grows: ``initial x multiplier^(failures - 1)``, but never more than ``maximum``.

    ``initial`` and ``maximum`` are seconds or timedeltas. Raises InvalidJob for impossible values.
    """

    initial: Seconds = 1.0
    multiplier: float = 2.0
    maximum: Seconds = 600.0

    def __post_init__(self) -> None:
        as_timedelta(self.initial, "Exponential.initial")
        as_timedelta(self.maximum, "Exponential.maximum")
        multiplier: object = self.multiplier
        if not isinstance(multiplier, (int, float)) or not 1 <= multiplier < math.inf:
            raise InvalidJob(
                f"Exponential.multiplier: expected a number of at least 1, got {multiplier!r}"
            )


Backoff: TypeAlias = Seconds | Sequence[Seconds] | Exponential
"""The time between a failure and the next attempt: one delay, one for each failure in turn (the
last one repeats), or Exponential."""


class PolicyOptions(TypedDict, total=False):
    """Policy of a job. An option that is not set, or None, leaves the default of the broker."""

    queue: str | None
    priority: int | None
    max_attempts: int | None
    backoff: Backoff | None
    jitter: float | None
    timeout: Seconds | None
    delay: Seconds | None
    expires_in: Seconds | None
    retention: Seconds | None
    unique_key: str | Callable[[Any], str | None] | None
    unique_for: Seconds | None
    display_name: str | Callable[[Any], str | None] | None


ErrorTypes: TypeAlias = type[BaseException] | Sequence[type[BaseException]]
"""An exception class or several."""


class JobOptions(PolicyOptions, total=False):
    """What @job takes: policy, and what else a Job class can say or override."""

    job_aliases: Sequence[str]
    retry_on: ErrorTypes
    dead_on: ErrorTypes
    serializer: Serializer | None
    should_retry: Callable[[BaseException], bool]
    next_retry_delay: Callable[[int, BaseException], Seconds | None]


class DispatchOptions(TypedDict, total=False):
    """Options of one dispatch; they come before the policy of the job.

    queue         the line in which the job waits (default "default")
    delay         not before this long from now
    at            not before this time, a datetime with a time zone; instead of delay
    priority      higher leaves first (default 0)
    max_attempts  attempts in all, 1 for no retry (default 3)
    backoff       seconds, a list of seconds, or Exponential (default Exponential())
    jitter        random share of the backoff that is added to it, 0 to 1 (default 0.1)
    timeout       how long one attempt may run
    expires_in    dead if not started within this time
    retention     how long the job stays readable after it succeeded (default 0)
    unique_key    while the key is held in the queue, a further job with it is not stored
    unique_for    how long the key is held (default: until the job has ended)
    headers       strings handed to the worker as they are
    id            a UUID; makes a dispatch that is repeated by the program safe

    Durations are seconds or timedeltas. An option that is None counts as not given.
    """

    queue: str | None
    delay: Seconds | None
    at: datetime | None
    priority: int | None
    max_attempts: int | None
    backoff: Backoff | None
    jitter: float | None
    timeout: Seconds | None
    expires_in: Seconds | None
    retention: Seconds | None
    unique_key: str | None
    unique_for: Seconds | None
    display_name: str | None
    headers: Mapping[str, str] | None
    id: str | UUID | None


POLICY_NAMES: tuple[str, ...] = tuple(PolicyOptions.__annotations__)
DISPATCH_NAMES: tuple[str, ...] = tuple(DispatchOptions.__annotations__)
_LIST = ", ".join(DISPATCH_NAMES)

# Length and size are limits that an operator can change, so the broker judges those.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*", re.ASCII)
_INT32 = 2**31


def check_name(value: object, where: str) -> str:
    """Return the name of a queue or type. Raises InvalidJob naming ``where``."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise InvalidJob(
        f"{where}: expected a name of letters, digits and . _ : - that starts with a letter or "
        f"digit, got {value!r}"
    )


def as_text(value: str, where: str) -> str:
    """Return a string that can be sent. Raises InvalidJob, naming ``where``, for any other."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidJob(f"{where}: is no text: it holds half of a surrogate pair") from None
    return value


def check_options(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options that are set, durations as timedeltas and ids as strings.

    Raises InvalidJob, naming ``where`` and the option, for one that is unknown or impossible.
    """
    checked = {}
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            meant = called_here(name)
            raise InvalidJob(
                f"{where}: there is no option {name!r}"
                + (f": did you mean {meant}?" if meant else f"; there are {_LIST}")
            )
        if value is not None:
            checked[name] = check(value, f"{where}.{name}")
    if "delay" in checked and "at" in checked:
        raise InvalidJob(f"{where}: delay and at cannot both be given")
    return checked


_ELSEWHERE = {
    "tries": "'max_attempts'",
    "max_tries": "'max_attempts'",
    "max_retries": "'max_attempts', which counts the first attempt too: retries + 1",
    "retries": "'max_attempts', which counts the first attempt too: retries + 1",
    "retry_delay": "'backoff'",
    "default_retry_delay": "'backoff'",
    "retry_backoff": "'backoff'",
    "retry_backoff_max": "'backoff', such as Exponential(maximum=...)",
    "min_backoff": "'backoff', such as Exponential(initial=...), in seconds",
    "max_backoff": "'backoff', such as Exponential(maximum=...), in seconds",
    "retry_jitter": "'jitter'",
    "countdown": "'delay'",
    "eta": "'at'",
    "run_at": "'at'",
    "defer_by": "'delay'",
    "_defer_by": "'delay'",
    "defer_until": "'at'",
    "_defer_until": "'at'",
    "time_limit": "'timeout'",
    "soft_time_limit": "'timeout'",
    "job_timeout": "'timeout'",
    "expires": "'expires_in'",
    "max_age": "'expires_in'",
    "result_ttl": "'retention'",
    "keep_result": "'retention'",
    "task_id": "'id'",
    "_job_id": "'unique_key'",
    "unique_id": "'unique_key'",
    "autoretry_for": "'retry_on'",
    "throws": "'dead_on'",
    "queue_name": "'queue'",
}


def called_here(name: str) -> str:
    """Return what an option that other job libraries have is called here; empty if it is none."""
    return _ELSEWHERE.get(name, "")


def as_error_types(value: object, where: str) -> tuple[type[BaseException], ...]:
    """Return exception classes as a tuple. Raises InvalidJob, naming ``where``."""
    kinds = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise InvalidJob(f"{where}: expected exception classes, got {kind!r}")
    return kinds


def _whole(low: int, high: int, remark: str = "") -> Callable[[object, str], int]:
    def check(value: object, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidJob(
                f"{where}: expected a whole number from {low} to {high}{remark}, got {value!r}"
            )
        return value

    return check


def _some_time(value: object, where: str) -> timedelta:
    duration = as_timedelta(value, where)
    if not duration:  # elsewhere the way to say that there is no limit
        raise InvalidJob(f"{where}: expected more than 0 seconds, got {value!r}; None is no limit")
    return duration


def _share(value: object, where: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise InvalidJob(f"{where}: expected a number from 0 to 1, got {value!r}")
    return float(value)


def _backoff(value: object, where: str) -> list[timedelta] | Exponential:
    if isinstance(value, Exponential):
        return value
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if not value:
            raise InvalidJob(f"{where}: expected delays, got an empty list")
        return [as_timedelta(delay, f"{where}[{index}]") for index, delay in enumerate(value)]
    if isinstance(value, (int, float, timedelta)):
        return [as_timedelta(value, where)]
    hint = "; for delays of your own override next_retry_delay()" if callable(value) else ""
    raise InvalidJob(
        f"{where}: expected seconds, a timedelta, a list of them or Exponential, got {value!r}"
        + hint
    )


def _aware(value: object, where: str) -> datetime:
    if not isinstance(value, datetime):
        raise InvalidJob(f"{where}: expected a datetime, got {value!r}")
    if value.utcoffset() is None:
        raise InvalidJob(
            f"{where}: {value!r} has no time zone, so it names no moment; use for example "
            "datetime.now(timezone.utc) or .astimezone()"
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidJob(f"{where}: {value!r} is beyond the years 1 to 9999 in UTC") from None


def _unique_key(value: object, where: str) -> object:
    if callable(value) or isinstance(value, property):
        return value
    if isinstance(value, str) and value:
        return as_text(value, where)
    raise InvalidJob(f"{where}: expected a string that is not empty, got {value!r}")


def _display_name(value: object, where: str) -> object:
    if callable(value) or isinstance(value, property):
        return value
    if isinstance(value, str):
        return as_text(shown_name(value), where)
    raise InvalidJob(f"{where}: expected a string, got {value!r}")


DISPLAY_NAME_HEADER = "towline-display-name"
"""The header in which the display name of a job travels."""


def shown_name(text: str) -> str:
    """Return a display name as it is shown: one line of at most 128 characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())[:128]


def display_name_of(type: str, headers: Mapping[str, str]) -> str:
    """Return what a job is called that travels with these headers: its type if it has no name."""
    return shown_name(headers.get(DISPLAY_NAME_HEADER, "")) or type


def _headers(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidJob(f"{where}: expected a mapping of strings, got {value!r}")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise InvalidJob(f"{where}: expected strings, got {key!r}: {type(item).__name__}")
        as_text(key, where)
        as_text(item, f"{where}[{key!r}]")
    return dict(value)


def _id(value: object, where: str) -> str:
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise InvalidJob(f"{where}: expected a UUID, got {value!r}") from None


_CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    "queue": check_name,
    "delay": as_timedelta,
    "at": _aware,
    "priority": _whole(-_INT32, _INT32 - 1),
    "max_attempts": _whole(1, _INT32 - 1, " (1 is no retry)"),
    "backoff": _backoff,
    "jitter": _share,
    "timeout": _some_time,
    "expires_in": _some_time,
    "retention": as_timedelta,
    "unique_key": _unique_key,
    "unique_for": _some_time,
    "display_name": _display_name,
    "headers": _headers,
    "id": _id,
}

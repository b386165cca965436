"""What can be set for a queue, or for all queues whose names fit a pattern."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from towline_broker.core import queue_options as core
from towline_broker.core.queue_options import FOREVER
from towline_broker.domain.retry import DelayList, ExponentialBackoff
from towline_broker.domain.time import DAY, MILLISECOND, SECOND, Micros
from towline_broker.server.configuration.marks import AT_START, LIVE, Place, Section
from towline_broker.server.configuration.quantities import Duration, in_units
from towline_broker.services.limits import Limits

_QUEUE_NAME = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._:*-]{0,127}", re.ASCII)
_FOREVER = "forever"


def _queue_name(text: str) -> str:
    if not _QUEUE_NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no queue's name: expected 1 to 128 of A-Z a-z 0-9 . _ : -, beginning "
            "with a letter or digit, and * for any text"
        )
    return text


@dataclass(frozen=True)
class Keep(Duration):
    """Of a number of microseconds, in an annotation: a length of time, or for ever."""

    def parse(self, value: object) -> Micros:
        if value == _FOREVER:
            return FOREVER
        try:
            return super().parse(value)
        except ValueError:
            expected = f"expected a length of time, {self.bounds}"
            raise ValueError(f"{value!r}: {expected}") from None

    def written(self, micros: Micros) -> str:
        return _FOREVER if micros == FOREVER else super().written(micros)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        lengths = super().__get_pydantic_json_schema__(schema, handler)
        return {**lengths, "anyOf": [{"const": _FOREVER}, *lengths["anyOf"]]}

    @property
    def bounds(self) -> str:
        return f'{super().bounds}, or "{_FOREVER}"'


QueueName = Annotated[str, AfterValidator(_queue_name)]
Depth = Annotated[int, Field(ge=1)]
Attempts = Annotated[int, Field(ge=1, le=1_000_000)]
Multiplier = Annotated[float, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[Micros, Duration(0, 366 * DAY)]
Term = Annotated[Micros, Duration(100 * MILLISECOND, 366 * DAY)]
Timeout = Annotated[Micros, Duration(1 * MILLISECOND, 366 * DAY)]
DeadKept = Annotated[Micros, Keep(1 * SECOND, 3_660 * DAY)]


class RetrySettings(Section):
    """What happens when an attempt of a job fails, as far as the job does not say it itself."""

    max_attempts: Attempts | None = None
    """Attempts in all: 1 means no retry."""
    delays: list[Length] | None = None
    """The time between each failure in turn and the next attempt; the last one repeats."""
    initial: Length | None = None
    """The time after the first failure; each further one is ``multiplier`` times as long."""
    multiplier: Multiplier | None = None
    """By how much it grows with each failure."""
    maximum: Length | None = None
    """The longest that it becomes."""
    jitter: Share | None = None
    """Up to this share of the time is added to it at random."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.delays == []:
            raise ValueError("delays: expected one at least")
        growing = [name for name in ("initial", "multiplier", "maximum") if getattr(self, name)]
        if self.delays is not None and growing:
            raise ValueError(f"delays and {growing[0]} exclude each other: set one or the other")
        return self

    @property
    def backoff(self) -> DelayList | ExponentialBackoff | None:
        if self.delays is not None:
            return DelayList(tuple(self.delays))
        growing = {
            name: value
            for name in ("initial", "multiplier", "maximum")
            if (value := getattr(self, name)) is not None
        }
        return ExponentialBackoff(**growing) if growing else None


class QueueOptions(Section):
    """What is set for a queue, or for all whose names fit a pattern. What is not set comes from a
    pattern that counts less, or from the settings of the broker."""

    store: Annotated[str | None, AT_START] = None
    """The name of the store in which the queue is made."""
    max_depth: Annotated[Depth | None, LIVE] = None
    """Live jobs; beyond it Push is refused. Without it, core.max_queue_depth."""
    lease: Annotated[Term | None, LIVE] = None
    """The lease of a Reserve that asks for none. Without it, core.default_lease."""
    retry: Annotated[RetrySettings, LIVE] = RetrySettings()
    """The retry policy of jobs that say none."""
    timeout: Annotated[Timeout | None, LIVE] = None
    """How long one attempt of a job that says nothing may run; its worker sees to that."""
    retention: Annotated[Length | None, LIVE] = None
    """How long a job that says nothing stays readable as a whole after it has ended."""
    dead_letters: Annotated[bool | None, LIVE] = None
    """false: jobs that are dead are deleted at once."""
    dead_letter_retention: Annotated[DeadKept | None, LIVE] = None
    """Dead jobs are deleted that long after their death."""
    paused: Annotated[bool | None, LIVE] = None
    """true: Reserve gets nothing from it for as long as this is set."""

    def to_core(self) -> core.QueueOptions:
        return core.QueueOptions(
            max_attempts=self.retry.max_attempts,
            backoff=self.retry.backoff,
            jitter=self.retry.jitter,
            timeout=self.timeout,
            retention=self.retention,
            max_depth=self.max_depth,
            lease=self.lease,
            dead_letters=self.dead_letters,
            dead_letter_retention=self.dead_letter_retention,
            paused=self.paused,
        )


def beyond_limits(
    queues: Mapping[str, QueueOptions], limits: Limits
) -> Iterator[tuple[Place, str]]:
    """Options that a job or a Reserve could not ask for, and so no queue may give."""
    least, most = limits.min_lease, limits.max_lease
    for name, options in queues.items():
        lease = options.lease
        if lease is not None and not least <= lease <= most:
            yield (
                ("queues", name, "lease"),
                f"is {in_units(lease)}; limits.min_lease and limits.max_lease allow "
                f"{in_units(least)} to {in_units(most)}",
            )
        for place, length in _lengths(options):
            if length is not None and length > limits.period:
                allowed = f"limits.period allows {in_units(limits.period)}"
                yield ("queues", name, *place), f"is {in_units(length)}; {allowed}"
        for option, number, limit, highest in _numbers(options.retry, limits):
            if number is not None and number > highest:
                yield (
                    ("queues", name, "retry", option),
                    f"is {number:g}; limits.{limit} allows {highest:g}",
                )


def _lengths(options: QueueOptions) -> Iterator[tuple[Place, Micros | None]]:
    yield ("timeout",), options.timeout
    yield ("retention",), options.retention
    yield ("retry", "initial"), options.retry.initial
    yield ("retry", "maximum"), options.retry.maximum
    yield ("retry", "delays"), max(options.retry.delays or [0])


def _numbers(
    retry: RetrySettings, limits: Limits
) -> Iterator[tuple[str, float | None, str, float]]:
    yield "max_attempts", retry.max_attempts, "max_attempts", limits.max_attempts
    yield "multiplier", retry.multiplier, "retry_multiplier", limits.retry_multiplier
    yield "delays", len(retry.delays or ()), "retry_delays", limits.retry_delays

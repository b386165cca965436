"""Metrics of OpenTelemetry: how long dispatches and attempts take, and how many end how."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from towline.middleware import conventions
from towline.middleware.conventions import (
    DESTINATION,
    JOB_TYPE,
    OPERATION,
    OPERATION_TYPE,
    OUTCOME,
    SYSTEM,
    Attributes,
)
from towline.middleware.interface import AttemptEnd

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from towline.middleware.outgoing import OutgoingJob

_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# Jobs run longer than calls.
_RUN_SECONDS = (*_CALL_SECONDS, 30, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """Metrics by OpenTelemetry's conventions for messaging; needs ``towline[otel]``.

        messaging.client.operation.duration   s, histogram: one dispatch or dispatch_batch
        messaging.client.sent.messages        counter: jobs that were handed to the broker
        messaging.process.duration            s, histogram: one attempt
        messaging.client.consumed.messages    counter: attempts
        towline.job.attempts                  counter: attempts by towline.job.outcome: succeeded,
                                              retried, dead, released, cancelled, lost

    All have the queue as ``messaging.destination.name``, those of attempts the type of the job as
    ``towline.job.type``, and failed ones the class of the exception as ``error.type``. None has an
    id. Without a ``meter_provider`` the global one is used. Raises ConfigurationError when the
    OpenTelemetry API is not installed.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        metrics = conventions.opentelemetry("opentelemetry.metrics")
        meter = metrics.get_meter("towline", meter_provider=meter_provider)
        self._push_duration = meter.create_histogram(
            "messaging.client.operation.duration",
            unit="s",
            description="Duration of messaging operation initiated by a producer or consumer.",
            explicit_bucket_boundaries_advisory=_CALL_SECONDS,
        )
        self._sent = meter.create_counter(
            "messaging.client.sent.messages",
            unit="{message}",
            description="Number of messages that were handed to the broker.",
        )
        self._process_duration = meter.create_histogram(
            "messaging.process.duration",
            unit="s",
            description="Duration of processing operation.",
            explicit_bucket_boundaries_advisory=_RUN_SECONDS,
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages",
            unit="{message}",
            description="Number of messages that were delivered to the application.",
        )
        self._attempts = meter.create_counter(
            "towline.job.attempts",
            unit="{attempt}",
            description="Number of attempts that ended, by outcome.",
        )

    def push(self, jobs: Sequence[OutgoingJob]) -> Iterator[None]:
        began = time.monotonic()
        failed: Attributes = {}
        try:
            yield
        except BaseException as error:
            failed = conventions.error_type(error)
            raise
        finally:
            attributes = conventions.push_attributes(jobs) | failed
            self._push_duration.record(time.monotonic() - began, attributes)
            for queue, number in Counter(job.queue for job in jobs).items():
                sent: Attributes = {SYSTEM: "towline", OPERATION: "push", DESTINATION: queue}
                self._sent.add(number, sent | failed)

    def ended(self, end: AttemptEnd) -> None:
        attributes = conventions.process_attributes(end.context)
        failed = conventions.error_type(end.error)
        self._process_duration.record(end.seconds, attributes | failed)
        counted = {key: attributes[key] for key in attributes if key != OPERATION_TYPE}
        self._consumed.add(1, counted | failed)
        outcome: Attributes = {key: attributes[key] for key in (SYSTEM, DESTINATION, JOB_TYPE)}
        self._attempts.add(1, outcome | {OUTCOME: str(end.outcome)} | failed)

"""What tracing and metrics have in common: names of OpenTelemetry's messaging conventions."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from towline.context import JobContext
from towline.control import Release
from towline.errors import ConfigurationError

if TYPE_CHECKING:
    from towline.middleware.outgoing import OutgoingJob

Attributes: TypeAlias = dict[str, str | int | bool]

SYSTEM = "messaging.system"
OPERATION = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
MESSAGE_ID = "messaging.message.id"
BATCH = "messaging.batch.message_count"
BODY_SIZE = "messaging.message.body.size"
ERROR_TYPE = "error.type"
JOB_TYPE = "towline.job.type"
JOB_ATTEMPT = "towline.job.attempt"
JOB_DISPLAY_NAME = "towline.job.display_name"
OUTCOME = "towline.job.outcome"


def opentelemetry(module: str) -> Any:
    """Import a module of the API. Raises ConfigurationError that names the extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "middleware: Tracing and Metrics need the API of OpenTelemetry: "
            f"pip install 'towline[otel]' ({error})"
        ) from error


def push_attributes(jobs: Sequence[OutgoingJob]) -> Attributes:
    """The queue only if there is but one: it is what tells series and names of spans apart."""
    attributes: Attributes = {SYSTEM: "towline", OPERATION: "push", OPERATION_TYPE: "send"}
    queues = {job.queue for job in jobs}
    if len(queues) == 1:
        attributes[DESTINATION] = queues.pop()
    return attributes


def process_attributes(context: JobContext) -> Attributes:
    return {
        SYSTEM: "towline",
        OPERATION: "process",
        OPERATION_TYPE: "process",
        DESTINATION: context.queue,
        JOB_TYPE: context.type,
    }


def error_type(error: BaseException | None) -> Attributes:
    """That a job gave itself back is no error."""
    if error is None or isinstance(error, Release):
        return {}
    return {ERROR_TYPE: type(error).__name__}

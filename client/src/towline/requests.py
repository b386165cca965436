"""What a producer sends, and what it reads from the answers; nothing here does any I/O.

Client and AsyncClient differ in how they call, and share the rest from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeAlias, Unpack
from uuid import UUID
from weakref import WeakKeyDictionary

from google.protobuf.message import DecodeError, Message

from towline import protobuf
from towline.durations import as_timedelta
from towline.errors import (
    BrokerError,
    CallFailed,
    InvalidArgument,
    InvalidJob,
    Violation,
)
from towline.ids import uuid7
from towline.jobs import Job, JobFunction, definition_of
from towline.options import (
    DISPATCH_NAMES,
    DISPLAY_NAME_HEADER,
    DispatchOptions,
    Exponential,
    as_text,
    check_name,
    check_options,
)
from towline.registry import DEFAULT_QUEUE, Encoded, JobDefinition
from towline.serializers import JSON, Serializer, write
from towline.v1 import job_pb2, queue_service_pb2

Data: TypeAlias = Mapping[str, Any] | Message
"""What goes with the name of a type: its arguments by name, or a protobuf message."""

MAX_JOBS = 1000
"""Jobs in one Push."""

MAX_BYTES = 3 * 1024 * 1024
"""Jobs in one Push together, in bytes, unless a single one is larger. gRPC servers and proxies take
4 MiB by default."""


class JobRequest:
    """A job together with options of its own, for dispatch_batch.

    ``job`` is a Job, or a type name with its ``data``. Raises InvalidJob for impossible options and
    InvalidPayload for data that cannot be carried, when it is dispatched.
    """

    def __init__(
        self,
        job: Job | str,
        data: Data | None = None,
        /,
        **options: Unpack[DispatchOptions],
    ) -> None:
        self.job = job
        self.data = data
        self.options = options


class PreparedJob:
    """A job that is checked and encoded, with its id, and not pushed yet: see Client.prepare.

    Dispatch it as you would the job itself; dispatching it again makes no second job. ``bytes()``
    of it can be stored, and made a PreparedJob again by ``from_bytes``: in any process, by any
    client of any version. A delay counts from its dispatch.
    """

    def __init__(self, message: job_pb2.Job) -> None:
        self.message = message

    def __repr__(self) -> str:
        return f"<PreparedJob {self.id}: {self.message.type} to {self.message.queue}>"

    def __bytes__(self) -> bytes:
        return self.message.SerializeToString()

    @property
    def id(self) -> str:
        return self.message.id

    @classmethod
    def from_bytes(cls, data: bytes) -> PreparedJob:
        """Raises InvalidJob for bytes that are no job."""
        message = job_pb2.Job()
        try:
            message.ParseFromString(data)
        except (DecodeError, TypeError):
            message.Clear()
        if not message.id or not message.type:
            raise InvalidJob("PreparedJob.from_bytes: expected what bytes() of a PreparedJob gave")
        return cls(message)


Dispatchable: TypeAlias = Job | JobRequest | PreparedJob
"""What can be dispatched as it is."""


def job_message(
    job: object,
    data: Data | None,
    arguments: Mapping[str, Any],
    serializer: Serializer = JSON,
) -> job_pb2.Job:
    """Return the message for what a user hands to dispatch.

    ``arguments`` are options, and for a function also its own arguments. Raises InvalidJob or
    InvalidPayload.
    """
    if isinstance(job, JobFunction):
        call, options = _split(job, data, arguments)
        return _of_job(job.job(**call), options, serializer)
    if isinstance(job, str):
        return _of_type(job, data, arguments, serializer)
    if data is not None:
        raise InvalidJob("data goes with the name of a type; a Job has its own")
    if isinstance(job, PreparedJob):
        if arguments:
            raise InvalidJob("a prepared job takes no options: they were given to prepare()")
        message = job_pb2.Job()
        message.CopyFrom(job.message)  # middleware may change it, each time it is dispatched
        return message
    if isinstance(job, JobRequest):
        merged = _overridden(arguments, job.options)
        return job_message(job.job, job.data, merged, serializer)
    if isinstance(job, Job):
        return _of_job(job, arguments, serializer)
    if isinstance(job, type) and issubclass(job, Job):
        raise InvalidJob(f"{job.__name__} is a class: dispatch an instance, {job.__name__}(...)")
    raise InvalidJob(
        f"expected a Job, a function with @job or the name of a type, got a {type(job).__name__}"
    )


def raw_message(
    queue: str, type: str, payload: bytes, content_type: str, options: Mapping[str, Any]
) -> job_pb2.Job:
    """Return the message for a payload of the caller's own making. Raises InvalidJob."""
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        raise InvalidJob(f"{type}: the payload must be bytes, got a {payload.__class__.__name__}")
    if not isinstance(content_type, str):
        raise InvalidJob(f"{type}: the content_type must be a string, got {content_type!r}")
    checked = dispatch_options({**options, "queue": queue}, type)
    encoded = Encoded(bytes(payload), as_text(content_type, "content_type"))
    return _build(check_name(type, "type"), encoded, checked)


def dispatch_options(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """check_options, for one dispatch: functions of the job belong to definitions."""
    checked = check_options(options, where)
    for name in ("unique_key", "display_name"):
        if not isinstance(checked.get(name, ""), str):
            raise InvalidJob(f"{where}.{name}: expected a string, got a function")
    return checked


def _split(
    function: JobFunction[..., Any],
    data: Data | None,
    arguments: Mapping[str, Any],
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Tell the arguments of a function from the options of dispatch."""
    name = function.job_class.job_type
    if protobuf.is_message(data) and len(function.parameters) == 1:
        return {function.parameters[0]: data}, arguments
    if data is not None:
        return _arguments(data, name), arguments
    for option in DISPATCH_NAMES:
        if option in arguments and option in function.parameters:
            raise InvalidJob(
                f"{name}: {option!r} is an argument of the function and an option of dispatch; "
                f"write dispatch({name}.job({option}=...))"
            )
    call = {key: value for key, value in arguments.items() if key not in DISPATCH_NAMES}
    return call, {key: value for key, value in arguments.items() if key in DISPATCH_NAMES}


def _of_type(
    type: str, data: Data | None, options: Mapping[str, Any], serializer: Serializer
) -> job_pb2.Job:
    name = check_name(type, "type")
    if protobuf.is_message(data):
        encoded = Encoded(protobuf.write(data, name), protobuf.CONTENT_TYPE)
    else:
        arguments = {} if data is None else _arguments(data, name)
        encoded = Encoded(write(arguments, name, serializer), serializer.content_type)
    return _build(name, encoded, dispatch_options(options, name))


def _arguments(data: object, type: str) -> dict[str, Any]:
    if isinstance(data, Mapping) and all(isinstance(key, str) for key in data):
        return dict(data)
    raise InvalidJob(f"{type}: the data must be a dict with strings as keys, or a protobuf message")


def _overridden(options: Mapping[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of which some are said otherwise; delay and at say the same thing."""
    given = {name: value for name, value in by.items() if value is not None}
    start = {"delay", "at"} if given.keys() & {"delay", "at"} else set()
    return {name: value for name, value in options.items() if name not in start} | given


def _of_job(job: Job, options: Mapping[str, Any], serializer: Serializer) -> job_pb2.Job:
    definition = definition_of(job)
    if not options and (policy := _policy_of(definition)) is not None:
        queue = {"queue": policy.queue}
        return _build(definition.type, definition.encode(job, serializer), queue, policy)
    merged = _overridden(definition.options, dispatch_options(options, definition.type))
    for name in ("unique_key", "display_name"):
        if not isinstance(merged.get(name, ""), str):
            del merged[name]
            merged.update(dispatch_options({name: _own(job, name)}, definition.name))
    if "unique_key" in definition.options and "unique_key" not in merged:
        merged.pop("unique_for", None)
    return _build(definition.type, definition.encode(job, serializer), merged)


_policies: WeakKeyDictionary[JobDefinition, job_pb2.Job | None] = WeakKeyDictionary()


def _policy_of(definition: JobDefinition) -> job_pb2.Job | None:
    """What the class says of each of its jobs, made once; None if it asks the job itself."""
    try:
        return _policies[definition]
    except KeyError:
        pass
    options, policy = definition.options, None
    if all(isinstance(options.get(name, ""), str) for name in ("unique_key", "display_name")):
        policy = job_pb2.Job(
            queue=options.get("queue", DEFAULT_QUEUE),
            priority=options.get("priority", 0),
            unique_key=options.get("unique_key") or "",
        )
        _set_policy(policy, options)
    _policies[definition] = policy
    return policy


def _own(job: Job, name: str) -> object:
    """What a method or property of the job returns."""
    value: Any = getattr(job, name)
    return value() if callable(value) else value


def _build(
    type: str, encoded: Encoded, options: Mapping[str, Any], policy: job_pb2.Job | None = None
) -> job_pb2.Job:
    """``policy`` is what all that is not in ``options`` comes from, if it is made already."""
    message = job_pb2.Job(
        id=options.get("id") or uuid7(),
        queue=options.get("queue", DEFAULT_QUEUE),
        type=type,
        payload=encoded.data,
        content_type=encoded.content_type,
        headers=options.get("headers"),
        priority=options.get("priority", 0),
        unique_key=options.get("unique_key") or "",
    )
    if policy is None:
        _set_policy(message, options)
    else:
        message.MergeFrom(policy)
    return message


def _set_policy(message: job_pb2.Job, options: Mapping[str, Any]) -> None:
    for name in ("delay", "timeout", "expires_in", "retention", "unique_for"):
        if name in options:
            getattr(message, name).FromTimedelta(options[name])
    if options.get("display_name"):
        message.headers[DISPLAY_NAME_HEADER] = options["display_name"]
    if "at" in options:
        message.run_at.FromDatetime(options["at"])
    if "max_attempts" in options:
        message.retry.max_attempts = options["max_attempts"]
    if "jitter" in options:
        message.retry.jitter = options["jitter"]
    if "backoff" in options:
        _set_backoff(message.retry, options["backoff"])


def _set_backoff(policy: job_pb2.RetryPolicy, backoff: list[timedelta] | Exponential) -> None:
    if isinstance(backoff, Exponential):
        policy.exponential.initial.FromTimedelta(as_timedelta(backoff.initial, "initial"))
        policy.exponential.multiplier = backoff.multiplier
        policy.exponential.max.FromTimedelta(as_timedelta(backoff.maximum, "maximum"))
    else:
        for delay in backoff:
            policy.delays.delays.add().FromTimedelta(delay)


@dataclass(frozen=True)
class Pushed:
    """Where a job went: its id, and whether this call stored it.

    ``content_type`` is how it was written, as far as that is known; else empty.
    """

    job_id: str
    created: bool
    content_type: str = ""


def push_one(message: job_pb2.Job) -> queue_service_pb2.PushRequest:
    return queue_service_pb2.PushRequest(jobs=[message])


def read_push_one(response: queue_service_pb2.PushResponse, message: job_pb2.Job) -> Pushed:
    """Raises BrokerError when the answer does not fit the request."""
    [result] = read_push(response, 1)
    return read_pushed(result, message)


def read_pushed(result: queue_service_pb2.PushResult, message: job_pb2.Job) -> Pushed:
    created = result.outcome == queue_service_pb2.PUSH_OUTCOME_CREATED
    return Pushed(result.job_id, created, message.content_type if created else "")


def read_push(
    response: queue_service_pb2.PushResponse, expected: int
) -> Sequence[queue_service_pb2.PushResult]:
    if len(response.results) != expected:
        raise BrokerError(
            f"the broker answered with {len(response.results)} results for {expected} jobs"
        )
    return response.results


def check_id(job_id: object) -> str:
    """Return the id of a job that is asked about. Raises InvalidJob for what can be none."""
    if isinstance(job_id, UUID):
        return str(job_id)
    if isinstance(job_id, str):
        return as_text(job_id, "job_id")
    raise InvalidJob(f"job_id: expected a UUID or a string of one, got {job_id!r}")


def get_request(job_id: str | UUID, wait: float) -> queue_service_pb2.GetJobRequest:
    """``wait``: seconds for which the broker holds the answer back until the job has ended."""
    request = queue_service_pb2.GetJobRequest(id=check_id(job_id))
    if wait > 0:
        request.wait.FromTimedelta(timedelta(seconds=wait))
    return request


class CancelOutcome(StrEnum):
    """What came of cancelling a job."""

    UNKNOWN = "UNKNOWN"
    """An outcome that this version of the SDK does not know."""
    CANCELLED = "CANCELLED"
    ALREADY_ENDED = "ALREADY_ENDED"
    """It had succeeded or was dead; nothing changed."""
    NOT_FOUND = "NOT_FOUND"


_CANCEL_OUTCOMES = {
    queue_service_pb2.CANCEL_OUTCOME_CANCELLED: CancelOutcome.CANCELLED,
    queue_service_pb2.CANCEL_OUTCOME_ALREADY_ENDED: CancelOutcome.ALREADY_ENDED,
    queue_service_pb2.CANCEL_OUTCOME_NOT_FOUND: CancelOutcome.NOT_FOUND,
}


def cancel_requests(
    job_ids: Sequence[str | UUID],
) -> Iterator[queue_service_pb2.CancelJobRequest]:
    ids = [check_id(job_id) for job_id in job_ids]
    for start in range(0, len(ids), MAX_JOBS):
        yield queue_service_pb2.CancelJobRequest(ids=ids[start : start + MAX_JOBS])


def read_cancel(response: queue_service_pb2.CancelJobResponse) -> dict[str, CancelOutcome]:
    return {
        result.job_id: _CANCEL_OUTCOMES.get(result.outcome, CancelOutcome.UNKNOWN)
        for result in response.results
    }


_JOB_IN_REQUEST = re.compile(r"jobs\[(\d+)\]\.?")


def relocated(error: CallFailed, start: int | None = None) -> CallFailed:
    """Return the error of a Push with paths of fields that say what its caller knows.

    ``start`` is the place in the batch of the first job of the request; None: it had but one.
    """
    if not isinstance(error, InvalidArgument):
        return error

    def place(match: re.Match[str]) -> str:
        if start is None:
            return ""
        return match[0].replace(match[1], str(start + int(match[1])), 1)

    violations = tuple(
        Violation(_JOB_IN_REQUEST.sub(place, violation.field, count=1), violation.description)
        for violation in error.violations
    )
    if not violations:
        return error
    return InvalidArgument.of(violations, error.reason)

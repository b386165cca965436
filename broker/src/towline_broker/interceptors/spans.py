"""What a span tells of a call: names of OpenTelemetry's conventions for messaging and for RPCs.

https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/. Never a payload, a result,
or a lease token, with which the job could be settled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Attributes: TypeAlias = dict[str, str | int]
Headers: TypeAlias = Mapping[str, str]

QUEUE_SERVICE = "/towline.v1.QueueService/"
#: Method to the kind of operation.
OPERATIONS = {
    QUEUE_SERVICE + "Push": "send",
    QUEUE_SERVICE + "Reserve": "receive",
    QUEUE_SERVICE + "Ack": "settle",
    QUEUE_SERVICE + "Nack": "settle",
}


@dataclass(frozen=True, slots=True)
class About:
    """``headers``: those of its jobs, which tell who created them."""

    name: str
    attributes: Attributes
    headers: Sequence[Headers] = field(default_factory=list)


def about(method: str, request: Any, reply: Any) -> About | None:
    """``reply``: None of a call that failed. None: not worth a span, for a Reserve that found
    nothing only looked, and workers look all the time."""
    attributes: Attributes = {"rpc.system.name": "grpc", "rpc.method": method.removeprefix("/")}
    kind = OPERATIONS.get(method)
    if kind is None:
        return About(method.removeprefix("/"), attributes)
    operation = method.rpartition("/")[2].lower()
    attributes |= {
        "messaging.system": "towline",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
    }
    match operation:
        case "push":
            ids = [result.job_id for result in reply.results] if reply is not None else []
            queues = {job.queue or "default" for job in request.jobs}
            headers = [job.headers for job in request.jobs]
            return _of_jobs(operation, attributes, queues, ids, len(request.jobs), headers)
        case "reserve":
            leases = reply.leases if reply is not None else []
            if reply is not None and not leases:
                return None
            if request.worker_id:
                attributes["messaging.client.id"] = request.worker_id
            queues = {lease.job.queue for lease in leases}
            queues = queues or {choice.name for choice in request.queues}
            ids = [lease.job.id for lease in leases]
            headers = [lease.job.headers for lease in leases]
            return _of_jobs(operation, attributes, queues, ids, len(ids), headers)
        case _:
            tokens = [item.lease_token for item in getattr(request, operation + "s")]
            # queue/job/grant, as core.tokens writes it
            parts = [token.split("/") for token in tokens if token.count("/") == 2]
            queues, ids = {part[0] for part in parts}, [part[1] for part in parts]
            return _of_jobs(operation, attributes, queues, ids, len(tokens), [])


def _of_jobs(
    operation: str,
    attributes: Attributes,
    queues: set[str],
    ids: Sequence[str],
    count: int,
    headers: Sequence[Headers],
) -> About:
    """The queue and the job only if there is but one."""
    name = operation
    if len(queues) == 1:
        queue = next(iter(queues))
        attributes["messaging.destination.name"] = queue
        name = f"{operation} {queue}"
    if count != 1:
        attributes["messaging.batch.message_count"] = count
    elif ids:
        attributes["messaging.message.id"] = ids[0]
    return About(name, attributes, headers)


def distinct(headers: Iterable[Headers], fields: Iterable[str], most: int) -> list[Headers]:
    """Those of ``headers`` that differ in these fields, of which they have one at least."""
    names = tuple(fields)
    found: dict[tuple[str | None, ...], Headers] = {}
    for each in headers:
        key = tuple(each.get(name) for name in names)
        if any(key) and key not in found:
            found[key] = each
            if len(found) == most:
                break
    return list(found.values())

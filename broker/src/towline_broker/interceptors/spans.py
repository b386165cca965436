"""What a span tells of a call: names of OpenTelemetry's conventions for messaging and for RPCs.

https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from collections.abc import Iterable
from typing import TypeAlias

from towline_broker.interceptors.subjects import PUSH, RESERVE, SETTLING, Headers, Subject

Attributes: TypeAlias = dict[str, str | int]

#: Method to the kind of operation.
OPERATIONS = {PUSH: "send", RESERVE: "receive", **dict.fromkeys(SETTLING, "settle")}


def name_and_attributes(method: str, subject: Subject) -> tuple[str, Attributes]:
    """The queue and the job only if there is but one."""
    name = method.removeprefix("/")
    attributes: Attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    if method not in OPERATIONS:
        return name, attributes
    name = operation = method.rpartition("/")[2].lower()
    attributes |= {
        "messaging.system": "towline",
        "messaging.operation.name": operation,
        "messaging.operation.type": OPERATIONS[method],
    }
    if len(subject.queues) == 1:
        attributes["messaging.destination.name"] = subject.queues[0]
        name = f"{operation} {subject.queues[0]}"
    if subject.count != 1:
        attributes["messaging.batch.message_count"] = subject.count or 0
    elif subject.jobs:
        attributes["messaging.message.id"] = subject.jobs[0]
    if subject.worker:
        attributes["messaging.client.id"] = subject.worker
    return name, attributes


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

"""What a call is about: its queues, its jobs, its worker. For logs and for traces.

Never a payload, a result, or a lease token, with which the job could be settled.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from towline_broker.domain.encoded import looked_into

Headers: TypeAlias = Mapping[str, str]

QUEUE_SERVICE = "/towline.v1.QueueService/"
PUSH = QUEUE_SERVICE + "Push"
RESERVE = QUEUE_SERVICE + "Reserve"
#: Methods whose items name leases, and the field with the items.
SETTLING = {
    QUEUE_SERVICE + "Ack": "acks",
    QUEUE_SERVICE + "Nack": "nacks",
    QUEUE_SERVICE + "Heartbeat": "leases",
}


@dataclass(frozen=True, slots=True)
class Subject:
    #: Each once, in the order of the call.
    queues: Sequence[str] = ()
    #: Ids, as far as the call names or was told them.
    jobs: Sequence[str] = ()
    #: Jobs or leases of a call that may bring or get several.
    count: int | None = None
    worker: str = ""
    #: Of the jobs themselves.
    headers: Sequence[Headers] = field(default_factory=list)


def subject_of(method: str, request: Any, reply: Any) -> Subject:
    """``reply``: None of a call that failed."""
    request, reply = looked_into(request), looked_into(reply)
    if method == PUSH:
        return Subject(
            queues=_once(job.queue or "default" for job in request.jobs),
            jobs=[result.job_id for result in reply.results] if reply is not None else (),
            count=len(request.jobs),
            headers=[job.headers for job in request.jobs],
        )
    if method == RESERVE:
        leases = reply.leases if reply is not None else ()
        return Subject(
            queues=_once(lease.job.queue for lease in leases)
            or _once(choice.name for choice in request.queues),
            jobs=[lease.job.id for lease in leases],
            count=len(leases),
            worker=request.worker_id,
            headers=[lease.job.headers for lease in leases],
        )
    if method in SETTLING:
        tokens = [item.lease_token for item in getattr(request, SETTLING[method])]
        # queue/job/grant, as core.tokens writes it
        parts = [token.split("/") for token in tokens if token.count("/") == 2]
        return Subject(
            queues=_once(part[0] for part in parts),
            jobs=[part[1] for part in parts],
            count=len(tokens),
            worker=getattr(request, "worker_id", ""),
        )
    queue, job = getattr(request, "queue", ""), getattr(request, "id", "")
    return Subject(
        queues=[queue] if queue else (),
        jobs=[job] if job else (),
        worker=getattr(request, "worker_id", ""),
    )


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))

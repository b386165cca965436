"""Reading a Reserve, and handing over what it was granted."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc

from towline.v1.queue_service_pb2 import ReserveRequest, ReserveResponse
from towline_broker.core.broker import Broker
from towline_broker.core.calls import QueueWeight, ReserveCall
from towline_broker.domain.answers import answer_grows
from towline_broker.domain.encoded import Encoded
from towline_broker.domain.identity import credentials_end_at, current_identity
from towline_broker.domain.jobs import Leased
from towline_broker.domain.time import MILLISECOND, Micros, from_seconds
from towline_broker.services.checks import Checks
from towline_broker.services.limits import Limits
from towline_broker.services.wire.leases import LeaseWriter, fitting

Context = grpc.aio.ServicerContext[Any, Any]

#: A parked call is answered this long before its own deadline, so that the answer is in time.
REPLY_MARGIN: Micros = 250 * MILLISECOND


def wait_within_deadline(wait: Micros, context: Context) -> Micros:
    """No call waits for longer than its caller, or than its credentials last: it is answered, and
    the caller comes again, with new ones if it has them."""
    ends_at = credentials_end_at()
    if ends_at is not None:
        wait = max(0, min(wait, from_seconds(ends_at - time.time())))
    # None without a deadline, whatever the type says.
    seconds: Any = context.time_remaining()
    return wait if seconds is None else max(0, min(wait, from_seconds(seconds) - REPLY_MARGIN))


def read_reserve(request: ReserveRequest, limits: Limits) -> ReserveCall:
    """Raises InvalidRequest."""
    checks = Checks()
    queues = _queues(request, limits, checks)
    max_jobs = request.max_jobs or 1
    checks.whole(max_jobs, "max_jobs", limits.batch)
    wait, lease = 0, None
    if request.HasField("wait"):
        wait = checks.duration(request.wait, "wait", limits.wait)
    if request.HasField("lease"):
        lease = checks.duration(request.lease, "lease", limits.max_lease, limits.min_lease)
    checks.caller_id(request.worker_id, "worker_id", limits.caller_id_bytes)
    checks.caller_id(request.request_id, "request_id", limits.caller_id_bytes, spaces=True)
    checks.finish()
    return ReserveCall(
        *(queues, max_jobs, wait, lease, request.worker_id, request.request_id),
        holder=current_identity().mark,
        max_bytes=limits.message_bytes - limits.job_bytes,
    )


def _queues(request: ReserveRequest, limits: Limits, checks: Checks) -> list[QueueWeight]:
    checks.count(request.queues, "queues", limits.queues_per_reserve)
    if len(request.queues) == 1 and not request.queues[0].weight:
        name = request.queues[0].name
        checks.name(name, "queues[0].name")
        return [QueueWeight(name)]
    weighted = any(choice.weight for choice in request.queues)
    seen: dict[str, int] = {}
    for index, choice in enumerate(request.queues[: limits.queues_per_reserve]):
        path = f"queues[{index}]"
        checks.name(choice.name, f"{path}.name")
        first = seen.setdefault(choice.name, index)
        if first != index:
            checks.wrong(f"{path}.name", f"is named before, in queues[{first}]")
        if weighted and not 1 <= choice.weight <= limits.weight:
            checks.wrong(
                f"{path}.weight",
                f"is {choice.weight}; give every queue a weight of 1 to {limits.weight}, or none",
            )
    return [QueueWeight(choice.name, choice.weight) for choice in request.queues]


async def deliver(
    leases: Sequence[Leased], context: Context, broker: Broker, limits: Limits, writer: LeaseWriter
) -> Encoded[ReserveResponse]:
    """Sends the reply itself, so as to hear if it cannot be sent: then the leases are given back.

    That covers a caller that was gone when the reply was made, and one that goes while the reply
    still waits for room on the wire. A caller that goes while the reply is on its way cannot be
    told from one that got it; its leases run out, or are asked for again by their request id.
    """
    try:
        entries = writer.entries(leases, broker.now_of)
        sent = fitting(entries, limits.message_bytes)
        raw = b"".join(entries[:sent])
        answer_grows(len(raw))
        await context.write(raw)
    except BaseException as error:
        if leases:
            await broker.leasing.give_back(leases)
        if isinstance(error, grpc.aio.BaseError):  # the call is over: nobody is there to be told
            raise asyncio.CancelledError from error
        raise
    if sent < len(leases):
        await broker.leasing.give_back(leases[sent:])
    return Encoded(raw, ReserveResponse.FromString)

"""The first message of a Work stream."""

from collections.abc import Collection

from msgspec import Struct

from towline.v1.queue_service_pb2 import ReserveRequest, WorkRequest
from towline_broker.core import tokens
from towline_broker.core.calls import ReserveCall
from towline_broker.domain.errors import InvalidField
from towline_broker.domain.identity import Right, current_identity
from towline_broker.domain.jobs import LeaseRef
from towline_broker.services.checks import Checks
from towline_broker.services.limits import Limits
from towline_broker.services.reserving import read_reserve
from towline_broker.services.streams.sessions import SessionKey
from towline_broker.status import InvalidRequest


class Opening(Struct):
    #: What is asked of the core each time; it waits for nothing yet.
    call: ReserveCall
    session: SessionKey | None
    held: Collection[LeaseRef]


def read_opening(request: WorkRequest, limits: Limits) -> Opening:
    """Raises InvalidField, InvalidRequest, and PermissionDenied unless the caller may work for each
    queue."""
    if not request.HasField("open"):
        raise InvalidField("open", "is required in the first message of the stream")
    opening = request.open
    wanted = ReserveRequest(queues=opening.queues, worker_id=opening.worker_id)
    if opening.HasField("lease"):
        wanted.lease.CopyFrom(opening.lease)
    try:
        call = read_reserve(wanted, limits)
        checks = Checks()
        checks.caller_id(opening.session_id, "session_id", limits.caller_id_bytes, spaces=True)
        checks.count(opening.held_tokens, "held_tokens", limits.batch, least=0)
        if opening.held_tokens and not opening.session_id:
            checks.wrong("held_tokens", "is set without session_id")
        checks.finish()
    except InvalidRequest as error:
        found = [InvalidField(f"open.{each.field}", each.description) for each in error.violations]
        raise InvalidRequest(found) from None
    identity = current_identity()
    for choice in call.queues:
        identity.require(choice.name, Right.WORK)
    held = {ref for ref in map(tokens.decode, opening.held_tokens) if ref is not None}
    session = None
    if opening.session_id:
        session = SessionKey(call.holder, opening.worker_id, opening.session_id)
    return Opening(call, session, held)

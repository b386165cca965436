"""A push of a stream: from its bytes to what the core is asked to store."""

from google.protobuf.message import DecodeError

from towline_broker.core.broker import Broker
from towline_broker.domain.errors import InvalidField, PermissionDenied
from towline_broker.domain.identity import Identity, Right, note_refused_item
from towline_broker.services.pushes import Pushed, Pushes
from towline_broker.services.pushing import DEFAULT_QUEUE
from towline_broker.services.streams.storing import ReadPush


class PushReader:
    """As a Push is read, and with the rights that one needs."""

    def __init__(self, broker: Broker, pushes: Pushes) -> None:
        self._home_of = broker.home_of
        self._pushes = pushes

    async def read(self, sequence: int, raw: bytes, size: int, identity: Identity) -> ReadPush:
        """``size``: of what is owed its answer; ``identity``: that of the call that is being
        answered. Raises InvalidField, InvalidRequest, PermissionDenied."""
        try:
            pushed = self._pushes.read(raw)
        except DecodeError:
            raise InvalidField("", "the bytes of the request are no PushRequest") from None
        partial = pushed.allow_partial
        if not partial and not identity.may_everywhere(Right.PUSH):
            _check_rights(pushed, identity)
        jobs, rejected = await self._pushes.jobs_of(pushed)
        joined = len(jobs) == 1 and not partial
        home = self._home_of(jobs[0].queue) if joined else ""
        return ReadPush(sequence, jobs, partial, rejected, size, home, raw)


def _check_rights(pushed: Pushed, identity: Identity) -> None:
    try:
        for queue in pushed.queues:
            identity.require(queue or DEFAULT_QUEUE, Right.PUSH)
    except PermissionDenied as error:
        note_refused_item(error)
        raise

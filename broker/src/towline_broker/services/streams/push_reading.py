"""A push of a stream: from its bytes to what the core is asked to store."""

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from towline.v1.queue_service_pb2 import PushResult
from towline_broker.core.broker import Broker
from towline_broker.domain.errors import InvalidField
from towline_broker.domain.identity import Identity, Right
from towline_broker.services.item_rights import push_refused
from towline_broker.services.pushes import Pushed, Pushes
from towline_broker.services.pushing import DEFAULT_QUEUE
from towline_broker.services.store_limits import StoreLimits
from towline_broker.services.streams.storing import ReadPush

_NOTHING: Mapping[int, PushResult] = {}


class PushReader:
    """As a Push is read, and with the rights that one needs."""

    def __init__(self, broker: Broker, pushes: Pushes) -> None:
        self._home_of = broker.home_of
        self._capabilities_of = broker.capabilities_of
        self._pushes = pushes
        #: Stores that offer whatever a job can ask for: those that do not say so are not here.
        self._offer_everything: set[str] = set()

    def known(self, sequence: int, raw: bytes, size: int) -> ReadPush | None:
        """What comes most: one job of a known shape. None: it is to be read. Arguments as below;
        the caller has the right to push to every queue."""
        job = self._pushes.known_alone(raw)
        if job is None:
            return None
        home = self._home_of(job.queue)
        if home not in self._offer_everything:
            if not StoreLimits(self._capabilities_of).everything(job.queue):
                return None
            self._offer_everything.add(home)
        return ReadPush(sequence, [job], False, _NOTHING, size, home, raw)

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
    for queue in pushed.queues:
        refused = push_refused(identity, queue or DEFAULT_QUEUE)
        if refused is not None:
            raise refused

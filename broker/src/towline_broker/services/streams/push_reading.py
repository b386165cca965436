"""A push of a stream: from its bytes to what the core is asked to store."""

import asyncio

from google.protobuf.message import DecodeError

from towline.v1.queue_service_pb2 import PushRequest, PushResult
from towline_broker.core.broker import Broker
from towline_broker.core.calls import JobRequest
from towline_broker.domain.errors import InvalidField, PermissionDenied
from towline_broker.domain.identity import Identity, Right, note_refused_item
from towline_broker.services.checks import Checks
from towline_broker.services.item_rights import push_refused
from towline_broker.services.limits import Limits
from towline_broker.services.push_results import rejected
from towline_broker.services.pushing import DEFAULT_QUEUE, JobReader
from towline_broker.services.store_limits import StoreLimits
from towline_broker.services.streams.storing import ReadPush

#: Jobs that are read in one go.
PORTION = 50


class PushReader:
    def __init__(self, broker: Broker, limits: Limits) -> None:
        self._broker = broker
        self._limits = limits
        self._jobs = JobReader(limits, broker.jobs)

    async def read(self, sequence: int, raw: bytes, size: int, identity: Identity) -> ReadPush:
        """Raises InvalidField, InvalidRequest, PermissionDenied."""
        try:
            request = PushRequest.FromString(raw)
        except DecodeError:
            raise InvalidField("", "the bytes of the request are no PushRequest") from None
        checks = Checks()
        checks.count(request.jobs, "jobs", self._limits.batch)
        checks.finish()
        if request.allow_partial:
            return await self._partial(sequence, request, raw, size, identity)
        if not identity.may_everywhere(Right.PUSH):
            self._check_rights(request, identity)
        jobs: list[JobRequest] = []
        now, offers = self._broker.clock.now(), StoreLimits(self._broker.capabilities_of)
        for index, job in enumerate(request.jobs):
            jobs.append(self._jobs.read(job, f"jobs[{index}]", now, checks, offers))
            if checks.enough:
                break
            await _let_others_run(index)
        checks.finish()
        home = self._broker.home_of(jobs[0].queue) if len(jobs) == 1 else ""
        return ReadPush(sequence, jobs, False, {}, size, home, raw)

    def _check_rights(self, request: PushRequest, identity: Identity) -> None:
        try:
            for queue in {job.queue or DEFAULT_QUEUE for job in request.jobs}:
                identity.require(queue, Right.PUSH)
        except PermissionDenied as error:
            note_refused_item(error)
            raise

    async def _partial(
        self, sequence: int, request: PushRequest, raw: bytes, size: int, identity: Identity
    ) -> ReadPush:
        limited = not identity.may_everywhere(Right.PUSH)
        now, offers = self._broker.clock.now(), StoreLimits(self._broker.capabilities_of)
        jobs: list[JobRequest] = []
        refused: dict[int, PushResult] = {}
        for index, job in enumerate(request.jobs):
            checks = Checks()
            read = self._jobs.read(job, f"jobs[{index}]", now, checks, offers)
            wrong = push_refused(identity, read.queue) if limited else None
            if wrong is None and checks.found:
                wrong = checks.found[0]
            if wrong is not None:
                refused[index] = rejected(job.id, wrong)
            else:
                jobs.append(read)
            await _let_others_run(index)
        return ReadPush(sequence, jobs, True, refused, size, "", raw)


async def _let_others_run(index: int) -> None:
    """See the service of queues."""
    if index % PORTION == PORTION - 1:
        await asyncio.sleep(0)

"""QueueService: pushing, leasing and settling jobs."""
# ruff: noqa: N802 -- the contract names the methods

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from towline.v1.queue_service_pb2 import (
    AckRequest,
    AckResponse,
    CancelJobRequest,
    CancelJobResponse,
    CancelResult,
    GetJobRequest,
    GetJobResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    HeartbeatResult,
    LeaseOutcome,
    ListJobsRequest,
    ListJobsResponse,
    NackRequest,
    NackResponse,
    PushRequest,
    PushResponse,
    ReserveRequest,
    ReserveResponse,
)
from towline.v1.queue_service_pb2_grpc import QueueServiceServicer
from towline_broker.core import calls
from towline_broker.core.broker import Broker
from towline_broker.domain.encoded import Encoded
from towline_broker.domain.errors import TowlineError
from towline_broker.domain.identity import Right, current_identity
from towline_broker.domain.jobs import JobPage
from towline_broker.drivers import interface as stores
from towline_broker.services import enums
from towline_broker.services.acks import Acks
from towline_broker.services.batches import in_order, sift
from towline_broker.services.checks import Checks
from towline_broker.services.limits import Limits
from towline_broker.services.paging import DEFAULT_PAGE, fitting_page, to_cursor, to_token
from towline_broker.services.pushes import Pushes
from towline_broker.services.reserving import (
    Context,
    deliver,
    read_reserve,
    wait_within_deadline,
)
from towline_broker.services.settling import SettleReader, settle_results
from towline_broker.services.times import to_duration
from towline_broker.services.views import attempt_limits, to_info
from towline_broker.services.wire.leases import LeaseWriter
from towline_broker.status import item_error

_NOT_FOUND = LeaseOutcome.LEASE_OUTCOME_NOT_FOUND
_REJECTED = LeaseOutcome.LEASE_OUTCOME_REJECTED


class QueueService(QueueServiceServicer):
    def __init__(self, broker: Broker, limits: Limits) -> None:
        self._broker = broker
        self._limits = limits
        self._leases = LeaseWriter(attempt_limits(limits))
        self.pushes = Pushes(broker, limits)
        self.acks = Acks(broker, limits)
        self._settling = SettleReader(limits)

    async def Push(self, request: PushRequest, context: Context) -> PushResponse:
        """For callers that have messages; the server gives and takes bytes, see :attr:`pushes`."""
        reply = await self.pushes.answer(self.pushes.read(request.SerializeToString()))
        return reply.message

    async def GetJob(self, request: GetJobRequest, context: Context) -> GetJobResponse:
        checks = Checks()
        checks.uuid(request.id, "id")
        wait = 0
        if request.HasField("wait"):
            wait = checks.duration(request.wait, "wait", self._limits.wait)
        checks.finish()
        wait = wait_within_deadline(wait, context)
        record = await self._broker.jobs.get(request.id, wait, current_identity().sight(*Right))
        now = self._broker.now_of(record.queue)
        return GetJobResponse(job=to_info(record, now, full=True))

    async def ListJobs(self, request: ListJobsRequest, context: Context) -> ListJobsResponse:
        checks = Checks()
        if request.queue:
            checks.name(request.queue, "queue")
        if request.type:
            checks.name(request.type, "type")
        checks.count(request.states, "states", self._limits.page, least=0)
        for index, state in enumerate(request.states[: self._limits.page]):
            if state not in enums.STATES_BY_NUMBER:
                checks.wrong(f"states[{index}]", f"is {state}, which is no state of a job")
        limit = request.page_size or DEFAULT_PAGE
        checks.whole(limit, "page_size", self._limits.page)
        full = enums.wants_all(request.view, "view", checks)
        checks.finish()
        states = frozenset(enums.STATES_BY_NUMBER[state] for state in request.states)
        where = f"jobs {request.queue} {request.type} {sorted(states)}"
        cursor = to_cursor(request.page_token, where)

        async def fetch(limit: int, cursor: str | None) -> JobPage:
            return await self._broker.jobs.list_jobs(
                stores.JobQuery(limit, request.queue or None, request.type or None, states, cursor)
            )

        now_of = self._broker.now_of
        jobs, following = await fitting_page(
            fetch,
            lambda record: to_info(record, now_of(record.queue), full=full),
            limit=limit,
            cursor=cursor,
            most_bytes=self._limits.page_bytes,
        )
        return ListJobsResponse(jobs=jobs, next_page_token=to_token(following, where))

    async def CancelJob(self, request: CancelJobRequest, context: Context) -> CancelJobResponse:
        checks = Checks()
        checks.ids(request.ids, "ids", self._limits.batch)
        checks.finish()
        sight = current_identity().sight(Right.PUSH, Right.ADMIN)
        outcomes = await self._broker.jobs.cancel(request.ids, sight)
        return CancelJobResponse(
            results=[
                CancelResult(job_id=job_id, outcome=enums.CANCEL_OUTCOMES[outcome])
                for job_id, outcome in zip(request.ids, outcomes, strict=True)
            ]
        )

    async def Reserve(self, request: ReserveRequest, context: Context) -> ReserveResponse:
        """For callers that want the message of what was sent."""
        return (await self.reserve(request, context)).message

    async def reserve(self, request: ReserveRequest, context: Context) -> Encoded[ReserveResponse]:
        """Served in the streaming form, which looks the same on the wire; see :func:`deliver`."""
        call = read_reserve(request, self._limits)
        call = replace(call, wait=wait_within_deadline(call.wait, context))
        leases = await self._broker.leasing.reserve(call)
        return await deliver(leases, context, self._broker, self._limits, self._leases)

    async def Ack(self, request: AckRequest, context: Context) -> AckResponse:
        """For callers that have messages; the server gives and takes bytes, see :attr:`acks`."""
        reply = await self.acks.answer(self.acks.read(request.SerializeToString()))
        return reply.message

    async def Nack(self, request: NackRequest, context: Context) -> NackResponse:
        self._check_batch(request.nacks, "nacks")
        nacks, refused = sift(request.nacks, "nacks", self._settling.nack)
        outcomes = await self._broker.settling.nack(nacks) if nacks else []
        return NackResponse(results=settle_results(outcomes, refused))

    async def Heartbeat(self, request: HeartbeatRequest, context: Context) -> HeartbeatResponse:
        worker_id = request.worker_id
        checks = Checks()
        checks.caller_id(worker_id, "worker_id", self._limits.caller_id_bytes)
        checks.count(request.leases, "leases", self._limits.batch, least=0)
        checks.finish()
        items, refused = sift(request.leases, "leases", self._settling.heartbeat)
        holder = current_identity().mark
        answers, directive = await self._broker.settling.heartbeat(worker_id, items, holder)
        results = in_order(
            [_heartbeat_result(answer) for answer in answers],
            {place: _heartbeat_refused(error) for place, error in refused.items()},
        )
        return HeartbeatResponse(results=results, directive=enums.DIRECTIVES[directive])

    def PushStream(self, request_iterator: Any, context: Context) -> Any:
        """Served by services.streams; see registering."""

    def Work(self, request_iterator: Any, context: Context) -> Any:
        """Served by services.streams; see registering."""

    def _check_batch(self, items: Sequence[object], path: str) -> None:
        checks = Checks()
        checks.count(items, path, self._limits.batch)
        checks.finish()


def _heartbeat_result(answer: calls.HeartbeatAnswer) -> HeartbeatResult:
    result = HeartbeatResult(outcome=enums.LEASE_OUTCOMES[answer.outcome])
    if answer.outcome is calls.LeaseOutcome.OK:
        result.lease_remaining.CopyFrom(to_duration(answer.remaining))
    return result


def _heartbeat_refused(error: TowlineError | None) -> HeartbeatResult:
    if error is None:
        return HeartbeatResult(outcome=_NOT_FOUND)
    return HeartbeatResult(outcome=_REJECTED, error=item_error(error))

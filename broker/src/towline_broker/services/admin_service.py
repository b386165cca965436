"""AdminService: figures, queues and workers."""
# ruff: noqa: N802 -- the contract names the methods

from towline.v1 import admin_service_pb2 as pb
from towline.v1.admin_service_pb2_grpc import AdminServiceServicer
from towline_broker.core.broker import Broker
from towline_broker.core.calls import Directive, QueueView
from towline_broker.domain.identity import Right, Sight, current_identity
from towline_broker.domain.pieces import OneByOne, pieces
from towline_broker.services import enums
from towline_broker.services.checks import Checks
from towline_broker.services.figures import to_depth, to_stats
from towline_broker.services.limits import Limits
from towline_broker.services.reserving import Context
from towline_broker.services.times import to_timestamp


class AdminService(AdminServiceServicer):
    def __init__(self, broker: Broker, limits: Limits, version: str) -> None:
        self._broker = broker
        self._limits = limits
        self._version = version
        self._works = OneByOne()

    async def Stats(self, request: pb.StatsRequest, context: Context) -> pb.StatsResponse:
        checks = Checks()
        checks.count(request.queues, "queues", self._limits.page, least=0)
        for index, queue in enumerate(request.queues[: self._limits.page]):
            checks.name(queue, f"queues[{index}]")
        checks.finish()
        sight = current_identity().sight(*Right)
        report = await self._broker.operating.report(request.queues, sight)
        async with self._works.turn(len(report.queues)):
            return await to_stats(report, self._version)

    async def ResetStats(
        self, request: pb.ResetStatsRequest, context: Context
    ) -> pb.ResetStatsResponse:
        await self._broker.operating.reset()
        return pb.ResetStatsResponse()

    async def ListQueues(
        self, request: pb.ListQueuesRequest, context: Context
    ) -> pb.ListQueuesResponse:
        response = pb.ListQueuesResponse()
        views = await self._broker.operating.queues(current_identity().sight(*Right))
        async with self._works.turn(len(views)):
            async for piece in pieces(views):
                response.queues.extend(map(_info, piece))
        return response

    async def PauseQueue(
        self, request: pb.PauseQueueRequest, context: Context
    ) -> pb.PauseQueueResponse:
        _check_queue(request.queue)
        return pb.PauseQueueResponse(changed=await self._broker.operating.pause(request.queue))

    async def ResumeQueue(
        self, request: pb.ResumeQueueRequest, context: Context
    ) -> pb.ResumeQueueResponse:
        _check_queue(request.queue)
        return pb.ResumeQueueResponse(changed=await self._broker.operating.resume(request.queue))

    async def PurgeQueue(
        self, request: pb.PurgeQueueRequest, context: Context
    ) -> pb.PurgeQueueResponse:
        checks = Checks()
        checks.name(request.queue, "queue")
        limit = request.limit or self._limits.page
        checks.whole(limit, "limit", self._limits.page)
        checks.finish()
        handled = await self._broker.operating.purge(request.queue, limit, request.dry_run)
        return pb.PurgeQueueResponse(
            matched=handled.matched,
            purged=handled.handled,
            remaining=handled.matched - handled.handled,
        )

    async def MoveQueue(
        self, request: pb.MoveQueueRequest, context: Context
    ) -> pb.MoveQueueResponse:
        checks = Checks()
        checks.name(request.queue, "queue")
        if not request.store:
            checks.wrong("store", "is required; Stats names the stores of this broker")
        else:
            checks.name(request.store, "store")
        limit = request.limit or self._limits.page
        checks.whole(limit, "limit", self._limits.page)
        checks.finish()
        step = await self._broker.moving.step(request.queue, request.store, limit)
        return pb.MoveQueueResponse(
            moved=step.moved, remaining=step.remaining, leased=step.leased, complete=step.complete
        )

    async def ListWorkers(
        self, request: pb.ListWorkersRequest, context: Context
    ) -> pb.ListWorkersResponse:
        return pb.ListWorkersResponse(
            workers=[
                pb.WorkerInfo(
                    worker_id=view.key.id,
                    queues=view.queues,
                    leases=sum(view.leases.values()),
                    first_seen=to_timestamp(view.first_seen),
                    last_seen=to_timestamp(view.last_seen),
                    directive=enums.DIRECTIVES[view.directive],
                )
                for view in await self._broker.operating.workers(_administered())
            ]
        )

    async def StopWorker(
        self, request: pb.StopWorkerRequest, context: Context
    ) -> pb.StopWorkerResponse:
        checks = Checks()
        if not request.worker_id:
            checks.wrong("worker_id", "is required; ListWorkers names them")
        checks.caller_id(request.worker_id, "worker_id", self._limits.caller_id_bytes)
        directive = enums.DIRECTIVES_BY_NUMBER.get(request.directive)
        if directive is None:
            checks.wrong("directive", f"is {request.directive}; expected NONE, QUIET or STOP")
        checks.finish()
        asked = directive or Directive.STOP  # UNSPECIFIED is 0
        await self._broker.operating.stop_worker(request.worker_id, asked, _administered())
        return pb.StopWorkerResponse()


def _info(view: QueueView) -> pb.QueueInfo:
    return pb.QueueInfo(
        name=view.name,
        paused=view.paused,
        depth=to_depth(view.figures.depth),
        store=view.store,
        moving_to=view.moving_to,
    )


def _administered() -> Sight:
    return current_identity().sight(Right.ADMIN)


def _check_queue(name: str) -> None:
    checks = Checks()
    checks.name(name, "queue")
    checks.finish()

"""DeadLetterService: looking at dead jobs and deciding about them."""
# ruff: noqa: N802 -- the contract names the methods

from collections.abc import Sequence

from towline.v1 import dead_letter_service_pb2 as pb
from towline.v1.dead_letter_service_pb2_grpc import DeadLetterServiceServicer
from towline_broker.core.broker import Broker
from towline_broker.domain.identity import Right, current_identity
from towline_broker.domain.jobs import JobPage
from towline_broker.drivers.interface import DeadFilter, DeadQuery
from towline_broker.services import enums
from towline_broker.services.checks import Checks
from towline_broker.services.limits import Limits
from towline_broker.services.paging import DEFAULT_PAGE, fitting_page, to_cursor, to_token
from towline_broker.services.reserving import Context
from towline_broker.services.views import to_info


class DeadLetterService(DeadLetterServiceServicer):
    def __init__(self, broker: Broker, limits: Limits) -> None:
        self._broker = broker
        self._limits = limits

    async def ListDead(self, request: pb.ListDeadRequest, context: Context) -> pb.ListDeadResponse:
        checks = Checks()
        chosen = _filter(request.filter, "filter", checks)
        limit = request.page_size or DEFAULT_PAGE
        checks.whole(limit, "page_size", self._limits.page)
        full = enums.wants_all(request.view, "view", checks)
        checks.finish()
        where = f"dead {chosen}"
        cursor = to_cursor(request.page_token, where)

        async def fetch(limit: int, cursor: str | None) -> JobPage:
            return await self._broker.dead_letters.list_dead(DeadQuery(limit, chosen, cursor))

        now_of = self._broker.now_of
        jobs, following = await fitting_page(
            fetch,
            lambda record: to_info(record, now_of(record.queue), full=full),
            limit=limit,
            cursor=cursor,
            most_bytes=self._limits.page_bytes,
        )
        return pb.ListDeadResponse(jobs=jobs, next_page_token=to_token(following, where))

    async def RequeueDead(
        self, request: pb.RequeueDeadRequest, context: Context
    ) -> pb.RequeueDeadResponse:
        ids, chosen, limit = self._selection(request)
        sight = current_identity().sight(Right.ADMIN)
        handled = await self._broker.dead_letters.requeue(
            *(ids, chosen, limit, request.dry_run), sight
        )
        return pb.RequeueDeadResponse(
            matched=handled.matched,
            requeued=handled.handled,
            remaining=handled.matched - handled.handled,
        )

    async def DiscardDead(
        self, request: pb.DiscardDeadRequest, context: Context
    ) -> pb.DiscardDeadResponse:
        ids, chosen, limit = self._selection(request)
        sight = current_identity().sight(Right.ADMIN)
        handled = await self._broker.dead_letters.discard(
            *(ids, chosen, limit, request.dry_run), sight
        )
        return pb.DiscardDeadResponse(
            matched=handled.matched,
            discarded=handled.handled,
            remaining=handled.matched - handled.handled,
        )

    def _selection(
        self, request: pb.RequeueDeadRequest | pb.DiscardDeadRequest
    ) -> tuple[Sequence[str] | None, DeadFilter, int]:
        """Raises InvalidRequest."""
        checks = Checks()
        selection = request.selection
        limit = request.limit or self._limits.page
        checks.whole(limit, "limit", self._limits.page)
        by_filter = selection.HasField("filter")
        if by_filter == bool(selection.ids):
            both = "has ids and a filter" if by_filter else "is required"
            checks.wrong("selection", f"{both}; set exactly one of ids and filter")
        elif not by_filter:
            checks.ids(selection.ids, "selection.ids", self._limits.batch)
        chosen = _filter(selection.filter, "selection.filter", checks)
        checks.finish()
        # Once each: a job that is named twice is still one job that was matched.
        ids = None if by_filter else list(dict.fromkeys(selection.ids))
        return ids, chosen, limit


def _filter(message: pb.DeadFilter, path: str, checks: Checks) -> DeadFilter:
    if message.queue:
        checks.name(message.queue, f"{path}.queue")
    if message.type:
        checks.name(message.type, f"{path}.type")
    reason = enums.DEAD_REASONS_BY_NUMBER.get(message.reason)
    if message.reason and reason is None:
        checks.wrong(f"{path}.reason", f"is {message.reason}, which is no reason for a job's death")
    after, before = None, None
    if message.HasField("dead_after"):
        after = checks.moment(message.dead_after, f"{path}.dead_after")
    if message.HasField("dead_before"):
        before = checks.moment(message.dead_before, f"{path}.dead_before")
    return DeadFilter(message.queue or None, message.type or None, reason, after, before)

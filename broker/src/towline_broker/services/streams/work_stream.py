"""Work: leasing, settling and prolonging over one call."""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

import grpc

from towline.v1.queue_service_pb2 import (
    AckRequest,
    HeartbeatRequest,
    NackRequest,
    ReserveRequest,
    ReserveResponse,
    SettleResult,
    WorkRequest,
    WorkResponse,
    WorkResult,
)
from towline_broker.core import tokens
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall, Directive, LeaseOutcome
from towline_broker.domain.errors import InvalidField, StreamOver, TowlineError
from towline_broker.domain.identity import current_identity
from towline_broker.domain.jobs import Leased, LeaseRef
from towline_broker.services import enums
from towline_broker.services.checks import Checks
from towline_broker.services.item_rights import holds_all
from towline_broker.services.limits import Limits
from towline_broker.services.queue_service import QueueService
from towline_broker.services.streams import parts
from towline_broker.services.streams.acks import Acks, ReadAcks
from towline_broker.services.streams.giving import Giving
from towline_broker.services.streams.lifetime import Lifetime, OpenStreams
from towline_broker.services.streams.opening import Opening, read_opening
from towline_broker.services.streams.sessions import Sessions
from towline_broker.services.streams.stream import Context, Stream
from towline_broker.services.streams.work_reading import read_acks, read_request
from towline_broker.services.views import attempt_limits
from towline_broker.services.wire.leases import LeaseWriter
from towline_broker.status import InvalidRequest
from towline_broker.streaming import ACK, NACK, RESERVE, stream_scope

#: Turns of the event loop for which results and leases wait for each other, to leave together.
TURNS = 8
#: So often it is noted, in seconds, that a worker is there, whatever it sends.
HEARD_EVERY = 0.5
#: Leases of one answer that stay together, whatever belongs to them.
LEASES_TOGETHER = 16
_OK = LeaseOutcome.OK


class WorkStreams:
    def __init__(
        self, queue: QueueService, broker: Broker, limits: Limits, streams: OpenStreams
    ) -> None:
        self.queue = queue
        self.broker = broker
        self.limits = limits
        self.writer = LeaseWriter(attempt_limits(limits))
        self.acks = Acks(broker)
        self.sessions = Sessions()
        self._streams = streams

    async def serve(self, _: object, context: Context) -> None:
        with self._streams.new_life(context) as lifetime, self._streams.limit:
            # They tell that it is accepted. gRPC takes no message while they are on their way.
            await context.send_initial_metadata(())
            raw = await lifetime.read_first(context)
            if raw is grpc.aio.EOF:
                return
            request = read_request(raw)
            opening = read_opening(request, self.limits)
            await WorkStream(self, context, lifetime, request, opening).serve()


class WorkStream(Stream):
    """``first``: the message that has opened it."""

    def __init__(
        self,
        streams: WorkStreams,
        context: Context,
        lifetime: Lifetime,
        first: WorkRequest,
        opening: Opening,
    ) -> None:
        scope = stream_scope()
        super().__init__(context, scope, lifetime)
        self._streams = streams
        self._broker = streams.broker
        self._first = first
        self._opening = opening
        self._worker = opening.call.worker
        self._identity = current_identity()
        self._heard = -HEARD_EVERY
        self._told = Directive.UNSPECIFIED
        self._tasks: set[asyncio.Task[None]] = set()
        self._leased = 0
        self._acked = 0
        #: Leases that are in parts up to a number, as far as these are not written.
        self._unwritten: deque[tuple[int, int]] = deque()
        #: Messages with acks that are under way.
        self._acking = 0
        self._giving = Giving(streams.broker, opening.call, self._deliver, scope.describe)
        self._session, lost = streams.sessions.take_up(opening.session, self, opening.held)
        if lost:
            self._spawn(self._take_back(lost))

    @property
    def closing_notice(self) -> bytes:
        return parts.WORK_CLOSING

    def supersede(self) -> None:
        self._giving.stop()
        self.end(StreamOver("another stream has taken up the session of this one"))

    def begin(self) -> None:
        self._first.ClearField("open")
        self._take(self._first.SerializeToString())

    async def take(self, raw: bytes) -> None:
        self._take(raw)

    def stop_giving(self) -> None:
        self._giving.stop()

    async def left(self) -> None:
        self._streams.sessions.leave(self._session, self)
        await self._giving.give_back()
        self._scope.about |= {"leases": self._leased, "acks": self._acked}

    # --- messages -----------------------------------------------------------------------------

    def _take(self, raw: bytes) -> None:
        """Raises InvalidField."""
        request, calls = read_acks(raw, self._streams.limits)
        if request.HasField("open"):
            raise InvalidField("open", "is only for the first message of a stream")
        size = len(raw)
        self.owe(1, size)
        refused = self._refusal(size)
        try:
            self._check(request)
        except InvalidRequest as error:
            self._fail(request.sequence, size, error)
            return
        if request.withdraw:
            self._giving.withdraw()
        if request.credits:
            self._giving.add(request.credits)
        self._hear_directive()
        if refused is not None:
            self._fail(request.sequence, size, refused)
        elif calls is not None and self._may_join(calls):
            self._acking += 1
            self._streams.acks.add(self, ReadAcks(request.sequence, calls, size))
        elif request.acks or request.nacks or request.heartbeats:
            self._spawn(self._settle(read_request(raw), size))
        else:
            self.answer(parts.worked(WorkResult(sequence=request.sequence)), size)

    def _refusal(self, size: int) -> TowlineError | None:
        try:
            self._scope.gate.message(size, settles=True)
        except TowlineError as error:
            return error
        return None

    def _check(self, request: Any) -> None:
        """Raises InvalidRequest."""
        most = self._streams.limits.batch
        items = len(request.acks), len(request.nacks), len(request.heartbeats)
        if max(items) <= most and 0 <= request.credits <= most - self._giving.credits:
            return
        checks = Checks()
        for field in ("acks", "nacks", "heartbeats"):
            checks.count(getattr(request, field), field, most, least=0)
        credits = request.credits + (0 if request.withdraw else self._giving.credits)
        if request.credits < 0 or credits > most:
            open_ = f"{credits} would be open" if request.credits > 0 else "it is negative"
            checks.wrong("credits", f"is {request.credits}, and {open_}; at most {most} may be")
        checks.finish()

    def _hear_directive(self) -> None:
        now = self._loop.time()
        if now - self._heard > HEARD_EVERY:
            self._heard = now
            directive = self._broker.settling.heard(*self._worker)
        else:
            directive = self._broker.settling.directive_of(self._worker)
        if directive is not self._told:
            told, self._told = self._told, directive
            if told is not Directive.UNSPECIFIED or directive is not Directive.NONE:
                notice = WorkResponse(directive=enums.DIRECTIVES[directive])
                self.send(notice.SerializeToString())

    def _may_join(self, calls: Sequence[AckCall]) -> bool:
        """Whether they may be settled together with those of other streams; otherwise they are to
        be looked at one by one."""
        return self._scope.observe is None and (
            not self._identity.mark or holds_all(self._identity, [call.ref for call in calls])
        )

    def acked(self, acks: ReadAcks, outcomes: Sequence[LeaseOutcome]) -> None:
        self._acking -= 1
        self._session.settled(call.ref for call in acks.calls)
        self._acked += len(outcomes)
        if outcomes.count(_OK) == len(outcomes):
            part = parts.acked(acks.sequence, len(outcomes))
        else:
            results = [SettleResult(outcome=enums.LEASE_OUTCOMES[each]) for each in outcomes]
            part = parts.worked(WorkResult(sequence=acks.sequence, acks=results))
        self.answer(part, acks.size)

    def ack_failed(self, acks: ReadAcks, error: Exception) -> None:
        self._acking -= 1
        self._fail(acks.sequence, acks.size, error)

    async def _settle(self, request: WorkRequest, size: int) -> None:
        """As the calls would that a worker makes one by one."""
        result = WorkResult(sequence=request.sequence)
        try:
            if request.acks:
                acks = await self._ask(ACK, AckRequest(acks=request.acks))
                result.acks.extend(acks.results)
            if request.nacks:
                nacks = await self._ask(NACK, NackRequest(nacks=request.nacks))
                result.nacks.extend(nacks.results)
            if request.heartbeats:
                wanted = HeartbeatRequest(worker_id=self._worker.id, leases=request.heartbeats)
                heard = await self._streams.queue.Heartbeat(wanted, self._context)
                result.heartbeats.extend(heard.results)
        except Exception as error:
            self._fail(request.sequence, size, error)
            return
        ended = [ack.lease_token for ack in request.acks]
        ended += [nack.lease_token for nack in request.nacks]
        self._session.settled(ref for ref in map(tokens.decode, ended) if ref is not None)
        self._acked += len(request.acks)
        self.answer(parts.worked(result), size)

    async def _ask(self, method: str, request: Any) -> Any:
        began, queue = time.time_ns(), self._streams.queue
        reply, failure = None, None
        try:
            call = queue.Ack if method == ACK else queue.Nack
            reply = await call(request, self._context)
        except Exception as error:
            failure = error
            raise
        finally:
            if self._scope.observe is not None:
                self._scope.observe(method, request, reply, began, failure)
        return reply

    def _fail(self, sequence: int, size: int, error: Exception) -> None:
        wire = self._scope.describe(error)
        self.answer(parts.work_failed(sequence, wire), size, code=wire.code.name)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """It acts for the identity of this stream, and is not cancelled with it."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take_back(self, refs: Sequence[LeaseRef]) -> None:
        try:
            await self._broker.leasing.take_back(refs)
        except TowlineError as error:  # they end in their time
            self._scope.describe(error)

    # --- leases -------------------------------------------------------------------------------

    async def before_writing(self) -> None:
        for _ in range(TURNS):
            if not self._giving.asking and not self._acking:
                return
            await asyncio.sleep(0)

    def written(self, last: int) -> None:
        leases = 0
        while self._unwritten and self._unwritten[0][0] <= last:
            leases += self._unwritten.popleft()[1]
        if leases:
            self._giving.written(leases)

    def _deliver(self, leases: list[Leased]) -> None:
        began = time.time_ns()
        entries = self._streams.writer.entries(leases, self._broker.now_of)
        self._leased += len(leases)
        self._session.written(leases)
        # As fields of the response: those that are too many for one message go in several.
        if len(entries) == 1:
            self._unwritten.append((self.send(entries[0]), 1))
        else:
            for start in range(0, len(entries), LEASES_TOGETHER):
                together = entries[start : start + LEASES_TOGETHER]
                self._unwritten.append((self.send(b"".join(together)), len(together)))
        if self._scope.observe is not None:
            asked = ReserveRequest(worker_id=self._worker.id)
            reply = ReserveResponse.FromString(b"".join(entries))
            self._scope.observe(RESERVE, asked, reply, began, None)

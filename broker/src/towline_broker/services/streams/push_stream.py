"""PushStream: any number of Pushes over one call."""

import time
from collections import deque
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from towline.v1.queue_service_pb2 import PushRequest, PushResponse
from towline_broker.core.broker import Broker
from towline_broker.domain.errors import InvalidField, TowlineError
from towline_broker.domain.identity import Right, current_identity
from towline_broker.drivers import interface as stores
from towline_broker.services.limits import Limits
from towline_broker.services.pushes import Pushes
from towline_broker.services.streams import parts
from towline_broker.services.streams.lifetime import Lifetime, OpenStreams
from towline_broker.services.streams.push_reading import PushReader
from towline_broker.services.streams.requests import pushes_of
from towline_broker.services.streams.storing import ReadPush, Storing
from towline_broker.services.streams.stream import Context, Stream
from towline_broker.streaming import PUSH, Scope, stream_scope


class PushStreams:
    def __init__(
        self, pushes: Pushes, broker: Broker, limits: Limits, streams: OpenStreams
    ) -> None:
        self.pushes = pushes
        self.reader = PushReader(broker, pushes)
        self.storing = Storing(broker.jobs)
        self.most_pushes = limits.batch
        self._streams = streams

    async def serve(self, _: object, context: Context) -> None:
        with self._streams.new_life(context) as lifetime, self._streams.limit:
            # They tell that it is accepted. gRPC takes no message while they are on their way.
            await context.send_initial_metadata(())
            await PushStream(self, context, stream_scope(), lifetime).serve()


class PushStream(Stream):
    def __init__(
        self, streams: PushStreams, context: Context, scope: Scope, lifetime: Lifetime
    ) -> None:
        super().__init__(context, scope, lifetime)
        self._reader = streams.reader
        self._pushes = streams.pushes
        self._storing = streams.storing
        self._most_pushes = streams.most_pushes
        self._identity = current_identity()
        self._unlimited = self._identity.may_everywhere(Right.PUSH)
        self._pushed = 0
        self.pending: deque[ReadPush] = deque()
        self.storing = False

    @property
    def closing_notice(self) -> bytes:
        return parts.PUSH_CLOSING

    async def take(self, raw: bytes) -> None:
        try:
            pushes = pushes_of(raw)
        except DecodeError:
            raise InvalidField("", "the bytes are no message of this stream") from None
        if not 1 <= len(pushes) <= self._most_pushes:
            raise InvalidField(
                "pushes", f"has {len(pushes)} entries; expected 1 to {self._most_pushes}"
            )
        share, rest = divmod(len(raw), len(pushes))
        self.owe(len(pushes), len(raw))
        refused = None
        try:
            self._scope.gate.message(len(raw), settles=False)
        except TowlineError as error:
            refused = error
        for push in pushes:
            size, rest = share + rest, 0
            try:
                if refused is not None:
                    raise refused
                await self._begin(push.sequence, push.request, size)
            except Exception as error:
                self._refuse(push.sequence, push.request, size, time.time_ns(), error)

    async def _begin(self, sequence: int, raw: bytes, size: int) -> None:
        self._scope.gate.call()
        read = self._reader.known(sequence, raw, size) if self._unlimited else None
        if read is None:
            read = await self._reader.read(sequence, raw, size, self._identity)
        if self._scope.observe is not None:
            read.began = time.time_ns()
        self.pending.append(read)
        self._storing.add(self)

    # --- what becomes of pushes ---------------------------------------------------------------

    def stored(self, push: ReadPush, results: Sequence[stores.PushResult]) -> None:
        self._pushed += len(results)
        if push.home:  # it is one job
            (result,) = results
            if result.outcome is stores.PushOutcome.CREATED and self._scope.observe is None:
                self.answer(parts.created(push.sequence, result.job_id), push.size)
                return
            refused = self._pushes.refusal(push.jobs[0], result)
            if refused is not None:
                self.failed(push, refused)
                return
        reply = self._pushes.reply(push.jobs, results, push.rejected)
        if self._scope.observe is not None:
            request, response = PushRequest.FromString(push.raw), PushResponse.FromString(reply)
            self._scope.observe(PUSH, request, response, push.began, None)
        self.answer(parts.pushed(push.sequence, reply), push.size)

    def failed(self, push: ReadPush, error: Exception) -> None:
        self._refuse(push.sequence, push.raw, push.size, push.began, error)

    def _refuse(self, sequence: int, raw: bytes, size: int, began: int, error: Exception) -> None:
        if self._scope.observe is not None:
            self._observe_refused(raw, began, error)
        wire = self._scope.describe(error)
        self.answer(parts.push_failed(sequence, wire), size, code=wire.code.name)

    def _observe_refused(self, raw: bytes, began: int, error: Exception) -> None:
        try:
            request = PushRequest.FromString(raw)
        except DecodeError:
            request = PushRequest()
        if self._scope.observe is not None:
            self._scope.observe(PUSH, request, None, began, error)

    def begin(self) -> None:
        pass

    def stop_giving(self) -> None:
        pass

    async def before_writing(self) -> None:
        pass

    def written(self, last: int) -> None:
        pass

    async def left(self) -> None:
        self.pending.clear()  # of pushes that were not given to the store nobody is to hear
        self._scope.about["jobs"] = self._pushed

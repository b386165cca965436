"""A broker without a transport: bytes in, and what gRPC would send back out.

The bytes take the way that the server gives them: the interceptors, the handler of the method, the
core and a store, and back as the bytes of a reply. Time is the test's.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.core.manual_clock import ManualClock
from tests.fuzz.answers import Wrong, check_failure
from tests.fuzz.callers import Callers, Metadata
from tests.fuzz.streams import PATIENCE, STREAMED, StreamAnswer, StreamContext, check_stream
from towline.v1 import admin_service_pb2, dead_letter_service_pb2, queue_service_pb2
from towline_broker.core.broker import Broker
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.time import HOUR, MILLISECOND, SECOND, Micros
from towline_broker.drivers.interface import Driver
from towline_broker.interceptors.errors import ErrorsInterceptor
from towline_broker.interceptors.pacing import PushPacing
from towline_broker.interceptors.reading import RequestReader
from towline_broker.interceptors.running import RunningCalls
from towline_broker.services.admin_service import AdminService
from towline_broker.services.dead_letter_service import DeadLetterService
from towline_broker.services.limits import Limits
from towline_broker.services.pushing import DEFAULT_QUEUE
from towline_broker.services.queue_service import QueueService
from towline_broker.services.registering import add_services
from towline_broker.services.streams.lifetime import OpenStreams
from towline_broker.services.streams.push_stream import PushStreams
from towline_broker.services.streams.work_stream import WorkStreams

#: Small, so that bounds are met.
SETTINGS = CoreSettings(
    settle_memory=1 * SECOND,
    max_queue_depth=400,
    max_waiters=20,
    worker_memory=2 * SECOND,
    max_workers=100,
)

_SERVICES = [
    service
    for file in (queue_service_pb2, dead_letter_service_pb2, admin_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
#: Full name of every method, and its kind of request.
METHODS: dict[str, type[Message]] = {
    f"/{service.full_name}/{method.name}": GetMessageClass(method.input_type)
    for service in _SERVICES
    for method in service.methods
    if not method.client_streaming  # the streams
}
REPLIES: dict[str, type[Message]] = {
    f"/{service.full_name}/{method.name}": GetMessageClass(method.output_type)
    for service in _SERVICES
    for method in service.methods
    if not method.client_streaming  # the streams
}


class _Details(NamedTuple):
    """Of a call that has come in."""

    method: str
    invocation_metadata: Sequence[tuple[str, str]] = ()


class Aborted(grpc.aio.AbortError):
    """The call was ended with a status."""


class Context:
    """What a handler sees of its call."""

    def __init__(self, seconds: float, raw: bytes, metadata: Metadata) -> None:
        self._seconds = seconds
        self._request: Any = raw
        self._metadata = metadata
        self.status: tuple[grpc.StatusCode, str, Sequence[tuple[str, Any]]] | None = None
        self.written: list[Any] = []

    def time_remaining(self) -> float:
        return self._seconds

    def peer(self) -> str:
        return "fuzz"

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def peer_identities(self) -> None:
        """No certificate."""

    async def read(self) -> Any:
        request, self._request = self._request, grpc.aio.EOF
        return request

    async def write(self, reply: Any) -> None:
        self.written.append(reply)

    async def abort(
        self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, Any]]
    ) -> None:
        self.status = (code, details, metadata)
        # gRPC keeps it as well: the call, its error and the frames of that make a circle.
        self.error = Aborted()
        raise self.error


@dataclass(frozen=True)
class Answer:
    code: grpc.StatusCode
    #: None unless the code is OK.
    reply: Any = None


class FuzzedBroker:
    """As a context manager it runs."""

    def __init__(self, driver: Driver, limits: Limits | None = None) -> None:
        self.clock = ManualClock()
        self.driver = driver
        self.broker = Broker({"default": driver}, clock=self.clock, settings=SETTINGS)
        self._handlers: dict[str, Any] = {}
        limits = limits or Limits()
        self._most_items = limits.most_items
        self._folder = tempfile.TemporaryDirectory()
        self.callers = Callers(Path(self._folder.name))
        queue = QueueService(self.broker, limits)
        streams = OpenStreams(self.broker.waiters, lambda: HOUR)
        add_services(
            self,
            queue,
            DeadLetterService(self.broker, limits),
            AdminService(self.broker, limits, "0"),
            PushStreams(queue.pushes, self.broker, limits, streams),
            WorkStreams(queue, self.broker, limits, streams),
        )

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """What a server of gRPC does with the services."""
        access, running = self.callers.access, RunningCalls()
        layers: list[Any] = [
            *reversed(access.inner),
            RequestReader(self._most_items),
            PushPacing(lambda: self.broker.jobs.crowded, DEFAULT_QUEUE, running, self._seconds),
            running,
            *reversed(access.outer),
            ErrorsInterceptor(),
        ]
        for name in (*METHODS, *STREAMED):
            found = (service.service(_Details(name)) for service in handlers)
            handler = next(each for each in found if each is not None)
            for layer in layers:
                if name.startswith(layer.prefix):
                    handler = layer.wrap_handler(name, handler)
            self._handlers[name] = handler

    def _seconds(self) -> float:
        return self.clock.now() / SECOND

    async def __aenter__(self) -> Self:
        await self.broker.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.broker.stop()
        self._folder.cleanup()

    async def call(
        self, method: str, raw: bytes, metadata: Metadata | None = None, *, parks: bool = False
    ) -> Answer:
        """``metadata``: of who may do everything, unless given. ``parks``: a wait that is asked for
        is granted, but not for longer than 50 ms. Raises Wrong for an answer that no client should
        get."""
        handler = self._handlers[method]
        metadata = self.callers.good if metadata is None else metadata
        context = Context(0.30 if parks else 0.25, raw, metadata)
        raw = b""  # this frame may come to be in the circle of an error
        behaviour: Callable[..., Awaitable[Any]] = handler.stream_unary or handler.stream_stream
        try:
            # Each in a task of its own, as gRPC has it.
            reply = await asyncio.ensure_future(behaviour(None, context))
        except Aborted:
            assert context.status is not None
            check_failure(*context.status)
            return Answer(context.status[0])
        written = [reply] if handler.stream_unary else context.written
        if len(written) != 1:
            raise Wrong(f"{len(written)} replies were written")
        return Answer(grpc.StatusCode.OK, REPLIES[method].FromString(written[0]))

    async def stream(
        self, method: str, raws: Sequence[bytes], metadata: Metadata | None = None
    ) -> StreamAnswer:
        """A stream of these messages, which its caller ends then. Raises Wrong for answers that no
        client should get."""
        context = StreamContext(raws, self.callers.good if metadata is None else metadata)
        behaviour = self._handlers[method].stream_stream
        code = grpc.StatusCode.OK
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.ensure_future(behaviour(None, context))
        except grpc.aio.AbortError:
            assert context.status is not None
            check_failure(*context.status)
            code = context.status[0]
        except TimeoutError:
            raise Wrong("a stream that its caller has ended goes on") from None
        return check_stream(method, raws, context.written, code)

    async def pass_time(self, milliseconds: int) -> None:
        await self.clock.advance(milliseconds * MILLISECOND)

    async def skip(self, time: Micros) -> None:
        """As if the broker had slept for so long."""
        self.clock.not_before(self.clock.now() + time)
        await self.pass_time(2_000)

    async def rest(self) -> None:
        """Until what was begun in the store has ended."""
        for _ in range(3):
            await asyncio.sleep(0)

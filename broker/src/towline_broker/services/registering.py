"""Making the services known to a server."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

import grpc

from towline.v1 import admin_service_pb2_grpc, dead_letter_service_pb2_grpc, queue_service_pb2_grpc
from towline.v1.queue_service_pb2 import ReserveRequest
from towline_broker.domain.encoded import Encoded
from towline_broker.services.admin_service import AdminService
from towline_broker.services.dead_letter_service import DeadLetterService
from towline_broker.services.queue_service import QueueService
from towline_broker.services.streams.push_stream import PushStreams
from towline_broker.services.streams.work_stream import WorkStreams

QUEUE_SERVICE = "towline.v1.QueueService"
DEAD_LETTER_SERVICE = "towline.v1.DeadLetterService"
ADMIN_SERVICE = "towline.v1.AdminService"
SERVICES = (QUEUE_SERVICE, DEAD_LETTER_SERVICE, ADMIN_SERVICE)

#: Generic for the type checker only.
Handlers: TypeAlias = "dict[str, grpc.RpcMethodHandler[Any, Any]]"
Behaviour: TypeAlias = Callable[[Any, object], Awaitable[Any]]


class Services(Protocol):
    """Of a server."""

    def add_generic_rpc_handlers(self, services: Sequence[grpc.GenericRpcHandler]) -> None: ...


class _Recorder:
    """Stands in for a server, to get at the handlers that the generated code makes."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handlers] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        pass

    def add_registered_method_handlers(self, service: str, handlers: Handlers) -> None:
        self.handlers[service] = handlers


def add_services(
    server: Services,
    queue: QueueService,
    dead: DeadLetterService,
    admin: AdminService,
    pushes: PushStreams,
    works: WorkStreams,
) -> None:
    recorder = _Recorder()
    recording = cast(grpc.aio.Server, recorder)
    queue_service_pb2_grpc.add_QueueServiceServicer_to_server(queue, recording)
    dead_letter_service_pb2_grpc.add_DeadLetterServiceServicer_to_server(dead, recording)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(admin, recording)
    # Jobs are stored and handed on as the bytes that they came in.
    recorder.handlers[QUEUE_SERVICE]["Push"] = grpc.unary_unary_rpc_method_handler(
        _without_context(queue.pushes.answer),
        request_deserializer=queue.pushes.read,
        response_serializer=_bytes_of,
    )
    recorder.handlers[QUEUE_SERVICE]["Ack"] = grpc.unary_unary_rpc_method_handler(
        _without_context(queue.acks.answer),
        request_deserializer=queue.acks.read,
        response_serializer=_bytes_of,
    )
    # One reply is the same on the wire as a stream of one; but only the streaming form tells the
    # handler whether its reply could be sent.
    recorder.handlers[QUEUE_SERVICE]["Reserve"] = grpc.unary_stream_rpc_method_handler(
        queue.reserve,
        request_deserializer=ReserveRequest.FromString,
        # It writes bytes: so it knows how many.
        response_serializer=None,
    )
    # Streams read and write bytes, of several messages at once where they can.
    for name, serve in (("PushStream", pushes.serve), ("Work", works.serve)):
        recorder.handlers[QUEUE_SERVICE][name] = grpc.stream_stream_rpc_method_handler(serve)
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(service, handlers)
            for service, handlers in recorder.handlers.items()
        ]
    )


def _without_context(answer: Callable[[Any], Awaitable[Any]]) -> Behaviour:
    def handler(request: Any, _: object) -> Awaitable[Any]:
        return answer(request)

    return handler


def _bytes_of(reply: Encoded[Any]) -> bytes:
    return reply.raw

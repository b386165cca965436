"""A scripted broker that has PushStream as well, and streams that a test holds in its hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc

from tests.sdk.scripted_broker import Failure, Handler, ScriptedBroker
from towline.v1 import errors_pb2, job_pb2
from towline.v1.queue_service_pb2 import (
    PUSH_OUTCOME_CREATED,
    PUSH_OUTCOME_EXISTING,
    PushResponse,
    PushResult,
    PushStreamRequest,
    PushStreamResponse,
    StreamedPushResult,
)

METHOD = "/towline.v1.QueueService/PushStream"


class OpenStream:
    """One call of PushStream. ``silent``: it takes pushes, and answers nothing."""

    def __init__(self, broker: StreamBroker, token: str) -> None:
        self.token = token
        self.pushed: list[job_pb2.Job] = []
        self.ended = threading.Event()
        self._broker = broker
        self._outgoing: SimpleQueue[PushStreamResponse | Failure | None] = SimpleQueue()

    def say_closing(self) -> None:
        self._outgoing.put(PushStreamResponse(closing=True))

    def break_off(self) -> None:
        self._outgoing.put(Failure(grpc.StatusCode.UNAVAILABLE, "broken"))

    def over(self) -> None:
        self._outgoing.put(None)
        self.ended.set()

    def read(self, requests: Any) -> None:
        try:
            for request in requests:
                self._broker.reads.wait()
                results = list(self._results(request))
                self._outgoing.put(PushStreamResponse(results=results[::-1]))  # in any order
        except grpc.RpcError:
            pass  # it is over
        finally:
            if not self._broker.silent:  # otherwise it owes answers
                self._outgoing.put(None)

    def answers(self) -> Iterator[PushStreamResponse | Failure]:
        while (answer := self._outgoing.get()) is not None:
            yield answer

    def _results(self, request: PushStreamRequest) -> Iterator[StreamedPushResult]:
        broker = self._broker
        for push in request.pushes:
            [job] = push.request.jobs
            with broker.changed:
                self.pushed.append(job)
                broker.changed.notify_all()
            error = broker.refuse(job)
            if error is not None:
                yield StreamedPushResult(sequence=push.sequence, error=error)
            elif not broker.silent:
                new = job.id not in broker.jobs
                broker.jobs[job.id] = job_pb2.JobInfo(job=job)
                outcome = PUSH_OUTCOME_CREATED if new else PUSH_OUTCOME_EXISTING
                result = PushResult(job_id=job.id, outcome=outcome)
                response = PushResponse(results=[result])
                yield StreamedPushResult(sequence=push.sequence, response=response)


class StreamBroker(ScriptedBroker):
    """``refuse`` says with what a push of a stream is answered, other than by its storing; streams
    are read while ``reads`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[OpenStream] = []
        self.silent = False
        self.reads = threading.Event()
        self.reads.set()
        self.accepts = True
        self.refuse: Callable[[job_pb2.Job], errors_pb2.Status | None] = lambda job: None

    @property
    def streamed(self) -> list[job_pb2.Job]:
        return [job for stream in self.streams for job in stream.pushed]

    def until_streamed(self, times: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.streamed) >= times, 10)


class _Handler(Handler):
    broker: StreamBroker

    def service(self, details: Any) -> grpc.RpcMethodHandler[Any, Any] | None:
        if details.method != METHOD:
            return super().service(details)
        token = dict(details.invocation_metadata).get("authorization", "")
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._serve(requests, context, token),
            request_deserializer=PushStreamRequest.FromString,
            response_serializer=PushStreamResponse.SerializeToString,
        )

    def _serve(
        self, requests: Any, context: Any, token: str
    ) -> Iterator[PushStreamResponse | Failure]:
        stream = OpenStream(self.broker, token)
        self.broker.streams.append(stream)
        if not self.broker.accepts:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls are waiting")
        context.send_initial_metadata(())
        context.add_callback(stream.over)
        threading.Thread(target=stream.read, args=(requests,), daemon=True).start()
        for answer in stream.answers():
            if isinstance(answer, Failure):
                answer.abort(context)
            yield answer


@contextmanager
def stream_broker() -> Iterator[StreamBroker]:
    broker = StreamBroker()
    server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Handler(broker),))
    broker.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield broker
    finally:
        broker.reads.set()
        for stream in broker.streams:
            stream.break_off()
        server.stop(None).wait()

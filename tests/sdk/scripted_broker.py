"""A gRPC server that speaks the contract just far enough to watch what a client sends.

It keeps jobs in a dict and fails the calls that a test tells it to fail. The promises of a broker
are tested against a real one.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from towline.v1 import (
    admin_service_pb2,
    dead_letter_service_pb2,
    errors_pb2,
    job_pb2,
    queue_service_pb2,
)

ENDED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_DEAD, job_pb2.JOB_STATE_CANCELLED)


class Failure(Exception):
    """A status with details, as the contract has them."""

    def __init__(self, code: grpc.StatusCode, message: str = "", *details: Message) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def abort(self, context: grpc.ServicerContext) -> NoReturn:
        status = errors_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            packed = status.details.add()
            packed.type_url = f"type.googleapis.com/google.rpc.{detail.DESCRIPTOR.name}"
            packed.value = detail.SerializeToString()
        if self.details:
            context.set_trailing_metadata(
                (("grpc-status-details-bin", status.SerializeToString()),)
            )
        context.abort(self.code, self.message)


def unavailable(message: str = "draining") -> Failure:
    return Failure(
        grpc.StatusCode.UNAVAILABLE,
        message,
        errors_pb2.ErrorInfo(reason="DRAINING", domain="towline"),
    )


def refused(error: errors_pb2.ItemError) -> Failure:
    """The same for a call that is whole or not at all."""
    code = next(code for code in grpc.StatusCode if code.value[0] == error.code)
    details: list[Message] = [errors_pb2.ErrorInfo(reason=error.reason, domain="towline")]
    if error.HasField("retry_after"):
        details.append(errors_pb2.RetryInfo(retry_delay=error.retry_after))
    return Failure(code, error.message, *details)


def invalid(*fields: tuple[str, str]) -> Failure:
    bad_request = errors_pb2.BadRequest()
    for field, description in fields:
        bad_request.field_violations.add(field=field, description=description)
    info = errors_pb2.ErrorInfo(reason="INVALID_FIELD", domain="towline")
    return Failure(grpc.StatusCode.INVALID_ARGUMENT, "invalid", info, bad_request)


class ScriptedBroker:
    """What was called, what is stored, and what is to fail.

    ``failures[method]`` are handed out to the calls of a method one by one before it works.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.failures: dict[str, list[Failure]] = defaultdict(list)
        self.jobs: dict[str, job_pb2.JobInfo] = {}
        self.reject: Callable[[job_pb2.Job], errors_pb2.ItemError | None] = lambda job: None
        self.changed = threading.Condition()
        self.answers_short = False
        self.address = ""
        self.hold = threading.Event()
        """Calls wait while it is cleared."""
        self.hold.set()

    def called(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    def until_called(self, method: str, times: int) -> None:
        """Return once a method was called that often; fails after ten seconds."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.called(method)) >= times, 10)

    def finish(self, job_id: str, state: job_pb2.JobState.ValueType, **fields: Any) -> None:
        with self.changed:
            self.jobs[job_id].MergeFrom(job_pb2.JobInfo(state=state, **fields))
            self.changed.notify_all()


class Handler(grpc.GenericRpcHandler):
    """Answers every RPC of the contract: a few as below, the others with an empty message."""

    def __init__(self, broker: ScriptedBroker) -> None:
        self.broker = broker
        self.answers = {"Push": self.push, "GetJob": self.get_job, "CancelJob": self.cancel_job}
        self.methods = {
            f"/{service.full_name}/{method.name}": method
            for module in (queue_service_pb2, admin_service_pb2, dead_letter_service_pb2)
            for service in module.DESCRIPTOR.services_by_name.values()
            for method in service.methods
            if not method.client_streaming  # the streams
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = self.methods.get(details.method)
        if method is None:
            return None
        response = GetMessageClass(method.output_type)

        def answer(request: Message, context: grpc.ServicerContext) -> Message:
            with self.broker.changed:
                self.broker.calls.append((method.name, request))
                self.broker.changed.notify_all()
            self.broker.hold.wait(10)
            if self.broker.failures[method.name]:
                self.broker.failures[method.name].pop(0).abort(context)
            answer = self.answers.get(method.name)
            return response() if answer is None else answer(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=response.SerializeToString,
        )

    def push(self, request: Any, context: grpc.ServicerContext) -> Message:
        response = queue_service_pb2.PushResponse()
        if self.broker.answers_short:
            return response
        for job in request.jobs:
            result = response.results.add(job_id=job.id)
            error = self.broker.reject(job)
            if error is not None and not request.allow_partial:
                refused(error).abort(context)
            if error is not None:
                result.outcome = queue_service_pb2.PUSH_OUTCOME_REJECTED
                result.error.CopyFrom(error)
            elif job.id in self.broker.jobs:
                result.outcome = queue_service_pb2.PUSH_OUTCOME_EXISTING
            else:
                result.outcome = queue_service_pb2.PUSH_OUTCOME_CREATED
                info = job_pb2.JobInfo(job=job, state=job_pb2.JOB_STATE_READY)
                info.enqueued_at.GetCurrentTime()
                self.broker.jobs[job.id] = info
        return response

    def get_job(self, request: Any, context: grpc.ServicerContext) -> Message:
        info = self.broker.jobs.get(request.id)
        if info is None:
            reason = errors_pb2.ErrorInfo(reason="JOB_NOT_FOUND", domain="towline")
            Failure(grpc.StatusCode.NOT_FOUND, "no such job", reason).abort(context)
        with self.broker.changed:
            self.broker.changed.wait_for(
                lambda: info.state in ENDED, request.wait.ToTimedelta().total_seconds()
            )
            return queue_service_pb2.GetJobResponse(job=info)

    def cancel_job(self, request: Any, context: grpc.ServicerContext) -> Message:
        response = queue_service_pb2.CancelJobResponse()
        for job_id in request.ids:
            info = self.broker.jobs.get(job_id)
            outcome = queue_service_pb2.CANCEL_OUTCOME_NOT_FOUND
            if info is not None and info.state in ENDED:
                outcome = queue_service_pb2.CANCEL_OUTCOME_ALREADY_ENDED
            elif info is not None:
                outcome = queue_service_pb2.CANCEL_OUTCOME_CANCELLED
                self.broker.finish(job_id, job_pb2.JOB_STATE_CANCELLED)
            response.results.add(job_id=job_id, outcome=outcome)
        return response


def server_for(broker: ScriptedBroker, port: int = 0) -> grpc.Server:
    """Return a started server; its address is put into the broker."""
    server = grpc.server(
        ThreadPoolExecutor(32),
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
    )
    server.add_generic_rpc_handlers((Handler(broker),))
    broker.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    return server


@contextmanager
def scripted_broker() -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker()
    server = server_for(broker)
    try:
        yield broker
    finally:
        server.stop(None).wait()

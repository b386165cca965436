"""The empty server: the same messages as a broker's, no work behind them, on the same event loop.

What a broker's rate is held against, for it is the most that this gRPC on this machine carries.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from bench.messages import QUEUE, new_job
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Lease
from towline_broker.server.event_loop import loop_factory

SERVICE = "towline.v1.QueueService"


class Answers:
    """Ready-made, of the size that a broker's have."""

    def __init__(self, batch: int, payload: int) -> None:
        jobs = [new_job(payload) for _ in range(batch)]
        created, ok = pb.PushOutcome.PUSH_OUTCOME_CREATED, pb.LeaseOutcome.LEASE_OUTCOME_OK
        leases = [
            Lease(lease_token=f"{QUEUE}/{job.id}/{'x' * 12}", job=job, attempt=1) for job in jobs
        ]
        pushed = [pb.PushResult(job_id=job.id, outcome=created) for job in jobs]
        self._settled = [pb.SettleResult(outcome=ok)] * batch
        self._push = pb.PushResponse(results=pushed)
        self._leases = leases
        self.unary: dict[str, tuple[type[Message], Message]] = {
            "Push": (pb.PushRequest, self._push),
            "Reserve": (pb.ReserveRequest, pb.ReserveResponse(leases=leases)),
            "Ack": (pb.AckRequest, pb.AckResponse(results=self._settled)),
        }

    async def push_stream(
        self, requests: AsyncIterator[pb.PushStreamRequest], context: object
    ) -> AsyncIterator[pb.PushStreamResponse]:
        async for request in requests:
            yield pb.PushStreamResponse(
                results=[
                    pb.StreamedPushResult(sequence=push.sequence, response=self._push)
                    for push in request.pushes
                ]
            )

    async def work(
        self, requests: AsyncIterator[pb.WorkRequest], context: object
    ) -> AsyncIterator[pb.WorkResponse]:
        async for request in requests:
            answer = pb.WorkResponse(leases=self._leases[: request.credits])
            if request.sequence:
                settled = self._settled[: len(request.acks)]
                answer.results.add(sequence=request.sequence, acks=settled)
            yield answer


def unary(takes: type[Message], gives: Message) -> "grpc.RpcMethodHandler[Any, Any]":
    async def answer(request: Message, context: object) -> Message:
        return gives

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=takes.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def streaming(answer: Any, takes: type[Message]) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=takes.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


async def serve(batch: int, payload: int, ready: Path) -> None:
    server = grpc.aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    )
    answers = Answers(batch, payload)
    handlers = {name: unary(*pair) for name, pair in answers.unary.items()}
    handlers["PushStream"] = streaming(answers.push_stream, pb.PushStreamRequest)
    handlers["Work"] = streaming(answers.work, pb.WorkRequest)
    server.add_registered_method_handlers(SERVICE, handlers)
    await serve_until_killed(server, ready)


async def serve_until_killed(server: grpc.aio.Server, ready: Path) -> None:
    """Its address goes to a file, at once and whole."""
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    unfinished = ready.with_suffix(".part")
    unfinished.write_text(f"127.0.0.1:{port}")
    unfinished.replace(ready)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("batch", type=int)
    parser.add_argument("payload", type=int)
    parser.add_argument("--ready-file", type=Path, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(serve(arguments.batch, arguments.payload, arguments.ready_file))

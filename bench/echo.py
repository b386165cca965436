"""The empty server: the same messages as a broker's, no work behind them.

What a broker's rate is held against, for it is the most that this gRPC on this machine carries.
"""

import argparse
import asyncio
from pathlib import Path

import grpc
from google.protobuf.message import Message

from bench.messages import QUEUE, new_job
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Lease
from towline_broker.server.event_loop import loop_factory


def answers(batch: int, payload: int) -> dict[str, tuple[type[Message], Message]]:
    """For each method that is measured: what it takes, and the one answer that it gives."""
    jobs = [new_job(payload) for _ in range(batch)]
    created, ok = pb.PushOutcome.PUSH_OUTCOME_CREATED, pb.LeaseOutcome.LEASE_OUTCOME_OK
    token = "x" * 12
    return {
        "Push": (
            pb.PushRequest,
            pb.PushResponse(
                results=[pb.PushResult(job_id=job.id, outcome=created) for job in jobs]
            ),
        ),
        "Reserve": (
            pb.ReserveRequest,
            pb.ReserveResponse(
                leases=[
                    Lease(lease_token=f"{QUEUE}/{job.id}/{token}", job=job, attempt=1)
                    for job in jobs
                ]
            ),
        ),
        "Ack": (pb.AckRequest, pb.AckResponse(results=[pb.SettleResult(outcome=ok)] * batch)),
    }


def handler(takes: type[Message], gives: Message) -> "grpc.RpcMethodHandler[Message, Message]":
    async def answer(request: Message, context: object) -> Message:
        return gives

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=takes.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


async def serve(batch: int, payload: int, ready: Path) -> None:
    server = grpc.aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    )
    handlers = {name: handler(*pair) for name, pair in answers(batch, payload).items()}
    server.add_registered_method_handlers("towline.v1.QueueService", handlers)
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
    # That of a broker.
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(serve(arguments.batch, arguments.payload, arguments.ready_file))

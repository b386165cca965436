"""The empty server of push-to-start: what is pushed goes to whoever waits on a Work stream at once,
by the same messages as a broker's, with no work behind them.

What a broker's time is held against, for it is the least that this gRPC on this machine takes.
"""

import argparse
import asyncio
from collections import deque
from pathlib import Path
from typing import Any

import grpc

from bench.echo import SERVICE, serve_until_killed
from bench.messages import QUEUE
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job, Lease
from towline_broker.server.event_loop import loop_factory


class Hands:
    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        #: Streams that wait for a job.
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def push(self, request: pb.PushRequest, context: object) -> pb.PushResponse:
        self._jobs.extend(request.jobs)
        for _ in request.jobs:
            if self._waiting:
                self._waiting.popleft().set_result(None)
        created = pb.PushOutcome.PUSH_OUTCOME_CREATED
        results = [pb.PushResult(job_id=job.id, outcome=created) for job in request.jobs]
        return pb.PushResponse(results=results)

    async def work(self, _: object, context: Any) -> None:
        await context.send_initial_metadata(())
        ok = pb.SettleResult(outcome=pb.LeaseOutcome.LEASE_OUTCOME_OK)
        giving: set[asyncio.Task[None]] = set()
        writing = asyncio.Lock()  # gRPC takes one message of a stream at a time
        while (request := await context.read()) is not grpc.aio.EOF:
            for _ in range(request.credits):
                giving.add(asyncio.create_task(self._give(context, writing)))
            if request.sequence:
                result = pb.WorkResult(sequence=request.sequence, acks=[ok] * len(request.acks))
                async with writing:
                    await context.write(pb.WorkResponse(results=[result]))
        for task in giving:
            task.cancel()

    async def _give(self, context: Any, writing: asyncio.Lock) -> None:
        while not self._jobs:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        job = self._jobs.popleft()
        lease = Lease(lease_token=f"{QUEUE}/{job.id}/{'x' * 12}", job=job, attempt=1)
        async with writing:
            await context.write(pb.WorkResponse(leases=[lease]))


async def serve(ready: Path) -> None:
    server, hands = grpc.aio.server(options=[("grpc.so_reuseport", 0)]), Hands()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Push": grpc.unary_unary_rpc_method_handler(
            hands.push,
            request_deserializer=pb.PushRequest.FromString,
            response_serializer=pb.PushResponse.SerializeToString,
        ),
        "Work": grpc.stream_stream_rpc_method_handler(
            hands.work,
            request_deserializer=pb.WorkRequest.FromString,
            response_serializer=pb.WorkResponse.SerializeToString,
        ),
    }
    server.add_registered_method_handlers(SERVICE, handlers)
    await serve_until_killed(server, ready)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-file", type=Path, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(serve(arguments.ready_file))

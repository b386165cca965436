"""A worker in a process of its own, which can be killed; what it saw stands in a file.

    python -m tests.faults.fleet_worker ipv4:127.0.0.1:7480,127.0.0.1:7481 seen.jsonl

Each line is written before anything else happens, so a kill loses none. Times are those of
``time.monotonic()``, which is one for all processes of a machine.
"""

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path

import grpc

from tests.faults.load import CALL_SECONDS, OK, QUEUE, pause_after, until_answered
from towline.v1 import queue_service_pb2 as pb
from towline.v1 import queue_service_pb2_grpc as rpc
from towline.v1.job_pb2 import Lease

#: Brokers take turns, and one that is gone is left out.
ROUND_ROBIN = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')
#: What the work on one batch takes: a worker that is killed shall hold leases.
HANDLING_SECONDS = 0.02
OPTIONS = (ROUND_ROBIN, ("grpc.max_reconnect_backoff_ms", 200))


class Diary:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, **event: object) -> None:
        os.write(self._file, json.dumps(event).encode() + b"\n")


def work(target: str, diary: Diary, batch: int, lease_seconds: int) -> None:
    """Until killed."""
    with grpc.insecure_channel(target, options=OPTIONS) as channel:
        stub = rpc.QueueServiceStub(channel)
        while True:
            request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=batch)
            request.wait.FromMilliseconds(1000)
            request.lease.FromSeconds(lease_seconds)
            called = time.monotonic()
            try:
                leases = stub.Reserve(request, timeout=CALL_SECONDS).leases
            except grpc.RpcError as error:
                pause_after(error)
                continue
            if leases:
                _handle(stub, list(leases), called, diary)


def _handle(stub: rpc.QueueServiceStub, leases: list[Lease], called: float, diary: Diary) -> None:
    jobs = [[lease.job.id, lease.attempt, lease.lease_remaining.ToSeconds()] for lease in leases]
    diary.write(event="delivered", jobs=jobs, called=called, returned=time.monotonic())
    ids = [lease.job.id for lease in leases]
    time.sleep(HANDLING_SECONDS)
    diary.write(event="settling", ids=ids, called=time.monotonic())
    acks = pb.AckRequest(acks=[pb.Ack(lease_token=lease.lease_token) for lease in leases])
    answer = until_answered(partial(stub.Ack, acks, timeout=CALL_SECONDS))
    settled = [
        job_id for job_id, result in zip(ids, answer.results, strict=True) if result.outcome == OK
    ]
    diary.write(event="acked", ids=settled, returned=time.monotonic())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("diary", type=Path)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--lease", type=int, default=5, help="seconds")
    arguments = parser.parse_args()
    work(arguments.target, Diary(arguments.diary), arguments.batch, arguments.lease)

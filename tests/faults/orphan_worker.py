"""A worker that takes jobs, says until when it has them, and waits to be killed.

    python -m tests.faults.orphan_worker ADDRESS QUEUE JOBS SEED

For each job a line on standard output: its id, and the time by ``time.monotonic()`` at which its
lease runs out, at the earliest.
"""

import random
import sys
import time

import grpc

from towline.v1 import queue_service_pb2 as pb
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

#: Lengths of leases and pauses between Reserves, in seconds: leases run out one by one, and not in
#: step with anything that a broker does from time to time.
LEASE = (1.5, 2.5)
PAUSE = (0.0, 0.03)


def main(address: str, queue: str, jobs: str, seed: str) -> None:
    chance = random.Random(int(seed))
    with grpc.insecure_channel(address) as channel:
        stub = QueueServiceStub(channel)
        for _ in range(int(jobs)):
            request = pb.ReserveRequest(queues=[pb.QueueChoice(name=queue)], max_jobs=1)
            request.worker_id = "to-be-killed"
            request.lease.FromMilliseconds(round(chance.uniform(*LEASE) * 1000))
            request.wait.FromSeconds(10)
            called = time.monotonic()
            [lease] = stub.Reserve(request, timeout=20).leases
            ends = called + lease.lease_remaining.ToMicroseconds() / 1e6
            sys.stdout.write(f"{lease.job.id} {ends}\n")
            sys.stdout.flush()
            time.sleep(chance.uniform(*PAUSE))
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])

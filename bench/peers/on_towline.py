import json
import os
import sys

from bench.peers.counting import hit
from towline import Client, JobRequest, Worker, job


@job
def nothing() -> None:
    hit()


@job(queue="awaited")
async def nothing_async() -> None:
    hit()


if __name__ == "__main__":
    address = os.environ["BENCH_BROKER"]
    if sys.argv[1] == "enqueue":
        with Client(address) as client:
            client.dispatch_batch(JobRequest(sys.argv[3], {}) for _ in range(int(sys.argv[2])))
    else:
        Worker(address, ["default"], **json.loads(sys.argv[2])).run()

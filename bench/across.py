"""From a Push at one broker to the job at a worker that waits on another, over one store.

    python -m bench.across --store postgresql --store redis-cluster --jobs 1000

Beside it, in the same run and by turns, the same with both on one broker: what lies between the two
is the way of the news from broker to broker.
"""

import argparse
import asyncio
import random
import statistics
import time

import grpc

from bench import processes
from bench.messages import QUEUE, new_job
from bench.stores import SHARED, STORES
from towline.v1 import queue_service_pb2 as pb
from towline.v1 import queue_service_pb2_grpc as rpc

WARM_UP = 20


async def one_job(
    producer: "rpc.QueueServiceAsyncStub", worker: "rpc.QueueServiceAsyncStub"
) -> float:
    """Seconds from the call of Push to the end of a Reserve that was waiting."""
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=1)
    request.wait.FromSeconds(30)
    request.lease.FromSeconds(60)
    waiting = asyncio.ensure_future(worker.Reserve(request))
    # The Reserve is parked by then; at a time that has nothing to do with any interval.
    await asyncio.sleep(0.02 + random.random() * 0.03)
    start = time.perf_counter()
    _, response = await asyncio.gather(producer.Push(pb.PushRequest(jobs=[new_job(250)])), waiting)
    took = time.perf_counter() - start
    (lease,) = response.leases
    await worker.Ack(pb.AckRequest(acks=[pb.Ack(lease_token=lease.lease_token)]))
    return took


async def measure(a: str, b: str, jobs: int) -> tuple[list[float], list[float]]:
    across: list[float] = []
    within: list[float] = []
    async with grpc.aio.insecure_channel(a) as at_a, grpc.aio.insecure_channel(b) as at_b:
        one, other = rpc.QueueServiceStub(at_a), rpc.QueueServiceStub(at_b)
        for turn in range(jobs + WARM_UP):
            times = await one_job(one, other), await one_job(other, other)
            if turn >= WARM_UP:
                across.append(times[0])
                within.append(times[1])
    return across, within


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--store", action="append", choices=SHARED, help="may be repeated (default: all)"
    )
    parser.add_argument("--jobs", type=int, default=1_000)
    options = parser.parse_args()
    print(f"{options.jobs} jobs; milliseconds from Push to delivery\n")
    print(f"{'store':15}{'broker A to B':>20}{'one broker':>20}")
    print(f"{'':15}{'p50':>12}{'p99':>8}{'p50':>12}{'p99':>8}")
    for name in options.store or SHARED:
        with processes.fresh_folder() as folder, STORES[name](folder) as measured:
            url = measured.new_url()
            with processes.broker(url) as a, processes.broker(url) as b:
                across, within = asyncio.run(measure(a, b, options.jobs))
        cuts = [statistics.quantiles(times, n=100) for times in (across, within)]
        figures = "".join(f"{cut[49] * 1e3:>12.2f}{cut[98] * 1e3:>8.2f}" for cut in cuts)
        print(f"{name:15}{figures}", flush=True)


if __name__ == "__main__":
    main()

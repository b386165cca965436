"""The time of Reserve(100) with few and with very many jobs waiting.

    python -m bench.depth --small 1000 --large 1000000

A broker on SQLite is filled with `large` ready jobs and as many delayed ones, another with `small`
of each. Then both are asked by turns. Each answer is acknowledged and the same number pushed again,
so the depth stays what it is.
"""

import argparse
import asyncio
import statistics
import time

import grpc

from bench import processes
from bench.messages import QUEUE, new_job
from towline.v1 import queue_service_pb2 as pb
from towline.v1 import queue_service_pb2_grpc as rpc

BATCH = 100
FILL = 1000
LATER = 30 * 24 * 3600


async def fill(stub: "rpc.QueueServiceAsyncStub", depth: int, payload: int) -> None:
    for delay in (0, LATER):
        for start in range(0, depth, FILL):
            count = min(FILL, depth - start)
            jobs = [new_job(payload, delay) for _ in range(count)]
            await stub.Push(pb.PushRequest(jobs=jobs))


async def one_reserve(stub: "rpc.QueueServiceAsyncStub", payload: int) -> float:
    """Seconds that Reserve(100) took."""
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=BATCH)
    request.lease.FromSeconds(600)
    start = time.perf_counter()
    leases = (await stub.Reserve(request)).leases
    took = time.perf_counter() - start
    if len(leases) != BATCH:
        raise AssertionError(f"reserved {len(leases)} of {BATCH}")
    await stub.Ack(pb.AckRequest(acks=[pb.Ack(lease_token=le.lease_token) for le in leases]))
    await stub.Push(pb.PushRequest(jobs=[new_job(payload) for _ in range(BATCH)]))
    return took


async def measure(addresses: dict[int, str], options: argparse.Namespace) -> dict[int, list[float]]:
    took: dict[int, list[float]] = {depth: [] for depth in addresses}
    channels = {depth: grpc.aio.insecure_channel(at) for depth, at in addresses.items()}
    try:
        for depth, channel in channels.items():
            start = time.perf_counter()
            await fill(rpc.QueueServiceStub(channel), depth, options.payload)
            print(
                f"filled with {depth:,} ready and {depth:,} delayed jobs in "
                f"{time.perf_counter() - start:.1f} s",
                flush=True,
            )
        for turn in range(options.rounds + 10):
            for depth, channel in channels.items():
                seconds = await one_reserve(rpc.QueueServiceStub(channel), options.payload)
                if turn >= 10:  # The first ones warm up.
                    took[depth].append(seconds)
    finally:
        for channel in channels.values():
            await channel.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", type=int, default=1_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--payload", type=int, default=250, help="bytes a job (default 250)")
    options = parser.parse_args()
    with (
        processes.fresh_folder() as folder,
        processes.broker(f"sqlite:///{folder}/small.db") as small,
        processes.broker(f"sqlite:///{folder}/large.db") as large,
    ):
        took = asyncio.run(measure({options.small: small, options.large: large}, options))
    print(f"\n{'waiting + delayed':>22}{'p50 ms':>9}{'p99 ms':>9}")
    medians = []
    for depth, seconds in took.items():
        cuts = statistics.quantiles(seconds, n=100)
        medians.append(cuts[49])
        print(f"{depth:>10,} +{depth:>10,}{cuts[49] * 1e3:>9.2f}{cuts[98] * 1e3:>9.2f}")
    print(f"\nReserve({BATCH}): {medians[1] / medians[0]:.2f} x the time at the smaller depth")


if __name__ == "__main__":
    main()

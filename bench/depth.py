"""The time of Reserve(100) and Ack(100) with few and with very many jobs waiting.

    python -m bench.depth --store sqlite --store redis --small 1000 --large 1000000

Of each store one broker is filled with `large` ready jobs and another with `small` (with --delayed,
with as many delayed ones beside them), and so is the bare store. Then all are asked by turns. What
was acknowledged is pushed again, so the depth stays what it is.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import grpc

from bench import processes
from bench.bare import BareStore
from bench.messages import QUEUE, new_job
from bench.stores import STORES
from towline.v1 import queue_service_pb2 as pb
from towline.v1 import queue_service_pb2_grpc as rpc

BATCH = 100
FILL = 1000
LATER = 30 * 24 * 3600
WARM_UP = 10

#: One round; returns the seconds of the reserve and of the ack.
Round = Callable[[], Awaitable[tuple[float, float]]]


async def fill(
    stub: "rpc.QueueServiceAsyncStub", depth: int, payload: int, *, delayed: bool
) -> None:
    for delay in (0, LATER) if delayed else (0,):
        for start in range(0, depth, FILL):
            count = min(FILL, depth - start)
            await stub.Push(pb.PushRequest(jobs=[new_job(payload, delay) for _ in range(count)]))


async def fill_bare(bare: BareStore, depth: int, payload: int) -> None:
    envelope = new_job(payload).SerializeToString()
    for start in range(0, depth, FILL):
        await bare.insert([envelope] * min(FILL, depth - start))


def round_of(stub: "rpc.QueueServiceAsyncStub", payload: int) -> Round:
    async def one() -> tuple[float, float]:
        request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=BATCH)
        request.lease.FromSeconds(600)
        start = time.perf_counter()
        leases = (await stub.Reserve(request)).leases
        reserved = time.perf_counter()
        if len(leases) != BATCH:
            raise AssertionError(f"reserved {len(leases)} of {BATCH}")
        acks = pb.AckRequest(acks=[pb.Ack(lease_token=le.lease_token) for le in leases])
        begun = time.perf_counter()
        await stub.Ack(acks)
        acked = time.perf_counter()
        await stub.Push(pb.PushRequest(jobs=[new_job(payload) for _ in range(BATCH)]))
        return reserved - start, acked - begun

    return one


def round_of_bare(bare: BareStore, payload: int) -> Round:
    envelope = new_job(payload).SerializeToString()

    async def one() -> tuple[float, float]:
        start = time.perf_counter()
        keys = await bare.claim(BATCH)
        reserved = time.perf_counter()
        if len(keys) != BATCH:
            raise AssertionError(f"claimed {len(keys)} of {BATCH}")
        await bare.delete(keys)
        acked = time.perf_counter()
        await bare.insert([envelope] * BATCH)
        return reserved - start, acked - reserved

    return one


async def measure(
    addresses: dict[int, str], bares: dict[int, BareStore], options: argparse.Namespace
) -> dict[tuple[str, int], list[tuple[float, float]]]:
    channels = {depth: grpc.aio.insecure_channel(at) for depth, at in addresses.items()}
    rounds: dict[tuple[str, int], Round] = {}
    took: dict[tuple[str, int], list[tuple[float, float]]] = {}
    try:
        for depth, channel in channels.items():
            stub = rpc.QueueServiceStub(channel)
            await fill(stub, depth, options.payload, delayed=options.delayed)
            await bares[depth].open()
            await fill_bare(bares[depth], depth, options.payload)
            rounds["Towline", depth] = round_of(stub, options.payload)
            rounds["bare", depth] = round_of_bare(bares[depth], options.payload)
        for turn in range(options.rounds + WARM_UP):
            for key, one in rounds.items():
                seconds = await one()
                if turn >= WARM_UP:
                    took.setdefault(key, []).append(seconds)
    finally:
        for channel in channels.values():
            await channel.close()
        for bare in bares.values():
            await bare.close()
    return took


def show(
    store: str, took: dict[tuple[str, int], list[tuple[float, float]]], small: int, large: int
) -> None:
    for place, what in enumerate(("Reserve", "Ack")):
        for whose in ("Towline", "bare"):
            few, many = (
                statistics.quantiles([each[place] for each in took[whose, depth]], n=100)
                for depth in (small, large)
            )
            print(
                f"{store:15}{what:9}{whose:9}{few[49] * 1e3:>8.2f}{few[98] * 1e3:>9.2f}"
                f"{many[49] * 1e3:>10.2f}{many[98] * 1e3:>9.2f}{many[49] / few[49]:>8.2f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--store", action="append", choices=STORES, help="may be repeated (default: sqlite)"
    )
    parser.add_argument("--all", action="store_true", help="every store")
    parser.add_argument("--small", type=int, default=1_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--delayed", action="store_true", help="and as many delayed jobs")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--payload", type=int, default=250, help="bytes a job (default 250)")
    options = parser.parse_args()
    small, large = options.small, options.large
    print(f"{BATCH} jobs a call; milliseconds with {small:,} and with {large:,} jobs waiting\n")
    print(f"{'store':33}{'p50':>8}{'p99':>9}{'p50':>10}{'p99':>9}{'factor':>8}")
    for name in STORES if options.all else options.store or ["sqlite"]:
        with (
            processes.fresh_folder() as folder,
            STORES[name](folder) as measured,
            processes.broker(measured.new_url()) as one,
            processes.broker(measured.new_url()) as other,
        ):
            bares = {depth: measured.new_bare() for depth in (small, large)}
            took = asyncio.run(measure({small: one, large: other}, bares, options))
            show(name, took, small, large)


if __name__ == "__main__":
    main()

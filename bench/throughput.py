"""Jobs per second through gRPC, beside an empty server answering the same messages, and beside the
bare store doing the same work without Towline.

    python -m bench.throughput --store sqlite --store postgresql --batch 100 --jobs 20000 --rounds 5

One client process makes all calls, a few at a time, from messages built beforehand. Echo, broker
and bare store are measured by turns, so that whatever else the machine does falls on all of them.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc

from bench import processes
from bench.bare import BareStore
from bench.messages import QUEUE, new_job
from bench.stores import STORES
from towline.v1 import queue_service_pb2 as pb
from towline.v1 import queue_service_pb2_grpc as rpc

Call = Callable[[], Awaitable[None]]


class Rates:
    """Jobs per second of every round, by what was measured and where."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str], list[float]] = {}

    def add(self, what: str, where: str, rate: float) -> None:
        self._rates.setdefault((what, where), []).append(rate)

    def median(self, what: str, where: str) -> float:
        return statistics.median(self._rates[what, where])

    def spread(self, what: str, where: str) -> str:
        rates = self._rates[what, where]
        return f"{min(rates):,.0f} to {max(rates):,.0f}"


async def timed(calls: Sequence[Call], clients: int) -> float:
    """Runs the calls, ``clients`` at a time; returns seconds."""
    waiting = iter(calls)

    async def client() -> None:
        for call in waiting:
            await call()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - start


def pushes(stub: "rpc.QueueServiceAsyncStub", jobs: int, batch: int, payload: int) -> list[Call]:
    requests = [
        pb.PushRequest(jobs=[new_job(payload) for _ in range(batch)]) for _ in range(jobs // batch)
    ]

    def call(request: pb.PushRequest) -> Call:
        async def push() -> None:
            response = await stub.Push(request)
            if len(response.results) != batch:
                raise AssertionError(f"pushed {len(response.results)} of {batch}")

        return push

    return [call(request) for request in requests]


def drains(stub: "rpc.QueueServiceAsyncStub", jobs: int, batch: int) -> list[Call]:
    async def drain() -> None:
        request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=batch)
        request.lease.FromSeconds(600)
        response = await stub.Reserve(request)
        if len(response.leases) != batch:
            raise AssertionError(f"reserved {len(response.leases)} of {batch}")
        acks = [pb.Ack(lease_token=lease.lease_token) for lease in response.leases]
        results = (await stub.Ack(pb.AckRequest(acks=acks))).results
        if any(result.outcome != pb.LeaseOutcome.LEASE_OUTCOME_OK for result in results):
            raise AssertionError("an ack was refused")

    return [drain] * (jobs // batch)


def inserts(bare: BareStore, jobs: int, batch: int, payload: int) -> list[Call]:
    envelope = new_job(payload).SerializeToString()

    async def insert() -> None:
        await bare.insert([envelope] * batch)

    return [insert] * (jobs // batch)


def deletes(bare: BareStore, jobs: int, batch: int) -> list[Call]:
    async def delete() -> None:
        keys = await bare.claim(batch)
        if len(keys) != batch:
            raise AssertionError(f"claimed {len(keys)} of {batch}")
        await bare.delete(keys)

    return [delete] * (jobs // batch)


async def measure(addresses: dict[str, str], bare: BareStore, options: argparse.Namespace) -> Rates:
    rates = Rates()
    channels = {where: grpc.aio.insecure_channel(at) for where, at in addresses.items()}
    jobs, batch, payload = options.jobs, options.batch, options.payload
    await bare.open()
    try:
        for turn in range(options.rounds + 1):
            work = {
                where: (
                    pushes(rpc.QueueServiceStub(channel), jobs, batch, payload),
                    drains(rpc.QueueServiceStub(channel), jobs, batch),
                )
                for where, channel in channels.items()
            }
            work["bare"] = (inserts(bare, jobs, batch, payload), deletes(bare, jobs, batch))
            for where, (pushing, draining) in work.items():
                pushed = await timed(pushing, options.clients)
                drained = await timed(draining, options.clients)
                if turn > 0:  # The first one warms up.
                    rates.add("Push", where, jobs / pushed)
                    rates.add("Reserve + Ack", where, jobs / drained)
    finally:
        for channel in channels.values():
            await channel.close()
        await bare.close()
    return rates


HEADINGS = ("store", "", "broker", "spread", "echo", "share", "bare", "share")


def show(store: str, rates: Rates) -> None:
    for what in ("Push", "Reserve + Ack"):
        here, echo, bare = (rates.median(what, where) for where in ("broker", "echo", "bare"))
        print(
            f"{store:15}{what:15}{here:>10,.0f}  {rates.spread(what, 'broker'):20}"
            f"{echo:>10,.0f}{here / echo:>7.2f}{bare:>10,.0f}{here / bare:>7.2f}",
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
    parser.add_argument("--batch", type=int, default=100, help="jobs a call (default 100)")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs a round (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--clients", type=int, default=4, help="calls at a time (default 4)")
    parser.add_argument("--payload", type=int, default=250, help="bytes a job (default 250)")
    options = parser.parse_args()
    print(
        f"{options.batch} jobs a call of {options.payload} bytes, {options.clients} calls at a "
        f"time, {options.rounds} rounds of {options.jobs:,} jobs; jobs a second, medians\n"
    )
    head = "{:15}{:15}{:>10}  {:20}{:>10}{:>7}{:>10}{:>7}"
    print(head.format(*HEADINGS))
    for name in STORES if options.all else options.store or ["sqlite"]:
        with (
            processes.fresh_folder() as folder,
            STORES[name](folder) as measured,
            processes.echo(options.batch, options.payload) as echo,
            processes.broker(measured.new_url()) as broker,
        ):
            addresses = {"echo": echo, "broker": broker}
            show(name, asyncio.run(measure(addresses, measured.new_bare(), options)))


if __name__ == "__main__":
    main()

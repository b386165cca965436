"""Jobs per second through gRPC, beside an empty server answering the same messages.

    python -m bench.throughput --store sqlite --batch 100 --jobs 20000 --rounds 5

One client process makes all calls, a few at a time, from messages built beforehand. Echo and broker
are measured by turns, so that whatever else the machine does falls on both.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import grpc

from bench import processes
from bench.messages import QUEUE, new_job
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


async def measure(addresses: dict[str, str], options: argparse.Namespace) -> Rates:
    rates = Rates()
    channels = {where: grpc.aio.insecure_channel(at) for where, at in addresses.items()}
    jobs, batch = options.jobs, options.batch
    try:
        for turn in range(options.rounds + 1):
            for where, channel in channels.items():
                stub = rpc.QueueServiceStub(channel)
                pushing = pushes(stub, jobs, batch, options.payload)
                pushed = await timed(pushing, options.clients)
                drained = await timed(drains(stub, jobs, batch), options.clients)
                if turn > 0:  # The first one warms up.
                    rates.add("Push", where, jobs / pushed)
                    rates.add("Reserve + Ack", where, jobs / drained)
    finally:
        for channel in channels.values():
            await channel.close()
    return rates


def show(rates: Rates, options: argparse.Namespace) -> None:
    print(
        f"{options.store}: {options.batch} jobs a call of {options.payload} bytes, "
        f"{options.clients} calls at a time, {options.rounds} rounds of {options.jobs:,} jobs\n"
    )
    print(f"{'':15}{'broker':>10}  {'spread':22}{'echo':>10}  {'spread':22}{'share':>6}")
    for what in ("Push", "Reserve + Ack"):
        here, echo = rates.median(what, "broker"), rates.median(what, "echo")
        print(
            f"{what:15}{here:>10,.0f}  {rates.spread(what, 'broker'):22}"
            f"{echo:>10,.0f}  {rates.spread(what, 'echo'):22}{here / echo:>6.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", choices=["sqlite", "memory"], default="sqlite")
    parser.add_argument("--batch", type=int, default=100, help="jobs a call (default 100)")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs a round (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default 5)")
    parser.add_argument("--clients", type=int, default=4, help="calls at a time (default 4)")
    parser.add_argument("--payload", type=int, default=250, help="bytes a job (default 250)")
    options = parser.parse_args()
    with processes.fresh_folder() as folder:
        store = "memory:" if options.store == "memory" else f"sqlite:///{folder}/bench.db"
        with (
            processes.echo(options.batch, options.payload) as echo,
            processes.broker(store) as broker,
        ):
            rates = asyncio.run(measure({"echo": echo, "broker": broker}, options))
    show(rates, options)


if __name__ == "__main__":
    main()

"""What it costs to refuse a Push: a broker with a full queue, beside a server that refuses all.

    python -m bench.refusals

The second is an empty gRPC server, which reads no request and aborts each call: refusing costs at
least that. It bounds what overload leaves of a broker's work, for a refused call comes to nothing.
Processor time of the whole server process; both by turns, medians of the rounds.
"""

import argparse
import asyncio
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import grpc
import psutil  # type: ignore[import-untyped]  # it has no types

from bench.processes import fresh_folder, server_process
from tests.support.broker_process import BrokerProcess

QUEUE_SERVICE = "towline.v1.QueueService"
#: Generic for the type checker only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

SIZES = (1, 1_000)
LIMIT = {"TOWLINE_CORE__MAX_QUEUE_DEPTH": "1000"}


async def serve(ready: Path) -> None:
    """Refuses every Push."""

    async def refuse(raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    push: Handler = grpc.unary_unary_rpc_method_handler(refuse)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(QUEUE_SERVICE, {"Push": push})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.to_thread(ready.write_text, f"127.0.0.1:{port}\n")
    await server.wait_for_termination()


def produce(address: str, jobs: int, *options: str) -> int:
    """Pushes so many jobs in each call; returns the number of calls."""
    command = [sys.executable, "-m", "tests.faults.overload_clients", "producers", address]
    output = subprocess.run(
        [*command, "--batch", str(jobs), *options], check=True, stdout=subprocess.PIPE
    ).stdout
    return output.count(b"push ")


def cost(pid: int, address: str, jobs: int, rate: float, seconds: float) -> float:
    """Of the processor, in milliseconds a call."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    calls = produce(
        *(address, jobs, "--rate", str(rate), "--seconds", str(seconds), "--connections", "20")
    )
    after = process.cpu_times()
    took: float = after.user + after.system - before.user - before.system
    return 1e3 * took / calls


def measure(rate: float, seconds: float, rounds: int) -> dict[tuple[str, int], list[float]]:
    """Of each server and size of a call, the cost in every round."""
    seen: dict[tuple[str, int], list[float]] = {}
    with (
        fresh_folder() as folder,
        server_process([sys.executable, "-m", "bench.refusals", "--serve"]) as (empty, empty_pid),
        BrokerProcess("memory:", folder=folder, environment=LIMIT) as broker,
    ):
        produce(broker.address, 1_000, "--seconds", "0.5", "--concurrency", "1")
        servers = {"empty": (empty_pid, empty), "broker": (broker.pid, broker.address)}
        for _ in range(rounds):
            for jobs in SIZES:
                for name, (pid, address) in servers.items():
                    each = cost(pid, address, jobs, rate, seconds)
                    seen.setdefault((name, jobs), []).append(each)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=200.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ready-file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.ready_file))
        return
    print("to refuse a Push, ms of the processor at", f"{options.rate:g} calls a second")
    for (name, jobs), costs in measure(options.rate, options.seconds, options.rounds).items():
        spread = f"{min(costs):.2f} to {max(costs):.2f}"
        print(f"{name:7} {jobs:>5} jobs a call: {median(costs):.2f} ({spread})", flush=True)


if __name__ == "__main__":
    main()

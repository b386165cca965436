"""What a broker takes while nothing is to be done: alone, and with very many workers waiting.

    python -m bench.connected --workers 10000

Each worker has a connection of its own, on which it waits for jobs as the SDK does, again and
again. They speak HTTP/2 by hand: clients of gRPC would take more than the broker that is measured.
"""

import argparse
import asyncio
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil  # type: ignore[import-untyped]  # it has no types

from bench.processes import fresh_folder
from tests.support import http2
from tests.support.broker_process import BrokerProcess
from towline.v1.queue_service_pb2 import QueueChoice, ReserveRequest

RESERVE = "/towline.v1.QueueService/Reserve"
#: Seconds for which a worker of the SDK waits, unless told otherwise.
WAIT = 20.0
#: In one process.
TOGETHER = 2_500
HEADER = 9


class Waiting(asyncio.Protocol):
    """One worker: as soon as a Reserve is answered it makes the next."""

    def __init__(self, name: str) -> None:
        request = ReserveRequest(queues=[QueueChoice(name="q")], worker_id=name)
        request.wait.FromMilliseconds(round(WAIT * 1000))
        self._request = request.SerializeToString()
        self._stream = -1
        self._read = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(http2.PREFACE + http2.settings())
        self._reserve()

    def _reserve(self) -> None:
        self._stream += 2
        self._transport.write(http2.whole_call(self._stream, RESERVE, self._request))

    def data_received(self, data: bytes) -> None:
        self._read += data
        while len(self._read) >= HEADER:
            size = int.from_bytes(self._read[:3], "big")
            if len(self._read) < HEADER + size:
                return
            kind, flags = self._read[3], self._read[4]
            payload, self._read = self._read[HEADER : HEADER + size], self._read[HEADER + size :]
            self._heard(kind, flags, payload)

    def _heard(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == http2.HEADERS and flags & http2.END_STREAM:
            self._reserve()
        elif kind == http2.SETTINGS and not flags & http2.ACK:
            self._transport.write(http2.frame(http2.SETTINGS, http2.ACK, 0))
        elif kind == http2.PING and not flags & http2.ACK:
            self._transport.write(http2.frame(http2.PING, http2.ACK, 0, payload))

    def connection_lost(self, exc: Exception | None) -> None:
        sys.exit(f"the broker has hung up: {exc}")


async def wait_for_jobs(address: str, count: int) -> None:
    """As so many workers, whose waits end at different times; never returns."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    for number in range(count):
        name = f"{random.getrandbits(64):x}-{number}"
        await loop.create_connection(lambda name=name: Waiting(name), host, int(port))  # type: ignore[misc]
        await asyncio.sleep(WAIT / count / 2)
    print("waiting", flush=True)
    await asyncio.Event().wait()


@contextmanager
def workers(address: str, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        processes = []
        for first in range(0, count, TOGETHER):
            number = min(TOGETHER, count - first)
            command = [sys.executable, "-m", "bench.connected", "--wait-at", address, str(number)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"waiting\n", "workers could not connect"
        yield


def measure(what: str, broker: psutil.Process, seconds: float) -> float:
    """What it takes for so long; returns its memory in bytes."""
    before, began = broker.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, took = broker.cpu_times(), time.monotonic() - began
    share = (after.user + after.system - before.user - before.system) / took
    size: float = broker.memory_info().rss
    print(f"{what}: {share:.1%} of a processor, {size / (1 << 20):.1f} MiB", flush=True)
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--store", default="sqlite:///{folder}/jobs.db")
    parser.add_argument("--wait-at", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.wait_at:
        address, count = options.wait_at
        asyncio.run(wait_for_jobs(address, int(count)))
        return
    with fresh_folder() as folder:
        store = options.store.format(folder=folder)
        with BrokerProcess(store, folder=folder) as broker:
            process = psutil.Process(broker.pid)
            time.sleep(2)
            alone = measure("idle", process, options.seconds)
            with workers(broker.address, options.workers):
                all_ = measure(f"{options.workers:,} workers waiting", process, options.seconds)
            print(f"each worker: {(all_ - alone) / options.workers / 1024:.1f} KiB")


if __name__ == "__main__":
    main()

"""What jobs take: memory of the broker, room in the store, and the processor's time of the broker.

    python -m bench.capacity --jobs 100000 file sqlite

Of each store: so many jobs are pushed, 100 a call, and wait; they are worked off, 100 a call, so
that only what was settled is remembered; then some come and go one by one, which is what calls of
their own cost.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import psutil  # type: ignore[import-untyped]  # it has no types

from bench.messages import QUEUE, new_job
from bench.processes import fresh_folder
from tests.support.broker_process import BrokerProcess
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.redis import RedisServer
from towline.v1 import queue_service_pb2 as pb
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

BATCH = 100
PAYLOAD = 250
#: Jobs with calls of their own.
SINGLE = 2_000


class Place(NamedTuple):
    url: str
    #: Bytes that the store takes.
    room: Callable[[], int]


@contextmanager
def memory(folder: Path) -> Iterator[Place]:
    yield Place("memory:?max_bytes=8000000000", lambda: 0)


@contextmanager
def file(folder: Path) -> Iterator[Place]:
    yield Place(f"file:///{folder}/jobs", lambda: on_disk(folder / "jobs"))


@contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    yield Place(f"sqlite:///{folder}/store/jobs.db", lambda: on_disk(folder / "store"))


@contextmanager
def postgresql(folder: Path) -> Iterator[Place]:
    with PostgresServer(durable=True) as server:
        yield Place(server.create_database(), lambda: on_disk(server.folder))


@contextmanager
def mariadb(folder: Path) -> Iterator[Place]:
    with MariaDBServer(durable=True) as server:
        yield Place(server.create_database(), lambda: on_disk(server.folder))


@contextmanager
def redis(folder: Path) -> Iterator[Place]:
    """Its room is memory; the append-only file is as large again, at times twice."""
    with RedisServer("redis", "appendonly yes", "appendfsync always") as server:
        yield Place(server.url, lambda: int(server.info("memory")["used_memory"]))


STORES = {each.__name__: each for each in (memory, file, sqlite, postgresql, mariadb, redis)}


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


class Calls:
    """To a broker, whose processor's time is asked for after each kind of them."""

    def __init__(self, stub: QueueServiceStub, broker: psutil.Process) -> None:
        self._stub = stub
        self._broker = broker

    def push(self, jobs: int, batch: int) -> float:
        return self._measured(jobs, batch, self._push)

    def work(self, jobs: int, batch: int) -> float:
        return self._measured(jobs, batch, self._work)

    def _measured(self, jobs: int, batch: int, call: Callable[[int], None]) -> float:
        """Microseconds of the processor for each job."""
        before = self._broker.cpu_times()
        for _ in range(jobs // batch):
            call(batch)
        after = self._broker.cpu_times()
        return float(after.user + after.system - before.user - before.system) / jobs * 1e6

    def _push(self, batch: int) -> None:
        self._stub.Push(pb.PushRequest(jobs=[new_job(PAYLOAD) for _ in range(batch)]))

    def _work(self, batch: int) -> None:
        request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=batch)
        leases = self._stub.Reserve(request).leases
        assert len(leases) == batch
        acks = [pb.Ack(lease_token=lease.lease_token) for lease in leases]
        self._stub.Ack(pb.AckRequest(acks=acks))


def measure(name: str, jobs: int) -> str:
    with fresh_folder() as folder, STORES[name](folder) as place:
        (folder / "store").mkdir()
        with BrokerProcess(place.url, folder=folder) as broker:
            process = psutil.Process(broker.pid)

            def sizes() -> tuple[int, int]:
                return process.memory_info().rss, place.room()

            with grpc.insecure_channel(broker.address) as channel:
                calls = Calls(QueueServiceStub(channel), process)
                calls.push(BATCH, BATCH)
                calls.work(BATCH, BATCH)
                sizes_before = sizes()
                together = [calls.push(jobs, BATCH)]
                waiting = grown(sizes_before, sizes(), jobs)
                together.append(calls.work(jobs, BATCH))
                settled = grown(sizes_before, sizes(), jobs)
                single = calls.push(SINGLE, 1) + calls.work(SINGLE, 1)
    push, work = together
    return f"{name:12}{waiting}{settled}{push:8.0f}{work:8.0f}{single:8.0f}"


def grown(before: tuple[int, int], after: tuple[int, int], jobs: int) -> str:
    """Bytes for each job: of the broker's memory, of the store."""
    return "".join(f"{(new - old) / jobs:10,.0f}" for old, new in zip(before, after, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stores", nargs="*", default=[*STORES], metavar="STORE")
    parser.add_argument("--jobs", type=int, default=100_000)
    options = parser.parse_args()
    print("            a waiting job, bytes  a settled one, bytes  µs of the processor for a job")
    print("store          broker     store    broker     store    push    work  by one")
    for name in options.stores:
        print(measure(name, options.jobs), flush=True)


if __name__ == "__main__":
    main()

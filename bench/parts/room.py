"""What a waiting job of 250 bytes takes: memory of the broker, and room in the store."""

import grpc
import psutil  # type: ignore[import-untyped]  # it has no types

from bench import processes
from bench.attempts import each_store
from bench.capacity import BATCH, STORES, Calls
from bench.options import Options
from bench.results import Figure, Part
from tests.support.broker_process import BrokerProcess
from towline.v1.queue_service_pb2_grpc import QueueServiceStub


def run(part: Part, options: Options) -> None:
    each_store(part, options, of_store, STORES)


def of_store(store: str, part: Part, options: Options) -> None:
    jobs = options.pick(200_000, quick=20_000)
    rounds = [measure(store, jobs) for _ in range(options.pick(3, quick=1))]
    memory, room = zip(*rounds, strict=True)
    part.figures.append(Figure(store, "broker", "Memory", f"{jobs:,}", "bytes", memory))
    if any(room):
        part.figures.append(Figure(store, "store", "Room", f"{jobs:,}", "bytes", room))
    options.tell(part.figures[-2 if any(room) else -1 :])


def measure(store: str, jobs: int) -> tuple[float, float]:
    """Bytes for each job."""
    with processes.fresh_folder() as folder, STORES[store](folder) as place:
        (folder / "store").mkdir()
        with (
            BrokerProcess(place.url, folder=folder) as broker,
            grpc.insecure_channel(broker.address) as channel,
        ):
            process = psutil.Process(broker.pid)
            calls = Calls(QueueServiceStub(channel), process)
            calls.push(BATCH, BATCH)
            calls.work(BATCH, BATCH)
            memory, room = process.memory_info().rss, place.room()
            calls.push(jobs, BATCH)
            grown = process.memory_info().rss - memory, place.room() - room
    return grown[0] / jobs, grown[1] / jobs

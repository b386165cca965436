"""Producers at several times the rate that a store can take: what gets through, at what cost."""

import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil  # type: ignore[import-untyped]

from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.admin_service_pb2_grpc import AdminServiceStub

#: Jobs in a call of a worker.
BATCH = 100
#: Calls of workers at the same time.
WORKERS = 16
#: Producers that wait for their answers, of which one number gives the peak.
CONCURRENCIES = (1, 4)
#: Seconds at the beginning of a phase that are not counted.
RAMP = 1.0


@dataclass(frozen=True, slots=True)
class Call:
    what: str
    began: float
    took: float
    code: str
    ids: list[str]

    @property
    def ended(self) -> float:
        return self.began + self.took


def read_calls(text: str) -> list[Call]:
    calls = []
    for line in text.splitlines():
        what, began, took, code, ids = line.split(" ")
        calls.append(Call(what, float(began), float(took), code, ids.split(",") if ids else []))
    return calls


@dataclass(frozen=True)
class Phase:
    """Jobs a second, as offered, accepted and acknowledged; latencies of OK calls in seconds."""

    offered: float
    accepted: float
    goodput: float
    codes: Counter[str]
    ack_p50: float
    ack_p99: float
    push_p99: float

    @classmethod
    def of(cls, calls: Sequence[Call], start: float, end: float, batch: int) -> "Phase":
        seconds = end - start
        begun = [call for call in calls if call.what == "push" and start <= call.began < end]
        ended = [call for call in calls if call.code == "OK" and start <= call.ended < end]
        acks = [call for call in ended if call.what == "ack"]
        pushes = [call for call in ended if call.what == "push"]
        return cls(
            offered=len(begun) * batch / seconds,
            accepted=sum(len(call.ids) for call in pushes) / seconds,
            goodput=sum(len(call.ids) for call in acks) / seconds,
            codes=Counter(call.code for call in begun),
            ack_p50=quantile([call.took for call in acks], 0.50),
            ack_p99=quantile([call.took for call in acks], 0.99),
            push_p99=quantile([call.took for call in pushes], 0.99),
        )


def quantile(values: Sequence[float], share: float) -> float:
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]


class Memory:
    """The most that processes came to have resident while it looked."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self.most = 0
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, self._process.memory_info().rss)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@dataclass(frozen=True)
class Outcome:
    #: In turn, of each round: what producers that wait for their answers get done, and what is left
    #: of it under overload.
    rounds: Sequence[tuple[Phase, Phase]]
    lost: int
    #: Bytes resident, before the first overload and at most from then on.
    memory_before: int
    memory_most: int
    #: Jobs that were acknowledged meanwhile, each of which is remembered.
    settled: int

    @property
    def shares(self) -> list[float]:
        """Of the peak's goodput that is left under overload, in each round."""
        return [worst.goodput / peak.goodput for peak, worst in self.rounds if peak.goodput]


def overload(
    address: str, pid: int, folder: Path, seconds: float, times: float, batch: int, rounds: int
) -> Outcome:
    """In each round first measures what the broker takes from few and from more producers that wait
    for their answers, then pushes at so many ``times`` the rate that was accepted, each for so many
    seconds."""
    size = ("--batch", str(batch), "--seconds", str(seconds))
    calls: list[Call] = []
    spans: list[tuple[float, float]] = []

    def produce(*options: str) -> float:
        """Jobs that were accepted in a second, once it was under way."""
        pushes = _producers(address, folder, *size, *options)
        calls.extend(pushes)
        # The process took a while to start.
        begin = min(push.began for push in pushes)
        spans.append((begin + RAMP, begin + seconds))
        return Phase.of(pushes, *spans[-1], batch).accepted

    def peak() -> float:
        return max(produce("--concurrency", str(number)) for number in CONCURRENCIES)

    with _workers(address, folder) as stop:
        rate = peak()
        before = psutil.Process(pid).memory_info().rss
        with Memory(pid) as memory:
            for number in range(rounds):
                if number:
                    peak()
                produce("--rate", str(rate * times / batch), "--connections", "20")
        _wait_until_empty(address)
        calls += stop()
    pushed = {job_id for call in calls if call.what == "push" for job_id in call.ids}
    acked = {job_id for call in calls if call.what == "ack" for job_id in call.ids}
    phases = [Phase.of(calls, *span, batch) for span in spans]
    size_of_round = len(CONCURRENCIES) + 1
    told = []
    for first in range(0, len(phases), size_of_round):
        *peaks, overloaded = phases[first : first + size_of_round]
        told.append((max(peaks, key=lambda phase: phase.goodput), overloaded))
    return Outcome(told, len(pushed - acked), before, memory.most, len(acked))


def _command(kind: str, address: str, *options: str) -> list[str]:
    program = [sys.executable, "-m", "tests.faults.overload_clients", kind, address]
    return [*program, *options]


def _producers(address: str, folder: Path, *options: str) -> list[Call]:
    """Waits until they have ended."""
    diary = folder / "producers"
    with diary.open("wb") as out:
        subprocess.run(_command("producers", address, *options), stdout=out, check=True)
    return read_calls(diary.read_text())


@contextmanager
def _workers(address: str, folder: Path) -> Iterator[Callable[[], list[Call]]]:
    """They work until the function is called, which tells what they saw."""
    diary = folder / "workers"
    with diary.open("wb") as out:
        options = ("--concurrency", str(WORKERS), "--batch", str(BATCH))
        process = subprocess.Popen(_command("workers", address, *options), stdout=out)

    def stop() -> list[Call]:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        return read_calls(diary.read_text())

    try:
        yield stop
    finally:
        process.kill()
        process.wait()


def _wait_until_empty(address: str, seconds: float = 60.0) -> None:
    """Until the workers have done all that was accepted."""
    deadline = time.monotonic() + seconds
    with grpc.insecure_channel(address) as channel:
        stub = AdminServiceStub(channel)
        while True:
            total = stub.Stats(StatsRequest(), timeout=30).total.depth
            if not total.ready + total.leased + total.scheduled:
                return
            assert time.monotonic() < deadline, f"not worked off within {seconds:g} s: {total}"
            time.sleep(0.1)

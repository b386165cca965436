"""P10: wall clocks of brokers, stores, workers and producers that are set by an hour, forward or
back, change no lease and no delay.

`make faults` does it over every store and in either direction, and for long under load.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.clock_program import DELAY, QUEUE, WORK
from tests.faults.durable_stores import EVERY, SHARED, Store
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.link import Link
from tests.faults.harness.load import Load
from tests.faults.stressed import HABITS
from tests.support.broker_process import BrokerProcess
from tests.support.clock_shift import HOUR, ShiftedClock
from tests.support.standstill import Standstill
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.job_pb2 import Job, Lease

#: How often clocks are set under load, over each store.
JUMPS = size("CLOCK_JUMPS", 4)
LONG = "TOWLINE_CLOCK_JUMPS" in os.environ
#: A plain test run leaves out what differs little from these.
SET = (
    [(kind, ahead) for kind in EVERY for ahead in (HOUR, -HOUR)]
    if LONG
    else [("file", -HOUR), ("postgresql", HOUR), ("redis", -HOUR)]
)
#: Of a lease and of a delay, in seconds: longer than brokers take to find that the clock of their
#: store was set.
TERM = 7
#: What may be later than it should be, and earlier, in seconds.
LATE, EARLY = 1.0, 0.05
#: Between two settings of clocks under load, in seconds.
PAUSE = (0.2, 1.5)


@pytest.mark.parametrize(("kind", "ahead"), SET)
def test_p10_no_lease_and_no_delay_changes_when_the_clocks_of_brokers_and_store_are_set(
    kind: str, ahead: float, tmp_path: Path, figures: Figures
) -> None:
    with (
        clocked(kind, tmp_path) as (clocks, brokers),
        Link(addresses(brokers)) as link,
        Standstill(tmp_path) as standstill,
    ):
        timed = Timed(link)
        for clock in clocks:
            clock.set_ahead(ahead)
        # By a clock that the brokers may not have looked at yet; and by one that they have.
        timed.begin()
        late = timed.late()
        told = any("the clock of store" in broker.log for broker in brokers)
    figures.show(
        f"clocks set by {ahead:+.0f} s, {kind}",
        late_s=round(late[-1], 3),
        early_s=-round(late[0], 3),
    )
    assert late[0] > -EARLY
    assert late[-1] < LATE + standstill.longest
    assert told == (kind in SHARED)


def test_p10_a_worker_and_a_producer_whose_clocks_are_set_notice_nothing(tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path)
    with (
        BrokerProcess("memory:", folder=tmp_path) as broker,
        program("worker", broker, clock),
        program("producer", broker, clock) as producer,
    ):
        assert producer.stdout is not None
        assert producer.stdout.readline() == "pushed\n"
        for ahead in (HOUR, -HOUR, 0.0):
            time.sleep(0.7)
            clock.set_ahead(ahead)
        told = dict(line.split(maxsplit=1) for line in producer.stdout)
        assert producer.wait(30) == 0
        with Link([broker.address]) as link:
            totals = link.admin.Stats(StatsRequest(queues=[QUEUE])).total.totals
    for name, length in (("long", WORK), ("delayed", DELAY)):
        attempt, took = told[name].split()
        assert attempt == "1"
        assert length - EARLY < float(took) < WORK + 2
    assert (totals.lease_expired, totals.failed, totals.retried) == (0, 0, 0)
    assert totals.completed == totals.pushed > 2


@pytest.mark.parametrize("kind", list(EVERY) if LONG else ["redis"])
@pytest.mark.timeout(120 + 3 * JUMPS)
def test_every_promise_is_kept_while_clocks_are_set_under_load(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    chance = random.Random(seed())
    with (
        clocked(kind, tmp_path) as (clocks, brokers),
        Load(addresses(brokers), tmp_path, seed=seed(), habits=HABITS) as load,
    ):
        for _ in range(JUMPS):
            time.sleep(chance.uniform(*PAUSE))
            chance.choice(clocks).set_ahead(chance.uniform(-HOUR, HOUR))
        verdict = load.finish(assumptions=Store("").shared)
    figures.prove(f"clocks set under load, {kind}", verdict, times=JUMPS)


@contextmanager
def clocked(kind: str, folder: Path) -> Iterator[tuple[list[ShiftedClock], list[BrokerProcess]]]:
    """Brokers over a store, two if it is shared; each part has a clock of its own, and so has the
    server of the store, if it takes one."""
    with EVERY[kind](folder) as store, ExitStack() as running:
        clocks = [ShiftedClock(folder)]
        if store.server is not None:
            clocks += [ShiftedClock(folder), set_up(store)]
        brokers = [BrokerProcess(store.url, environment=each.environment) for each in clocks[:2]]
        yield clocks, [running.enter_context(broker) for broker in brokers]


def set_up(store: Store) -> ShiftedClock:
    """Starts the store's server once more, with a clock that can be set."""
    assert store.server is not None
    server = store.server()
    clock = ShiftedClock(server.folder)
    server.stop()
    server.environment = clock.environment
    server.start()
    return clock


def addresses(brokers: list[BrokerProcess]) -> list[str]:
    return [broker.address for broker in brokers]


@contextmanager
def program(
    role: str, broker: BrokerProcess, clock: ShiftedClock
) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.clock_program", role, broker.address],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | clock.environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Timed:
    """Jobs that are to come after `TERM`, each for another reason."""

    def __init__(self, link: Link) -> None:
        self._link = link
        #: By id, when it is to come.
        self._due: dict[str, float] = {}
        self.begin()

    def begin(self) -> None:
        """Another set of them."""
        delayed = Job(id=uuid7(), queue=QUEUE, type="Delayed")
        delayed.delay.FromSeconds(TERM)
        held = [Job(id=uuid7(), queue=QUEUE, type="Held") for _ in range(4)]
        self._due[delayed.id] = time.monotonic() + TERM
        self._link.queue.Push(pb.PushRequest(jobs=[delayed, *held]), timeout=20)
        begun = time.monotonic()
        abandoned, retried, released, extended = self._reserve(wait=1)
        self._due[abandoned.job.id] = begun + TERM
        # (Every one of them is settled or extended after this moment.)
        begun = time.monotonic()
        nacks = [pb.Nack(lease_token=lease.lease_token) for lease in (retried, released)]
        nacks[0].retry_after.FromSeconds(TERM)
        nacks[1].release.delay.FromSeconds(TERM)
        self._link.queue.Nack(pb.NackRequest(nacks=nacks), timeout=20)
        beat = pb.HeartbeatRequest(worker_id="timed")
        beat.leases.add(lease_token=extended.lease_token).extend.FromSeconds(TERM)
        self._link.queue.Heartbeat(beat, timeout=20)
        self._due |= {lease.job.id: begun + TERM for lease in (retried, released, extended)}

    def late(self) -> list[float]:
        """By how many seconds each was late, in order; below zero if one came too early."""
        late: list[float] = []
        deadline = time.monotonic() + TERM + 15
        while self._due:
            assert time.monotonic() < deadline, f"{len(self._due)} jobs do not come"
            leases = self._reserve(wait=5)
            now = time.monotonic()
            late += [now - self._due.pop(lease.job.id) for lease in leases]
        return sorted(late)

    def _reserve(self, wait: int) -> list[Lease]:
        request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=4)
        request.worker_id = "timed"
        request.wait.FromSeconds(wait)
        request.lease.FromSeconds(TERM)
        return list(self._link.queue.Reserve(request, timeout=20).leases)
